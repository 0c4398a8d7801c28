"""A connection is its process's: what a child wrote to it would be in the midst of a call."""

from collections.abc import Iterator
from typing import Final

import pytest

from tests.client.forking import said
from tests.client.remote.test_partitions import keys_of
from tests.server.divided import Divided
from tests.server.loopback import Loopback

LEFT: Final = "the database was connected before a fork; connect in this process"


@pytest.fixture(scope="module")
def divided() -> Iterator[Divided]:
    with Divided() as made:
        yield made


def test_a_child_is_told_to_connect_itself(server: Loopback) -> None:
    program = """
def act():
    say(*told([
        lambda: db.get(b"k"), lambda: db.put(b"k", b"child"), lambda: list(db.items()),
        lambda: db.begin(), lambda: db.write(mako.WriteBatch()), lambda: db.submit(sum_of, 0, 9),
        lambda: tx.get(b"k"), lambda: tx.commit(), lambda: submitted.result(),
    ]))
    db.close()
    say("keeps", *opens("socket:") - before)
    with mako.connect(sys.argv[1]) as own:
        own.put(b"own", b"child")

from tests.server.procedures import sum_of

before = opens("socket:")
db = mako.connect(sys.argv[1])
db.put(b"k", b"parent")
tx = db.begin()
assert tx.get(b"k") == b"parent"
submitted = db.submit(sum_of, 0, 9)
fork(act)
go()
over()
tx.put(b"k", b"tx")
tx.commit()
submitted.result()
say(db.get(b"k"), db.get(b"own"))
db.close()
"""
    assert said(program, server.address) == [LEFT, "keeps", "child 0", "b'tx' b'child'"]


def test_a_child_waits_for_nobody_and_goes_to_no_other_partition(divided: Divided) -> None:
    """Another thread is on its way to one, and the child would go there itself."""
    here, there = (keys_of(partition, 1)[0].decode() for partition in (0, 1))
    program = """
def act():
    say(*told([
        lambda: db.get(here), lambda: db.get(there), lambda: db.put(there, b"child"),
        lambda: db.get_many([here, there]), lambda: list(db.items()), lambda: db.watermark,
        lambda: db.snapshot(), lambda: db.begin(partition=1).commit(), lambda: db.table("new"),
        lambda: db.status(partition=1), lambda: db.begin().get(there), lambda: tx.get(here),
        lambda: tx.get(there), lambda: tx.put(there, b""), lambda: tx.commit(),
    ]))
    db.close()
    say("keeps", *opens("socket:") - before)

def hold():
    with db._lanes._lock:
        held.set()
        ended.wait()

here, there = (word.encode() for word in sys.argv[2:])
before = opens("socket:")
db = mako.connect(sys.argv[1])
db.put(here, b"parent")
tx = db.begin()
assert tx.get(here) == b"parent"
assert [lane.partition for lane in db._lanes.made] == [0]
held, ended = threading.Event(), threading.Event()
holder = threading.Thread(target=hold)
holder.start()
held.wait()
fork(act)
go()
over()
ended.set()
holder.join()
assert tx.get(here) == b"parent"
tx.commit()
db.put(there, b"parent")
say(db.get(there))
db.close()
"""
    assert said(program, divided.address, here, there) == [LEFT, "keeps", "child 0", "b'parent'"]


def test_what_was_gathered_is_no_childs(divided: Divided) -> None:
    """Though it is all in this process."""
    here, there = (keys_of(partition, 1)[0].decode() for partition in (0, 1))
    program = """
def act():
    say(*told([
        lambda: tx.get(here), lambda: tx.put(there, b""), lambda: list(tx.scan()),
        lambda: tx.commit(),
    ]))
    tx.abort()

here, there = (word.encode() for word in sys.argv[2:])
db = mako.connect(sys.argv[1])
db.put(here, b"parent")
tx = db.begin()
assert tx.get(here) == b"parent"
tx.put(there, b"gathered")
fork(act)
go()
over()
say(tx.get(here), tx.get(there))
tx.abort()
db.close()
"""
    lines = [LEFT, "child 0", "b'parent' b'gathered'"]
    assert said(program, divided.address, here, there) == lines


