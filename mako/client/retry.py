"""Running a function as a transaction, again after each conflict."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar, overload

from mako.client.mapping import Joinable
from mako.errors import Aborted, ConfigError, RemoteError, SchemaError
from mako.shown import shown

P = ParamSpec("P")
R = TypeVar("R")

#: Attempts before the conflict is the caller's problem.
RETRIES_MAX: Final = 100
_BACK_OFF_MIN: Final = 0.000_05
_BACK_OFF_MAX: Final = 0.05


def retrying(
    db: Any,
    act: Callable[[Any], R],
    *,
    max_retries: int = RETRIES_MAX,
    timeout: float | None = None,
) -> R:
    """`act(tx)` in a transaction that commits; again, with jittered back-off, on a conflict."""
    check_retrying(max_retries, timeout)
    deadline = None if timeout is None else time.monotonic() + timeout
    pause = _BACK_OFF_MIN
    for attempt in range(max_retries + 1):
        try:
            with db.transaction() as tx:
                return act(tx)
        except (Aborted, RemoteError) as error:
            late = deadline is not None and time.monotonic() >= deadline
            if not error.retryable or attempt == max_retries or late:
                raise
        if attempt > 2:  # The first conflicts are over sooner than a sleep would be.
            time.sleep(random.uniform(0, pause))
            pause = min(2 * pause, _BACK_OFF_MAX)
    raise AssertionError("the loop returns or raises")


def check_retrying(max_retries: Any, timeout: Any) -> None:
    """ConfigError: one of them is no limit."""
    if type(max_retries) is not int or max_retries < 0:
        raise ConfigError(f"max_retries of {shown(max_retries)}; give 0 or more")
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout >= 0:
        raise ConfigError(f"a timeout of {shown(timeout)}; give seconds, 0 or more, or None")


@overload
def transactional(function: Callable[..., R]) -> Callable[..., R]: ...
@overload
def transactional(
    *, max_retries: int = ..., timeout: float | None = ...
) -> Callable[[Callable[..., R]], Callable[..., R]]: ...


def transactional(
    function: Callable[..., Any] | None = None,
    *,
    max_retries: int = RETRIES_MAX,
    timeout: float | None = None,
) -> Any:
    """Make a function of a transaction callable with a database.

    The first argument is the transaction. Called with a Database, the function runs in a
    transaction of its own that commits at its end, and again after each conflict; called with
    a Transaction, it simply runs in that one, so such functions compose. Called with
    anything else, such as the `self` of a method, it raises SchemaError.
    """
    check_retrying(max_retries, timeout)
    if function is None:
        return lambda body: _made_transactional(body, max_retries, timeout)
    return _made_transactional(function, max_retries, timeout)


def _made_transactional(
    function: Callable[..., R], max_retries: int, timeout: float | None
) -> Callable[..., R]:
    from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction

    if isgeneratorfunction(function) or isasyncgenfunction(function):
        raise SchemaError(
            f"{function.__qualname__} is a generator: its transaction would end before it does;"
            " return a list instead"
        )
    if iscoroutinefunction(function):
        return _made_asynchronous(function, max_retries, timeout)

    @functools.wraps(function)
    def call(target: Any, /, *args: Any, **kwargs: Any) -> R:
        # A transaction cannot begin transactions; every kind of database can.
        if not hasattr(target, "transaction"):
            _check_transaction(function, target)
            return function(target, *args, **kwargs)
        if hasattr(target, "transact"):
            raise SchemaError(
                f"{function.__qualname__} is no coroutine, and this database is asynchronous;"
                " write it with async def"
            )
        return retrying(
            target,
            lambda tx: function(tx, *args, **kwargs),
            max_retries=max_retries,
            timeout=timeout,
        )

    return call


def _made_asynchronous(
    function: Callable[..., Any], max_retries: int, timeout: float | None
) -> Callable[..., Any]:
    """The same for a coroutine, which needs a database of `mako.aconnect`."""

    @functools.wraps(function)
    async def call(target: Any, /, *args: Any, **kwargs: Any) -> Any:
        if not hasattr(target, "transaction"):
            _check_transaction(function, target)
            return await function(target, *args, **kwargs)
        if not hasattr(target, "transact"):
            raise SchemaError(
                f"{function.__qualname__} is a coroutine, and this database is not asynchronous;"
                " use one of mako.aconnect, or a plain function"
            )
        return await target.transact(
            lambda tx: function(tx, *args, **kwargs), max_retries=max_retries, limit=timeout
        )

    return call


def _check_transaction(function: Callable[..., Any], target: Any) -> None:
    """SchemaError: the first argument is neither a database nor something that reads in one.

    A method would run without a transaction otherwise, for its first argument is `self`.
    """
    if not isinstance(target, Joinable):
        raise SchemaError(
            f"the first argument of {function.__qualname__} is {shown(target)}; give it a database"
            " or a transaction (of a method, decorate a function inside it)"
        )
