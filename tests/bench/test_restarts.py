"""What is said of the time in which clients had no answers."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from bench import restarts
from tests.bench.fakes import FakeClock


@pytest.mark.parametrize(
    ("answers", "said", "rate"),
    [
        ([], "longest pause   5000 ms, pauses   5000 ms in all,       0 answers/s", 0.0),
        ([0.1, 0.5], "longest pause   4500 ms, pauses   5000 ms in all,       0 answers/s", 0.4),
        ([3.0, 4.98], "longest pause   3000 ms, pauses   4980 ms in all,       0 answers/s", 0.4),
        # Before and after it are answers of something else.
        ([-1.0, 5.5], "longest pause   5000 ms, pauses   5000 ms in all,       0 answers/s", 0.0),
    ],
    ids=["none at all", "none at the end", "none at first", "others"],
)
def test_clients_that_wait_at_the_end_have_waited(
    answers: list[float],
    said: str,
    rate: float,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = FakeClock()
    monkeypatch.setattr(restarts, "time", SimpleNamespace(monotonic=clock.now, sleep=clock.sleep))
    # One client, whose answers are from before the begin of what is measured on.
    client = SimpleNamespace(answers=[clock.now() + at for at in answers])

    def act() -> None:
        clock.time_s += 5 - restarts.REST_SECONDS

    found = restarts.measured("it hangs", [cast("Any", client)], act)
    assert found == pytest.approx(rate)
    assert said in capsys.readouterr().out
