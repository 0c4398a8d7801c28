"""Requests that run once, however often and however late they arrive."""

import struct
from collections.abc import Iterator

import pytest

from mako.engine.builtin import address_of, forget, once
from mako.ids import TABLE_ID_REQUESTS, Outcome
from mako.schema import BytesTable
from tests.engine.partitioned import ACCOUNT, Cluster, Done, put
from tests.engine.test_partitions import transfer

pytestmark = pytest.mark.interpreted

REQUESTS = BytesTable("mako.requests", id=int(TABLE_ID_REQUESTS))
CLIENT = -77


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster([ACCOUNT])
    for engine in made.engines:
        engine.create_table(REQUESTS)
    made.run(0, put, 0, 1, 50)
    made.run(1, put, 1, 2, 7)
    yield made
    made.close()


def ask(cluster: Cluster, entry: int, words: bytes) -> Done:
    number = cluster.post_entry(0, entry, words)
    (done,) = [each for each in cluster.settle() if each.number == number]
    return done


def transfer_once(cluster: Cluster, number: int) -> Done:
    """Take 5 from one account, and give it to one in another partition."""
    engine = cluster.engines[0]
    arguments = engine.argument_words(transfer, (0, 1, 1, 2, 5))
    head = struct.pack("<3q", engine.entry(transfer).address, CLIENT, number)
    return ask(cluster, address_of(once), head + arguments)


def test_a_request_over_partitions_that_comes_again_is_told_the_same(cluster: Cluster) -> None:
    first, second = transfer_once(cluster, 3), transfer_once(cluster, 3)
    assert first.outcome is second.outcome is Outcome.COMMITTED
    assert first.value == second.value
    assert transfer_once(cluster, 4).value != first.value


def test_a_request_that_comes_after_it_was_forgotten_does_not_run(cluster: Cluster) -> None:
    transfer_once(cluster, 3)
    words = struct.pack("<3q", CLIENT, 0, 4)
    assert ask(cluster, address_of(forget), words).outcome is Outcome.COMMITTED
    before = cluster.run(0, transfer, 0, 1, 1, 2, 0).value
    assert transfer_once(cluster, 3).outcome is Outcome.ROLLED_BACK
    assert transfer_once(cluster, 2).outcome is Outcome.ROLLED_BACK
    assert cluster.run(0, transfer, 0, 1, 1, 2, 0).value == before
    assert transfer_once(cluster, 4).outcome is Outcome.COMMITTED
