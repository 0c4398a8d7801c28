"""A client that asks a process for a partition of which it has no replica."""

from pathlib import Path
from typing import Final

import pytest

from mako.call_format import PUT
from mako.config import resolve
from mako.ids import Status
from mako.placement import by_hash
from mako.server.deploy import deploy
from mako.server.elsewhere import Elsewhere
from mako.server.planning import plan_of
from mako.wire.errors import WireError
from mako.wire.frame import FrameReader
from mako.wire.hello import PROCESS_NONE, Hello, Role, expect_hello
from mako.wire.requests import (
    ClientKind,
    Operation,
    pack_batch,
    pack_key_call,
    pack_requests,
    read_results,
    refuse_calls,
    unpack_replies,
)

DOCUMENT: Final = {
    "site": {"server": [["s1:7001"], ["t1:8001", "t2:8002", "t3:8003"]]},
    "process": {"s1": "a", "t1": "b", "t2": "c", "t3": "d"},
    "host": dict.fromkeys("abcd", "127.0.0.1"),
}
IDENTITY: Final = Hello(7, Role.PEER, 1, "a", 5, "test")


def elsewhere(partition: int) -> Elsewhere:
    plan = plan_of(resolve(DOCUMENT), "a", data=str(Path("unused")))
    return Elsewhere(plan, deploy(["tests.server.divided"]), IDENTITY, partition)


def client(partition: int, cluster: int = 0) -> Hello:
    return Hello(cluster, Role.CLIENT, PROCESS_NONE, "c", 1, "t", partition=partition)


def test_the_hello_is_about_the_partition() -> None:
    reader = FrameReader(1 << 16)
    (answer,) = reader.feed(elsewhere(1).greet(client(1)))
    assert expect_hello(answer.kind, answer.body, reply=True).partition == 1


def test_who_asks_for_what_there_is_not_is_refused() -> None:
    with pytest.raises(WireError, match="there is no partition 2; the cluster has 2, which count"):
        elsewhere(2).greet(client(2))
    with pytest.raises(WireError, match="this is cluster 7, you are of cluster 8"):
        elsewhere(1).greet(client(1, cluster=8))


def test_it_describes_where_everything_is() -> None:
    body = pack_requests([[0, int(Operation.DESCRIBE)], [5, int(Operation.STATUS)]])
    (answer,) = FrameReader(1 << 16).feed(elsewhere(1).answer(ClientKind.REQUEST, body))
    described, refused = unpack_replies(bytes(answer.body))
    assert described.status == 0
    about = described.value
    assert (about["leads"], about["leader"], about["hosted"]) == (False, "127.0.0.1:8001", False)
    assert about["shards"] == by_hash(2).plain()
    assert about["places"] == [
        ["127.0.0.1:7001"],
        ["127.0.0.1:8001", "127.0.0.1:8002", "127.0.0.1:8003"],
    ]
    assert [name for name, *_ in about["procedures"]] == ["balance", "deposit"]
    assert about["procedures"][1][3] == ["account", 1, [[1, 0, 48, 16]], False]
    assert refused[:2] == (5, Status.NOT_LEADER)
    assert refused.text == "127.0.0.1:8001"


def test_calls_are_refused_each_and_the_leader_is_named_before() -> None:
    calls = [pack_key_call(PUT, 1000, number, 0, b"key", b"v" * number) for number in (3, 9)]
    answer = elsewhere(1).answer(ClientKind.CALL, pack_batch(1, 0, calls))
    redirect, results = FrameReader(1 << 16).feed(answer)
    assert (redirect.kind, bytes(redirect.body)) == (ClientKind.REDIRECT, b"127.0.0.1:8001")
    found = list(read_results(results.body))
    assert [(number, status) for number, status, *_ in found] == [
        (3, Status.NOT_LEADER),
        (9, Status.NOT_LEADER),
    ]


def test_what_is_malformed_ends_the_connection() -> None:
    whole = pack_batch(1, 0, [pack_key_call(PUT, 1, 1, 0, b"k", b"v")])
    assert refuse_calls(pack_batch(1, 0, []), 64) == b""
    for bad in (whole[:10], whole[:-1], whole[:30], whole[:16] + b"\x07" + whole[17:]):
        with pytest.raises(WireError):
            elsewhere(1).answer(ClientKind.CALL, bad)
    with pytest.raises(WireError, match="a client sends no frame of kind 33"):
        elsewhere(1).answer(ClientKind.RESULT, b"")
