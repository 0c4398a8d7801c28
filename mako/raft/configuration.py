"""Members of a group: how they change, how they are encoded, which ones are in force.

A change of voters takes two entries (Raft §6): the joint configuration, in which decisions need
the majority of the old and of the new voters, and then, appended by the leader once the first is
committed, the new one alone. A change of learners only takes one. A configuration is in force
from the moment it is appended, committed or not (R10), so it can also be taken back: that is what
`History` is for.

An encoded configuration, little-endian:

    version u8 = 1 | 4 times: count u16, count * (node u64, ascending)

in the order voters, outgoing, learners, learners_next.
"""

import struct
from typing import Final

from mako.entry import Configuration, NodeId
from mako.errors import Error

_VERSION: Final = 1
_COUNT: Final = struct.Struct("<H")
#: Members of one kind. A group has three to seven; the bound keeps damaged data cheap.
MEMBERS_MAX: Final = 64


class ConfigurationDamaged(Error):
    """The data of a configuration entry cannot be read. Rebuild this replica from another."""


def encode(configuration: Configuration) -> bytes:
    """The data of an entry of kind CONFIGURATION. Equal configurations give equal bytes."""
    parts = [bytes([_VERSION])]
    for nodes in _sets(configuration):
        parts.append(_COUNT.pack(len(nodes)))
        parts.append(struct.pack(f"<{len(nodes)}Q", *sorted(nodes)))
    return b"".join(parts)


def decode(data: bytes) -> Configuration:
    """The configuration of an entry. Raises ConfigurationDamaged with the offset of the fault."""
    if not data or data[0] != _VERSION:
        raise ConfigurationDamaged(f"configuration: byte 0 is not version {_VERSION}")
    offset = 1
    sets: list[frozenset[NodeId]] = []
    for _ in range(4):
        if offset + 2 > len(data):
            raise ConfigurationDamaged(f"configuration: ends at byte {len(data)}, inside a count")
        (count,) = _COUNT.unpack_from(data, offset)
        offset += 2
        if count > MEMBERS_MAX or offset + 8 * count > len(data):
            raise ConfigurationDamaged(
                f"configuration: count {count} at byte {offset - 2} does not fit"
            )
        nodes = struct.unpack_from(f"<{count}Q", data, offset)
        if list(nodes) != sorted(set(nodes)) or 0 in nodes:
            raise ConfigurationDamaged(f"configuration: nodes at byte {offset} are not ascending")
        sets.append(frozenset(map(NodeId, nodes)))
        offset += 8 * count
    if offset != len(data):
        raise ConfigurationDamaged(f"configuration: {len(data) - offset} bytes too many")
    voters, outgoing, learners, learners_next = sets
    return Configuration(voters, outgoing, learners, learners_next)


def _sets(configuration: Configuration) -> tuple[frozenset[NodeId], ...]:
    return (
        configuration.voters,
        configuration.outgoing,
        configuration.learners,
        configuration.learners_next,
    )


def enter(current: Configuration, target: Configuration) -> Configuration:
    """The first configuration on the way from `current` to `target`: joint if voters change."""
    assert not current.joint
    if target.voters == current.voters:
        return Configuration(target.voters, learners=target.learners)
    return Configuration(
        target.voters,
        outgoing=current.voters,
        # Who is still a voter of the old half may not be a learner at the same time.
        learners=target.learners - current.voters,
        learners_next=target.learners & current.voters,
    )


def leave(joint: Configuration) -> Configuration:
    """The configuration that ends a joint one."""
    assert joint.joint
    return Configuration(joint.voters, learners=joint.learners | joint.learners_next)


def fault_of(current: Configuration, target: Configuration) -> str:
    """Why `target` is not a configuration to go to, whoever is alive; empty if it is one."""
    if target.outgoing or target.learners_next:
        return "give voters and learners only; the joint step is made by itself"
    if not target.voters:
        return "a group needs at least one voter"
    if len(target.voters) > MEMBERS_MAX or len(target.learners) > MEMBERS_MAX:
        return f"a group has at most {MEMBERS_MAX} voters and as many learners"
    if both := target.voters & target.learners:
        return f"node {min(both)} cannot be a voter and a learner"
    if min(target.voters | target.learners) < 1:
        return "node numbers start at 1"
    if new := target.voters - current.voters - current.learners:
        return f"add node {min(new)} as a learner first, and promote it once it has caught up"
    if target == current:
        return "nothing would change"
    return ""


class History:
    """The configurations in the log by index, the last of which is in force (R10)."""

    __slots__ = ("_steps",)

    def __init__(self, index: int, configuration: Configuration) -> None:
        """Start with the one as of a snapshot at `index`, or of index 0 for the first members."""
        self._steps: list[tuple[int, Configuration]] = [(index, configuration)]

    @property
    def current(self) -> Configuration:
        return self._steps[-1][1]

    @property
    def current_index(self) -> int:
        """Index of the entry that brought the configuration in force."""
        return self._steps[-1][0]

    def append(self, index: int, configuration: Configuration) -> None:
        assert index > self._steps[-1][0], "configurations follow each other in the log"
        self._steps.append((index, configuration))

    def truncate(self, index: int) -> bool:
        """Entries from `index` on are gone. Return whether another configuration is in force."""
        before = len(self._steps)
        while len(self._steps) > 1 and self._steps[-1][0] >= index:
            self._steps.pop()
        return len(self._steps) < before

    def at(self, index: int) -> Configuration:
        """The configuration as of `index`, which must not be before the first one known."""
        for start, configuration in reversed(self._steps):
            if start <= index:
                return configuration
        raise AssertionError(f"no configuration is known as of index {index}")

    def before(self, index: int) -> Configuration:
        """The configuration that the entry at `index` replaced."""
        return self.at(index - 1)

    def compact(self, index: int) -> None:
        """Forget what is not needed to answer for `index` and above."""
        while len(self._steps) > 1 and self._steps[1][0] <= index:
            del self._steps[0]