def test_a_child_keeps_no_connection_that_is_being_made(server: Loopback) -> None:
    program = """
import socket

connect = socket.socket.connect

def connect_slowly(self, address):
    connect(self, address)
    reached.set()
    ended.wait()

def use():
    with mako.connect(sys.argv[1]) as db:
        db.put(b"k", b"parent")

def act():
    say("keeps", *opens("socket:") - before)

socket.socket.connect = connect_slowly
before = opens("socket:")
reached, ended = threading.Event(), threading.Event()
user = threading.Thread(target=use)
user.start()
reached.wait()
fork(act)
go()
over()
ended.set()
user.join()
"""
    assert said(program, server.address) == ["keeps", "child 0"]


# --- mako.aconnect --------------------------------------------------------------------------------

#: Calls of a database that another process has connected, each of which can only be Closed.
CALLS: Final = """
import anyio
from tests.server.procedures import sum_of

def calls():
    return [
        lambda: db.get(b"k"), lambda: db.put(b"k", b"child"), lambda: db.table("new"),
        lambda: db.items().__anext__(), lambda: db.begin(), lambda: db.write(mako.WriteBatch()),
        lambda: db.run(sum_of, 0, 9), lambda: db.submit(sum_of, 0, 9), lambda: db.watermark(),
        lambda: db.status(), lambda: db.transaction().__aenter__(),
        lambda: db.snapshot().__aenter__(), lambda: tx.get(b"k"), lambda: tx.put(b"k", b""),
        lambda: tx.commit(),
    ]

async def connected():
    global db, tx, connection
    before = opens("socket:")
    db = await mako.aconnect(sys.argv[1])
    connection = opens("socket:") - before
    assert len(connection) == 1
    await db.put(b"k", b"parent")
    tx = await db.begin()
    assert await tx.get(b"k") == b"parent"

def at_once(call):
    # Without any loop: nothing is to be waited for.
    return lambda: call().send(None)
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_child_of_a_task_is_told_to_connect_itself(server: Loopback, backend: str) -> None:
    """Its loop is a copy of the parent's, which is in the midst of it; an answer has come."""
    program = f"""{CALLS}
def act():
    results = [lambda: submitted.result(), lambda: submitted.wait_durable()]
    say(*told(map(at_once, calls() + results)))
    try:
        db.close().send(None)
    except StopIteration:
        say("keeps", *opens("socket:") & connection)
    os._exit(0)

async def main():
    global submitted
    await connected()
    link = db._lanes.first.link
    take = link._take

    async def take_later(data):
        link._take = take
        fork(act)
        go()
        over()
        await take(data)

    submitted = await db.submit(sum_of, 0, 9)
    link._take = take_later
    say(await submitted.result())
    await tx.put(b"k", b"tx")
    await tx.commit()
    await submitted.wait_durable()
    say(await db.get(b"k"))
    await db.close()

anyio.run(main, backend=sys.argv[2])
"""
    sum_of_nothing = "0"
    lines = [LEFT, "keeps", "child 0", sum_of_nothing, "b'tx'"]
    assert said(program, server.address, backend) == lines


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_child_beside_a_loop_has_one_of_its_own(server: Loopback, backend: str) -> None:
    """That of its parent runs in another thread, which is not there; it is busy at the fork."""
    program = f"""{CALLS}
def act():
    global db, tx
    say("keeps", *opens("socket:") & connection)
    anyio.run(own, backend=sys.argv[2])
    db = tx = None
    gc.collect()

async def own():
    lines = set()
    for call in calls():
        try:
            await call()
            say("returned", call.__code__.co_names)
        except mako.Closed as error:
            lines.add(str(error))
    say(*lines)
    await db.close()
    async with await mako.aconnect(sys.argv[1]) as made:
        await made.put(b"own", b"child")

async def main():
    await connected()
    ready.set()
    while not ended.is_set():
        await db.put(b"k", b"busy")
    say(await db.get(b"k"), await db.get(b"own"))
    await tx.abort()
    await db.close()

def live():
    anyio.run(main, backend=sys.argv[2])

ended, ready = threading.Event(), threading.Event()
loop = threading.Thread(target=live)
loop.start()
ready.wait()
for _ in range(4):
    fork(act)
    go()
    over()
ended.set()
loop.join()
"""
    lines = ["keeps", LEFT, "child 0"] * 4
    assert said(program, server.address, backend) == [*lines, "b'busy' b'child'"]
