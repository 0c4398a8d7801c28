"""Two real processes of one host, which lead a partition each, share memory."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import mako
from mako.placement import Kind, Placement
from tests.engine.running import until
from tests.server.apart import Apart
from tests.server.processes import PATIENCE

pytestmark = pytest.mark.slow

HASH = Placement(Kind.HASH, 2)


class Pair(Apart):
    """`a0` leads partition 0, `a1` the other one."""

    def begin(self) -> None:
        for name in self.names:
            self.start(name)
        for name in self.names:
            self.line(name, " leads ")

    def write_both(self) -> None:
        """A transaction over both partitions."""
        address = f"127.0.0.1:{self.ports['a0']}"
        with mako.connect(address, timeout=PATIENCE) as db, db.transaction() as tx:
            for partition in range(2):
                tx.put(key_of(partition), b"v")

    def shares(self, name: str) -> bool:
        return "/mako-" in Path(f"/proc/{self.running[name].pid}/maps").read_text()


def key_of(partition: int) -> bytes:
    return next(
        key for key in map(b"%d".__mod__, range(100)) if HASH.partition_of(key) == partition
    )


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path, replicas=1)
    yield made
    made.close()


def test_processes_with_the_same_memory_share_it(pair: Pair) -> None:
    pair.begin()
    pair.write_both()
    # Who resigns, as its disk takes long, shares none until it leads again.
    until(lambda: all(map(pair.shares, pair.names)), PATIENCE)
