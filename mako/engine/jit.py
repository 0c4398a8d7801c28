"""How the engine is compiled, and where its machine code is kept.

Every function of the engine is decorated with `compiled`. Machine code is cached on disk in
one folder per hash of *all* engine sources: numba's own cache looks only at the file of the
function itself and would go on running an old callee from another file. Functions of users
(procedures) are keyed by their own module's source as well.

Processes that start together fill the cache together: one compiles a unit, the others wait for it
and load what it has kept (`mako.engine.compiling`). Symbols
and files are named so that nobody gets another function's code (`_Identities`, `_CacheFile`).

With NUMBA_DISABLE_JIT=1 the decorator leaves the function as it is, and the primitives of
`mako.engine.atomics` are plain Python: the engine runs interpreted.
"""

from __future__ import annotations

import ctypes
import hashlib
import inspect
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import numba
from numba.core import bytecode, caching

from mako.engine.cache_folder import cache_root, make_root
from mako.engine.compiling import PATIENCE, Turn

#: Whether the engine runs as interpreted Python (coverage, debugging, explored interleavings).
INTERPRETED: bool = bool(numba.config.DISABLE_JIT)

F = TypeVar("F", bound=Callable[..., Any])


@cache
def _root() -> Path:
    root = cache_root(os.environ)
    make_root(root)
    return root


@cache
def engine_stamp() -> str:
    """Hash of every source the compiled engine depends on, and of the compiler's version."""
    digest = hashlib.blake2b(digest_size=8)
    digest.update(f"{numba.__version__} {sys.version_info[:2]}".encode())
    package = Path(__file__).parent
    sources = sorted(package.glob("*.py"))
    sources += [
        package.parent / name for name in ("ids.py", "schema.py", "log_format.py", "call_format.py")
    ]
    for source in sources:
        if source.exists():
            digest.update(source.name.encode())
            digest.update(source.read_bytes())
    return digest.hexdigest()


@cache
def _file_stamp(path: str) -> str:
    try:
        content = Path(path).read_bytes()
    except OSError:  # A prompt or a string: the code object itself is in the index key.
        content = b""
    return hashlib.blake2b(content, digest_size=8).hexdigest()


class _Locator(caching._CacheLocator):
    """Keeps the code of a function below the cache folder, wherever its source is."""

    def __init__(self, function: Callable[..., Any], source: str) -> None:
        self._path = _root() / engine_stamp()
        self._stamp = _file_stamp(source) + str(getattr(function, "__mako_stamp__", ""))
        self._name = hashlib.blake2b(
            f"{function.__module__}:{source}:{function.__qualname__}".encode(), digest_size=6
        ).hexdigest()

    def get_cache_path(self) -> str:
        return str(self._path)

    def get_source_stamp(self) -> str:
        return self._stamp

    def get_disambiguator(self) -> str:
        return self._name

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> _Locator:
        return cls(py_func, py_file)


class _CacheImpl(caching.CompileResultCacheImpl):
    _locator_classes: ClassVar[list[type]] = [_Locator]


class _Identities:
    """What numba tells functions of one name and signature apart by, in the symbols of their code.

    numba counts from 1, in each process. Its symbols are weak, and of two that have one name the
    linker keeps the one that was loaded first: code from the cache, compiled by another process
    where another function had that number, then calls the wrong one. No two of these are equal,
    whatever process they are of, forked ones too.
    """

    def __next__(self) -> int:
        return secrets.randbits(60)


assert hasattr(bytecode.FunctionIdentity, "_unique_ids"), "this numba names symbols in another way"
bytecode.FunctionIdentity._unique_ids = _Identities()


class _CacheFile(caching.IndexDataCacheFile):
    """Code in files that are named after what it is for. numba numbers them: two processes that
    save at once give one number to two functions, and the index then names the wrong one's."""

    def save(self, key: Any, data: Any) -> None:
        digest = hashlib.blake2b(repr((self._source_stamp, key)).encode(), digest_size=12)
        name = f"{Path(self._index_name).stem}.{digest.hexdigest()}.nbc"
        self._save_data(name, data)
        # Who comes in between here is forgotten, and compiles once more.
        overloads = self._load_index()
        overloads[key] = name
        self._save_index(overloads)


