"""`mako.server.http.Source` of a process, as far as it is about who waits for what.

    the loop's thread    copies: entries by reference, rings, results ─┐      ┌─▶ versions of rows
    another thread                                                     └─look─┘

Copies are made in one piece, without a pause, so that they are of one moment. What takes longer,
going through some ten thousand transactions, is left to a thread. What is in the engine's memory,
the versions of a row, is read in the loop's thread: nothing is discarded or reclaimed meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from itertools import islice
from typing import Any, Final, TypeVar

import trio

from mako.entry import GroupId
from mako.ids import MILLISECOND_SHIFT
from mako.replication.kept import unlogged_in
from mako.server.chains import NOT_READ, Chain, chains_of
from mako.server.hosting import Hosted
from mako.server.http import NoAnswer
from mako.server.trace_schema import (
    Found,
    Mark,
    PartitionTrace,
    PartitionWaits,
    ProcessTrace,
    ProcessWaits,
    Recovered,
    to_json,
)
from mako.server.tracing import (
    ROWS_SEEN,
    Tables,
    found_of,
    found_result,
    found_session,
    waits_of,
    without_writes,
)
from mako.server.unacknowledged import set_aside, unacknowledged
from mako.server.waiting import Counted, Facts, Logged, Look, Session, Write

#: Looks at a time: each keeps copies of rings.
LOOKS_MAX: Final = 2
#: Transactions that are counted for a metric, in the loop's thread.
COUNTED_MAX: Final = 5_000

T = TypeVar("T")


class Tracer:
    """See the module."""

    def __init__(
        self,
        process: str,
        cluster: str,
        hosted: Mapping[GroupId, Hosted],
        partitions: tuple[int, ...],
    ) -> None:
        """`partitions` are all of the cluster."""
        self._process = process
        self._cluster = cluster
        self._hosted = hosted
        self._partitions = partitions
        self._looking = 0

    # --- All that wait -------------------------------------------------------------------------

    async def waits(self, limit: int) -> dict[str, Any]:
        """What is said at /trace. NoAnswer: too many ask."""
        with self._look():
            shown = [await self._waits(hosted, limit) for hosted in list(self._hosted.values())]
        return to_json(ProcessWaits(process=self._process, cluster=self._cluster, partitions=shown))

    async def _waits(self, hosted: Hosted, limit: int) -> PartitionWaits:
        status = hosted.status()
        facts = self.facts(hosted)

        def look() -> PartitionWaits:
            looked = Look(facts).waiting()
            found = waits_of(facts, looked.waiting, limit)
            return PartitionWaits(
                partition=facts.partition,
                node=status["node"],
                role=status["role"],
                epoch=facts.epoch,
                stable=facts.stable,
                watermarks=_marks(facts),
                waiting=found.waiting,
                waiting_for=found.waiting_for,
                oldest=found.oldest,
                left_out=found.waiting - len(found.oldest),
                bytes_left_out=looked.bytes_left_out,
                recoveries=[Recovered(**each._asdict()) for each in facts.recoveries],
            )

        return await _in_thread(look)

    def waiting_for(self, hosted: Hosted) -> dict[int, int]:
        """How many of the oldest transactions of a leader wait for each partition."""
        facts = self.facts(hosted)
        looked = Look(facts, COUNTED_MAX).waiting()
        counts = waits_of(facts, looked.waiting, 0).waiting_for
        return {each.partition: each.transactions for each in counts}

    # --- One of them ---------------------------------------------------------------------------

    async def trace(self, timestamp: int, limit: int) -> dict[str, Any]:
        """What is said at /trace/TXN. NoAnswer: too many ask."""
        with self._look():
            shown = [
                await self._trace(hosted, timestamp, limit)
                for hosted in list(self._hosted.values())
                if hosted.serves
            ]
        return to_json(
            ProcessTrace(
                process=self._process,
                cluster=self._cluster,
                timestamp=timestamp,
                partitions=shown,
            )
        )

    async def _trace(self, hosted: Hosted, timestamp: int, limit: int) -> PartitionTrace:
        facts = self.facts(hosted)
        engine = hosted.partition.engine
        look = Look(facts)
        logged = await _in_thread(lambda: look.find(timestamp))
        # Its rows are looked up now, and what they wait for is as it was.
        tables = _tables(hosted)
        found: list[Found] = []
        for one, cause in logged:
            rows = list(islice(one.writes(), ROWS_SEEN))
            still = hosted.serves and hosted.partition.engine is engine
            chains = self._chains(hosted, one, rows, cause) if still else [NOT_READ] * len(rows)
            both = list(zip(rows, chains, strict=True))
            found.append(found_of(facts, one, cause, both, tables, limit))
        wrote = {(one.timestamp, one.mask) for one, _ in logged}
        results = without_writes(look.results(timestamp), wrote)
        found += [found_result(facts, one) for one in results]
        session = look.session(timestamp)
        if not found and session is not None:
            found.append(found_session(facts, session))
        verdict, why = ("", "") if found else look.verdict(timestamp)
        return PartitionTrace(
            partition=facts.partition,
            node=int(hosted.replica.node),
            epoch=facts.epoch,
            found=found,
            verdict=verdict,
            why=why,
        )

    @staticmethod
    def _chains(hosted: Hosted, one: Logged, rows: list[Write], cause: str) -> list[Chain]:
        stable = hosted.partition.stable
        if cause:
            return [Chain(note="discarded")] * len(rows)
        if one.timestamp <= stable:
            return [Chain(note="durable everywhere: what it replaced may be gone")] * len(rows)
        return chains_of(hosted.partition.engine, rows, stable)

    # --- Facts ---------------------------------------------------------------------------------

    @contextmanager
    def _look(self) -> Iterator[None]:
        if self._looking >= LOOKS_MAX:
            text = f"{self._looking} look already at what waits; ask again when they are done"
            raise NoAnswer(text, HTTPStatus.SERVICE_UNAVAILABLE)
        self._looking += 1
        try:
            yield
        finally:
            self._looking -= 1

    def facts(self, hosted: Hosted) -> Facts:
        """What is known at this moment. Of a replica that does not lead only the watermarks."""
        partition = hosted.partition
        across, engine = partition.across, partition.engine
        now_ms, limit = hosted.time
        about: dict[str, Any] = {
            "partition": hosted.replica.partition,
            "epoch": partition.epoch,
            "now_ms": now_ms,
            "clock": engine.clock,
            "stable": partition.stable,
            "limit": limit,
            "leads": tuple(hosted.leads),
            "watermarks": self._watermarks(hosted),
            "recoveries": list(across.recoveries),
        }
        if not hosted.serves:
            return Facts(**about)
        serving = hosted.backend.serving
        names = serving.entry_names()
        about["results"] = [
            one for rings in serving.rings() for one in unacknowledged(rings, names)
        ]
        about["results"] += map(set_aside, serving.those_aside())
        about["sessions"] = [Session(*each) for each in hosted.connections.awaited()]
        about["unlogged"], about["is_whole"] = unlogged_in(engine)
        if across.kept is None:
            return Facts(**about, since=engine.clock)  # A lone partition keeps no entries.
        first, entries = across.kept.entries
        return Facts(
            **about,
            entries=entries,
            first=first,
            since=across.kept.since,
            taken=across.kept.taken,
        )

    def _watermarks(self, hosted: Hosted) -> dict[int, Counted]:
        across = hosted.partition.across
        if across.alone:
            own = hosted.replica.partition
            return {own: Counted(hosted.partition.epoch, hosted.partition.watermark)}
        marks = across.watermarks
        return {p: Counted(marks.epoch(p), marks[p]) for p in self._partitions}


def _marks(facts: Facts) -> list[Mark]:
    return [
        Mark(
            partition=partition,
            epoch=counted.epoch,
            watermark=counted.watermark,
            lag_ms=max(facts.now_ms - (counted.watermark >> MILLISECOND_SHIFT), 0),
        )
        for partition, counted in facts.watermarks.items()
    ]


def _tables(hosted: Hosted) -> Tables:
    handles = dict(hosted.partition.engine.tables)
    described = frozenset(number for number, handle in handles.items() if handle.described)
    return Tables({number: handle.table for number, handle in handles.items()}, described)


async def _in_thread(act: Callable[[], T]) -> T:
    return await trio.to_thread.run_sync(act)  # Whoever cancels it waits for the thread.
