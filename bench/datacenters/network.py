"""The network of two datacenters: a namespace for each, and one link between them.

With netem the link is a veth pair whose ends hold back what they send. Where the kernel has no
netem, both ends are TUN devices of a program that does the same (`bench.datacenters.delay`), and
are gone when that ends.

Everything has a name of ours, so that `remove` removes what `make` has made and nothing else.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from mako.errors import ConfigError

#: Datacenters. A process belongs to the one with which its name begins.
SIDES: Final = ("a", "b")
#: Bits of the prefix that all addresses of both have.
PREFIX_BITS: Final = 16
#: Packets on the way in one direction, beyond which they are lost: 50 ms of 2.4 Gbit/s.
PACKETS_MAX: Final = 10_000

_TUN: Final = Path("/dev/net/tun")

Command = list[str]


def namespace(side: str) -> str:
    return f"mako-dc-{side}"


def device(side: str) -> str:
    """The end of the link in a side."""
    return f"mako-wide-{side}"


def inside(side: str, command: Sequence[str]) -> Command:
    """A command, in a side."""
    return ["ip", "netns", "exec", namespace(side), *command]


def check_tools(user: int, which: Callable[[str], str | None] = shutil.which) -> None:
    """ConfigError: the user, by number, cannot make namespaces."""
    if user != 0:
        raise ConfigError(
            "network namespaces are made by root alone: sudo bash bash/datacenters.sh ..."
        )
    if which("ip") is None:
        raise ConfigError("there is no command `ip`; install it: apt install iproute2")


def namespaces() -> list[Command]:
    """Commands that make the namespaces but for the first one, which is there."""
    return [
        *(["ip", "netns", "add", namespace(side)] for side in SIDES[1:]),
        *(["ip", "-n", namespace(side), "link", "set", "lo", "up"] for side in SIDES),
    ]


def _netem(side: str, name: str, one_way_ms: float) -> Command:
    words = f"qdisc add dev {name} root netem delay {one_way_ms:g}ms limit {PACKETS_MAX}"
    return inside(side, ["tc", *words.split()])


def trial(one_way_ms: float) -> list[Command]:
    """Commands that succeed where there is netem, and leave nothing."""
    side = SIDES[0]
    return [
        _netem(side, "lo", one_way_ms),
        inside(side, ["tc", "qdisc", "del", "dev", "lo", "root"]),
    ]


def pair(one_way_ms: float) -> list[Command]:
    """Commands that join the namespaces by veth and netem."""
    first, second = SIDES
    ends = f"link add {device(first)} netns {namespace(first)} type veth"
    other = f"peer name {device(second)} netns {namespace(second)}"
    return [
        ["ip", *ends.split(), *other.split()],
        *(_netem(side, device(side), one_way_ms) for side in SIDES),
    ]


def moves() -> list[Command]:
    """Commands that take devices which a program has opened into the namespaces."""
    return [["ip", "link", "set", device(side), "netns", namespace(side)] for side in SIDES]


def addressing(hosts: Mapping[str, str]) -> list[Command]:
    """Commands that give the link the addresses of processes, by name."""
    found = []
    for side in SIDES:
        own = ["ip", "-n", namespace(side)]
        for name, address in hosts.items():
            if name.startswith(side):
                place = f"{address}/{PREFIX_BITS}"
                found.append([*own, "addr", "add", place, "dev", device(side)])
        found.append([*own, "link", "set", device(side), "up"])
    return found


def removal(there: Sequence[str]) -> list[Command]:
    """Commands that remove our namespaces, of those that are there; the link goes with them."""
    return [["ip", "netns", "del", name] for name in map(namespace, SIDES) if name in there]


def existing() -> list[str]:
    """Our namespaces that are there."""
    folder = Path("/var/run/netns")
    return [name for name in map(namespace, SIDES) if (folder / name).exists()]


def run(commands: Sequence[Command]) -> None:
    """Run them one after the other. ConfigError with the words of the first that fails."""
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            words = (done.stderr or done.stdout).strip().splitlines()
            said = words[0] if words else f"exit status {done.returncode}"
            raise ConfigError(f"`{' '.join(command)}` failed: {said}")


def has_netem(one_way_ms: float) -> bool:
    """Whether the kernel can delay packets, and `tc` is there. The namespaces are."""
    if shutil.which("tc") is None:
        return False
    try:
        run(trial(one_way_ms))
    except ConfigError:
        return False
    return True


def claim() -> None:
    """Make the first namespace. ConfigError: it is there; then nothing was made."""
    run([["ip", "netns", "add", namespace(SIDES[0])]])


def make(
    hosts: Mapping[str, str], one_way_ms: float, forward: Callable[[Sequence[str]], None]
) -> str:
    """Make all but what `claim` has made; what delays the packets, in words.

    `forward(devices)` starts a program that opens TUN devices of these names here, and hands
    packets over. ConfigError; what was made by then is there.
    """
    run(namespaces())
    if has_netem(one_way_ms):
        run(pair(one_way_ms))
        by = "netem"
    elif not os.access(_TUN, os.R_OK | os.W_OK):
        raise ConfigError(
            f"this kernel has neither netem nor {_TUN}, and one is needed to delay packets:"
            " modprobe sch_netem, or modprobe tun"
        )
    else:
        forward([device(side) for side in SIDES])
        run(moves())
        by = "a program, since this kernel has no netem"
    run(addressing(hosts))
    return by


def remove() -> None:
    """Remove what `make` has made. No process runs in the namespaces."""
    run(removal(existing()))
