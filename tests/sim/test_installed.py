"""Early results are judged: by what was installed, by the final answer, and by each other."""

from collections.abc import Iterator
from typing import Any

import pytest

from mako.call_format import IS_EARLY, IS_NOTICE
from mako.client.remote import core
from mako.client.remote.calls import Call
from mako.sim.checkers import Violation
from mako.sim.cluster import Mode, run_seed
from mako.sim.installed import Installed, Report
from mako.wire.requests import read_results

EPOCHS = ((0, 1), (1, 4))


def told(timestamp: int, value: int, number: int = 5) -> Call:
    call = Call("append", deadline=0.0, early=True)
    call.id, call.timestamp, call.value = number, timestamp, value
    return call


def installed(*positions: int, epochs: tuple[tuple[int, int], ...] = EPOCHS) -> Installed:
    """A list, of which these positions were given out at 100, 101 ..."""
    made = Installed()
    for timestamp, position in enumerate(positions, 100):
        made.report(1, timestamp, 5, Report(3, position, epochs))
        made.told_positions(1, told(timestamp, position), {7: position})
    return made


def test_what_is_told_early_was_installed_by_who_tells_it() -> None:
    made = installed(20)
    made.told_early(3, 1, told(100, 20))
    for process, partition, call in [
        (3, 1, told(100, 21)),
        (3, 1, told(101, 20)),
        (3, 1, told(100, 20, number=6)),
        (2, 1, told(100, 20)),
        (3, 0, told(100, 20)),
    ]:
        with pytest.raises(Violation, match="early"):
            made.told_early(process, partition, call)


def test_positions_rise_with_timestamps_in_one_epoch() -> None:
    installed(1, 2, 5).check_end()
    for positions in [(1, 1), (2, 1), (1, 3, 3)]:
        with pytest.raises(Violation, match="one order"):
            installed(*positions).check_end()


def test_another_epoch_may_give_out_again_what_was_discarded() -> None:
    made = installed(1, 2)
    made.report(1, 90, 5, Report(3, 2, ((0, 2), (1, 4))))
    made.told_positions(1, told(90, 2), {7: 2})
    made.check_end()


# --- Whole runs --------------------------------------------------------------------------------


def other_early_values(body: memoryview) -> Iterator[Any]:
    """Results whose early values are wrong. The final ones are right: who looks at these only
    finds nothing."""
    for number, status, flags, timestamp, value, detail, data in read_results(body):
        wrong = bool(flags & IS_EARLY) * (1 << 40)
        yield number, status, flags & ~IS_NOTICE, timestamp, value + wrong, detail, data


def none_early(body: memoryview) -> Iterator[Any]:
    """Early results that are followed by other ones, of a later transaction."""
    for number, status, flags, timestamp, value, detail, data in read_results(body):
        later = 0 if status or not flags & IS_NOTICE else 1
        yield number, status, flags & ~IS_NOTICE, timestamp + later, value, detail, data


@pytest.mark.parametrize("mode", [Mode.CLIENTS, Mode.SHARDS])
@pytest.mark.parametrize("wrong", [other_early_values, none_early])
def test_early_results_that_are_wrong_are_found(
    mode: Mode, wrong: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core, "read_results", wrong)
    assert run_seed(1, mode=mode).rule == "early"
