"""A state machine that is small enough to be sure of: lists that values are appended to.

A request appends one value, which no other request has, to one list, and is answered with its
position. A repeated request is answered again and changes nothing. So every answer can be checked,
and two histories of a list can be compared by their beginnings.
"""

import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol

from mako.entry import Entry, EntryKind
from mako.replication.replica import Machine, MachineSnapshot
from mako.storage.snapshot_format import Block, SnapshotHeader, decode_rows, encode_row

_REQUEST: Final = struct.Struct("<QIH")
_KEY: Final = struct.Struct(">I")
_POSITION: Final = struct.Struct("<I")
_MASK: Final = (1 << 64) - 1
_TABLE: Final = 1
#: First byte of an entry: the first one of a term, or requests.
_TERM: Final = b"T"
_BATCH: Final = b"B"


class SimMachine(Machine, Protocol):
    """What the simulator needs of a machine."""

    def close(self) -> None: ...


class ListMachine(SimMachine, Protocol):
    """A machine with lists."""

    def values(self, key: int) -> list[int]:
        """The applied values of a list."""
        ...


def append_request(value: int, key: int, padding: int) -> bytes:
    """Append `value` to the list `key`; the padding makes entries as large as one likes."""
    return _REQUEST.pack(value, key, padding) + bytes(padding)


def decode_request(request: bytes) -> tuple[int, int]:
    """The value and the key."""
    value, key, _ = _REQUEST.unpack_from(request)
    return value, key


def encode_position(position: int) -> bytes:
    return _POSITION.pack(position)


def position_of(result: bytes) -> int:
    """Where the value is, counted from 1."""
    return int(_POSITION.unpack(result)[0])


def _mix(key: int, position: int, value: int) -> int:
    """Of whole numbers only, which Python hashes the same everywhere."""
    return hash((key, position, value)) & _MASK


class ModelMachine:
    """See mako.replication.replica.Machine."""

    def __init__(self, note: Callable[[str], None] | None = None) -> None:
        self.applied = 0
        self._note = note
        self._lists: dict[int, list[int]] = {}
        #: Positions of all values, and for each list how many of them are applied.
        self._positions: dict[int, int] = {}
        self._lengths: dict[int, int] = {}
        #: Executed and not applied.
        self._ahead: deque[tuple[int, int]] = deque()
        self._batch: list[bytes] = []
        self._term = self._last_term = 0
        self._hash = 0

    # --- Leading -------------------------------------------------------------------------------

    def open_term(self, term: int, unapplied: Sequence[Entry]) -> bytes:
        del unapplied
        if term == self._last_term and self._note is not None:
            self._note("term_opened_again")
        self._term = self._last_term = term
        return _TERM + term.to_bytes(8, "little")

    def execute(self, request: bytes) -> bytes:
        assert self._term, "execute belongs to a term"
        value, key, _ = _REQUEST.unpack_from(request)
        position = self._positions.get(value)
        if position is None:
            position = self._add(key, value)
            self._ahead.append((key, value))
            self._batch.append(request)
        return _POSITION.pack(position)

    def _add(self, key: int, value: int) -> int:
        values = self._lists.setdefault(key, [])
        values.append(value)
        self._positions[value] = len(values)
        return len(values)

    def drain(self) -> Sequence[bytes]:
        if not self._batch:
            return ()
        data = _BATCH + b"".join(self._batch)
        self._batch.clear()
        return [data]

    def step_down(self) -> None:
        if self._ahead and self._note is not None:
            self._note("speculation_taken_back")
        while self._ahead:
            key, value = self._ahead.pop()
            self._lists[key].pop()
            del self._positions[value]
        self._batch.clear()
        self._term = 0

    # --- Applying ------------------------------------------------------------------------------

    def apply(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            assert entry.index == self.applied + 1, "entries are applied in order"
            self.applied = entry.index
            if entry.kind is EntryKind.NORMAL and entry.data[:1] == _BATCH:
                self._apply(entry.data, own=entry.term == self._term)

    def _apply(self, data: bytes, *, own: bool) -> None:
        at = 1
        while at < len(data):
            value, key, padding = _REQUEST.unpack_from(data, at)
            at += _REQUEST.size + padding
            if own:
                assert self._ahead.popleft() == (key, value), "what was executed is applied"
            else:
                self._add(key, value)
            length = self._lengths.get(key, 0) + 1
            self._lengths[key] = length
            self._hash = (self._hash + _mix(key, length, value)) & _MASK

    def values(self, key: int) -> list[int]:
        """The applied values of a list."""
        return self._lists.get(key, [])[: self._lengths.get(key, 0)]

    def keys(self) -> Iterator[int]:
        return iter(sorted(self._lengths))

    def close(self) -> None:
        """There is nothing to give back."""

    def state_hash(self) -> str:
        return f"{self._hash:016x}"

    # --- Snapshots -----------------------------------------------------------------------------

    @property
    def snapshot_index(self) -> int:
        return self.applied

    def write_snapshot(self) -> MachineSnapshot:
        # A block for each list, so that there are several.
        blocks = []
        for key in self.keys():
            values = self.values(key)
            row = encode_row(_TABLE, _KEY.pack(key), struct.pack(f"<{len(values)}Q", *values))
            blocks.append(Block(1, row))
        return MachineSnapshot(self.applied, b"", blocks)

    def restore(self, header: SnapshotHeader, blocks: Iterable[Block]) -> None:
        self._lists.clear()
        self._positions.clear()
        self._lengths.clear()
        self._ahead.clear()
        self._hash = 0
        for block in blocks:
            for _, packed, value in decode_rows(block.data, block.rows):
                (key,) = _KEY.unpack(packed)
                for one in struct.unpack(f"<{len(value) // 8}Q", value):
                    length = self._add(key, one)
                    self._lengths[key] = length
                    self._hash = (self._hash + _mix(key, length, one)) & _MASK
        self.applied = header.meta.index
