"""A process that forks while another thread closes files of a disk."""

import os
from pathlib import Path

import pytest

from mako.storage.os_disk import OsDisk
from tests.client.forking import said


@pytest.mark.parametrize("act", ["file.close()", "disk.close()"])
def test_a_child_closes_nothing_twice(tmp_path: Path, act: str) -> None:
    """The system has closed a file, and the thread that had it closed has not gone on. What is
    opened next, a pipe in `fork`, has its number."""
    program = f"""
from mako.storage.os_disk import OsDisk

def slow(call):
    def called(descriptor):
        call(descriptor)
        if threading.current_thread() is thread:
            reached.set()
            forked.wait()
    return called

def look():
    say("keeps", *opens(sys.argv[1]))

disk = OsDisk(sys.argv[1], lock=True)
file = disk.open("a", create=True)
other = disk.open("c", create=True)
reached, forked = threading.Event(), threading.Event()
thread = threading.Thread(target=lambda: {act})
os.close = slow(os.close)
thread.start()
reached.wait()
fork(look)
go()
over()
forked.set()
thread.join()
"""
    assert said(program, tmp_path) == ["keeps", "child 0"]


def test_one_file_that_cannot_be_closed_keeps_no_other(tmp_path: Path) -> None:
    disk = OsDisk(tmp_path, lock=True)
    files = [disk.open(name, create=True) for name in "abc"]
    for file in files:
        os.close(file._descriptor)
    open_again = [os.dup(disk._folder) for _ in files]  # They have the numbers now.
    os.close(open_again.pop(1))
    with pytest.raises(OSError, match="Bad file descriptor"):
        disk._leave()
    assert [file._descriptor for file in files] == [-1, -1, -1]
    assert disk._folder == -1
    for number in open_again:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)
