"""What the demo reads out of logs and hashes."""

import io

from bench.demo.proof import Undone, are_equal, undone_in
from mako.server.events import EventLog


def test_what_was_undone_is_in_the_words_of_the_server() -> None:
    said = io.StringIO()
    log = EventLog("localhost", said, now=lambda: 1.0)
    log("leads", partition=0, epoch=2)
    for versions, stopped_ms in ((14, 3.1), (0, 12.0)):
        log(
            "has undone what others lost",
            partition=0,
            of=[1],
            versions=versions,
            stopped_ms=stopped_ms,
        )
    assert undone_in(said.getvalue()) == [Undone(0, 14, 3.1), Undone(0, 0, 12.0)]
    assert undone_in("") == []


def test_hashes_that_are_missing_are_not_equal() -> None:
    assert are_equal({"localhost": "ab", "p1": "ab"})
    assert not are_equal({"localhost": "ab", "p1": "ac"})
    missing = "none (it does not answer)"
    assert not are_equal({"localhost": missing, "p1": missing})
