"""Procedures, the functions they call, and workloads: what a user hands to the engine.

Nothing is compiled here, and importing a module full of procedures costs nothing: the engine
compiles one when a database first runs it. Called directly, with a transaction of one's own
making, both run as the ordinary Python functions they are.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any, Final

from mako.errors import SchemaError
from mako.row import Row, check_identifier
from mako.schema import BytesTable, Table

#: Parameters of a procedure beside the transaction.
PARAMETERS_MAX: Final = 1024
#: Kinds of transactions a workload may count apart.
KINDS_MAX: Final = 16


class Function:
    """A function compiled with the procedures that call it."""

    def __init__(self, body: Callable[..., Any]) -> None:
        if not inspect.isfunction(body):
            raise SchemaError(f"{body!r} is not a function; decorate a plain `def`")
        if body.__code__.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE):
            raise SchemaError(
                f"{body.__qualname__} is a generator or coroutine; a procedure runs to its end"
                " at once, so write it without yield and await"
            )
        self.body: Final = body
        self.name: Final = body.__name__
        self.__name__ = body.__name__
        self.__qualname__ = body.__qualname__
        self.__module__ = body.__module__
        self.__doc__ = body.__doc__
        self.__wrapped__ = body
        #: What the engine compiled it to; the engine's business.
        self.compiled: Any = None

    def __call__(self, *args: Any) -> Any:
        return self.body(*args)

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lower()} {self.__module__}.{self.__qualname__}>"

    def tables(self) -> set[Table | BytesTable]:
        """Every table this function, or one that it calls, names."""
        found: set[Table | BytesTable] = set()
        for value in self._reachable(set()):
            if isinstance(value, Table | BytesTable):
                found.add(value)
        return found

    def sources(self) -> list[str]:
        """The files of this function and of all that it calls, sorted."""
        files = {self.body.__code__.co_filename}
        for value in self._reachable(set()):
            if isinstance(value, Function):
                files.add(value.body.__code__.co_filename)
        return sorted(files)

    def _reachable(self, seen: set[int]) -> Iterator[Any]:
        """The tables and functions this one refers to, through modules and other functions."""
        if id(self) in seen:
            return
        seen.add(id(self))
        code = self.body.__code__
        values = [self.body.__globals__.get(name) for name in code.co_names]
        values += [cell.cell_contents for cell in self.body.__closure__ or ()]
        modules = [value for value in values if isinstance(value, types.ModuleType)]
        values += [getattr(module, name, None) for module in modules for name in code.co_names]
        for value in values:
            if isinstance(value, Table | BytesTable):
                yield value
            elif isinstance(value, Function):
                yield value
                yield from value._reachable(seen)


class Procedure(Function):
    """A transaction as a function: `def name(tx, a, b)`, parameters and result are integers.

    A parameter annotated with a Row layout, last, is a scratch row that is handed back.
    """

    def __init__(self, body: Callable[..., Any]) -> None:
        super().__init__(body)
        parameters = list(inspect.signature(body).parameters.values())
        if not parameters:
            raise SchemaError(f"procedure {self.name} has no parameter for the transaction")
        for parameter in parameters:
            if parameter.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
                raise SchemaError(
                    f"procedure {self.name}: parameter {parameter.name} is not positional; a"
                    " procedure takes a fixed list of integers"
                )
        if len(parameters) - 1 > PARAMETERS_MAX:
            raise SchemaError(f"procedure {self.name} has more than {PARAMETERS_MAX} parameters")
        self.parameters: Final = tuple(parameter.name for parameter in parameters[1:])


class Workload:
    """What a worker runs in a loop, inputs and all, without leaving compiled code.

    `generate(random, state)` draws the inputs of the next transaction into `state`, a row of
    the worker's own, and returns which of `kinds` it is; `execute(tx, state)` runs it, again
    after each conflict.
    """

    def __init__(
        self,
        name: str,
        *,
        kinds: tuple[str, ...],
        state: Row,
        generate: Function,
        execute: Function,
    ) -> None:
        check_identifier("the name of a workload", name)
        if not 1 <= len(kinds) <= KINDS_MAX:
            raise SchemaError(f"workload {name}: {len(kinds)} kinds; give 1 to {KINDS_MAX}")
        for part, given in (("generate", generate), ("execute", execute)):
            if not isinstance(given, Function):
                raise SchemaError(f"workload {name}: decorate {part} with @mako.function")
        self.name: Final = name
        self.kinds: Final = kinds
        self.state: Final = state
        self.generate: Final = generate
        self.execute: Final = execute

    def __repr__(self) -> str:
        return f"Workload({self.name!r})"


def function(body: Callable[..., Any]) -> Function:
    """Mark a function as one that procedures may call; it is compiled with them."""
    return Function(body)


def procedure(body: Callable[..., Any]) -> Procedure:
    """Mark a function as a transaction: `db.run` runs it, compiled, and retries conflicts."""
    return Procedure(body)
