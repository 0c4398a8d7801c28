"""Work that is done aside: one piece at a time, in order; what follows is the caller's."""

import pytest

from mako.replication.aside import Aside
from mako.replication.contract import ProcessMustEnd
from mako.storage.errors import DiskFailed


def test_one_piece_is_under_way_at_a_time_and_in_order() -> None:
    aside = Aside()
    seen: list[str] = []
    aside.put(lambda: seen.append("run 1"), lambda _: seen.append("then 1"))
    aside.put(lambda: 2, lambda two: seen.append(f"then {two}"))
    assert aside.begin()
    assert not aside.begin()
    aside.run()
    assert not aside.begin(), "until it is ended"
    aside.end()
    assert seen == ["run 1", "then 1"]
    assert aside.is_busy
    assert aside.begin()
    aside.run()
    aside.end()
    assert seen == ["run 1", "then 1", "then 2"]
    assert not aside.begin()
    assert not aside.is_busy


def test_what_follows_may_put_more() -> None:
    aside = Aside()
    aside.put(lambda: None, lambda _: aside.put(lambda: None, lambda _: None))
    for _ in range(2):
        assert aside.begin()
        aside.run()
        aside.end()
    assert not aside.is_busy


def test_a_failed_disk_ends_the_process() -> None:
    def fail() -> None:
        raise DiskFailed("input/output error")

    aside = Aside()
    aside.put(fail, lambda _: None)
    assert aside.begin()
    with pytest.raises(ProcessMustEnd, match="input/output error"):
        aside.run()
