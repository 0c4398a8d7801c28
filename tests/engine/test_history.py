"""The checkers of histories find what they are for: each is given a wrong history."""

import pytest

from tests.engine.history import (
    BEGINNING,
    History,
    Wrong,
    check_serializable,
    check_snapshot,
    check_timestamps,
    edges_among,
    writers_of,
)

pytestmark = pytest.mark.interpreted


def test_a_serial_history_is_right() -> None:
    history = History({"x": [1, 2], "y": [2, 3]}, [(2, "x", 1), (3, "x", 2), (4, "y", 2)])
    check_serializable(history)
    edges = edges_among(history, {1, 2, 3})
    check_timestamps(edges, {1: 10, 2: 20, 3: 30})
    check_snapshot(history, edges, {"x": 2, "y": 1}, {1, 2})


def test_write_skew_is_found() -> None:
    # Both read what the other one writes, and miss it.
    history = History({"x": [1], "y": [2]}, [(1, "y", 0), (2, "x", 0)])
    with pytest.raises(Wrong, match=r"depend on each other: \[(1, 2, 1|2, 1, 2)\]"):
        check_serializable(history)
    with pytest.raises(Wrong, match="smaller timestamp"):
        check_timestamps(history.edges(), {1: 10, 2: 20})


def test_a_read_only_transaction_that_closes_a_cycle_is_found() -> None:
    # The reader sees the withdrawal's predecessor missing: serializable without the reader only.
    history = History({"x": [1], "y": [2]}, [(2, "x", 0), ("r", "x", 1), ("r", "y", 0)])
    with pytest.raises(Wrong, match="depend on each other"):
        check_serializable(history)
    check_serializable(History(history.writers, history.reads[:1]))


def test_a_reader_orders_the_writers_around_it() -> None:
    # The reader saw 1 and missed 2: whoever sees 2 must see 1, which has the smaller timestamp.
    history = History({"x": [1], "y": [2]}, [("r", "x", 1), ("r", "y", 0)])
    edges = edges_among(history, {1, 2})
    assert edges == [(1, 2)]
    with pytest.raises(Wrong, match="smaller timestamp"):
        check_timestamps(edges, {1: 20, 2: 10})
    with pytest.raises(Wrong, match="saw 2 without its predecessor 1"):
        check_snapshot(history, edges, {"x": 0, "y": 1}, {2})


def test_circular_information_flow_is_found() -> None:
    history = History({"x": [1], "y": [2]}, [(2, "x", 1), (1, "y", 1)])
    with pytest.raises(Wrong, match="depend on each other"):
        check_serializable(history)


def test_a_lost_append_is_found() -> None:
    with pytest.raises(Wrong, match="2 and 1 both appended element 0 of x"):
        writers_of([(1, "x", 0, BEGINNING), (2, "x", 0, BEGINNING)])


def test_a_hole_and_an_append_on_something_else_are_found() -> None:
    with pytest.raises(Wrong, match="nobody appended element 0"):
        writers_of([(1, "x", 1, BEGINNING)])
    with pytest.raises(Wrong, match="after 7, not 1"):
        writers_of([(1, "x", 0, BEGINNING), (2, "x", 1, 7)])


def test_a_read_of_what_was_never_written_is_found() -> None:
    with pytest.raises(Wrong, match="saw 2 elements of x, which has 1"):
        check_serializable(History({"x": [1]}, [(2, "x", 2)]))


def test_half_a_transaction_in_a_snapshot_is_found() -> None:
    history = History({"x": [1], "y": [1]}, [])
    with pytest.raises(Wrong, match="a half of 1 at y"):
        check_snapshot(history, history.edges(), {"x": 1, "y": 0}, {1})
    with pytest.raises(Wrong, match="an append without 1 at x"):
        check_snapshot(history, history.edges(), {"x": 1, "y": 0}, set())


def test_a_snapshot_without_a_predecessor_by_anti_dependency_is_found() -> None:
    # 1 read x before 2 wrote it, and wrote y: who sees 2 must see 1.
    history = History({"x": [2], "y": [1]}, [(1, "x", 0)])
    check_snapshot(history, history.edges(), {"x": 0, "y": 1}, {1})
    with pytest.raises(Wrong, match="saw 2 without its predecessor 1"):
        check_snapshot(history, history.edges(), {"x": 1, "y": 0}, {2})
