"""Transfers between two accounts, a share of them between accounts of two partitions."""

from typing import Any, Final

import mako
from bench.shards.cluster import Measured, Partitions
from bench.shards.processes import Driven, Processes

ACCOUNT: Final = mako.Table(
    "shard_account", id=131, key={"place": 8, "number": 40}, row={"value": "i8", "writes": "i8"}
)
STATE: Final = mako.Row(
    {
        "place": "i8",
        "places": "i8",
        "keys": "i8",
        "cross_pct": "i8",
        "number": "i8",
        "other_place": "i8",
        "other_number": "i8",
        "amount": "i8",
    },
    name="the state of a worker that transfers",
)
_CHUNK: Final = 1000
_FIRST: Final = 100


@mako.procedure
def load(tx: Any, place: int, first: int, end: int) -> None:
    for number in range(first, end):
        account = tx.insert(ACCOUNT, (place, number))
        account.value = _FIRST


@mako.function
def generate(random: Any, state: Any) -> int:
    """Draw two accounts. The kind is 1 if they are in two partitions."""
    state.number = random.uniform(0, state.keys - 1)
    state.other_number = random.uniform(0, state.keys - 1)
    state.other_place = state.place
    state.amount = random.uniform(1, 5)
    if random.uniform(1, 100) <= state.cross_pct:
        state.other_place = (state.place + random.uniform(1, state.places - 1)) % state.places
        return 1
    if state.other_number == state.number:
        state.other_number = (state.number + 1) % state.keys
    return 0


@mako.function
def execute(tx: Any, state: Any) -> None:
    tx.prefetch(ACCOUNT, (state.other_place, state.other_number))
    one = tx.write(ACCOUNT, (state.place, state.number))
    other = tx.write(ACCOUNT, (state.other_place, state.other_number))
    one.value -= state.amount
    other.value += state.amount
    one.writes += 1
    other.writes += 1


WORKLOAD: Final = mako.Workload(
    "transfers", kinds=("local", "cross"), state=STATE, generate=generate, execute=execute
)


@mako.procedure
def sum_values(tx: Any, place: int, first: int, end: int) -> int:
    total = 0
    rows = tx.scan(ACCOUNT, (place, first), (place, end), end - first)
    for at in range(rows.count):
        total += rows.row(at).value
    return total


def run_processes(
    partitions: int, replicas: int, keys: int, cross_pct: int, seconds: float, rate: float
) -> Driven:
    """The same at servers."""
    shards = {"default": {"blocks": 1, "bits": 8}}
    chunks = [(first, min(first + _CHUNK, keys)) for first in range(0, keys, _CHUNK)]
    with (
        Processes(partitions, replicas, shards=shards, modules=[__name__]) as processes,
        mako.connect(processes.addresses, timeout=60) as db,
    ):
        for place in range(partitions):
            for first, end in chunks:
                db.run(load, place, first, end, partition=place)
        states = [
            {"place": place, "places": partitions, "keys": keys, "cross_pct": cross_pct}
            for place in range(partitions)
        ]
        driven = processes.drive(db, WORKLOAD, states, seconds, rate=rate)
        total = sum(
            db.run(sum_values, place, first, end, partition=place)
            for place in range(partitions)
            for first, end in chunks
        )
    if total != partitions * keys * _FIRST:
        raise mako.Error(f"the values add up to {total}, not to {partitions * keys * _FIRST}")
    return driven


def run(partitions: Partitions, keys: int, cross_pct: int, seconds: float) -> Measured:
    """Load, drive, and check that nothing was created or lost."""
    places = len(partitions.engines)
    partitions.create([ACCOUNT])
    chunks = [(first, min(first + _CHUNK, keys)) for first in range(0, keys, _CHUNK)]
    for place in range(places):
        for first, end in chunks:
            partitions.run(place, load, place, first, end)
    states = [
        {"place": place, "places": places, "keys": keys, "cross_pct": cross_pct}
        for place in range(places)
    ]
    measured = partitions.drive(WORKLOAD, states, seconds, [(ACCOUNT, 0, 1)])
    total = sum(
        partitions.run(place, sum_values, place, first, end)
        for place in range(places)
        for first, end in chunks
    )
    if total != places * keys * _FIRST:
        raise mako.Error(f"the values add up to {total}, not to {places * keys * _FIRST}")
    return measured
