"""Errors: each outcome has one, each says what to do on one line, and all survive pickling."""

import inspect
import pickle
import re

import pytest

import mako
from mako import errors
from mako.errors import Aborted, AbortReason, Conflict, Error, error_of, reason_of
from mako.ids import Outcome

FAILURES = [outcome for outcome in Outcome if outcome is not Outcome.COMMITTED]
CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == "mako.errors"
]
ABORTS = [kind for kind in CLASSES if issubclass(kind, Aborted) and kind is not Aborted]


@pytest.mark.parametrize("outcome", FAILURES)
def test_every_failed_outcome_has_an_exception_of_one_line(outcome: Outcome) -> None:
    error = error_of(int(outcome), "table orders,\n key (1, 2)")
    assert isinstance(error, Aborted)
    assert str(error).startswith("table orders, key (1, 2): ")
    assert "\n" not in str(error)
    assert type(error).default_message in str(error)
    assert error.reason is reason_of(outcome)


@pytest.mark.parametrize("outcome", FAILURES)
def test_without_detail_the_message_still_says_what_to_do(outcome: Outcome) -> None:
    assert str(error_of(outcome)).startswith(error_of(outcome).default_message)


def test_exactly_conflicts_are_retryable() -> None:
    retryable = {outcome for outcome in FAILURES if error_of(outcome).retryable}
    assert retryable == {Outcome.LOCKED, Outcome.CHANGED, Outcome.PHANTOM}
    assert {type(error_of(outcome)) for outcome in retryable} == {Conflict}


def test_every_error_says_whether_it_is_worth_another_try() -> None:
    remote = {kind for kind in CLASSES if issubclass(kind, mako.RemoteError)}
    made = {kind: kind("it") for kind in CLASSES if kind is not Aborted}
    again = {kind for kind, error in made.items() if isinstance(error, Error) and error.retryable}
    assert again - remote == {Conflict}
    assert remote - again == {mako.RemoteError, mako.Unknown, mako.Rejected}


def test_conflicts_name_what_conflicted() -> None:
    assert str(error_of(Outcome.PHANTOM)).endswith("(phantom)")
    assert error_of(Outcome.LOCKED).reason == "lock"


def test_every_outcome_has_a_reason_of_its_own() -> None:
    assert len({reason_of(outcome) for outcome in FAILURES}) == len(FAILURES)
    assert {reason_of(outcome) for outcome in FAILURES} == set(AbortReason)


@pytest.mark.parametrize("kind", ABORTS)
def test_every_abort_can_be_reported_by_compiled_code(kind: type[Aborted]) -> None:
    assert kind in {type(error_of(outcome)) for outcome in FAILURES}


@pytest.mark.parametrize("outcome", [Outcome.COMMITTED, 19, -1])
def test_no_exception_for_what_is_no_failure(outcome: int) -> None:
    with pytest.raises((KeyError, ValueError)):
        error_of(outcome)


@pytest.mark.parametrize("kind", CLASSES)
def test_all_errors_are_caught_by_a_name_of_the_package(kind: type[Exception]) -> None:
    assert getattr(mako, kind.__name__) is kind
    assert kind.__name__ in mako.__all__


@pytest.mark.parametrize("kind", CLASSES)
def test_all_errors_have_one_root_and_say_when(kind: type[Exception]) -> None:
    assert issubclass(kind, Error)
    assert kind.__doc__


def test_the_drawing_shows_exactly_the_tree() -> None:
    drawn: dict[str, str] = {}
    above: list[str] = []
    assert errors.__doc__
    for line in errors.__doc__.splitlines():
        if match := re.match(r" {4}((?:│   )*(?:[├└]── )?)([A-Z]\w+)", line):
            del above[len(match[1]) // 4 :]
            drawn[match[2]] = above[-1] if above else "Exception"
            above.append(match[2])
    assert drawn == {kind.__name__: kind.__mro__[1].__name__ for kind in CLASSES}


def test_errors_survive_pickling_with_what_they_carry() -> None:
    conflict = pickle.loads(pickle.dumps(error_of(Outcome.LOCKED, "table t")))
    assert type(conflict) is Conflict
    assert conflict.reason is AbortReason.LOCK
    assert str(conflict) == str(error_of(Outcome.LOCKED, "table t"))
    corrupt = pickle.loads(pickle.dumps(errors.LogCorrupt("bad magic", offset=32)))
    assert (str(corrupt), corrupt.offset) == ("bad magic", 32)
