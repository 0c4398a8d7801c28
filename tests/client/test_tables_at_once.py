"""Threads that ask for a table that is not there yet get one and the same."""

import sys
import threading

import pytest

import mako

THREADS = 8


@pytest.mark.parametrize("attempt", range(5))
def test_a_named_table_is_created_once(attempt: int) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    together = threading.Barrier(THREADS)
    try:
        with mako.open(memory="16MiB") as db:

            def put(number: int) -> None:
                together.wait()
                db.table("new").put(b"%d" % number, b"")

            threads = [threading.Thread(target=put, args=(i,)) for i in range(THREADS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert [key for key, _ in db.table("new").scan()] == [b"%d" % i for i in range(THREADS)]
            assert len(db._engine.tables) == 1
    finally:
        sys.setswitchinterval(interval)
