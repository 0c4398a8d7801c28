"""CRC-32 as in zlib, by the fastest implementation that is installed.

isal computes the same checksum with vector instructions, some thirty times faster: entries of a
log pass through it on their way out, on their way in and on their way to the disk.
"""

from collections.abc import Callable
from typing import Final

try:
    from isal.isal_zlib import crc32 as _crc32
except ImportError:  # No wheel for this machine.
    from zlib import crc32 as _crc32

#: crc32(data, start=0) -> the checksum of `data` behind bytes whose checksum is `start`.
crc32: Final[Callable[..., int]] = _crc32
