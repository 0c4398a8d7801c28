"""`mako trace` without a transaction: what waits at each leader, and who waits for whom."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mako.cli.asking import Answer, problems_of
from mako.cli.columns import columns, count, duration, indented, numbers
from mako.config import ClusterConfig
from mako.server.trace_schema import (
    Asker,
    Lag,
    PartitionWaits,
    ProcessWaits,
    Waiting,
    to_json,
)


@dataclass(frozen=True, slots=True)
class Leader:
    """What the leader of a partition said."""

    process: str
    waits: PartitionWaits


@dataclass(frozen=True, slots=True)
class Everybody:
    """What was found out, and what was not."""

    partitions: Sequence[int]
    leaders: Sequence[Leader]
    problems: Sequence[str]

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "partitions": [
                {"process": each.process, **to_json(each.waits)} for each in self.leaders
            ],
            "waits": [
                {"at": each.waits.partition, **to_json(one)}
                for each in self.leaders
                for one in each.waits.waiting_for
            ],
            "problems": list(self.problems),
        }


def gather(config: ClusterConfig, answers: Sequence[Answer[ProcessWaits]]) -> Everybody:
    """The answers of the leaders. Of two that take themselves for it the later one counts."""
    found: dict[int, Leader] = {}
    for answer in answers:
        for waits in () if answer.shown is None else answer.shown.partitions:
            known = found.get(waits.partition)
            if waits.role == "leader" and (known is None or known.waits.epoch < waits.epoch):
                found[waits.partition] = Leader(answer.process, waits)
    partitions = range(len(config.partitions))
    leaders = [found[partition] for partition in sorted(found)]
    return Everybody(partitions, leaders, problems_of(answers, partitions, found))


# --- As text -------------------------------------------------------------------------------------


def text(found: Everybody) -> str:
    """For a terminal: some lines for each leader, then all together."""
    blocks = [_leader(each) for each in found.leaders]
    if any(each.waits.waiting_for for each in found.leaders):
        blocks.append(_who_for_whom(found))
    blocks += _recoveries(found)
    if found.problems:
        blocks.append(list(found.problems))
    return "\n\n".join("\n".join(block) for block in blocks)


def _leader(leader: Leader) -> list[str]:
    waits = leader.waits
    line = f"Partition {waits.partition}, led by {leader.process}, epoch {waits.epoch}: "
    if not waits.oldest:
        return [line + "nobody waits"]
    age = duration(waits.oldest[0].age_ms)
    line += f"{count(waits.waiting, 'transaction')} "
    line += f"{'waits' if waits.waiting == 1 else 'wait'}, the oldest for {age}"
    head = ("timestamp", "age", "mask", "waits for", "rows", "asked by")
    body = [_row(one) for one in waits.oldest]
    lines = [line, "", *indented(columns(head, body, right=("age", "rows")))]
    if waits.left_out:
        lines.append(f"  {waits.left_out} more; --limit shows more of them")
    if waits.bytes_left_out:
        lines.append(f"  and {waits.bytes_left_out} bytes of the log that were not looked at")
    return lines


def _row(one: Waiting) -> tuple[str, ...]:
    return (
        str(one.timestamp),
        duration(one.age_ms),
        numbers(one.mask),
        _waits_for(one),
        str(one.writes) if one.writes else "",
        asker(one.asked_by),
    )


def _waits_for(one: Waiting) -> str:
    lags = ", ".join(behind(lag) for lag in one.waits_for)
    if one.state == "waiting":
        return lags or "its turn"
    return f"{one.state}; {lags}" if lags else one.state


def behind(lag: Lag) -> str:
    """A partition, and how far it is behind a transaction."""
    return f"{lag.partition} ({duration(lag.behind_ms) if lag.watermark else 'none yet'})"


def asker(one: Asker | None) -> str:
    """Who waits for it; nothing if nobody does here."""
    if one is None:
        return ""
    where = f"connection {one.connection}"
    if one.request:
        where = f"call {one.request} of {where}"
    return ", ".join(each for each in (one.name, where, "told early" * one.early) if each)


def _who_for_whom(found: Everybody) -> list[str]:
    """Rows are those who wait, columns those that are waited for."""
    head = ["", *(f"for {partition}" for partition in found.partitions)]
    rows = []
    for leader in found.leaders:
        counts = {each.partition: each.transactions for each in leader.waits.waiting_for}
        cells = [str(counts.get(partition, "-")) for partition in found.partitions]
        rows.append([f"at {leader.waits.partition}", *cells])
    return ["Who waits for whom", "", *indented(columns(head, rows, right=head[1:]))]


def _recoveries(found: Everybody) -> list[list[str]]:
    rows = [
        (
            str(leader.waits.partition),
            str(each.versions),
            f"epoch {each.epoch} of partition {each.partition}",
            str(each.final),
        )
        for leader in found.leaders
        for each in leader.waits.recoveries
        if each.versions
    ]
    if not rows:
        return []
    head = ("at", "versions", "taken back by", "which keeps up to")
    lines = columns(head, rows, right=("versions",))
    return [["Recoveries", "", *indented(lines)]]
