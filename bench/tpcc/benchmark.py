"""TPC-C behind the interface that the runner knows."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bench.moments import again, passed, snapshot_from
from bench.options import (
    REMOTE_ITEM_PCT,
    REMOTE_PAYMENT_PCT,
    TPCC_KINDS,
    WAREHOUSES_MAX,
    TpccOptions,
)
from bench.parted import Parts
from bench.tpcc.audit import audit
from bench.tpcc.calls import TERMINALS_MAX
from bench.tpcc.consistency import check
from bench.tpcc.load import load
from bench.tpcc.lookup import Counts, counts_of, lost_of
from bench.tpcc.scale import SCALES, data_size
from bench.tpcc.schema import WAREHOUSE
from bench.tpcc.terminals import Terminal
from bench.tpcc.workload import PARTED, WORKLOAD, first_state, in_partition
from bench.workload import AuditResult, CheckResult, DataSize, Done, Extra, Progress, Status
from mako.errors import ConfigError

if TYPE_CHECKING:
    import mako


class Tpcc:
    """See `bench.workload.Benchmark`."""

    name = "tpcc"
    #: An average transaction of the mix: two fifths of new orders with ten lines each.
    growth_bytes = 720

    def __init__(self, options: TpccOptions) -> None:
        if options.warehouses > WAREHOUSES_MAX:
            raise ConfigError(
                f"{options.warehouses} warehouses do not fit the keys;"
                f" take at most {WAREHOUSES_MAX}"
            )
        self._asked = options.warehouses
        self._options = replace(options, warehouses=options.warehouses or options.workers)
        #: Warehouses of a partition of a cluster; 0: there is one.
        self._block = 0
        self._partitions = 1
        self.scale = SCALES[options.scale]
        self._order_lines = 0
        self._terminals: list[Terminal] = []
        #: With the result of anybody else.
        self.comparable = options.scale == "spec"
        note = "" if self.comparable else ", not comparable"
        self.title = f"TPC-C-like, scale {options.scale}{note}, unaudited"

    def options(self) -> Mapping[str, str | int | float]:
        mix = self._options.mix
        return {
            "warehouses": self._options.warehouses,
            "scale": self._options.scale,
            "mix": "deck" if mix is None else ",".join(map(str, mix)),
            **self._remote_options(),
        }

    def _remote_options(self) -> dict[str, str | int | float]:
        """Where they mean something: with one partition only if they are not the standard's."""
        items, payments = self._remote
        if not self._block and self._remote == (REMOTE_ITEM_PCT, REMOTE_PAYMENT_PCT):
            return {}
        return {"remote_item_pct": items, "remote_payment_pct": payments}

    @property
    def _remote(self) -> tuple[int, int]:
        return self._options.remote_item_pct, self._options.remote_payment_pct

    def over(self, parts: Parts) -> None:
        asked = self._asked
        advice = "add -f config/tpcc_shards.yml"
        self._block = parts.block(WAREHOUSE, first=1, advice=advice)
        self._partitions = parts.count
        wanted = self._block * parts.count
        if asked not in (0, wanted):
            raise ConfigError(
                f"{asked} warehouses: `shards` of the configuration has {self._block} in each of"
                f" {parts.count} partitions; ask for {wanted}, or give the cluster"
                f" `blocks: {-(-asked // parts.count)}` when it is made"
            )
        self._options = replace(self._options, warehouses=wanted)

    def prepare(self, db: "mako.Database", progress: Progress) -> None:
        self._order_lines = load(
            db,
            self.scale,
            self._options.warehouses,
            seed=self._options.seed,
            now_ms=int(time.time() * 1000),
            progress=progress,
        )

    def size(self) -> DataSize:
        return data_size(
            self.scale,
            self._options.warehouses,
            self._order_lines,
            partitions=self._partitions,
        )

    def workload(self) -> "mako.Workload":
        return PARTED if self._block else WORKLOAD

    def states(self, workers: int, seed: int, place: int = 0) -> list[dict[str, Any]]:
        states = [
            first_state(
                worker,
                workers=workers,
                # Those of one partition are dealt out among its own workers.
                warehouses=self._block or self._options.warehouses,
                scale=self.scale,
                mix=self._options.mix,
                history_number=0,
                remote=self._remote,
            )
            for worker in range(workers)
        ]
        if not self._block:
            return states
        everywhere = {"warehouses": self._options.warehouses}
        return [
            in_partition(state, place=place, block=self._block, workers=workers) | everywhere
            for state in states
        ]

    def terminals(self, count: int, seed: int) -> "Sequence[Terminal]":
        if count > TERMINALS_MAX:
            raise ConfigError(f"{count} terminals are too many; take at most {TERMINALS_MAX}")
        self._terminals = [
            Terminal(
                number,
                count=count,
                warehouses=self._options.warehouses,
                scale=self.scale,
                mix=self._options.mix,
                seed=seed,
                remote=self._remote,
                block=self._block,
            )
            for number in range(count)
        ]
        return self._terminals

    def check(
        self,
        db: "mako.Database",
        *,
        after_load: bool,
        done: Done | None = None,
        since: int = 0,
    ) -> list[CheckResult]:
        results = check(
            db, self.scale, self._options.warehouses, after_load=after_load, since=since
        )
        if self._terminals and not after_load:
            results.append(self._check_acknowledged(db))
        return results

    def _check_acknowledged(self, db: "mako.Database") -> CheckResult:
        """What no clause asks for: nothing that a terminal was told is durable may be lost."""
        told = [terminal.acknowledged for terminal in self._terminals]
        count, since = counts_of(told), passed(db)

        def look_up() -> Counts:
            with snapshot_from(db, since) as snapshot:
                return lost_of(snapshot, told)

        lost = again(look_up)
        seen = f"{count.orders} orders and {count.payments} payments"
        missing = f"{lost.orders} and {lost.payments} of {seen} are lost"
        return CheckResult(
            "acknowledged",
            "every order and payment that was acknowledged is there",
            Status.FAIL if any(lost) else Status.PASS,
            missing if any(lost) else seen,
        )

    def audit(
        self, states: Sequence[Mapping[str, Any]], sample: "mako.Sample"
    ) -> list[AuditResult]:
        warehouses, mix = self._options.warehouses, self._options.mix
        return audit(states, self.scale, warehouses, mix, self._remote)

    def extras(self, sample: "mako.Sample") -> list[Extra]:
        """Completed new orders per minute, those rolled back included: tpmC (clause 5.4.2), which
        is a word for full-size warehouses only."""
        kind = sample.kinds[TPCC_KINDS.index("new_order")]
        minutes = sample.seconds / 60
        completed = kind.committed + kind.rolled_back
        per_minute = int(completed / minutes) if minutes else 0
        if self.comparable:
            return [Extra("tpmC", "tpmC (unaudited)", per_minute)]
        title = "orders/min (not comparable)"
        return [Extra("new_orders_per_minute", title, per_minute)]


def create(options: TpccOptions) -> Tpcc:
    return Tpcc(options)
