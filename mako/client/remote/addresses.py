"""Where servers are: `host:port,host:port`, with or without `mako://` in front."""

from mako.errors import ConfigError
from mako.shown import shown


def addresses_of(text: str) -> list[str]:
    """The addresses in `text`. ConfigError names the one that is wrong."""
    given = text.removeprefix("mako://").rstrip("/")
    found = [part.strip() for part in given.split(",") if part.strip()]
    if not found:
        raise ConfigError("no address to connect to; give host:port, or several with commas")
    for address in found:
        host_and_port(address)
    return found


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of an address; an IPv6 address stands in brackets."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise _wrong(address)
    host = host.removeprefix("[").removesuffix("]")
    try:
        host.encode("idna")  # As whoever dials it will: a part may be empty, or too long.
    except UnicodeError:
        raise _wrong(address) from None
    return host, int(port)


def _wrong(address: str) -> ConfigError:
    return ConfigError(f"{shown(address)} is no address; give host:port, such as 127.0.0.1:7001")
