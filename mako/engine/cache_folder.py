"""The folder of compiled code: one answer for the engine and the command line, without numba.

MAKO_CACHE_DIR, else XDG_CACHE_HOME/mako, else ~/.cache/mako, else a private folder below
the temporary one: an account may have no home that it can write
"""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mako.errors import ConfigError

ROOT_VARIABLE: Final = "MAKO_CACHE_DIR"


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


def _can_be_created(folder: Path) -> bool:
    """Whether the nearest existing folder at or above `folder` can be written."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
