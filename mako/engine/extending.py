"""numba's overloads, for functions with annotations.

numba compares the signatures of an overload and of its implementation, annotations included.
Ours are annotated for readers and checkers, so they are taken off before numba looks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba.extending


def _plain(typing: Callable[..., Any]) -> Callable[..., Any]:
    typing.__annotations__ = {}
    inner = typing.__code__

    def implementation_of(*args: Any, **kwargs: Any) -> Any:
        made = typing(*args, **kwargs)
        if callable(made):
            made.__annotations__ = {}
        return made

    # numba binds arguments by the names of the typing function.
    names = ", ".join(inner.co_varnames[: inner.co_argcount])
    scope = {"implementation_of": implementation_of}
    exec(f"def {typing.__name__}({names}): return implementation_of({names})", scope)
    made = scope[typing.__name__]
    made.__qualname__ = typing.__qualname__
    return made


def overload(operation: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return lambda typing: numba.extending.overload(operation)(_plain(typing))


def overload_method(kind: Any, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return lambda typing: numba.extending.overload_method(kind, name)(_plain(typing))


def overload_attribute(kind: Any, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return lambda typing: numba.extending.overload_attribute(kind, name)(_plain(typing))
