"""Where compiled code is kept, and whether it is complete, found out without importing numba.

    root     see `mako.engine.cache_folder`
    stamp    root/warm-<fingerprint>, written last by `mako warmup`

The engine keeps its machine code below the root, in folders of its own naming. The fingerprint
covers the engine's sources and every version that takes part: after an upgrade or an edit the
stamp of before says nothing.

Caveat: a stamp outlives code that somebody deleted by hand from below the root. It is therefore
only reported, and says whether helpers are worth their start: `mako warmup` always asks the engine.
"""

import platform
from hashlib import blake2b
from pathlib import Path
from typing import Final

from mako.engine.cache_folder import ROOT_VARIABLE, cache_root, make_root

__all__ = ["ROOT_VARIABLE", "cache_root", "fingerprint", "make_root", "stamp_file"]

_FINGERPRINT_BYTES: Final = 8


def fingerprint(package: Path, *versions: str) -> str:
    """A name for the sources that compiled code depends on, and for `versions`.

    They are the engine and the modules below it, which are the single files of `package`.
    """
    digest = blake2b(digest_size=_FINGERPRINT_BYTES)
    for file in sorted([*package.glob("*.py"), *package.joinpath("engine").rglob("*.py")]):
        digest.update(f"{file.relative_to(package)}\0".encode())
        digest.update(blake2b(file.read_bytes()).digest())
    digest.update("\0".join(versions).encode())
    return digest.hexdigest()


def stamp_file(root: Path, numba_version: str) -> Path:
    """The file that says that all code of this installation has been compiled into `root`."""
    package = Path(__file__).resolve().parent.parent
    name = fingerprint(package, numba_version, platform.python_version(), platform.machine())
    return root / f"warm-{name}"
