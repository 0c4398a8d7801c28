"""The database against dictionaries that are kept sorted: any order of any operations.

Three kinds of keys in four tables, several open transactions, snapshots that stay. A
transaction must commit if nobody wrote since it began, must not if a row was written since
it read that, and may do either if somebody wrote elsewhere: leaves are shared.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, precondition, rule
from sortedcontainers import SortedDict

import mako

pytestmark = pytest.mark.interpreted

WORD = mako.Table("word", id=21, key={"a": 4, "b": 12}, row={"v": "i4"})
PAIR = mako.Table("pair", id=22, key={"a": 60, "b": 8}, row={"v": "i4"})
NAMES = ("word", "pair", "text", "other")

small = st.integers(0, 40)
keys: dict[str, st.SearchStrategy[Any]] = {
    "word": st.tuples(st.integers(0, 3), small),
    "pair": st.tuples(small, st.integers(0, 3)),
    "text": st.binary(max_size=3) | st.sampled_from([b"k" * 100 + b"%d" % i for i in range(9)]),
    "other": st.binary(max_size=1),
}
Model = dict[str, "SortedDict[Any, int]"]


class Open:
    """A transaction under way: what it sees, what it wrote and read, and when it began."""

    def __init__(self, tx: mako.Transaction, seen: Model, commits: int) -> None:
        self.tx = tx
        self.seen = seen
        self.began = commits
        self.wrote: dict[tuple[str, Any], int | None] = {}
        #: Rows read, and how many commits there were when each was read first.
        self.read: dict[tuple[str, Any], int] = {}


class DatabaseMachine(RuleBasedStateMachine):
    transactions = Bundle("transactions")
    snapshots = Bundle("snapshots")

    def __init__(self) -> None:
        super().__init__()
        self.db = mako.open(memory="32MiB", sessions=10)
        self.db.create(WORD, PAIR)
        self.model: Model = {name: SortedDict() for name in NAMES}
        self.commits = 0
        #: The number of the commit that wrote a row last.
        self.written: dict[tuple[str, Any], int] = {}
        self.held = 0

    def teardown(self) -> None:
        for name in NAMES:
            assert self.rows(self.db.table(self.handle(name))) == list(self.model[name].items())
        self.db.close()

    def handle(self, name: str) -> Any:
        return {"word": WORD, "pair": PAIR}.get(name, name)

    def row(self, name: str, value: int) -> Any:
        return {"v": value} if name in ("word", "pair") else b"%d" % value * (1 + value % 50)

    def value(self, row: Any) -> int | None:
        if row is None or isinstance(row, dict):
            return None if row is None else row["v"]
        for size in (1, 2, 3):
            if self.row("text", int(row[:size])) == row:
                return int(row[:size])
        raise AssertionError(f"{row!r} is no value that was written")

    def rows(self, view: Any, *bounds: Any, **options: Any) -> list[tuple[Any, int | None]]:
        return [(key, self.value(row)) for key, row in view.scan(*bounds, **options)]

    def copy(self) -> Model:
        return {name: SortedDict(rows) for name, rows in self.model.items()}

    # --- transactions -----------------------------------------------------------------------

    @precondition(lambda self: self.held < 8)
    @rule(target=transactions)
    def begin(self) -> Open:
        self.held += 1
        return Open(self.db.begin(), self.copy(), self.commits)

    @rule(opened=transactions, name=st.sampled_from(NAMES), data=st.data())
    def get(self, opened: Open, name: str, data: st.DataObject) -> None:
        key = data.draw(keys[name])
        found = self.value(opened.tx.get(key, table=self.handle(name)))
        opened.read.setdefault((name, key), self.commits)
        if self.commits == opened.began:
            assert found == opened.seen[name].get(key)

    @rule(
        opened=transactions,
        name=st.sampled_from(NAMES),
        data=st.data(),
        value=st.integers(0, 199),
        replace=st.booleans(),
    )
    def put(
        self, opened: Open, name: str, data: st.DataObject, value: int, *, replace: bool
    ) -> None:
        key = data.draw(keys[name])
        view = opened.tx.table(self.handle(name))
        if replace:
            view.put(key, self.row(name, value))
        else:
            opened.read.setdefault((name, key), self.commits)
            try:
                view.insert(key, self.row(name, value))
            except mako.Exists:
                assert self.commits != opened.began or key in opened.seen[name]
                return
            assert self.commits != opened.began or key not in opened.seen[name]
        opened.seen[name][key] = value
        opened.wrote[name, key] = value

    @rule(opened=transactions, name=st.sampled_from(NAMES), data=st.data())
    def delete(self, opened: Open, name: str, data: st.DataObject) -> None:
        key = data.draw(keys[name])
        opened.read.setdefault((name, key), self.commits)
        done = opened.tx.delete(key, table=self.handle(name))
        if self.commits == opened.began:
            assert done == (key in opened.seen[name])
        if done:
            opened.seen[name].pop(key, None)
            opened.wrote[name, key] = None

    @rule(
        opened=transactions,
        name=st.sampled_from(NAMES),
        data=st.data(),
        limit=st.none() | st.integers(0, 9),
        reverse=st.booleans(),
    )
    def scan(
        self, opened: Open, name: str, data: st.DataObject, limit: int | None, *, reverse: bool
    ) -> None:
        first = data.draw(st.none() | keys[name])
        end = data.draw(st.none() | keys[name])
        found = self.rows(
            opened.tx.table(self.handle(name)), first, end, limit=limit, reverse=reverse
        )
        for key, _ in found:
            opened.read.setdefault((name, key), self.commits)
        if self.commits == opened.began:
            assert found == within(opened.seen[name], first, end, limit, reverse=reverse)

    @rule(opened=consumes(transactions))
    def commit(self, opened: Open) -> None:
        self.held -= 1
        stale = any(self.written.get(row, 0) > when for row, when in opened.read.items())
        try:
            opened.tx.commit()
        except mako.Conflict:
            assert self.commits > opened.began, "a conflict, though nobody else wrote"
            return
        assert not stale, "a row that was read has changed, yet it committed"
        if opened.wrote:
            self.commits += 1
        for (name, key), value in opened.wrote.items():
            self.written[name, key] = self.commits
            if value is None:
                self.model[name].pop(key, None)
            else:
                self.model[name][key] = value

    @rule(opened=consumes(transactions))
    def abort(self, opened: Open) -> None:
        self.held -= 1
        opened.tx.abort()

    # --- one call, and snapshots --------------------------------------------------------------

    @rule(name=st.sampled_from(NAMES), data=st.data(), value=st.integers(0, 199))
    def put_once(self, name: str, data: st.DataObject, value: int) -> None:
        key = data.draw(keys[name])
        self.db.table(self.handle(name)).put(key, self.row(name, value))
        self.model[name][key] = value
        self.commits += 1
        self.written[name, key] = self.commits

    @rule(name=st.sampled_from(NAMES), data=st.data())
    def delete_once(self, name: str, data: st.DataObject) -> None:
        key = data.draw(keys[name])
        assert self.db.table(self.handle(name)).delete(key) == (key in self.model[name])
        if self.model[name].pop(key, None) is not None:
            self.commits += 1
            self.written[name, key] = self.commits

    @precondition(lambda self: self.held < 8)
    @rule(target=snapshots)
    def snapshot(self) -> tuple[mako.Snapshot, Model]:
        self.held += 1
        return self.db.snapshot(), self.copy()

    @rule(
        taken=snapshots,
        name=st.sampled_from(NAMES),
        data=st.data(),
        limit=st.none() | st.integers(0, 9),
        reverse=st.booleans(),
    )
    def read_snapshot(
        self,
        taken: tuple[mako.Snapshot, Model],
        name: str,
        data: st.DataObject,
        limit: int | None,
        *,
        reverse: bool,
    ) -> None:
        snapshot, model = taken
        view = snapshot.table(self.handle(name))
        key, end = data.draw(keys[name]), data.draw(st.none() | keys[name])
        assert self.value(view.get(key)) == model[name].get(key)
        found = self.rows(view, key, end, limit=limit, reverse=reverse)
        assert found == within(model[name], key, end, limit, reverse=reverse)

    @rule(taken=consumes(snapshots))
    def close_snapshot(self, taken: tuple[mako.Snapshot, Model]) -> None:
        self.held -= 1
        taken[0].close()


def within(
    rows: SortedDict[Any, int], first: Any, end: Any, limit: int | None, *, reverse: bool
) -> list[tuple[Any, int]]:
    """What a scan of `rows` finds."""
    if first is not None and end is not None and first >= end:
        return []
    found = rows.irange(first, end, inclusive=(True, False), reverse=reverse)
    return [(key, rows[key]) for key in found][:limit]


DatabaseMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=60, deadline=None, print_blob=True
)
TestDatabase = DatabaseMachine.TestCase
