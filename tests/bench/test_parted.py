"""Benchmarks over several partitions: where rows are, what generators draw, who is local."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import mako
from bench.distribution import draw_key_of, first_fields, place_of, ranges_of
from bench.drawing import Chance, state_of
from bench.micro import workload as micro
from bench.micro.benchmark import Micro
from bench.options import (
    TPCC_KINDS,
    Distribution,
    MicroOptions,
    TpcaOptions,
    TpccOptions,
)
from bench.parameters import SEED_MAX
from bench.parted import PartedDrive, Parts, together
from bench.sides import CROSS, SidedSample
from bench.tpca import janus
from bench.tpca.benchmark import JanusTpca, SpecTpca
from bench.tpcc import inputs
from bench.tpcc.benchmark import Tpcc
from bench.tpcc.schema import ITEM
from bench.workload import Status
from mako import histogram
from mako.config import load
from mako.errors import ConfigError

CONFIG = Path(__file__).parents[2] / "config"
TWO = CONFIG / "1c2s1r1p_cluster.yml"
THREE = CONFIG / "1c3s1r1p_cluster.yml"


def parts(more: str, cluster: Path = TWO) -> Parts:
    return Parts(load([cluster, CONFIG / more]).shards)


def drawing(row: mako.Row, first: Mapping[str, Any]) -> SimpleNamespace:
    return state_of(row, first)


# --- Where rows are ----------------------------------------------------------------------------


@pytest.mark.parametrize("cluster", [TWO, THREE])
def test_blocks_are_those_of_the_configuration(cluster: Path) -> None:
    for more, table, first, size in (
        ("tpcc_shards.yml", "warehouse", 1, 4),
        ("tpca_shards.yml", "janus_teller", 0, 50_000),
        ("micro_shards.yml", "record", 0, 1_000_000),
    ):
        bits = {"warehouse": 16}.get(table, 48)
        row = mako.Table(table, id=900, key={"number": bits}, row={"value": "i8"})
        assert parts(more, cluster).block(row, first=first, advice="") == size
        with pytest.raises(ConfigError, match=f"does not cut table {table} into blocks from"):
            # With two partitions only where the second one begins says anything.
            parts(more, cluster).block(row, first=7 if cluster == THREE else 1 << 40, advice="do")


@pytest.mark.parametrize(
    ("keys", "places", "expected"),
    [
        (10, 1, [(0, 10)]),
        (10, 2, [(0, 5), (100, 105)]),
        (11, 3, [(0, 4), (100, 104), (200, 203)]),
    ],
)
def test_keys_are_dealt_out(keys: int, places: int, expected: list[tuple[int, int]]) -> None:
    assert ranges_of(keys, places=places, block=100) == expected
    fields = first_fields(Distribution(), keys, places=places, block=100)
    state = SimpleNamespace(**{"d_zipf": 0, **fields})
    chance = Chance(5)
    for place, (first, end) in enumerate(expected):
        drawn = {draw_key_of(chance, state, place) for _ in range(400)}
        assert drawn == set(range(first, end))
        assert {place_of(state, key) for key in drawn} == {place}


@pytest.mark.parametrize(
    ("benchmark", "more", "line"),
    [
        (
            Tpcc(TpccOptions(workers=1, warehouses=6, scale="tiny")),
            "tpcc_shards.yml",
            "6 warehouses: `shards` of the configuration has 4 in each of 2 partitions; ask for 8,"
            " or give the cluster `blocks: 3` when it is made",
        ),
        (
            Tpcc(TpccOptions(workers=1, warehouses=8, scale="tiny")),
            "tpcc.yml",
            "`shards` of the configuration does not cut table warehouse into blocks from 1 on, so"
            " nobody knows which of its rows are local; add -f config/tpcc_shards.yml",
        ),
        (
            JanusTpca(TpcaOptions(1, "janus", accounts=100_002)),
            "tpca_shards.yml",
            "--accounts 100002: `shards` of the configuration has blocks of 50000 in 2 partitions;"
            " give at most 100000, or the cluster larger blocks when it is made",
        ),
        (
            SpecTpca(TpcaOptions(1)),
            "tpca_shards.yml",
            "the spec profile runs on one partition, as its accounts are not placed with their"
            " branches; add --profile janus, or use a configuration with one partition",
        ),
        (
            Micro(MicroOptions(1, keys=1)),
            "micro_shards.yml",
            "--keys 1: 2 partitions need a row each; give more",
        ),
        (
            Micro(MicroOptions(1)),
            "micro.yml",
            "`shards` of the configuration does not cut table record into blocks from 0 on, so"
            " nobody knows which of its rows are local; add -f config/micro_shards.yml",
        ),
    ],
)
def test_a_cluster_that_does_not_suit_is_refused_in_one_line(
    benchmark: Any, more: str, line: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(line)}$"):
        benchmark.over(parts(more))


# --- Generators --------------------------------------------------------------------------------


def test_janus_is_over_partitions_in_three_quarters_of_two() -> None:
    benchmark = JanusTpca(TpcaOptions(1, "janus", accounts=1000))
    benchmark.over(parts("tpca_shards.yml"))
    states = []
    for place in (0, 1):
        (first,) = benchmark.states(1, 1, place)
        state = drawing(janus.STATE, first)
        chance = Chance(7 + place)
        for _ in range(10_000):
            kind = janus.generate_parted(chance, state)
            placed = [key // 50_000 for key in (state.b_id, state.t_id, state.c_id)]
            assert placed[0] == place
            assert janus.PARTED.kinds[kind].endswith(CROSS) == (len(set(placed)) > 1)
        states.append(vars(state))
    (audit,) = benchmark.audit(states, None)  # type: ignore[arg-type]
    assert (audit.name, audit.status) == ("cross_shard_pct", Status.PASS)
    assert 74 < audit.value < 76
    states[0]["n_cross"] = states[0]["n_transactions"]
    assert benchmark.audit(states, None)[0].status is Status.FAIL  # type: ignore[arg-type]


@pytest.mark.parametrize("percent", [0, 30, 100])
def test_micro_is_over_partitions_as_often_as_asked_for(percent: int) -> None:
    benchmark = Micro(MicroOptions(1, keys=999, ops=3, cross_shard_pct=percent))
    benchmark.over(parts("micro_shards.yml", THREE))
    (first,) = benchmark.states(1, 1, 2)
    state = drawing(micro.STATE, first)
    chance = Chance(3)
    drawn: Counter[str] = Counter()
    for _ in range(10_000):
        kind = micro.PARTED.kinds[micro.generate_parted(chance, state)]
        placed = [key // 1_000_000 for key in state.numbers[:3]]
        assert placed[0] == placed[2] == 2
        assert kind.endswith(CROSS) == (placed[1] != 2)
        assert kind.startswith("read_modify_write") == (state.kind == micro.READ_MODIFY_WRITE)
        drawn[kind] += 1
    audits = benchmark.audit([vars(state)], None)  # type: ignore[arg-type]
    assert [audit.status for audit in audits] == [Status.PASS] * 2
    assert audits[1].value == pytest.approx(percent, abs=2)


def test_tpcc_is_over_partitions_if_a_warehouse_of_another_one_takes_part() -> None:
    options = TpccOptions(
        workers=1, warehouses=0, scale="tiny", remote_item_pct=10, remote_payment_pct=50
    )
    benchmark = Tpcc(options)
    benchmark.over(parts("tpcc_shards.yml"))
    assert benchmark.options()["warehouses"] == 8
    (first,) = benchmark.states(1, 1, 1)
    assert (first["home_first"], first["home_last"], first["worker"]) == (5, 8, 2)
    state = drawing(inputs.STATE, first)
    chance = Chance(2)
    seen: Counter[str] = Counter()
    for _ in range(3000):
        kind = inputs.PARTED_KINDS[inputs.generate_parted(chance, state)]
        assert 5 <= state.w_id <= 8
        others: list[int] = []
        if state.kind == inputs.NEW_ORDER_KIND:
            others = state.supply_w_id[: state.ol_cnt]
        elif state.kind == inputs.PAYMENT_KIND:
            others = [state.c_w_id]
        assert kind.endswith(CROSS) == any(w_id <= 4 for w_id in others)
        seen[kind] += 1
    assert all(seen[kind] for kind in inputs.PARTED_KINDS)


def test_items_of_tpcc_are_in_each_partition() -> None:
    benchmark = Tpcc(TpccOptions(workers=1, warehouses=8, scale="tiny"))
    alone = benchmark.size()
    benchmark.over(parts("tpcc_shards.yml"))
    both, items = benchmark.size(), benchmark.scale.items
    assert both.rows - alone.rows == items
    assert both.key_bytes - alone.key_bytes == items * ITEM.key_size
    assert both.row_bytes - alone.row_bytes == items * ITEM.row_size


def test_terminals_of_tpcc_say_what_is_over_partitions() -> None:
    benchmark = Tpcc(TpccOptions(workers=1, warehouses=0, scale="tiny", remote_payment_pct=60))
    benchmark.over(parts("tpcc_shards.yml"))
    terminals = benchmark.terminals(2, 1)
    seen: Counter[str] = Counter()
    for turn in range(2000):
        request = terminals[turn % 2].draw()
        kind = inputs.PARTED_KINDS[request.kind]
        state = SimpleNamespace(**terminals[turn % 2].state())
        assert kind.removesuffix(CROSS) == inputs.PARTED_KINDS[state.kind]
        if state.kind == inputs.PAYMENT_KIND:
            assert kind.endswith(CROSS) == ((state.w_id <= 4) != (state.c_w_id <= 4))
            assert request.procedure.name == "pay"
        seen[kind] += 1
    assert seen["payment_cross"] > 50
    assert set(seen) >= set(TPCC_KINDS)


def test_workers_of_a_partition_share_its_warehouses() -> None:
    benchmark = Tpcc(TpccOptions(workers=3, warehouses=8, scale="tiny"))
    benchmark.over(parts("tpcc_shards.yml"))
    states = [state for place in (0, 1) for state in benchmark.states(3, 1, place)]
    homes = [
        list(range(state["home_first"], state["home_last"] + 1, state["home_step"]))
        for state in states
    ]
    assert homes == [[1, 4], [2], [3], [5, 8], [6], [7]]
    assert [state["worker"] for state in states] == [1, 2, 3, 4, 5, 6]
    assert {state["warehouses"] for state in states} == {8}


# --- One sample of several partitions ----------------------------------------------------------


def kind(name: str, committed: int, rolled_back: int = 0, *, durable: int = 0) -> mako.KindSample:
    counts = histogram.empty()
    counts[100] = committed + rolled_back
    later = histogram.empty()
    later[900] = durable
    return mako.KindSample(name, committed, rolled_back, counts, later if durable else [])


def sample(number: int) -> mako.Sample:
    return mako.Sample(
        seconds=2.0 + number,
        kinds=(kind("pay", 10, 1, durable=9), kind("look", 5), kind("pay_cross", 3 + number)),
        aborts={"lock": 4, "changed": 1},
        log_bytes=1000,
        log_transactions=10,
        memory_bytes=(50, 90)[number],
        memory_limit=100,
        watermark=70 - number,
        watermark_lag_ms=1.0 + number,
        aborts_over={"lock": 3, "changed": 0},
        parked={"alone": 2, "over": number},
    )


def test_samples_of_partitions_are_added_up() -> None:
    both = together([sample(0), sample(1)])
    assert [(each.name, each.committed, each.rolled_back) for each in both.kinds] == [
        ("pay", 27, 2),
        ("look", 10, 0),
    ]
    assert [(each.name, each.committed, sum(each.histogram)) for each in both.sides] == [
        ("local", 30, 32),
        ("cross_shard", 7, 7),
    ]
    assert [sum(each.durable) for each in both.sides] == [18, 0]
    assert both.aborts == {"lock": 8, "changed": 2}
    assert both.aborts_over == {"lock": 6, "changed": 0}
    assert both.parked == {"alone": 4, "over": 1}
    assert (both.watermark, both.watermark_lag_ms, both.seconds) == (69, 2.0, 2.0)
    assert (both.memory_bytes, both.memory_limit, both.fullest) == (140, 200, 0.9)


class OneDrive:
    def __init__(self, number: int, told: list[str], *, lost: bool = False) -> None:
        self.number, self.told, self.lost = number, told, lost

    def sample(self) -> mako.Sample:
        return sample(self.number)

    def reset(self) -> None:
        self.told.append(f"reset {self.number}")

    def stop(self) -> None:
        self.told.append(f"stop {self.number}")
        if self.lost:
            raise mako.ConnectionLost("it is gone")

    def states(self) -> list[dict[str, Any]]:
        return [{"number": self.number}]


class Driven:
    """A cluster of two partitions that remembers who was driven how."""

    partitions = (0, 1)

    def __init__(self, lost: int | None = None, refused: int | None = None) -> None:
        self.lost, self.refused = lost, refused
        self.asked: list[dict[str, Any]] = []
        self.told: list[str] = []

    def drive(self, _workload: object, **asked: Any) -> OneDrive:
        place = asked["partition"]
        if place == self.refused:
            raise ConfigError("no seats")
        self.asked.append(asked)
        return OneDrive(place, self.told, lost=place == self.lost)


def driven(db: Driven, seed: int = 3) -> PartedDrive:
    benchmark = Tpcc(TpccOptions(workers=1, warehouses=8, scale="tiny"))
    benchmark.over(parts("tpcc_shards.yml"))
    return PartedDrive(db, benchmark, workers=1, seed=seed, rate=100)  # type: ignore[arg-type]


def test_the_leader_of_each_partition_is_driven() -> None:
    db = Driven()
    drive = driven(db)
    assert [asked["rate"] for asked in db.asked] == [50, 50]
    assert [asked["states"][0]["home_first"] for asked in db.asked] == [1, 5]
    assert len({asked["seed"] for asked in db.asked}) == 2
    assert isinstance(drive.sample(), SidedSample)
    drive.reset()
    drive.stop()
    assert db.told == ["reset 0", "reset 1", "stop 0", "stop 1"]
    assert drive.states() == [{"number": 0}, {"number": 1}]


@pytest.mark.parametrize("seed", [0, 1, SEED_MAX // 2, SEED_MAX])
def test_each_partition_has_a_seed_that_can_be_sent(seed: int) -> None:
    db = Driven()
    driven(db, seed)
    seeds = [asked["seed"] for asked in db.asked]
    assert len(set(seeds)) == 2
    assert all(0 <= each <= SEED_MAX for each in seeds)


def test_all_are_stopped_also_if_one_is_lost_or_refused() -> None:
    db = Driven(lost=0)
    with pytest.raises(mako.ConnectionLost):
        driven(db).stop()
    assert db.told == ["stop 0", "stop 1"]
    db = Driven(refused=1)
    with pytest.raises(ConfigError, match="no seats"):
        driven(db)
    assert db.told == ["stop 0"]
