"""The client's core in a cluster of several partitions: it finds the replicas of its own."""

from dataclasses import replace
from typing import Any

import pytest

from mako.placement import Kind, Placement, ShardMap, by_hash
from mako.wire.errors import WireError
from mako.wire.hello import hello_parts
from tests.client.remote.scripted import SERVER, Played

#: What every server says of two partitions.
WHERE: dict[str, Any] = {
    "shards": by_hash(2).plain(),
    "places": [["a:1", "b:2"], ["x:7", "y:8", "z:9"]],
}


def fail(played: Played) -> str:
    """Let the next connection fail; where it would have gone."""
    address = played.dial()
    played.lose()
    return address


def test_a_server_without_the_partition_says_where_it_is() -> None:
    played = Played("a:1", partition=1)
    assert played.serve(leads=False, leader="x:7", hosted=False, **WHERE) == "a:1"
    assert not played.core.ready
    assert played.core.about is not None, "the map is known without a leader"
    assert played.core.about.shards == by_hash(2)
    assert played.serve(**WHERE) == "x:7"
    assert played.core.ready


def test_replicas_that_were_heard_of_are_asked_when_the_others_are_gone() -> None:
    played = Played("a:1", partition=1)
    played.serve(leads=False, leader="x:7", hosted=False, **WHERE)
    assert {fail(played) for _ in range(6)} == {"a:1", "x:7", "y:8", "z:9"}


def test_what_was_heard_before_is_forgotten_and_what_was_given_is_not() -> None:
    played = Played("a:1", partition=1)
    played.serve(leads=False, leader="x:7", hosted=False, **WHERE)
    moved = WHERE | {"places": [[], ["w:6"]]}
    played.serve(leads=False, leader="", **moved)
    played.lose()
    assert {fail(played) for _ in range(6)} == {"a:1", "w:6"}


def test_a_replica_near_by_is_stayed_with_if_it_has_the_partition() -> None:
    played = Played("a:1", partition=1, stay=True)
    played.serve(leads=False, leader="x:7", hosted=False, **WHERE)
    assert not played.core.ready
    assert played.serve(leads=False, leader="y:8", **WHERE) == "x:7"
    assert played.core.ready, "it is no leader, and that is fine"


def test_a_named_replica_is_not_exchanged_for_another_one() -> None:
    played = Played("b:2", stay=True)
    played.serve(leads=False, leader="a:1", **WHERE)
    played.lose()
    assert {fail(played) for _ in range(4)} == {"b:2"}


def test_a_server_that_answers_for_another_partition_is_left() -> None:
    played = Played("a:1", partition=1)
    played.dial()
    with pytest.raises(WireError, match="the server is of a version without a partition 1"):
        played.feed(b"".join(hello_parts(replace(SERVER, partition=0), reply=True)))


def test_a_server_with_another_map_is_left() -> None:
    played = Played("a:1", partition=1, shards=ShardMap(2, Placement(Kind.RANGE, 2, (b"m",))))
    with pytest.raises(WireError, match="the server has another shard map than others"):
        played.serve(**WHERE)


@pytest.mark.parametrize(
    "wrong",
    [
        {"shards": [2]},
        {"shards": [2, [1, [], 0], {}]},  # And places of one partition.
        {"shards": 7},
        {"procedures": [["add", 3, ["a"], ["t", 1, [[5, 0, 0, 8]], True]]]},
    ],
)
def test_what_is_no_description_ends_the_connection(wrong: dict[str, Any]) -> None:
    with pytest.raises(WireError, match="describes itself in another way"):
        Played("a:1").serve(**wrong)
