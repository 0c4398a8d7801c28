"""A link with a delay, where the kernel has no netem: packets of one TUN device leave by the other.

    device a ──read──▶ queue, each with the time when it is due ──write──▶ device b
    device b ──read──▶ queue ─────────────────────────────────────write──▶ device a

Packets stay in order and none is lost, unless more are on the way than a queue takes. The link
is as wide as this program is fast: some 10,000 packets per second, which is no measure of a
real one.

    python -m bench.datacenters.delay FIRST SECOND MS      two open devices by number, each way

ends by a signal; the devices end with it.
"""

import fcntl
import os
import select
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from bench.datacenters.network import PACKETS_MAX

#: Larger than any packet of a device whose MTU is the default one.
_PACKET_BYTES: Final = 65536
#: Of linux/if_tun.h: TUNSETIFF, a device of IP packets, without a header of its own.
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN: Final = 0x0001
_IFF_NO_PI: Final = 0x1000
#: Beside busy servers packets would be late by the time that a processor takes to be free.
_NICE: Final = -10


def open_tun(name: str) -> int:
    """A new TUN device, as a file that does not block. OSError."""
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        request = struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI)
        fcntl.ioctl(file, _TUNSETIFF, request)
    except OSError:
        os.close(file)
        raise
    return file


class Delay:
    """Packets on their way in one direction. `clock` and `seconds` are monotonic time."""

    def __init__(self, seconds: float, limit: int = PACKETS_MAX) -> None:
        self._seconds = seconds
        self._limit = limit
        self._packets: deque[tuple[float, bytes]] = deque()
        #: Packets that found the queue full.
        self.lost = 0

    def put(self, packet: bytes, now: float) -> None:
        if len(self._packets) >= self._limit:
            self.lost += 1
            return
        self._packets.append((now + self._seconds, packet))

    def take(self, now: float) -> list[bytes]:
        """Those that are due, in the order of their coming."""
        found = []
        while self._packets and self._packets[0][0] <= now:
            found.append(self._packets.popleft()[1])
        return found

    def wait(self, now: float) -> float | None:
        """Seconds until the next one is due; None if there is none."""
        return max(0.0, self._packets[0][0] - now) if self._packets else None


def _read_all(file: int, delay: Delay, clock: Callable[[], float]) -> None:
    while True:
        try:
            packet = os.read(file, _PACKET_BYTES)
        except OSError:  # Nothing more; or the device is down, or going.
            return
        delay.put(packet, clock())


def _write(file: int, packet: bytes) -> None:
    try:
        os.write(file, packet)
    except OSError:  # A device that is not up yet loses it, as a cable would.
        return


class Link:
    """Two devices, by their files, which do not block. `clock` is monotonic, in seconds."""

    def __init__(self, first: int, second: int, seconds: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        # By the device that is read: what comes from there, and where it goes.
        self._ways = {first: (Delay(seconds), second), second: (Delay(seconds), first)}

    def turn(self) -> None:
        """Wait until there is something to do, and do it."""
        now = self._clock()
        waits = [wait for delay, _ in self._ways.values() if (wait := delay.wait(now)) is not None]
        ready, _, _ = select.select(list(self._ways), [], [], min(waits, default=None))
        for file in ready:
            _read_all(file, self._ways[file][0], self._clock)
        for delay, target in self._ways.values():
            for packet in delay.take(self._clock()):
                _write(target, packet)


def main(arguments: list[str]) -> None:
    first, second, milliseconds = arguments
    os.nice(_NICE)
    link = Link(int(first), int(second), float(milliseconds) / 1000, time.monotonic)
    while True:
        link.turn()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
