"""Facts of a leader made into what /trace and /trace/TXN show: without I/O.

A dependency that a transaction inherited by writing over a version is in the chain of that row for
as long as it waits. One that it inherited by reading is recorded nowhere: neither the log nor a
version says what was read. So what no row explains is shown as that, and never guessed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from typing import Final, NamedTuple

from mako.errors import SchemaError
from mako.ids import MILLISECOND_SHIFT, Outcome, Status
from mako.schema import BytesTable, Table
from mako.server.chains import Chain, Version
from mako.server.trace_schema import (
    Asker,
    Before,
    Count,
    Found,
    Lag,
    RowTrace,
    Through,
    Waiting,
)
from mako.server.unacknowledged import Unacknowledged
from mako.server.waiting import Facts, Logged, Session, Write, partitions_of

#: Characters of a key.
KEY_MAX: Final = 80
#: Rows of a transaction whose versions are looked at, and of which so many are shown.
ROWS_SEEN: Final = 256
ROWS_SHOWN: Final = 20


class Waits(NamedTuple):
    """All that waits at a leader, and the oldest of it."""

    waiting: int
    waiting_for: list[Count]
    oldest: list[Waiting]


def waits_of(facts: Facts, logged: Sequence[Logged], limit: int) -> Waits:
    """What waits: the transactions of `logged`, and results and sessions besides."""
    known = {(one.timestamp, one.mask) for one in logged}
    askers, others = _askers(facts.results, known)
    sessions = {one.timestamp: one for one in facts.sessions}
    shown = [
        _waiting(
            facts,
            one.timestamp,
            one.mask,
            one.rows,
            _asker(askers.get(one[:2]), sessions.pop(one.timestamp, None)),
        )
        for one in logged
    ]
    for result in others:
        one = _waiting(facts, result.timestamp, result.mask, 0, _asker(result, None))
        shown.append(one if result.outcome == Outcome.COMMITTED else _ended(one, result))
    everybody = sum(1 << partition for partition in facts.watermarks)
    for session in sessions.values():
        if session.timestamp <= facts.clock:
            at = session.timestamp
            shown.append(_waiting(facts, at, everybody, 0, _asker(None, session), mask_known=False))
    counts = Counter(lag.partition for one in shown for lag in one.waits_for)
    totals = [Count(partition=p, transactions=counts[p]) for p in sorted(counts)]
    shown.sort(key=lambda one: one.timestamp)
    return Waits(len(shown), totals, shown[:limit])


def without_writes(
    results: Sequence[Unacknowledged], wrote: Container[tuple[int, int]]
) -> list[Unacknowledged]:
    """Those that are not of a transaction in `wrote`, each a timestamp and a mask."""
    return _askers(results, wrote)[1]


def _askers(
    results: Sequence[Unacknowledged], wrote: Container[tuple[int, int]]
) -> tuple[dict[tuple[int, int], Unacknowledged], list[Unacknowledged]]:
    """The results of transactions in `wrote`, and all others.

    Who only reads gets the newest timestamp drawn, which is that of the last one that wrote, and
    the same mask: of several the first is the one that wrote, as nobody read it before.
    """
    askers: dict[tuple[int, int], Unacknowledged] = {}
    others = []
    for one in results:
        key = one.timestamp, one.mask
        did_write = key in wrote and one.outcome in (Outcome.COMMITTED, Status.DISCARDED)
        if did_write and askers.setdefault(key, one) is one:
            continue
        others.append(one)
    return askers, others


def _waiting(
    facts: Facts,
    timestamp: int,
    mask: int,
    writes: int,
    asked_by: Asker | None,
    *,
    mask_known: bool = True,
) -> Waiting:
    lags = [lag_of(facts, p, timestamp) for p in facts.lacking(mask, timestamp)]
    return Waiting(
        timestamp=timestamp,
        age_ms=age_ms(facts, timestamp),
        state="waiting",
        mask=partitions_of(mask) if mask_known else [],
        waits_for=lags,
        writes=writes,
        asked_by=asked_by,
    )


def _ended(one: Waiting, result: Unacknowledged) -> Waiting:
    state = "discarded" if result.outcome == Status.DISCARDED else "failed"
    waits_for = [] if state == "discarded" else one.waits_for
    return Waiting(
        timestamp=one.timestamp,
        age_ms=one.age_ms,
        state=state,
        mask=one.mask,
        waits_for=waits_for,
        writes=0,
        asked_by=one.asked_by,
    )


def _asker(result: Unacknowledged | None, session: Session | None) -> Asker | None:
    if result is not None:
        return Asker(
            connection=result.connection,
            request=result.request,
            name=result.name,
            early=result.is_early,
        )
    if session is not None:
        return Asker(connection=session.connection, request=0, name="session")
    return None


def age_ms(facts: Facts, timestamp: int) -> int:
    return max(facts.now_ms - (timestamp >> MILLISECOND_SHIFT), 0)


def lag_of(facts: Facts, partition: int, timestamp: int) -> Lag:
    """How far the watermark of a partition is below a timestamp."""
    watermark = facts.watermarks[partition].watermark
    behind = max(timestamp - watermark, 0) / (1 << MILLISECOND_SHIFT)
    return Lag(
        partition=partition,
        watermark=watermark,
        passed=watermark >= timestamp,
        behind_ms=round(behind, 3),
    )


# --- One transaction -----------------------------------------------------------------------------


class Tables(NamedTuple):
    """What the engine knows of its tables, by their numbers: those that only a log has described
    have no names of fields."""

    named: Mapping[int, Table | BytesTable]
    described: frozenset[int] = frozenset()

    def name(self, number: int) -> str:
        table = self.named.get(number)
        return f"number {number}" if table is None else table.name

    def key(self, write: Write) -> str:
        """A key for people: the fields of one that is packed, else text, or hexadecimal."""
        table = self.named.get(write.table)
        text = ""
        if isinstance(table, Table) and write.table not in self.described:
            text = _fields(table, write.key)
        elif isinstance(table, BytesTable) and write.key.isascii():
            plain = write.key.decode("ascii")
            text = repr(plain) if plain.isprintable() else ""
        text = text or f"0x{write.key.hex()}"
        return text if len(text) <= KEY_MAX else f"{text[: KEY_MAX - 1]}…"


def _fields(table: Table, key: bytes) -> str:
    try:
        values = table.unpack_key(key)
    except SchemaError:
        return ""
    names = (field.name for field in table.key_fields)
    return " ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))


def found_of(
    facts: Facts,
    one: Logged,
    cause: str,
    rows: Sequence[tuple[Write, Chain]],
    tables: Tables,
    limit: int = ROWS_SHOWN,
) -> Found:
    """A transaction that wrote here. `rows` are the first ones that it wrote, with their chains;
    of them `limit` are shown, before others those that hand on what it waits for."""
    lacking = facts.lacking(one.mask, one.timestamp)
    state, why = _state(facts, one, lacking, cause)
    seen = [_row(facts, one, write, chain, lacking, tables) for write, chain in rows]
    shown = sorted(seen, key=lambda row: not row.versions)[:limit]
    asked_by = next((r for r in facts.results if r[:2] == one[:2]), None)
    session = next((s for s in facts.sessions if s.timestamp == one.timestamp), None)
    return Found(
        state=state,
        why=why,
        age_ms=age_ms(facts, one.timestamp),
        mask=partitions_of(one.mask),
        partitions=_lags(facts, one.mask, one.timestamp),
        through=[] if cause else [_through(facts, p, seen, one.rows - len(seen)) for p in lacking],
        writes=one.rows,
        rows=shown,
        rows_left_out=one.rows - len(shown),
        asked_by=_asker(asked_by, session),
    )


def found_result(facts: Facts, result: Unacknowledged) -> Found:
    """A transaction that wrote nothing here, and somebody waits for its result."""
    lacking = facts.lacking(result.mask, result.timestamp)
    if result.outcome == Status.DISCARDED:
        state, why = "discarded", "its client is told next"
    elif result.outcome != Outcome.COMMITTED:
        state, why = "waiting", "it failed, and is told so when what it saw is durable"
    else:
        state, why = _waits_why(facts, result.timestamp, lacking)
    return Found(
        state=state,
        why=why,
        age_ms=age_ms(facts, result.timestamp),
        mask=partitions_of(result.mask),
        partitions=_lags(facts, result.mask, result.timestamp),
        through=[_through(facts, p, []) for p in lacking],
        writes=0,
        rows=[],
        rows_left_out=0,
        asked_by=_asker(result, None),
    )


def found_session(facts: Facts, session: Session) -> Found:
    """Somebody waits until everything up to a timestamp is durable."""
    mask = sum(1 << partition for partition in facts.watermarks)
    lacking = facts.lacking(mask, session.timestamp)
    state, _ = _waits_why(facts, session.timestamp, lacking)
    return Found(
        state=state,
        why="a session waits until all partitions have passed it: a read, or a wait for that",
        age_ms=age_ms(facts, session.timestamp),
        mask=[],
        partitions=_lags(facts, mask, session.timestamp),
        through=[],
        writes=0,
        rows=[],
        rows_left_out=0,
        asked_by=_asker(None, session),
    )


def _lags(facts: Facts, mask: int, timestamp: int) -> list[Lag]:
    return [lag_of(facts, p, timestamp) for p in partitions_of(mask) if p in facts.watermarks]


def _state(facts: Facts, one: Logged, lacking: Sequence[int], cause: str) -> tuple[str, str]:
    if cause:
        return "discarded", cause
    return _waits_why(facts, one.timestamp, lacking)


def _waits_why(facts: Facts, timestamp: int, lacking: Sequence[int]) -> tuple[str, str]:
    if lacking:
        return "waiting", "for " + ", ".join(f"partition {each}" for each in lacking)
    if timestamp > facts.limit:
        return "durable", "and is acknowledged as soon as all clocks have passed it"
    return "durable", "all partitions of its mask have passed it"


def _row(
    facts: Facts,
    one: Logged,
    write: Write,
    chain: Chain,
    lacking: Sequence[int],
    tables: Tables,
) -> RowTrace:
    behind, note = _behind(chain, one.timestamp)
    first = _first(behind, one, lacking)
    return RowTrace(
        table=tables.name(write.table),
        key=tables.key(write),
        deleted=write.deleted,
        before=_before(facts, behind[0], lacking) if behind else None,
        first=_before(facts, behind[first], lacking) if first > 0 else None,
        versions=first + 1,
        note=note,
    )


def _behind(chain: Chain, timestamp: int) -> tuple[Sequence[Version], str]:
    """The versions that a transaction wrote over, newest first."""
    if chain.note:
        return (), chain.note
    at = next((i for i, each in enumerate(chain.versions) if each.timestamp == timestamp), None)
    if at is None:
        return (), "its version is not in the chain any more"
    return chain.versions[at + 1 :], ""


def _first(behind: Sequence[Version], one: Logged, lacking: Sequence[int]) -> int:
    """The place of the last version that hands the same partitions on, without a gap; -1: not even
    the first one does."""
    carried = _bits(lacking) & one.mask
    place = -1
    for version in behind:
        carried &= version.mask
        if not carried:
            break
        place += 1
    return place


def _bits(partitions: Sequence[int]) -> int:
    return sum(1 << partition for partition in partitions)


def _before(facts: Facts, version: Version, lacking: Sequence[int]) -> Before:
    waits = facts.lacking(version.mask, version.timestamp)
    mask = partitions_of(version.mask)
    return Before(
        timestamp=version.timestamp,
        mask=mask,
        carries=[partition for partition in lacking if partition in waits],
        passed=[partition for partition in mask if partition not in waits],
    )


def _through(facts: Facts, partition: int, rows: Sequence[RowTrace], not_seen: int = 0) -> Through:
    how = "unseen" if not_seen or any(row.note for row in rows) else "unrecorded"
    if partition == facts.partition:
        how = "here"
    elif any(row.before is not None and partition in row.before.carries for row in rows):
        how = "overwrote"
    elif any(row.before is not None and partition in row.before.mask for row in rows):
        how = "perhaps"
    return Through(partition=partition, how=how)
