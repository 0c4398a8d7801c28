"""A connection is its process's: what a child wrote to it would be in the midst of a call."""

from tests.client.forking import said
from tests.server.loopback import Loopback


def test_a_child_is_told_to_connect_itself(server: Loopback) -> None:
    program = """
def act():
    lines = set()
    calls = [
        lambda: db.get(b"k"), lambda: db.put(b"k", b"child"), lambda: list(db.items()),
        lambda: db.begin(), lambda: db.write(mako.WriteBatch()), lambda: db.submit(sum_of, 0, 9),
        lambda: tx.get(b"k"), lambda: tx.commit(), lambda: submitted.result(),
    ]
    for call in calls:
        try:
            call()
            say("returned", call.__code__.co_names)
        except mako.Closed as error:
            lines.add(str(error))
    db.close()
    say(*lines)
    with mako.connect(sys.argv[1]) as own:
        own.put(b"own", b"child")

from tests.server.procedures import sum_of

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
    assert said(program, server.address) == [
        "the database was connected before a fork; connect in this process",
        "child 0",
        "b'tx' b'child'",
    ]
