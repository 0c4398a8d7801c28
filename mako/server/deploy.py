"""Which procedures clients may call: those of the modules that the configuration names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

from mako.errors import ConfigError, SchemaError
from mako.placement import ShardMap, check_field, check_home
from mako.procedure import Procedure
from mako.schema import Table


class Deployed(NamedTuple):
    """A procedure, and the number that packed calls name it by."""

    number: int
    procedure: Procedure
    #: It only runs at snapshots, and is compiled when it first does: its module lists it in
    #: AT_SNAPSHOT. The only kind that may have a row to fill.
    at_snapshot: bool = False


def check_homes(procedures: Mapping[str, Deployed], shards: ShardMap) -> None:
    """ConfigError if the home of a procedure does not tell its partition, or a table is placed in
    blocks of another key field than it has."""
    for name, deployed in procedures.items():
        home = deployed.procedure.home
        try:
            for table in deployed.procedure.tables():
                if isinstance(table, Table):
                    check_field(table.name, table.key_fields[0].bits, shards.of(table.name))
            if home is not None:
                check_home(home, shards.of(home.table), name)
        except SchemaError as error:
            raise ConfigError(f"procedures: {error}") from None


def deploy(modules: Iterable[str]) -> dict[str, Deployed]:
    """The procedures of `modules` by name, numbered in the order of their names.

    ConfigError if a module cannot be imported, has no procedure, or two procedures have the
    same name. A procedure that a module only imports from another one counts once.
    """
    found: dict[str, tuple[str, Procedure]] = {}
    at_snapshot: set[str] = set()
    for name in modules:
        try:
            module = import_module(name)
        except Exception as error:  # Whatever a module of the user's raises.
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ConfigError(
                f"procedures: module {name!r} cannot be imported ({reason}); correct the name or"
                " the module, or put its folder on PYTHONPATH"
            ) from error
        read_only = getattr(module, "AT_SNAPSHOT", ())
        at_snapshot.update(procedure.name for procedure in read_only)
        procedures = [value for value in vars(module).values() if isinstance(value, Procedure)]
        procedures += read_only
        if not procedures:
            raise ConfigError(
                f"procedures: module {name!r} has no procedure; decorate one with @mako.procedure"
            )
        for procedure in procedures:
            other = found.setdefault(procedure.name, (name, procedure))
            if other[1] is not procedure:
                raise ConfigError(
                    f"procedures: {procedure.name!r} is in {other[0]} and in {name}; rename one"
                )
    return {
        name: Deployed(number, found[name][1], name in at_snapshot)
        for number, name in enumerate(sorted(found))
    }


def described(procedures: Mapping[str, Deployed]) -> list[list[Any]]:
    """What DESCRIBE says of procedures: name, number, parameters, and home or nil."""
    return [
        [name, number, list(procedure.parameters), procedure.home and procedure.home.plain()]
        for name, (number, procedure, _) in procedures.items()
    ]
