"""Scenarios as scripts: commands, and below each one what came of it.

    # A comment.
    command argument key=value
    ----
    expected output, up to the next blank line

`pytest --rewrite` replaces every expected output by the actual one: read the difference, and
keep it only if every changed line is understood. The commands are the methods `do_*` here.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from mako.entry import NodeId
from mako.raft import RaftNode, Refused, Settings
from mako.raft.message import Message
from mako.raft.text import format_message, format_node, format_ready
from tests.raft.cluster import Cluster, Member, log_of, voters

Options = dict[str, str]


def run_script(path: Path, *, rewrite: bool) -> None:
    """Run every command of a script and compare its output, or write it down."""
    interpreter = Interpreter()
    output: list[str] = []
    for preamble, line, expected, number in _cases(path):
        words = line.split()
        options = dict(word.split("=", 1) for word in words[1:] if "=" in word)
        arguments = [word for word in words[1:] if "=" not in word]
        handler = getattr(interpreter, f"do_{words[0].replace('-', '_')}", None)
        assert handler is not None, f"{path.name}:{number}: no command {words[0]}"
        actual = "\n".join(handler(arguments, options)) or "ok"
        if not rewrite:
            assert actual == expected, (
                f"{path.name}:{number}: {line}\n--- expected\n{expected}\n--- actual\n{actual}"
            )
        output += [*preamble, line, "----", actual, ""]
    if rewrite:
        path.write_text("\n".join(output))


def _cases(path: Path) -> Iterator[tuple[list[str], str, str, int]]:
    preamble: list[str] = []
    lines = iter(enumerate(path.read_text().splitlines(), 1))
    for number, line in lines:
        if not line or line.startswith("#"):
            preamble.append(line)
            continue
        _, rule = next(lines)
        assert rule == "----", f"{path.name}:{number}: no ---- below {line!r}"
        expected: list[str] = []
        for _, body in lines:
            if not body:
                break
            expected.append(body)
        yield preamble, line, "\n".join(expected), number
        preamble = []


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


class Interpreter:
    """The commands of a script, on one cluster."""

    def __init__(self) -> None:
        self.cluster = Cluster(1)

    def _member(self, name: str) -> Member:
        return self.cluster.members[NodeId(int(name.removeprefix("n")))]

    def _node(self, name: str) -> RaftNode:
        return self._member(name).node

    def _turn(self, member: Member, *, stop_before_sync: bool = False) -> list[str]:
        """Work off the Readys of one node and say what they were."""
        lines: list[str] = []
        while member.up and member.node.has_ready():
            before = len(member.writing)
            self._collect_one(member, lines)
            if not stop_before_sync:
                while len(member.writing) > before:
                    self.cluster.sync(member)
        return [f"n{member.id} {line}" for line in lines]

    def _collect_one(self, member: Member, lines: list[str]) -> None:
        self.cluster.collect(member)
        for ready in member.writing:
            lines += format_ready(ready)

    # --- Commands ------------------------------------------------------------------------------

    def do_cluster(self, arguments: list[str], options: Options) -> list[str]:
        """cluster SIZE [learners=4,5] [inflight=N]: a new group of nodes without history."""
        settings = Settings(inflight_messages_max=int(options.get("inflight", "128")))
        members = voters(
            *range(1, int(arguments[0]) + 1), learners=_numbers(options.get("learners", ""))
        )
        self.cluster = Cluster(members, settings=settings)
        for member in self.cluster.members.values():
            member.node.state.next_read = 1
        return []

    def do_log(self, arguments: list[str], options: Options) -> list[str]:
        """log nN 1,1,2 [term=] [commit=]: give a node this history."""
        member = self.cluster.restore(
            int(arguments[0].removeprefix("n")),
            log_of(*_numbers(arguments[1])),
            term=int(options.get("term", "0")),
            commit=int(options.get("commit", "0")),
        )
        member.node.state.next_read = 1
        return [format_node(member.node)]

    def do_campaign(self, arguments: list[str], options: Options) -> list[str]:
        del options
        self._node(arguments[0]).campaign()
        return self._turn(self._member(arguments[0]))

    def do_propose(self, arguments: list[str], options: Options) -> list[str]:
        del options
        result = self._node(arguments[0]).propose([item.encode() for item in arguments[1:]])
        if isinstance(result, Refused):
            return [f"refused: {result.message}"]
        return self._turn(self._member(arguments[0]))

    def do_members(self, arguments: list[str], options: Options) -> list[str]:
        """members nN 1,2,3 [learners=4]: propose a configuration."""
        target = voters(*_numbers(arguments[1]), learners=_numbers(options.get("learners", "")))
        for node in sorted(target.members):
            if node not in self.cluster.members:
                self.cluster.add(node)
        result = self._node(arguments[0]).propose_configuration(target)
        if isinstance(result, Refused):
            return [f"refused: {result.message}"]
        return self._turn(self._member(arguments[0]))

    def do_read(self, arguments: list[str], options: Options) -> list[str]:
        del options
        refused = self._node(arguments[0]).read_index(int(arguments[1]))
        if refused is not None:
            return [f"refused: {refused.message}"]
        return self._turn(self._member(arguments[0]))

    def do_transfer(self, arguments: list[str], options: Options) -> list[str]:
        del options
        target = NodeId(int(arguments[1].removeprefix("n")))
        refused = self._node(arguments[0]).transfer_leadership(target)
        if refused is not None:
            return [f"refused: {refused.message}"]
        return self._turn(self._member(arguments[0]))

    def do_tick(self, arguments: list[str], options: Options) -> list[str]:
        """tick nN [count=]: let time pass for a node."""
        lines: list[str] = []
        for _ in range(int(options.get("count", "1"))):
            self._node(arguments[0]).tick()
            lines += self._turn(self._member(arguments[0]))
        return lines

    def do_deliver(self, arguments: list[str], options: Options) -> list[str]:
        """deliver [to=nN] [drop=nN]: bring what is on its way, until nothing is."""
        del arguments
        to, drop = options.get("to"), options.get("drop")
        lines: list[str] = []
        for _ in range(100):
            batch = [m for m in self.cluster.network if to is None or f"n{m.target}" == to]
            if not batch:
                return lines
            for message in batch:
                self.cluster.network.remove(message)
                lines += self._bring(message, drop)
        raise AssertionError("the messages do not end")

    def _bring(self, message: Message, drop: str | None) -> list[str]:
        if drop in (f"n{message.target}", f"n{message.source}"):
            return [f"lost  {format_message(message)}"]
        self.cluster.deliver(message)
        target = self.cluster.members.get(message.target)
        return self._turn(target) if target is not None else []

    def do_settle(self, arguments: list[str], options: Options) -> list[str]:
        """settle: deliver everything without a word, then say how all are."""
        self.cluster.settle()
        return self.do_status(arguments, options)

    def do_snapshot(self, arguments: list[str], options: Options) -> list[str]:
        meta = self.cluster.snapshot(int(arguments[0].removeprefix("n")))
        del options
        return [f"{meta.index}@{meta.term}"]

    def do_crash(self, arguments: list[str], options: Options) -> list[str]:
        del options
        self.cluster.crash(int(arguments[0].removeprefix("n")))
        return []

    def do_restart(self, arguments: list[str], options: Options) -> list[str]:
        del options
        self.cluster.restart(int(arguments[0].removeprefix("n")))
        self._node(arguments[0]).state.next_read = 1
        return [format_node(self._node(arguments[0]))]

    def do_status(self, arguments: list[str], options: Options) -> list[str]:
        del arguments, options
        return [
            format_node(member.node) + ("" if member.up else " down")
            for _, member in sorted(self.cluster.members.items())
        ]
