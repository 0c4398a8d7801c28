"""One line for each thing: the same words in logs, traces and golden tests.

n1@4 follower(n5) log=3/4/6           node, term, role, leader, applied/commit/last
n1→n2@4 Append 5@3 [6@4 "x"] commit=4     a message, with the sender's term
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from mako.entry import Configuration, Entry, EntryId, EntryKind
from mako.raft import message as m
from mako.raft.configuration import decode
from mako.raft.node import RaftNode
from mako.raft.ready import Ready
from mako.raft.state import Role

#: Bytes of an entry's data that are shown.
DATA_MAX: Final = 24


def format_node(node: RaftNode) -> str:
    """Who a node is, what it takes itself for, and its cursors."""
    role = node.role.value
    if node.role is Role.FOLLOWER and node.leader:
        role = f"follower(n{node.leader})"
    cursors = f"{node.applied_index}/{node.commit_index}/{node.last_index}"
    returning = " returning" if node.returning else ""
    return f"n{node.id}@{node.term} {role} log={cursors}{returning}"


def format_message(message: m.Message) -> str:
    kind = type(message)
    name = kind.__name__.removesuffix("Request")
    detail = _DETAILS[kind](message)
    head = f"n{message.source}→n{message.target}@{message.term} {name}"
    return f"{head} {detail}" if detail else head


def format_id(entry: EntryId) -> str:
    """`index@term`, as in the status line."""
    return f"{entry.index}@{entry.term}"


def format_entry(entry: Entry) -> str:
    head = f"{entry.index}@{entry.term}"
    if entry.kind is EntryKind.CONFIGURATION:
        return f"{head} {format_configuration(decode(entry.data))}"
    if not entry.data:
        return head
    shown = entry.data[:DATA_MAX].decode("ascii", "backslashreplace")
    return f'{head} "{shown}"'


def format_configuration(configuration: Configuration) -> str:
    """`{1 2 3 | 1 2 4, learners 5}`: voters, voters of the other half, learners."""
    parts = " ".join(map(str, sorted(configuration.voters)))
    if configuration.outgoing:
        parts += " | " + " ".join(map(str, sorted(configuration.outgoing)))
    for name, nodes in (
        ("learners", configuration.learners),
        ("learners next", configuration.learners_next),
    ):
        if nodes:
            parts += f", {name} " + " ".join(map(str, sorted(nodes)))
    return "{" + parts + "}"


def format_ready(ready: Ready) -> list[str]:
    """What a Ready wants done, one thing per line, in the order in which it is done."""
    lines = [f"send  {format_message(message)}" for message in ready.messages]
    if ready.snapshot is not None:
        lines.append(f"install {ready.snapshot.index}@{ready.snapshot.term}")
    if ready.entries:
        lines.append("write " + ", ".join(map(format_entry, ready.entries)))
    if ready.hard_state is not None:
        term, vote, commit = ready.hard_state
        lines.append(f"write term={term} vote={vote} commit={commit}")
    if ready.must_sync:
        lines.append("sync")
    lines += [f"send  {format_message(message)}" for message in ready.messages_after_sync]
    if ready.committed:
        lines.append("apply " + ", ".join(map(format_entry, ready.committed)))
    lines += [
        f"read  {read.context} at {'void' if read.index is None else read.index}"
        for read in ready.reads
    ]
    return lines


def _append(message: m.AppendRequest) -> str:
    entries = ", ".join(map(format_entry, message.entries))
    return f"{format_id(message.previous)} [{entries}] commit={message.commit}"


def _append_reply(message: m.AppendReply) -> str:
    if message.accepted:
        return f"match={message.index}{_returning(message.returning)}"
    hint = f"rejects {message.index}, try {format_id(message.hint)}"
    return hint + _returning(message.returning)


def _returning(value: object) -> str:
    return " returning" if value else ""


def _read(number: int) -> str:
    return f" read={number}" if number else ""


_DETAILS: Final[Mapping[type, Callable[[Any], str]]] = MappingProxyType(
    {
        m.PreVoteRequest: lambda r: f"last={format_id(r.last)}",
        m.PreVoteReply: lambda r: "yes" if r.granted else "no",
        m.VoteRequest: lambda r: f"last={format_id(r.last)}{' transfer' if r.transfer else ''}",
        m.VoteReply: lambda r: "yes" if r.granted else "no",
        m.AppendRequest: _append,
        m.AppendReply: _append_reply,
        m.Heartbeat: lambda r: f"commit={r.commit}{_read(r.read)}",
        m.HeartbeatReply: lambda r: (_read(r.read) + _returning(r.returning)).strip(),
        m.SnapshotRequest: lambda r: (
            f"{r.meta.index}@{r.meta.term} {format_configuration(r.meta.configuration)}"
        ),
        m.SnapshotReply: lambda r: f"match={r.index}{_returning(r.returning)}",
        m.TimeoutNow: lambda r: "",
        m.ReadIndexRequest: lambda r: f"context={r.context}{_returning(r.returning)}",
        m.ReadIndexReply: lambda r: f"context={r.context} at {r.index or 'void'}",
    }
)
