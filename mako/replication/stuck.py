"""What waits for room on a full disk, by group and in order (D7).

A group may be stuck for hours. Its leader goes on to ask what it has, and each answer comes in a
Ready of its own. So what waits is bounded by what is to be written: a Ready that brings neither
entries nor a snapshot is joined to the one before it, and of the messages to a node only the
newest of each kind is kept, as messages may be lost.
"""

from collections import deque
from collections.abc import Callable

from mako.entry import GroupId, NodeId
from mako.raft import HostMessage, RaftNode, Ready, Turn
from mako.raft.message import Message


class Stuck:
    """The Readys that are not in the store for want of room, and all that their groups have after
    them."""

    def __init__(self, process_of: Callable[[GroupId, NodeId], int]) -> None:
        self._process_of = process_of
        self._waiting: dict[GroupId, deque[tuple[RaftNode, Ready]]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def __contains__(self, group: GroupId) -> bool:
        return group in self._waiting

    def __len__(self) -> int:
        """Readys that wait, of all groups."""
        return sum(map(len, self._waiting.values()))

    def add(self, node: RaftNode, ready: Ready) -> None:
        """The newest Ready of a node waits, behind those that do."""
        waiting = self._waiting.setdefault(node.group, deque())
        if waiting and not ready.entries and ready.snapshot is None:
            before = waiting[-1][1]
            node.join(before, ready)
            before.messages_after_sync = _newest(before.messages_after_sync)
        else:
            waiting.append((node, ready))

    def retry(self, put: Callable[[GroupId, Ready], bool]) -> list[Turn]:
        """Try the first one of each group, and the next ones of a group that gets on."""
        turns: list[Turn] = []
        for group, waiting in list(self._waiting.items()):
            while waiting and put(group, waiting[0][1]):
                turns.append(self._turn(*waiting.popleft()))
            if not waiting:
                del self._waiting[group]
        return turns

    def _turn(self, node: RaftNode, ready: Ready) -> Turn:
        """What left at once has left."""
        messages: dict[int, list[HostMessage]] = {}
        for message in ready.messages_after_sync:
            process = self._process_of(message.group, message.target)
            messages.setdefault(process, []).append(message)
        return Turn([(node, ready)], {}, messages, ready.must_sync)


def _newest(messages: list[Message]) -> list[Message]:
    """The last message of each kind to each node, in order."""
    newest: dict[tuple[type, NodeId], Message] = {}
    for message in messages:
        key = type(message), message.target
        newest.pop(key, None)
        newest[key] = message
    return list(newest.values())


def without(turn: Turn, groups: set[GroupId]) -> Turn:
    """The part of a turn that is not of these groups. What left at once is not in it."""
    readys = [one for one in turn.readys if one[0].group not in groups]
    messages: dict[int, list[HostMessage]] = {}
    for process, batch in turn.messages_after_sync.items():
        # Beats do not wait for the disk, so all of these have a group.
        if found := [m for m in batch if getattr(m, "group", None) not in groups]:
            messages[process] = found
    return Turn(readys, {}, messages, any(ready.must_sync for _, ready in readys))
