"""Loops that can be ended: a user's function, rewritten so that the watchdog reaches its loops.

The engine's calls look whether the watchdog has given up on their transaction. A loop that
makes no such call would never end, and no thread can be stopped from outside. So before a
function is compiled, a check is put at the beginning of its loops:

                                    rounds = 0
    while left > 0:                 while left > 0:
        left = step(left)               rounds = check_loop(tx, rounds)
                                        left = step(left)

A `for` loop that is short for certain, or calls the engine in every round, needs none. With a
transaction the check is two loads and a compare. A helper whose first parameter is no
transaction has nothing to look at: its rounds are counted, and there is a limit. Line numbers,
globals, defaults and closures stay as they are; a function whose source is not to be had is
compiled as it is.
"""

from __future__ import annotations
import __future__

import ast
import inspect
import textwrap
from collections.abc import Callable
from types import CellType, CodeType, FunctionType
from typing import Any, Final

#: The name of the check in rewritten functions; no user's name looks like it.
CHECK: Final = "__mako_check_loop__"
#: The variable that counts the rounds of all loops of one call.
ROUNDS: Final = "__mako_rounds__"
#: Flags of a function's code that `from __future__ import` sets, and `compile` takes.
_FUTURE_FLAGS: Final = __future__.annotations.compiler_flag
#: A `for` over a constant range up to here is short.
SHORT: Final = 4096
_Loop = ast.While | ast.For
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef


def with_checked_loops(body: Callable[..., Any], check: Any) -> Callable[..., Any]:
    """`body`, its loops beginning with a call of `check` with the first parameter (None if there
    is none) and the rounds so far."""
    assert isinstance(body, FunctionType)
    code = body.__code__
    definition = _definition_of(body)
    if definition is None:
        return body
    first: str | None = code.co_varnames[0] if code.co_argcount else None
    if first and any(_binds(node, first) for node in ast.walk(definition)):
        first = None  # It is no longer the transaction where a check would stand.
    if not _insert_checks(definition, first, 1)[0]:
        return body
    definition.body.insert(0, _statement(f"{ROUNDS} = 0", definition.body[0]))
    made = _compile(body, definition, (*code.co_freevars, CHECK))
    if made is None:
        return body
    cells = dict(zip(code.co_freevars, body.__closure__ or (), strict=True))
    cells[CHECK] = CellType(check)
    closure = tuple(cells[name] for name in made.co_freevars)
    function = FunctionType(made, body.__globals__, body.__name__, body.__defaults__, closure)
    function.__kwdefaults__ = body.__kwdefaults__
    function.__module__ = body.__module__
    function.__qualname__ = body.__qualname__
    return function


def _definition_of(body: FunctionType) -> ast.FunctionDef | None:
    """The syntax tree of `body`, if its source is there and is what was compiled."""
    try:
        lines, start = inspect.getsourcelines(body)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, SyntaxError, TypeError):
        return None
    definition = tree.body[0] if len(tree.body) == 1 else None
    if not isinstance(definition, ast.FunctionDef) or definition.name != body.__name__:
        return None
    ast.increment_lineno(definition, start - 1)
    # A decorator has made a function of this one already, and an annotation may be a string.
    definition.decorator_list = []
    unchanged = _compile(body, definition, body.__code__.co_freevars)
    if unchanged is None or not _same(unchanged, body.__code__):
        return None  # The file was edited after it had been imported.
    return definition


def _compile(
    body: FunctionType, definition: ast.FunctionDef, free: tuple[str, ...]
) -> CodeType | None:
    """The code of `definition` where the names `free` are of an enclosing function."""
    module = ast.parse(f"def __mako_factory__({', '.join(free)}): pass")
    factory = module.body[0]
    assert isinstance(factory, ast.FunctionDef)
    factory.body = [definition]
    flags = body.__code__.co_flags & _FUTURE_FLAGS
    compiled = compile(module, body.__code__.co_filename, "exec", flags=flags, dont_inherit=True)
    for outer in compiled.co_consts:
        if isinstance(outer, CodeType):
            for inner in outer.co_consts:
                if isinstance(inner, CodeType) and inner.co_name == definition.name:
                    return inner
    return None


def _same(a: CodeType, b: CodeType) -> bool:
    return (
        a.co_code == b.co_code
        and a.co_names == b.co_names
        and a.co_varnames == b.co_varnames
        and a.co_freevars == b.co_freevars
        and [_plain(value) for value in a.co_consts] == [_plain(value) for value in b.co_consts]
    )


def _plain(constant: object) -> object:
    return constant.co_code if isinstance(constant, CodeType) else (type(constant), constant)


def _binds(node: ast.AST, name: str) -> bool:
    """Whether `node` gives `name` another value."""
    return isinstance(node, ast.Name) and node.id == name and not isinstance(node.ctx, ast.Load)


def _insert_checks(node: ast.AST, first: str | None, rounds: int) -> tuple[bool, int]:
    """Begin the loops of a function with checks: whether there was one to be checked, and how
    many rounds without a check one run of `node` takes.

    `rounds` bounds how often `node` runs from one check to the next.
    """
    changed = False
    unchecked = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Definition):
            continue
        if not isinstance(child, _Loop):
            found, inner = _insert_checks(child, first, rounds)
            unchecked += inner
        elif isinstance(child, ast.For) and _calls_engine(child.body, first):
            found, _ = _insert_checks(child, first, 1)
        elif rounds * _rounds_max(child) > SHORT:
            _, inner = _insert_checks(child, first, 1)
            _check_rounds(child, first, inner)
            found = True
        else:
            found, inner = _insert_checks(child, first, rounds * _rounds_max(child))
            unchecked += _rounds_max(child) * (1 + inner)
        changed |= found
    return changed, unchecked


def _check_rounds(loop: _Loop, first: str | None, unchecked: int) -> None:
    so_far = f"{ROUNDS} + {unchecked}" if unchecked else ROUNDS
    loop.body.insert(0, _statement(f"{ROUNDS} = {CHECK}({first}, {so_far})", loop.body[0]))


def _statement(source: str, place: ast.stmt) -> ast.stmt:
    """`source` as a statement at the line of `place`."""
    made = ast.parse(source).body[0]
    for node in ast.walk(made):
        ast.copy_location(node, place)
    return made


def _rounds_max(loop: _Loop) -> int:
    """Rounds of a loop over a constant range; of any other more than SHORT."""
    call = loop.iter if isinstance(loop, ast.For) else None
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
        return SHORT + 1
    bounds = [node.value for node in call.args if isinstance(node, ast.Constant)]
    numbers = [bound for bound in bounds if isinstance(bound, int) and bound >= 0]
    if call.func.id != "range" or not numbers or len(numbers) < len(call.args):
        return SHORT + 1
    return max(numbers)


def _calls_engine(statements: list[ast.stmt], first: str | None) -> bool:
    """Whether every round calls a method of the transaction that looks at the watchdog."""
    for statement in statements:
        if not isinstance(statement, ast.Assign | ast.Expr | ast.AugAssign):
            # What follows may be skipped by a `continue`, and what is inside may not be run.
            return False
        for node in ast.walk(statement):
            if isinstance(node, ast.IfExp | ast.BoolOp | ast.comprehension | ast.Lambda):
                break
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == first
                and node.func.attr in _LOOKS
            ):
                return True
    return False


#: Methods of a transaction that end it once the watchdog has given it up.
_LOOKS: Final = frozenset({"read", "find", "write", "insert", "put", "delete", "get_bytes"})
