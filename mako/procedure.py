"""Procedures, the functions they call, and workloads: what a user hands to the engine.

Nothing is compiled here, and importing a module full of procedures costs nothing: the engine
compiles one when a database first runs it. Called directly, with a transaction of one's own
making, both run as the ordinary Python functions they are.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator, Sequence
from enum import EnumType
from typing import Any, Final, overload

from mako.errors import SchemaError
from mako.placement import Home, HomeField
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

    def constants(self) -> list[str]:
        """`function.name=value` of the numbers and strings that this function, or one that it
        calls, takes from modules and from functions around it, sorted: they are compiled in."""
        found: set[str] = set()
        for value in [self, *self._reachable(set())]:
            if isinstance(value, Function):
                of = f"{value.__module__}.{value.__qualname__}"
                found.update(
                    f"{of}.{name}={given!r}" for name, given in value._outside() if _is_plain(given)
                )
        return sorted(found)

    def codes(self) -> list[str]:
        """What this function, and all that it calls, is compiled from, as text."""
        called = [value for value in self._reachable(set()) if isinstance(value, Function)]
        return sorted(_as_text(value.body.__code__) for value in [self, *called])

    def _outside(self) -> list[tuple[str, Any]]:
        """What the names in its body stand for that are not its own."""
        body = self.body
        names = _names_in(body.__code__)
        found = [(name, body.__globals__[name]) for name in names if name in body.__globals__]
        cells = [cell.cell_contents for cell in body.__closure__ or ()]
        found += zip(body.__code__.co_freevars, cells, strict=True)
        found += [(f"default {i}", value) for i, value in enumerate(body.__defaults__ or ())]
        seen: set[int] = set()
        for where, space in found:  # It grows: modules have modules.
            if not isinstance(space, types.ModuleType | EnumType) or id(space) in seen:
                continue
            seen.add(id(space))
            found += [
                (f"{where}.{name}", getattr(space, name)) for name in names if hasattr(space, name)
            ]
        return found

    def _reachable(self, seen: set[int]) -> Iterator[Any]:
        """The tables and functions this one refers to, through modules and other functions."""
        if id(self) in seen:
            return
        seen.add(id(self))
        for _, value in self._outside():
            if isinstance(value, Table | BytesTable):
                yield value
            elif isinstance(value, Function):
                yield value
                yield from value._reachable(seen)


def _names_in(code: types.CodeType) -> list[str]:
    """The names of others in a function, and in those inside of it, such as comprehensions."""
    names = list(code.co_names)
    for value in code.co_consts:
        if isinstance(value, types.CodeType):
            names += [name for name in _names_in(value) if name not in names]
    return names


def _as_text(code: types.CodeType) -> str:
    constants = [
        _as_text(value) if isinstance(value, types.CodeType) else repr(value)
        for value in code.co_consts
    ]
    return f"{code.co_qualname} {code.co_code.hex()} {code.co_names} {constants}"


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | complex | str | bytes)


class Procedure(Function):
    """A transaction as a function: `def name(tx, a, b)`, parameters and result are integers.

    A parameter annotated with a Row layout, last, is a scratch row that is handed back. With
    `home`, a table and the names of parameters that are fields of its key in their order, it is
    run by the partition that has that key.
    """

    def __init__(self, body: Callable[..., Any], home: Sequence[Any] | None = None) -> None:
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
        #: The key whose partition runs it; None: whoever calls it has to say which does.
        self.home: Final = None if home is None else _home(self.name, self.parameters, home)


def _home(procedure: str, parameters: tuple[str, ...], given: Sequence[Any]) -> Home:
    table, *names = given if isinstance(given, tuple | list) and given else (None,)
    if not isinstance(table, Table) or not names:
        raise SchemaError(
            f"procedure {procedure}: home is a table of typed rows and names of parameters, for"
            ' example home=(WAREHOUSE, "w_id")'
        )
    unknown = [name for name in names if name not in parameters]
    if unknown or len(names) > len(table.key_fields):
        raise SchemaError(
            f"procedure {procedure}: home names {', '.join(map(str, unknown or names))}; name"
            f" parameters of it, at most one for each key field of {table.name}"
        )
    fields = tuple(
        HomeField(parameters.index(name), field.word, field.shift, field.bits)
        for name, field in zip(names, table.key_fields, strict=False)
    )
    return Home(table.name, table.key_words, fields, len(names) == len(table.key_fields))


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


@overload
def procedure(body: Callable[..., Any]) -> Procedure: ...
@overload
def procedure(*, home: Sequence[Any]) -> Callable[[Callable[..., Any]], Procedure]: ...


def procedure(body: Callable[..., Any] | None = None, *, home: Sequence[Any] | None = None) -> Any:
    """Mark a function as a transaction: `db.run` runs it, compiled, and retries conflicts.

    In a cluster of several partitions one of them runs it: with `home=(TABLE, "parameter", ...)`
    the one that has this key of TABLE, given whole or, where a table is cut into ranges, by its
    first fields. Without it each call has to say which one, with `partition=`.
    """
    if body is not None:
        return Procedure(body, home)
    return lambda function: Procedure(function, home)
