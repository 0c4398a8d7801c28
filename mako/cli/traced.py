"""`mako trace TXN`: one transaction as the leaders of all partitions know it, put together.

A leader says what it knows: what the transaction wrote there, over which versions, and for whom it
waits. How it came to depend on a partition shows only when that one is heard, too:

    it wrote there           its leader has it
    versions it wrote over   the leader where the row is has their chain
    a read                   none of these; nothing records it
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mako.cli.asking import Answer, problems_of
from mako.cli.columns import columns, count, duration, indented, moment, numbers
from mako.cli.waits import asker
from mako.config import ClusterConfig
from mako.server.trace_schema import (
    Before,
    Found,
    Lag,
    PartitionTrace,
    ProcessTrace,
    RowTrace,
    to_json,
)

#: Nobody can tell what became of it.
UNKNOWN: Final = "unknown"
_STATES: Final = ("discarded", "waiting", "durable")


@dataclass(frozen=True, slots=True)
class Leader:
    """What the leader of a partition said."""

    process: str
    trace: PartitionTrace


@dataclass(frozen=True, slots=True)
class Traced:
    """What was found out, and what was not."""

    timestamp: int
    state: str
    why: str
    leaders: Mapping[int, Leader]
    problems: Sequence[str]

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "timestamp": self.timestamp,
            "state": self.state,
            "why": self.why,
            "partitions": [
                {"process": each.process, **to_json(each.trace), "found": self._plain(each)}
                for each in self.leaders.values()
            ],
            "problems": list(self.problems),
        }

    def _plain(self, leader: Leader) -> list[dict[str, Any]]:
        """What was found at a leader, with what all of them together know of its dependencies."""
        return [to_json(one) | {"through": self._through(one)} for one in leader.trace.found]

    def _through(self, one: Found) -> list[dict[str, Any]]:
        return [
            {"partition": each.partition, "how": self.how(one, each.partition)}
            for each in one.through
        ]

    def how(self, one: Found, partition: int) -> str:
        """How a transaction came to depend on a partition that it waits for."""
        known = next((each.how for each in one.through if each.partition == partition), "")
        if known in ("", "here"):
            return "its own log has not committed it yet" if known else ""
        there = self.leaders.get(partition)
        found = [] if there is None else [each for each in there.trace.found if each.writes]
        over = _OVER.get(known, "")
        if any(each.mask == one.mask for each in found):
            return f"it wrote there; {over}" if over else "it wrote there"
        if over:
            return over
        if there is None:
            return "it took part there, or through a read; its leader does not answer"
        if there.trace.verdict not in ("", "none", "lost"):
            return "it took part there, or through a read; not recorded"
        return "through a read; not recorded"


_OVER: Final = {
    "overwrote": "through versions that it wrote over",
    "perhaps": "perhaps through versions that it wrote over, durable there by now",
    "unseen": "not found: not all rows that it wrote here could be looked at",
}


def gather(
    config: ClusterConfig, timestamp: int, answers: Sequence[Answer[ProcessTrace]]
) -> Traced:
    """The answers of the leaders. Of two that take themselves for it the later one counts."""
    found: dict[int, Leader] = {}
    for answer in answers:
        for trace in () if answer.shown is None else answer.shown.partitions:
            known = found.get(trace.partition)
            if known is None or known.trace.epoch < trace.epoch:
                found[trace.partition] = Leader(answer.process, trace)
    leaders = {partition: found[partition] for partition in sorted(found)}
    problems = problems_of(answers, range(len(config.partitions)), found)
    state, why = _state(leaders)
    if all(each.trace.verdict == "lost" for each in leaders.values()) and not problems:
        state, why = "discarded", "wherever it was executed: nothing of that time has survived"
    return Traced(timestamp, state, why, leaders, problems)


def _state(leaders: Mapping[int, Leader]) -> tuple[str, str]:
    """What became of it, and why that is so."""
    found = [(one, each.trace) for each in leaders.values() for one in each.trace.found]
    for state in _STATES:
        said = [(one, trace) for one, trace in found if one.state == state]
        if said:
            return state, _why(state, said)
    verdicts = {each.trace.verdict: each.trace for each in leaders.values()}
    if not verdicts:
        return UNKNOWN, "nobody answers who could know"
    for verdict in ("lost", "before"):
        if verdict in verdicts:
            return UNKNOWN, f"at partition {verdicts[verdict].partition}: {verdicts[verdict].why}"
    if verdicts.keys() == {"future"}:
        return UNKNOWN, "there is no such transaction: it would be of a time that has not come"
    if "past" in verdicts and verdicts.keys() <= {"past", "none"}:
        return "durable", "if there was such a transaction; those that are durable are not kept"
    return UNKNOWN, "there is no such transaction, or it only read and was answered"


def _why(state: str, said: Sequence[tuple[Found, PartitionTrace]]) -> str:
    if state != "waiting":
        return said[0][0].why
    missing = {lag.partition for one, _ in said for lag in one.partitions if not lag.passed}
    if not missing:
        return said[0][0].why
    return "for " + " and ".join(f"partition {each}" for each in sorted(missing))


# --- As text -------------------------------------------------------------------------------------


def text(traced: Traced) -> str:
    """For a terminal: what became of it, and some lines for each leader."""
    line = f"Transaction {traced.timestamp}, {moment(traced.timestamp)} UTC: {traced.state}"
    link = " " if traced.state in ("waiting", "discarded") else "; "
    blocks = [[line + link + traced.why]]
    for leader in traced.leaders.values():
        if not leader.trace.found:
            blocks.append([_heading(leader), f"  not here: {leader.trace.why}"])
        blocks += [_found(traced, leader, one) for one in leader.trace.found]
    if traced.problems:
        blocks.append(list(traced.problems))
    return "\n\n".join("\n".join(block) for block in blocks)


def _heading(leader: Leader) -> str:
    return (
        f"Partition {leader.trace.partition}, led by {leader.process}, epoch {leader.trace.epoch}"
    )


def _found(traced: Traced, leader: Leader, one: Found) -> list[str]:
    facts = [one.state, f"{duration(one.age_ms)} old", f"wrote {count(one.writes, 'row')}"]
    who = asker(one.asked_by)
    if who:
        facts.append(f"asked by {who}")
    lines = [f"{_heading(leader)}: {', '.join(facts)}"]
    if one.state == "discarded":
        lines.append(f"  {one.why}")
    lines += ["", *indented(_mask(traced, one))]
    if one.rows:
        lines += ["", *indented(_rows(one))]
    if one.rows_left_out:
        lines.append(f"  {count(one.rows_left_out, 'more row')}; --limit shows more of them")
    return lines


def _mask(traced: Traced, one: Found) -> list[str]:
    head = ("waits for" if not one.mask else "depends on", "watermark", "", "")
    rows = [
        (
            f"partition {lag.partition}",
            moment(lag.watermark),
            _passed(lag),
            "" if lag.passed or one.state == "discarded" else traced.how(one, lag.partition),
        )
        for lag in one.partitions
    ]
    return columns(head, rows)


def _passed(lag: Lag) -> str:
    if lag.passed:
        return "has passed"
    return f"{duration(lag.behind_ms)} behind" if lag.watermark else "behind"


def _rows(one: Found) -> list[str]:
    head = ("wrote", "key", "over", "of mask", "hands on", "since")
    return columns(head, [_row(row) for row in one.rows])


def _row(row: RowTrace) -> tuple[str, ...]:
    table = f"{row.table} (deleted)" if row.deleted else row.table
    if row.before is None:
        return table, row.key, row.note or "nothing: it is new", "", "", ""
    first = "" if row.first is None else f"{row.first.timestamp}, {row.versions} versions"
    return (
        table,
        row.key,
        str(row.before.timestamp),
        numbers(row.before.mask),
        _hands_on(row.before),
        first,
    )


def _hands_on(before: Before) -> str:
    return numbers(before.carries) or "-"
