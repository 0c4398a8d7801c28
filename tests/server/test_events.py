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
