"""Lines of a server about what happens."""

import errno
import io

import pytest

from mako.server.events import EventLog


class Stream(io.StringIO):
    """May be full, or nobody may read it any more."""

    trouble: OSError | None = None

    def flush(self) -> None:
        if self.trouble is not None:
            raise self.trouble


@pytest.mark.parametrize(
    "trouble", [OSError(errno.ENOSPC, "No space left on device"), BrokenPipeError()]
)
def test_a_line_that_cannot_be_written_ends_nobody(trouble: OSError) -> None:
    stream = Stream()
    log = EventLog("a", stream, now=lambda: 0.0)
    stream.trouble = trouble
    log("disconnected", peer="b")
    log("disconnected", peer="c")
    stream.trouble = None
    log("leads", partition=0)
    log("leads", partition=1)
    *_, after, last = stream.getvalue().splitlines()
    assert after == "1970-01-01T00:00:00.000Z a leads partition=0 lost_lines=2"
    assert last == "1970-01-01T00:00:00.000Z a leads partition=1"


def test_an_event_is_one_line_whatever_its_facts_are() -> None:
    """Some of them come from peers and clients, and a line of theirs would pass for one of ours."""
    stream = Stream()
    log = EventLog("a", stream, now=lambda: 1.5)
    facts: dict[str, object] = {
        "n": 3,
        "word": "b=c",
        "empty": "",
        "text": 'a\n"b"\tc\\',
        "peers": ["b", "c"],
    }
    log("cannot use mail", **facts)
    assert stream.getvalue() == (
        "1970-01-01T00:00:01.500Z a cannot use mail"
        ' n=3 word="b=c" empty="" text="a \\"b\\" c\\\\" peers="[\'b\', \'c\']"\n'
    )
