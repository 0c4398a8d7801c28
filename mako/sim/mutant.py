"""A process with a planted bug, interpreted if that is of the engine: it is given seeds of
`--shards`.

    Mutant ──a seed a line──▶ python -m mako.sim.mutant NAME
           ◀──JSON a line────  {} as it is ready, then {"problem": "...", "digest": 7} for each

To see what a bug does:

    echo 17 | NUMBA_DISABLE_JIT=1 python -m mako.sim.mutant NAME --trace

It ends with who started it, and at SECONDS_MAX of processor time for one seed: a bug may have the
engine go round for ever.
"""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from mako.sim import mutations
from mako.sim.shards.planted import EDITED

#: Processor time of a seed, which usually takes ten to thirty seconds.
SECONDS_MAX: Final = 300
_ROOT: Final = Path(__file__).resolve().parent.parent.parent
#: Interpreted memory is some dozen regions, and is looked up at each access: the last one is likely
#: to be the next one. It changes nothing but the time that a seed takes.
_FASTER: Final[mutations.Edit] = (
    "interpreted",
    "        if region[0] <= address and address + size <= region[1]:\n            return region\n",
    "        if region[0] <= address and address + size <= region[1]:\n"
    "            if region is not _regions[0]:\n"
    "                _regions.remove(region)\n"
    "                _regions.insert(0, region)\n"
    "            return region\n",
)


class Ran(NamedTuple):
    """What came of a seed. `problem` is empty, or one line that names the rule that broke."""

    problem: str
    digest: int = 0


def _edits(name: str) -> tuple[mutations.Edit, ...]:
    return EDITED[name].edits if name else ()


class Mutant:
    """See the module. An empty name is no bug. MutationError if it cannot be planted any more."""

    def __init__(self, name: str) -> None:
        mutations.check(_edits(name))
        interpreted = {"NUMBA_DISABLE_JIT": "1"} if mutations.of_engine(_edits(name)) else {}
        path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mako.sim.mutant", name],
            env={**os.environ, **interpreted, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._line() is None:
            self.close()
            raise mutations.MutationError(
                f"a process with {name} does not start; look at what it wrote on standard error"
            )

    def run(self, seed: int) -> Ran:
        """One seed. If the process ends over it, that is a problem, too."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{seed}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # The line below says so.
        line = self._line()
        if line is None:
            return Ran(f"liveness: its process ended, {self._process.wait()}")
        return Ran(**json.loads(line))

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def _line(self) -> str | None:
        assert self._process.stdout is not None
        return self._process.stdout.readline() or None

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _limit() -> None:
    """From now on the process may use SECONDS_MAX."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = round(used.ru_utime + used.ru_stime) + SECONDS_MAX
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def main(name: str, *, trace: bool) -> None:
    """Serve until standard input ends."""
    edits = _edits(name)
    mutations.install((*edits, _FASTER) if mutations.of_engine(edits) else edits)
    from mako.sim.cluster import Mode, Trace, run_seed

    def show(now: int, process: int, what: str, detail: str) -> None:
        sys.stdout.write(f"{now / 1e9:10.6f}  p{process} {what:<12} {detail}\n")

    def say(what: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()

    shown: Trace | None = show if trace else None
    say({})
    for line in sys.stdin:
        _limit()
        outcome = run_seed(int(line), mode=Mode.SHARDS, trace=shown)
        say({"problem": outcome.problem, "digest": outcome.digest})


if __name__ == "__main__":
    main(sys.argv[1], trace="--trace" in sys.argv[2:])
