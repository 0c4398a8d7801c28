"""One tree of the index alone, for tests: keys go in as bytes, and its structure can be checked.

All records share one installed version, so that the scans of `mako.engine.scan` find every
linked record and nothing but the tree decides what they return.
"""

from typing import Any, Final

from mako.engine import layout
from mako.engine.closing import next_timestamp
from mako.engine.commit import begin, record_bytes, rest
from mako.engine.engine import Engine
from mako.engine.index import INDEXES, LINKED, LOST, NODE_CLASS
from mako.engine.memory import allocate, release, size_class
from mako.engine.prune import BYTES_PRUNING, PAIR_PRUNING, WORD_PRUNING
from mako.engine.reclaim import reclaim
from mako.engine.region import add_table
from mako.engine.scan import SCANNINGS

KINDS: Final = {"word": layout.WORD_KEYS, "pair": layout.PAIR_KEYS, "bytes": layout.BYTES_KEYS}
PRUNINGS: Final = {
    layout.WORD_KEYS: WORD_PRUNING,
    layout.PAIR_KEYS: PAIR_PRUNING,
    layout.BYTES_KEYS: BYTES_PRUNING,
}
ABOVE: Final = b"\xff" * layout.KEY_MAX


class Tree:
    """A table's tree and the records in it; keys are bytes as they are outside the engine."""

    def __init__(self, kind: str, *, memory_bytes: int = 64 << 20) -> None:
        self.engine = Engine(memory_bytes, contexts=1)
        self.context = self.engine.context(0)
        self.kind = KINDS[kind]
        self.index = INDEXES[self.kind]
        self.keys = self.index.kind
        self.table = add_table(self.engine.base, self.context, 1, self.kind, 0)
        self.records: dict[bytes, int] = {}
        self._version = allocate(self.context, layout.POOL_VALUES, layout.V_VALUE)
        self.engine.set_word(self._version + layout.V_TIMESTAMP, 1)
        self.engine.set_word(self._version + layout.V_LENGTH, 0)
        self._contents: dict[tuple[int, int], tuple[Any, ...]] = {}

    def close(self) -> None:
        self.engine.close()

    # --- operations ---------------------------------------------------------------------------

    def key(self, data: bytes, scratch: int = layout.C_KEY) -> Any:
        """`data` as the compiled functions take it."""
        place = self.context + layout.C_ARGUMENTS
        self.engine.write(place, data)
        return self.keys.decode(place, len(data), self.context + scratch)

    def link(self, data: bytes, *, hinted: bool = False) -> int:
        """Link a new record; LINKED, the record that is there, or LOST or FULL."""
        key = self.key(data)
        hint, version = self.index.find_leaf(self.table, key) if hinted else (0, 0)
        size = self.keys.record_bytes(key)
        record = allocate(self.context, layout.POOL_RECORDS, size)
        if record == 0:
            return -2
        self.engine.set_word(record + layout.R_HEAD, self._version)
        self.keys.fill_record(record, key)
        # A leaf keeps the address of the record's own copy of a key of bytes.
        key = self.keys.of_record(record)
        found: int = self.index.link(self.context, self.table, key, record, hint, version)
        if found == LINKED:
            self.records[data] = record
        else:
            release(self.context, layout.POOL_RECORDS, record, size_class(size))
        return found

    def unlink(self, data: bytes) -> int:
        """Unlink the record of a key: 1, or 0 if there is none."""
        record = self.records.pop(data, 0)
        done: int = PRUNINGS[self.kind].unlink(self.context, self.table, self.key(data), record)
        if done:
            size = record_bytes(self.table, record)
            release(self.context, layout.POOL_RECORDS, record, size_class(size))
        return done

    def get(self, data: bytes) -> int:
        """The record with a key, or 0."""
        record, _, _ = self.index.get(self.table, self.key(data))
        assert record != LOST
        return int(record)

    def scan(
        self,
        first: bytes,
        end: bytes,
        limit: int = 100_000,
        *,
        reverse: bool = False,
    ) -> list[bytes]:
        """Keys with first <= key < end, as the transaction's scan returns them."""
        context = self.context
        begin(context)
        low = self.key(first)
        high = self.key(end, layout.C_KEY_END)
        scanning = SCANNINGS[self.kind]
        walk = scanning.backward if reverse else scanning.forward
        found = walk(context, self.table, low, high, limit)
        rest(context)
        assert found >= 0
        base = context + layout.C_SCAN
        records = [self.engine.word(base + i * layout.SCAN_BYTES) for i in range(found)]
        return [self.data_of(record) for record in records]

    def data_of(self, record: int) -> bytes:
        """The key of a record as bytes."""
        place = self.context + layout.C_RESULT
        self.keys.encode(record, place)
        return self.engine.read(place, self.keys.encoded_bytes(record))

    def reclaim(self) -> None:
        """Give back the nodes that left the tree, so that they are used again."""
        next_timestamp(self.engine.base)
        self.engine.settle()
        while reclaim(self.context, 1000) == 1000:
            pass

    # --- structure ----------------------------------------------------------------------------

    def check(self) -> int:
        """Check the whole structure (T1 to T4) and that it holds exactly `records`; its levels."""
        root = self.engine.word(self.table + layout.T_ROOT)
        leaves: list[int] = []
        top = self._check_node(root, None, None, leaves, is_root=True)
        for leaf, following in zip(leaves, [*leaves[1:], 0], strict=True):
            assert self.engine.word(leaf + layout.N_NEXT) == following, "the chain skips a leaf"
        found = [
            (self.data_of(record), record) for leaf in leaves for record in self._records_of(leaf)
        ]
        assert found == sorted(self.records.items()), "the leaves hold other records"
        return top + 1

    def _records_of(self, leaf: int) -> list[int]:
        word = self.engine.word
        count = word(leaf + layout.N_COUNT)
        return [word(leaf + self.keys.children + 8 * i) for i in range(count)]

    def _check_node(
        self,
        node: int,
        low: bytes | None,
        high: bytes | None,
        leaves: list[int],
        *,
        is_root: bool = False,
    ) -> int:
        """Check a node whose keys are in [low, high), and what is below it; its level."""
        word = self.engine.word
        version = word(node + layout.N_VERSION)
        assert not version & layout.NODE_OBSOLETE, "a node that left the tree can be reached"
        assert not version & layout.NODE_LOCKED, "a node stayed locked"
        count, level = word(node + layout.N_COUNT), word(node + layout.N_LEVEL)
        assert (0 if is_root and level == 0 else 1) <= count <= self.keys.fanout, "fan-out"
        keys = [self._data_at(node, i) for i in range(count)]
        assert keys == sorted(set(keys)), "keys are out of order"
        assert low is None or low <= keys[0], "a key is below the separator (T2)"
        assert high is None or keys[-1] < high, "a key is not below the separator (T2)"
        below = [
            word(node + self.keys.children + 8 * i) for i in range(count + (1 if level else 0))
        ]
        content = (level, *keys, *below)
        known = self._contents.setdefault((node, version), content)
        assert known == content, "a node changed under the same version (T1, T3)"
        if level == 0:
            self._check_high(node, high)
            leaves.append(node)
            return 0
        bounds = [low, *keys, high]
        levels = {
            self._check_node(child, bounds[i], bounds[i + 1], leaves)
            for i, child in enumerate(below)
        }
        assert levels == {level - 1}, "leaves are not all on one level (T4)"
        return level

    def _data_at(self, node: int, i: int) -> bytes:
        """Key `i` of a node as bytes, read from the node itself."""
        first, *second = self._words(self.keys.load(node, i))
        if self.kind != layout.BYTES_KEYS:
            return b"".join(_outside(word) for word in (first, *second))
        size = self.engine.word(second[0])
        data = self.engine.read(second[0] + 8, size)
        assert _outside(first) == data[:8].ljust(8, b"\0"), "the prefix is another key's"
        return data

    def _check_high(self, leaf: int, high: bytes | None) -> None:
        if self.kind == layout.BYTES_KEYS:
            return
        words = [self.engine.word(leaf + layout.N_HIGH + 8 * i) for i in range(self.kind)]
        if high is None:
            assert words == [layout.NONE] * self.kind, "the last leaf has an upper end"
        else:
            assert b"".join(map(_outside, words)) == high, "a leaf's high key is wrong"

    @staticmethod
    def _words(key: Any) -> tuple[int, ...]:
        return key if isinstance(key, tuple) else (key,)

    def nodes_waiting(self) -> int:
        """Things retired and not yet reclaimed."""
        return self.engine.retired


def _outside(word: int) -> bytes:
    return ((word ^ (1 << 63)) & (1 << 64) - 1).to_bytes(8, "big")


assert size_class(layout.NODE_BYTES) == NODE_CLASS
