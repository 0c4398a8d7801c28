"""Explore scenarios with an engine in which a guard is broken (`tests.interpreted.mutations`).

NUMBA_DISABLE_JIT=1 python -m tests.interpreted.mutant "floors are not looked at" closing
"""

import sys
from collections.abc import Sequence
from typing import Final

from mako.sim.mutations import Edit, install
from tests.interpreted.mutations import MUTATIONS

#: The engine as it is.
NONE: Final = "none"


def main(name: str, arguments: Sequence[str]) -> int:
    edits: Sequence[Edit] = ()
    if name != NONE:
        edits = next(mutation.edits for mutation in MUTATIONS if mutation.name == name)
    install(edits)
    from tests.interpreted import explore

    return explore.main(arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], sys.argv[2:]))
