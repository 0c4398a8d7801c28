"""kill -9 under load: no write that was acknowledged is lost, and none of them is torn."""

import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

import mako

pytestmark = pytest.mark.slow

#: Writes from three threads until it is killed. Two rows of each transaction must agree. It says
#: what was acknowledged in one write of few bytes, which a pipe takes whole.
PROGRAM: Final = """
import os, sys, threading
import mako

db = mako.open(sys.argv[1], memory="256MiB", snapshot_bytes="1MiB")
first = int(sys.argv[2])
db.table("pairs")

def write(number):
    i = first
    while True:
        with db.transaction() as tx:
            tx.put(b"a%d/%d" % (number, i), b"%d" % i + bytes(400))
            tx.put(b"b%d/%d" % (number, i), b"%d" % i + bytes(400), table="pairs")
        os.write(1, b"%d/%d\\n" % (number, i))
        i += 1

os.write(1, b"open\\n")
for number in range(3):
    threading.Thread(target=write, args=(number,)).start()
"""


def run_and_kill(path: Path, first: int, lines: int) -> list[bytes]:
    """Start it, kill it after so many lines, and return all that it said to be acknowledged."""
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path), str(first)], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == b"open\n"
        said = [child.stdout.readline().strip() for _ in range(lines)]
    finally:  # It would write until the disk is full.
        child.send_signal(signal.SIGKILL)
    said += child.stdout.read().split()
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    return said


def test_no_acknowledged_write_is_lost(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    path = tmp_path / "data"
    acknowledged: list[bytes] = []
    for life in range(20):
        acknowledged += run_and_kill(path, life * 1_000_000, chance.randrange(300, 2000))
        with mako.open(path, memory="256MiB") as db:
            pairs = db.table("pairs")
            rows = dict(db.items())
            assert [key for key in acknowledged if b"a" + key not in rows] == []
            halves = dict(pairs.items())
            assert {key[1:]: value for key, value in rows.items()} == {
                key[1:]: value for key, value in halves.items()
            }
        # One that was on its way when it was killed is none: then there is another life.
        has_snapshot = bool(list((path / "snapshots").iterdir()))
        if life >= 2 and has_snapshot:
            break
    assert len(acknowledged) >= 900
    assert has_snapshot, "it grew beyond a snapshot"
