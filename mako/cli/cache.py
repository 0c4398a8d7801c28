"""Where compiled code is kept, and whether it is complete, found out without importing numba.

    root     MAKO_CACHE_DIR, else XDG_CACHE_HOME/mako, else ~/.cache/mako, else a private folder
             below the temporary one: an account may have no home that it can write
    stamp    root/warm-<fingerprint>, written last by `mako warmup`

The engine keeps its machine code below the root, in folders of its own naming. The command line
chooses the root once and hands it over in MAKO_CACHE_DIR, so both always mean the same. The
fingerprint covers the engine's sources and every version that takes part: after an upgrade or an
edit the stamp of before says nothing.

Caveat: a stamp outlives code that somebody deleted by hand from below the root. It is therefore
only reported, never relied on: `mako warmup` always asks the engine.
"""

import os
import platform
import tempfile
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Final

from mako.errors import ConfigError

ROOT_VARIABLE: Final = "MAKO_CACHE_DIR"

_FINGERPRINT_BYTES: Final = 8


def cache_root(environment: Mapping[str, str]) -> Path:
    """The folder for everything mako may lose at any time. Nothing is created."""
    if named := environment.get(ROOT_VARIABLE):
        return Path(named).expanduser().absolute()
    if shared := environment.get("XDG_CACHE_HOME"):
        return Path(shared).absolute() / "mako"
    if home := environment.get("HOME"):
        cache = Path(home) / ".cache" / "mako"
        if _can_be_created(cache):
            return cache
    return Path(tempfile.gettempdir()) / f"mako-cache-{os.getuid()}"


def make_root(root: Path) -> None:
    """Create the root if need be. ConfigError if it cannot be used.

    Compiled code is executed when it is loaded, so a folder of another account is refused: in
    the temporary folder anybody could have made it.
    """
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot create the cache folder {root}: {error.strerror}; "
            f"set {ROOT_VARIABLE} to a folder that can be written"
        ) from error
    if not os.access(root, os.W_OK | os.X_OK) or root.stat().st_uid != os.getuid():
        raise ConfigError(
            f"the cache folder {root} belongs to another account or cannot be written; "
            f"set {ROOT_VARIABLE} to a folder of your own"
        )


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


def _can_be_created(folder: Path) -> bool:
    """Whether the nearest existing folder at or above `folder` can be written."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
