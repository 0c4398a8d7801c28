"""A transaction over several partitions, as its client keeps it; no I/O.

    reads ──▶ what was seen ─┐
                             ├──▶ items ──▶ one call that commits them (`mako.engine.gathered`)
    writes ─▶ what is own ───┘

A transaction begins in a session of one partition. What it sees and writes there is noted here,
too, by the bytes that went over the wire. When it touches a second partition it *gathers*: the
session is aborted, rows are asked for one by one wherever they are, the newest of each, writes stay
here, and its own writes lie over what comes. The commit sends all of it to its *home*, the first
partition that it touched. There everything is read again, in one transaction: if it is as it was
seen, the writes are done, and otherwise it is a Conflict.

    G1  What the user was shown is noted before it is shown: the value of a row or that there is
        none, and of a range every row up to where the user has stopped. So nothing that the user
        may have acted on is left out of the commit.
    G2  Own writes hide what is stored, which is then not noted: nobody has seen it.
    G3  Two values of one row are of two moments. That is a Conflict at once, as no commit can be.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from mako import call_format as f
from mako.client.remote.asking import Known
from mako.errors import Aborted, Conflict, Exists, NotFound, Rejected, TransactionTooLarge
from mako.ids import REMOTE_RANGES_MAX, REMOTE_ROWS_MAX
from mako.placement import EVERYWHERE
from mako.wire.gathered import item_bytes, pack_item


class _Unseen:
    """In place of a value: nothing is known, or only that a row is there."""

    __slots__ = ()


UNSEEN: Final = _Unseen()
_THERE: Final = _Unseen()
Row = tuple[bytes, bytes]
_WRITES: Final = {"put": f.WRITE_PUT, "insert": f.WRITE_INSERT, "delete": f.WRITE_DELETE}


class _Range:
    """From `low` to before `high` there are these rows and no others. Ascending or descending."""

    __slots__ = ("high", "known", "low", "rows")

    def __init__(self, known: Known, low: bytes, high: bytes) -> None:
        self.known: Final = known
        self.low = low
        self.high = high
        #: The value UNSEEN: own writes hid what is there.
        self.rows: list[tuple[bytes, bytes | _Unseen]] = []


class Gathered:
    """See the module. Keys and values are those that a `Known` table has packed."""

    def __init__(self) -> None:
        #: Whether it is over several partitions: nothing is done in a session any more.
        self.gathers = False
        self.home = 0
        #: Why it can only be aborted.
        self.failure: Exception | None = None
        self._tables: dict[int, Known] = {}
        self._seen: dict[tuple[int, bytes], bytes | _Unseen | None] = {}
        # Of them, those that are noted in a range.
        self._ranged: set[tuple[int, bytes]] = set()
        self._ranges: list[_Range] = []
        #: None: it is deleted.
        self._own: dict[tuple[int, bytes], bytes | None] = {}
        self._own_keys: dict[int, list[bytes]] = {}
        self._bytes = 0
        # It was too much to be kept, as long as it is in a session, where that does not matter.
        self._is_left_out = False

    # --- the way from a session ---------------------------------------------------------

    def begin(self, home: int) -> None:
        """From now on it gathers. It may have seen or written too much for that."""
        if self.failure is not None:
            raise self.failure
        if self._is_left_out:
            raise self._failed(_too_large())
        self.gathers = True
        self.home = home

    def note_failure(self, error: Exception) -> None:
        """A call has failed, after which a session could not be committed either."""
        if not isinstance(error, Exists | NotFound | Rejected):
            self.failure = self.failure or error

    def _failed(self, error: Aborted) -> Aborted:
        self.failure = self.failure or error
        return error

    # --- what is seen -------------------------------------------------------------------

    def find(self, known: Known, key: bytes) -> bytes | _Unseen | None:
        """The value of a row as this transaction sees it, None if it sees none, or UNSEEN."""
        at = known.number, key
        found = self._own[at] if at in self._own else self._seen.get(at, UNSEEN)
        return UNSEEN if found is _THERE else found

    def missing(self, known: Known, keys: Iterable[bytes]) -> list[bytes]:
        """Those of `keys` that have to be asked for."""
        return [key for key in dict.fromkeys(keys) if self.find(known, key) is UNSEEN]

    def values(self, known: Known, keys: Iterable[bytes]) -> list[bytes | None]:
        """What `find` says of rows that are known."""
        found = [self.find(known, key) for key in keys]
        return [None if isinstance(value, _Unseen) else value for value in found]

    def saw(self, known: Known, key: bytes, value: bytes | None) -> None:
        """The user is told that a row has this value, or is not there (G1)."""
        if (known.number, key) not in self._own:  # G2
            self._see(known, key, value)

    def _see(self, known: Known, key: bytes, value: bytes | _Unseen | None) -> None:
        at = known.number, key
        before = self._seen.get(at, UNSEEN)
        if before is UNSEEN:
            self._add(known, item_bytes(key, value if isinstance(value, bytes) else b""))
        elif value is _THERE and before is not None:
            return
        elif before is _THERE and value is not None:
            self._add(known, item_bytes(key, value if isinstance(value, bytes) else b""))
        elif before != value:
            self._torn()
            return
        else:
            return
        if not self._is_left_out:
            self._seen[at] = value

    def _torn(self) -> None:
        """It has seen two values of one row (G3). A session finds out by itself."""
        error = self._failed(Conflict())
        if self.gathers:
            raise error

    def _add(self, known: Known, size: int) -> None:
        """There is so much more of it; where that is too much, a session goes on without notes."""
        self._tables.setdefault(known.number, known)
        self._bytes += size
        if self._bytes <= f.GATHERED_BYTES_MAX:
            return
        if self.gathers:
            raise self._failed(_too_large())
        self._is_left_out = True
        for noted in (self._seen, self._ranged, self._ranges, self._own, self._own_keys):
            noted.clear()

    # --- what is written ----------------------------------------------------------------

    def put(self, known: Known, key: bytes, value: bytes) -> None:
        self._write(known, key, value)

    def inserted(self, known: Known, key: bytes, value: bytes) -> None:
        """An insert has found that there is no such row."""
        self.saw(known, key, None)
        self._write(known, key, value)

    def exists(self, known: Known, key: bytes) -> None:
        """An insert has found that there is one."""
        if (known.number, key) not in self._own:
            self._see(known, key, _THERE)

    def deleted(self, known: Known, key: bytes, *, found: bool) -> None:
        """A delete has found a row, or none."""
        if not found:
            self.saw(known, key, None)
            return
        self.exists(known, key)
        self._write(known, key, None)

    def _write(self, known: Known, key: bytes, value: bytes | None) -> None:
        at = known.number, key
        if at in self._own:
            self._bytes -= item_bytes(key, self._own[at] or b"")
        self._add(known, item_bytes(key, value or b""))
        if self._is_left_out:
            return
        if at not in self._own:
            insort(self._own_keys.setdefault(known.number, []), key)
        self._own[at] = value

    # --- ranges -------------------------------------------------------------------------

    def saw_page(
        self, known: Known, low: bytes, high: bytes, rows: Sequence[Row], *, more: bool, down: bool
    ) -> None:
        """A session has shown rows of a range, own writes among them; with `more` it stopped at the
        last of them."""
        if more and rows:
            following = known.successor(rows[-1][0])
            if down:
                low = rows[-1][0]
            elif following is not None:
                high = following
        shown = dict(rows)
        keys = {*shown, *self._own_in(known, low, high)}
        seen = self._cover(known, low, high)
        for key in sorted(keys):
            self._note(seen, key, UNSEEN if (known.number, key) in self._own else shown[key])

    def wanted(self, known: Known, low: bytes, high: bytes, limit: int | None) -> int | None:
        """How many stored rows it takes to have `limit` to show."""
        return None if limit is None else limit + len(self._own_in(known, low, high))

    def over(
        self, known: Known, low: bytes, high: bytes, rows: Iterator[Row], *, down: bool
    ) -> Iterator[Row]:
        """The stored rows of a range with own writes over them, as far as the user takes them, in
        the order asked for."""
        seen = self._cover(known, high, high) if down else self._cover(known, low, low)
        first, end = low, high  # What is still to come.
        row: Row | None = None
        is_over = False
        while True:
            if row is None and not is_over:
                row = next(rows, None)
                is_over = row is None
            key = self._next_own(known, first, end, down=down)
            if row is not None and (key is None or row[0] == key or (row[0] < key) != down):
                key = row[0]
            if key is None:
                break
            is_own = (known.number, key) in self._own
            if row is not None and row[0] == key:
                if not is_own:
                    self._note(seen, *row)
                row = None
            if is_own:
                self._note(seen, key, UNSEEN)  # G2
            if down:
                seen.low = end = key
            else:
                seen.high = first = known.successor(key) or high
            value = self.find(known, key)
            if isinstance(value, bytes):
                yield key, value
        seen.low, seen.high = low, high

    def _cover(self, known: Known, low: bytes, high: bytes) -> _Range:
        """A range of which nothing is noted yet."""
        self._add(known, item_bytes(low, high))
        seen = _Range(known, low, high)
        if not self._is_left_out:
            self._ranges.append(seen)
        return seen

    def _note(self, seen: _Range, key: bytes, value: bytes | _Unseen) -> None:
        """A row of a range."""
        self._add(seen.known, item_bytes(key, value if isinstance(value, bytes) else b""))
        if self._is_left_out:
            return
        seen.rows.append((key, value))
        at = seen.known.number, key
        if isinstance(value, _Unseen):
            return
        before = self._seen.get(at, UNSEEN)
        if before is UNSEEN:
            self._seen[at] = value
            self._ranged.add(at)
        elif before is _THERE:
            self._seen[at] = value
        elif before != value:
            self._torn()

    def _own_in(self, known: Known, low: bytes, high: bytes) -> list[bytes]:
        keys = self._own_keys.get(known.number, [])
        return keys[bisect_left(keys, low) : bisect_left(keys, high)]

    def _next_own(self, known: Known, low: bytes, high: bytes, *, down: bool) -> bytes | None:
        keys = self._own_keys.get(known.number, [])
        at = bisect_left(keys, high) - 1 if down else bisect_left(keys, low)
        return keys[at] if 0 <= at < len(keys) and low <= keys[at] < high else None

    # --- the commit ---------------------------------------------------------------------

    def needs(self) -> list[tuple[int, Known]]:
        """Partitions, and tables that they have to have for the commit: the home all of them, and
        who is asked for a range, though it may have nothing of it."""
        needed = [(self.home, known) for known in self._tables.values()]
        for seen in self._ranges:
            last = seen.known.placement.partition_of(seen.high)
            if last != EVERYWHERE:
                needed.append((last, seen.known))
        return list(dict.fromkeys(needed))

    def items(self) -> list[bytes]:
        """All of it, packed for the call that commits it. What went wrong before is raised."""
        if self.failure is not None:
            raise self.failure
        reads = {at: value for at, value in self._seen.items() if at not in self._ranged}
        counted = _Counted(self.home)
        for number, key in {*reads, *self._own}:
            counted.row(self._tables[number], key)
        ranges = [item for seen in self._ranges for item in counted.range(seen)]
        items = [
            *(self._read(number, key, value) for (number, key), value in reads.items()),
            *ranges,
            *(self._written(number, key, value) for (number, key), value in self._own.items()),
        ]
        _check_bytes(items)
        return items

    def _read(self, number: int, key: bytes, value: bytes | _Unseen | None) -> bytes:
        place = place_of(self._tables[number], key)
        if isinstance(value, bytes):
            return pack_item(f.SEEN_VALUE, place, number, key, value)
        return pack_item(f.SEEN_ABSENT if value is None else f.SEEN_THERE, place, number, key)

    def _written(self, number: int, key: bytes, value: bytes | None) -> bytes:
        place = place_of(self._tables[number], key)
        if value is None:
            return pack_item(f.WRITE_DELETE, place, number, key)
        return pack_item(f.WRITE_PUT, place, number, key, value)


class _Counted:
    """What is elsewhere, up to what the home can hold of it."""

    def __init__(self, home: int) -> None:
        self._home = home
        self._rows = 0
        self._ranges = 0

    def row(self, known: Known, key: bytes) -> None:
        self._rows += known.placement.partition_of(key) not in (self._home, EVERYWHERE)
        if self._rows > REMOTE_ROWS_MAX:
            raise TransactionTooLarge(
                f"it reads and writes more than {REMOTE_ROWS_MAX} rows of partitions other than"
                f" {self._home}, where it began; split the transaction"
            )

    def range(self, seen: _Range) -> list[bytes]:
        """The items of a range."""
        if seen.low >= seen.high:  # Nothing of it was taken.
            return []
        known = seen.known
        touched = known.placement.touched(seen.low, seen.high)
        self._ranges += sum(each not in (self._home, EVERYWHERE) for each in touched)
        if self._ranges > REMOTE_RANGES_MAX:
            raise TransactionTooLarge(
                f"it scans more than {REMOTE_RANGES_MAX} ranges of partitions other than"
                f" {self._home}, where it began; split the transaction"
            )
        place = _place(touched[0]) if len(touched) == 1 else f.PLACE_SEVERAL
        rows = sorted(seen.rows, key=lambda row: row[0])
        items = [
            pack_item(f.SEEN_RANGE, place, known.number, seen.low, seen.high, rows=len(rows)),
        ]
        for key, value in rows:
            where = place_of(known, key)
            if isinstance(value, bytes):
                items.append(pack_item(f.RANGE_ROW, where, known.number, key, value))
            else:
                items.append(pack_item(f.RANGE_ANY, where, known.number, key))
        return items


def items_of(writes: Sequence[tuple[Known, list[Any]]], home: int) -> list[bytes]:
    """Writes of a batch over several partitions, in their order, for the call that commits them."""
    counted = _Counted(home)
    for at in {(known, write[2]) for known, write in writes}:
        counted.row(*at)
    items = [
        pack_item(_WRITES[kind], place_of(known, key), number, key, value)
        for known, (kind, number, key, value) in writes
    ]
    _check_bytes(items)
    return items


def _check_bytes(items: Iterable[bytes]) -> None:
    if sum(map(len, items)) > f.GATHERED_BYTES_MAX:
        raise _too_large()


def needs_of(writes: Sequence[tuple[Known, list[Any]]], home: int) -> list[tuple[int, Known]]:
    """As `Gathered.needs`."""
    needed = [
        (each, known) for known, write in writes for each in (home, place_of(known, write[2]))
    ]
    return list(dict.fromkeys(needed))


def place_of(known: Known, key: bytes) -> int:
    """The place of a key, as items have it."""
    return _place(known.placement.partition_of(key))


def _place(partition: int) -> int:
    return f.PLACE_EVERYWHERE if partition == EVERYWHERE else partition


def _too_large() -> TransactionTooLarge:
    return TransactionTooLarge(
        f"a transaction over several partitions has more than {f.GATHERED_BYTES_MAX >> 10} KiB of"
        " keys and values that it has read and written; split it, or let a procedure do it"
    )
