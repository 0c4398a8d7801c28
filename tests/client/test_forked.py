"""Processes that fork while a database is open: it stays the parent's, and the child is told so."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

import mako
from tests.client.forking import BEGINNING, PATIENCE, said


def rows(path: Path) -> dict[bytes, bytes]:
    with mako.open(path, memory="32MiB") as db:
        return dict(db.items())


ENDS: Final = {
    "exits": "pass",
    "closes": "db.close()",
    "forgets": "db = None; gc.collect()",
    "forks": "fork(lambda: None); go(); os.waitpid(child, 0)",
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_child_that_ends_takes_nothing_from_its_parent(tmp_path: Path, end: str) -> None:
    """Its log is not sealed where the child believes that it ends."""
    program = f"""
def act():
    global db
    {end}

db = opened(sys.argv[1])
db.put(b"before", b"1")
fork(act)
for i in range(20):
    db.put(b"%d" % i, bytes(100))
go()
over()
db.put(b"after", b"1")
say("acknowledged")
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert said(program, tmp_path / "data") == ["child 0", "acknowledged"]
    assert len(rows(tmp_path / "data")) == 22


#: What a child tries, and what it may do to no effect.
CALLS: Final = """
def calls():
    return [
        lambda: db.get(b"k"), lambda: db.put(b"k", b"v"), lambda: db.delete(b"k"),
        lambda: db.add(b"n", 1), lambda: list(db.items()), lambda: db.table("t"),
        lambda: db.table(p.COUNTER), lambda: db.create(p.NOTE), lambda: db.begin(),
        lambda: db.snapshot(), lambda: db.write(mako.WriteBatch()), lambda: db.run(p.add, 1, 1),
        lambda: db.submit(p.add, 1, 1), lambda: db.start_workers(1), lambda: db.watermark,
        lambda: db.wait_watermark(1), lambda: db.memory_bytes, lambda: db.pretouch(1),
        lambda: db.record_log("log"), lambda: table.get(1), lambda: table.scan(),
        lambda: tx.get(b"k"), lambda: tx.put(b"k", b"v"), lambda: list(tx.scan()),
        lambda: tx.commit(), lambda: snapshot.get(b"k"), lambda: snapshot.run(p.total, 0, 9),
        lambda: snapshot.state_hash(), lambda: submitted.result(),
        lambda: submitted.wait_durable(), lambda: list(scanning),
    ]

def nothings():
    return [tx.abort, snapshot.close, workers.stop, db.stop_workers, db.close, db.close]
"""


@pytest.mark.parametrize("where", [":memory:", "data"])
def test_a_child_is_told_whose_it_is(tmp_path: Path, where: str) -> None:
    program = f"""{CALLS}
def act():
    lines = told(calls())
    for call in nothings():
        call()
    say(*lines | told([lambda: db.get(b"k")]))

db = opened(sys.argv[1])
db.create(p.COUNTER)
table = db.table(p.COUNTER)
for key in b"kl":
    db.put(bytes([key]), b"parent")
tx = db.begin()
tx.put(b"k", b"tx")
snapshot = db.snapshot()
scanning = snapshot.scan()
workers = db.start_workers(1)
submitted = db.submit(p.add, 1, 1)
fork(act)
go()
over()
tx.commit()
assert submitted.wait_durable() == 1
assert db.get(b"k") == b"tx"
assert list(scanning) == [(b"k", b"parent"), (b"l", b"parent")]
snapshot.close()
db.close()
assert db._engine.over.wait({PATIENCE})
say("parent")
"""
    path = where if where == ":memory:" else tmp_path / where
    assert said(program, path) == [
        "the database was opened before a fork; open it in this process",
        "child 0",
        "parent",
    ]


