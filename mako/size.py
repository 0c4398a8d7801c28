"""Amounts of memory as people write them: `4GiB`, `512 MiB`, `1.5T`, `4GB`, or bytes.

A lone letter means the power of 1024, as `GiB` does; only `GB`, spelt out, is decimal.
"""

import re
from typing import Final

from mako.errors import ConfigError
from mako.shown import shown

#: A database takes whole pages of memory.
_PAGE_BYTES: Final = 4096
_SIZE: Final = re.compile(r"(\d{1,18}(?:\.\d{1,18})?) ?([kmgt]?)(ib|b)?", re.IGNORECASE | re.ASCII)
_POWER_OF: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_size(size: str | int) -> int:
    """Bytes that `size` says. ConfigError if it says nothing."""
    if isinstance(size, int) and not isinstance(size, bool):
        return size
    match = _SIZE.fullmatch(size.strip()) if isinstance(size, str) else None
    if match is None:
        raise ConfigError(f"{shown(size)} is not a size; write 4GiB or 512MiB")
    letter, rest = match[2].lower(), (match[3] or "").lower()
    base = 1000 if letter and rest == "b" else 1024
    unit: int = base ** _POWER_OF[letter]
    whole, _, fraction = match[1].partition(".")
    return int(whole) * unit + int(int(fraction or 0) * unit // 10 ** len(fraction))


def parse_memory(size: str | int) -> int:
    """The whole pages in `size`, as bytes."""
    return parse_size(size) // _PAGE_BYTES * _PAGE_BYTES