class _Cache(caching.FunctionCache):
    """numba's cache of one function, with an index key that knows our closures.

    The engine builds one set of functions per kind of key from the same source; their
    closures hold dispatchers, whose pickled form differs from process to process. The
    qualified name tells them apart instead, and the stamp of the sources covers the rest.
    """

    _impl_class = _CacheImpl
    _turn: Turn | None = None

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = _CacheFile(
            cache_path=self._cache_path,
            filename_base=self._impl.filename_base,
            source_stamp=self._impl.locator.get_source_stamp(),
        )

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        function = self._py_func
        code = hashlib.sha256(function.__code__.co_code).hexdigest()
        stamp = str(getattr(function, "__mako_stamp__", ""))
        return (sig, codegen.magic_tuple(), (function.__qualname__, code, stamp))

    @contextmanager
    def alone(self, patience: float = PATIENCE) -> Iterator[None]:
        """In here the function whose cache this is is compiled by one process at a time. NotMyTurn:
        `patience` is 0, and another one is at it."""
        lock = Path(self._cache_path, f"{self._impl.filename_base}.lock")
        with Turn(lock, patience=patience) as self._turn:
            try:
                yield
            finally:
                self._turn = None

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = super().load_overload(sig, target_context)
        if found is None and self._turn is not None:
            self._turn.take()
            found = super().load_overload(sig, target_context)
        return found


def compiled(function: F | None = None, *, inline: bool = False) -> Any:
    """Compile `function` for the engine: without the GIL, cached on disk.

    `inline` asks LLVM to inline it always: for leaves of the hot path.
    """
    if function is None:
        return lambda f: compiled(f, inline=inline)
    if INTERPRETED:
        return function
    options: dict[str, Any] = {"nogil": True}
    if inline:
        options["forceinline"] = True
    dispatcher = numba.njit(**options)(function)
    use_cache(dispatcher, function)
    return dispatcher


#: Called with the name of each exported function before it is compiled or loaded.
on_export: Callable[[str], None] | None = None
#: Where exported functions wait to be compiled, in a process that runs none of them.
postponed: list[Any] | None = None


def exported(function: F) -> F:
    """Compile `function` once, for itself, and let compiled callers call it by address.

    numba links what a function calls into it and optimises the whole again: four levels up,
    the commit path would be compiled dozens of times. Exported functions are the seams. They
    take and return plain integers (`-> None`: nothing), never raise, and are compiled, or
    loaded from the cache, when their module is imported: cached code of their callers needs
    their address as soon as it is loaded.
    """
    if INTERPRETED:
        return function
    from llvmlite import binding, ir
    from numba import types
    from numba.core import cgutils
    from numba.core.ccallback import CFunc
    from numba.extending import intrinsic

    if on_export is not None:
        on_export(function.__qualname__)
    code = function.__code__
    arity = code.co_argcount
    nothing = function.__annotations__.get("return") in (None, "None")
    result = types.void if nothing else types.int64
    signature = result(*([types.int64] * arity))
    made = CFunc(function, (signature.args, result), locals={}, options={"nopython": True})
    cache = use_cache(made, function)
    symbol = f"mako_{function.__module__}_{function.__qualname__}".replace(".", "_")
    if postponed is None:
        with cache.alone():
            made.compile()
        binding.add_symbol(symbol, made.address)
    else:
        postponed.append(made)
        binding.add_symbol(symbol, _somewhere())
    _kept.append(made)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        word = ir.IntType(64)
        kind = ir.FunctionType(ir.VoidType() if nothing else word, [word] * arity)
        callee = cgutils.get_or_insert_function(builder.module, kind, symbol)
        value = builder.call(callee, args)
        return context.get_dummy_value() if nothing else value

    # numba binds arguments by name, and reads the arity off the functions.
    names = ", ".join(code.co_varnames[:arity])
    scope: dict[str, Any] = {"typed": (signature, generate)}
    exec(f"def by_address(typingctx, {names}): return typed", scope)
    scope["by_address"] = intrinsic(scope["by_address"])
    exec(f"def call({names}): return by_address({names})", scope)
    call = named(scope["call"], f"call.{function.__module__}.{function.__qualname__}")
    call.__module__ = function.__module__
    return cast(F, compiled(call))


_kept: list[Any] = []


def _somewhere() -> int:
    """The address of some function, for what is linked and not called."""
    address = ctypes.cast(ctypes.pythonapi.Py_IncRef, ctypes.c_void_p).value
    assert address is not None
    return address


def use_cache(dispatcher: Any, function: Callable[..., Any]) -> _Cache:
    """Make a dispatcher, or a cfunc not yet compiled, load from and save to our cache."""
    dispatcher._cache = _Cache(function)
    return cast(_Cache, dispatcher._cache)


def named(function: F, name: str) -> F:
    """Give a function made by a factory a name of its own; the cache relies on it."""
    function.__qualname__ = name
    function.__name__ = name.rpartition(".")[2]
    return function


def source_of(function: Callable[..., Any]) -> str:
    """`file:line` of a user's function, for messages."""
    code = function.__code__
    return f"{Path(inspect.getfile(function)).name}:{code.co_firstlineno}"