def test_a_child_that_lives_keeps_nobody_from_opening_it_again(tmp_path: Path) -> None:
    """Neither when the parent closes it, nor when that is killed."""
    program = """
def live():  # Its parent has ended by now.
    say("lives")
    sys.stdin.read()

db = opened(sys.argv[1])
db.put(b"k", b"1")
fork(lambda: None)
db.close()
db = opened(sys.argv[1])
db.put(b"k", b"2")
say("opened again")
fork(live)
os.kill(os.getpid(), signal.SIGKILL)
"""
    path = tmp_path / "data"
    command = [sys.executable, "-c", BEGINNING + program, str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"opened again\n"
        assert process.stdout.readline() == b"lives\n"
        assert process.wait(PATIENCE) == -signal.SIGKILL
        assert rows(path) == {b"k": b"2"}


def test_children_of_a_busy_process(tmp_path: Path, seed: int) -> None:
    """Whatever its threads are in the midst of, a child waits for none of their locks."""
    program = f"""
import random
chance = random.Random({seed})

def use():
    i = 0
    while not ended.is_set():
        i += 1
        db.put(b"%d" % (i % 100), b"v" * 100)
        db.submit(p.add, 1, 1)
        with db.snapshot() as snapshot:
            snapshot.get(b"1")

def act():
    try:
        db.put(b"child", b"1")
    except mako.Closed:
        say("closed")
    db.close()

db = opened(sys.argv[1])
db.create(p.COUNTER)
ended = threading.Event()
threads = [threading.Thread(target=use) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(8):
    for _ in range(chance.randrange(10)):
        db.put(b"k", b"v")
    fork(act)
    go()
    over()
ended.set()
for thread in threads:
    thread.join()
db.close()
"""
    for where in (":memory:", tmp_path / "data"):
        assert said(program, where) == ["closed", "child 0"] * 8
    assert b"child" not in rows(tmp_path / "data")


def test_a_child_has_databases_of_its_own(tmp_path: Path) -> None:
    program = """
def act():
    with opened(sys.argv[1] + "/child") as own, opened(":memory:") as other:
        own.put(b"k", b"child")
        other.put(b"k", own.get(b"k"))
        say(other.get(b"k").decode())
    try:
        opened(sys.argv[1] + "/parent")
    except mako.ConfigError as error:
        say("open already" in str(error))

db = opened(sys.argv[1] + "/parent")
fork(act)
go()
over()
db.close()
"""
    assert said(program, tmp_path) == ["child", "True", "child 0"]


def test_a_recording_that_outlives_its_database_is_left_too(tmp_path: Path) -> None:
    program = """
file = open(sys.argv[1] + "/log", "wb", buffering=0)
recording = mako.open(memory="32MiB", sessions=8).record_log(file)
gc.collect()
before = os.path.getsize(file.name)
fork(lambda: recording.close())
go()
over()
say(os.path.getsize(file.name) == before)
recording.close()
say(os.path.getsize(file.name) > before)
"""
    assert said(program, tmp_path) == ["child 0", "True", "True"]


def test_sessions_that_others_were_using_end_in_a_child() -> None:
    """Their threads are not there, and will not come back to say that they are done."""
    program = """
db = opened(":memory:")
tx, snapshot = db.begin(), db.snapshot()
tx.put(b"k", b"v")

def act():
    tx.abort()
    snapshot.close()

tx._busy = snapshot._busy = True
fork(act)
go()
over()
tx._busy = snapshot._busy = False
tx.commit()
snapshot.close()
"""
    assert said(program) == ["child 0"]


def test_what_is_recorded_is_written_once(tmp_path: Path) -> None:
    """Its writer may be at work when the child is forked."""
    program = """
db = opened(":memory:")
recording = db.record_log(sys.argv[1] + "/log")
db.put(b"k", b"1")
fork(lambda: recording.close())
go()
over()
db.put(b"l", b"2")
recording.close()
db.close()
"""
    assert said(program, tmp_path) == ["child 0"]
    with mako.replay(tmp_path / "log", memory="32MiB") as db:
        assert list(db.items()) == [(b"k", b"1"), (b"l", b"2")]
