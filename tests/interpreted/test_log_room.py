"""A submitted procedure that waited for room in the log and then met a conflict runs again."""

from typing import Any, Final

import pytest

import mako
from mako.engine import completing, layout, waiting, worker
from mako.engine.commit import abort, rest
from mako.engine.engine import Engine
from mako.engine.ring import drain
from mako.ids import Outcome

ROW: Final = mako.Table("row", id=1, key={"number": 32}, row={"value": "i8", "text": "S2000"})


@mako.procedure
def add(tx: Any, number: int) -> Any:
    row = tx.put(ROW, (number,))
    row.text = b"x"
    return row.value


@pytest.mark.parametrize("conflict", [Outcome.LOCKED, Outcome.CHANGED, Outcome.PHANTOM])
def test_a_conflict_after_waiting_for_the_log_is_retried(
    conflict: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(16 << 20, contexts=2, ring_bytes=1 << 16)
    engine.create_table(ROW)
    context = engine.context(0)
    engine.logging = True
    engine.set_word(context + layout.C_CONTROL, completing.SERVE)
    engine.set_arguments(context, add, [1])
    entry = engine.entry(add).address
    wait = waiting.commit_when_log_has_room
    waits = []

    def interrupted(tx: int) -> int:
        waits.append(tx)
        if len(waits) <= 2:
            return int(abort(tx, int(conflict)))
        drain(tx, 0, 0)
        return int(wait(tx))

    monkeypatch.setattr(worker, "commit_when_log_has_room", interrupted)
    committed = 0
    while not waits:
        outcome = worker._run_until_no_conflict(context, entry, context + layout.C_ARGUMENTS)
        assert outcome == Outcome.COMMITTED
        rest(context)
        committed += 1
    assert len(waits) == 3
    assert engine.outcomes()[Outcome.COMMITTED] == committed
    assert engine.outcomes()[conflict] == 2
    engine.close()
