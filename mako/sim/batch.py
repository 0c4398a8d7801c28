"""Many seeds, on several cores; and planted bugs, each until a seed finds it.

Bugs of what is compiled are planted in a process of their own, where the engine is interpreted
(mako.sim.mutant). A seed is the same run there.
"""

import gc
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple

from mako.raft import planted as raft_planted
from mako.replication import planted as driver_planted
from mako.server import planted as server_planted
from mako.server.deploy import deploy
from mako.sim import mutations
from mako.sim.cluster import Mode, Outcome, run_seed
from mako.sim.coverage import (
    BATCH_SEEDS_MIN,
    REQUIRED,
    REQUIRED_SERVED,
    REQUIRED_SHARDED,
    Coverage,
)
from mako.sim.mutant import Mutant
from mako.sim.shards.planted import EDITED
from mako.sim.sharing import Lost, shared
from mako.storage import planted as storage_planted

#: Seeds within which a planted bug must be found.
PLANTED_SEEDS_MAX: Final = 500
#: Those that only a served group shows, only several of them, and all.
SERVED: Final = {**driver_planted.SERVED, **server_planted.BUGS}
SHARDED: Final = {
    **driver_planted.SHARDED,
    **server_planted.SHARDED,
    **{name: bug.rule for name, bug in EDITED.items()},
}
PLANTED: Final = {
    **raft_planted.BUGS,
    **storage_planted.BUGS,
    **driver_planted.BUGS,
    **SERVED,
    **SHARDED,
}
#: Situations that a large batch must reach.
_REQUIRED: Final = {Mode.CLIENTS: REQUIRED_SERVED, Mode.SHARDS: REQUIRED_SHARDED}


@dataclass(slots=True)
class Summary:
    """What a batch came to."""

    seeds: int = 0
    #: Situations that it must reach, if it is large.
    required: frozenset[str] = REQUIRED
    #: Seeds with enough acknowledged transactions and faults to mean something.
    counted: int = 0
    #: Seeds in which a checker gave up: they do not count.
    gave_up: int = 0
    acknowledged: int = 0
    reads: int = 0
    unknown: int = 0
    leader_changes: int = 0
    #: An integer, so that it is the same in whatever order seeds end.
    virtual_ns: int = 0
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    coverage: Coverage = field(default_factory=Coverage)
    #: It was ended before all seeds had run.
    interrupted: bool = False
    #: Seeds and what they violate, in ascending order.
    violations: list[tuple[int, str]] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        self.counted += outcome.counts
        self.gave_up += outcome.gave_up
        self.acknowledged += outcome.acknowledged
        self.reads += outcome.reads
        self.unknown += outcome.unknown
        self.leader_changes += outcome.leader_changes
        self.virtual_ns += outcome.virtual_ns
        self.faults.update(outcome.faults)
        self.coverage.update(outcome.coverage)
        if outcome.problem:
            self.violations.append((outcome.seed, outcome.problem))
            self.violations.sort()

    def missing(self) -> list[str]:
        """Situations that a batch of this size must have reached, and has not."""
        return self.coverage.missing(self.required) if self.seeds >= BATCH_SEEDS_MIN else []

    def as_dict(self) -> dict[str, Any]:
        """The names of the JSON output."""
        return {
            "seeds": self.seeds,
            "counted": self.counted,
            "gave_up": self.gave_up,
            "acknowledged": self.acknowledged,
            "reads": self.reads,
            "unknown": self.unknown,
            "leader_changes": self.leader_changes,
            "virtual_seconds": round(self.virtual_ns / 1e9, 1),
            "seconds": round(self.seconds, 1),
            "interrupted": self.interrupted,
            "faults": dict(sorted(self.faults.items())),
            "situations": dict(sorted(self.coverage.items())),
            "missing": self.missing(),
            "violations": [{"seed": seed, "problem": text} for seed, text in self.violations],
        }


def run_batch(
    first_seed: int,
    seeds: int,
    *,
    jobs: int = 1,
    mode: Mode = Mode.MODEL,
    show: Callable[[Outcome], None] | None = None,
) -> Summary:
    """Simulate `seeds` seeds from `first_seed` on. `show` is called with each as it ends. A
    KeyboardInterrupt ends it with those that have."""
    summary = Summary(required=_REQUIRED.get(mode, REQUIRED))
    started = time.monotonic()
    work = deque(range(first_seed, first_seed + seeds))
    with _ended_early(summary):
        for seed, found in shared(partial(_run, mode), work, jobs, prepare=partial(_load, mode)):
            if isinstance(found, Lost):
                outcome = Outcome(seed, problem=f"liveness: {found.reason}", rule="liveness")
            else:
                outcome = found
            summary.add(outcome)
            if show is not None:
                show(outcome)
    summary.seconds = time.monotonic() - started
    return summary


@contextmanager
def _ended_early(summary: Summary) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        summary.interrupted = True


def find_planted(
    names: Iterable[str] = tuple(sorted(PLANTED)),
    *,
    first_seed: int = 1,
    jobs: int = 1,
    show: Callable[[str, int | None], None] | None = None,
) -> dict[str, int | None]:
    """For each planted bug the number of seeds until it was found; None: it was not.

    MutationError: a bug of the engine is for a text that is not there any more.
    """
    found: dict[str, int | None] = {}
    wanted = list(names)
    modes = sorted({mode_of(name) for name in wanted}, key=lambda mode: mode.value)
    for name in wanted:
        if name in EDITED:
            mutations.check(EDITED[name].edits)
    work = deque(_Try(name, first_seed) for name in wanted)
    for task, what in shared(_is_violated, work, jobs, prepare=partial(_load, *modes)):
        # Whatever hangs or kills the process is a violation, too.
        violated = what if isinstance(what, bool) else True
        if violated and task.planted:
            # A seed that fails without the bug has found another one.
            work.appendleft(task._replace(planted=False))
            continue
        number = task.seed - first_seed + 1
        if not task.planted and not violated:
            found[task.name] = number
        elif number < PLANTED_SEEDS_MAX:
            work.appendleft(_Try(task.name, task.seed + 1))
            continue
        else:
            found[task.name] = None
        if show is not None:
            show(task.name, found[task.name])
    _end_mutants("")
    return dict(sorted(found.items()))


class _Try(NamedTuple):
    """A seed, with a planted bug or without it."""

    name: str
    seed: int
    planted: bool = True


#: Of this process, by the bug: the one that it tried last.
_mutants: Final[dict[str, Mutant]] = {}


def _end_mutants(but: str) -> None:
    for name in [name for name in _mutants if name != but]:
        _mutants.pop(name).close()


def _has_mutant_found(name: str, seed: int) -> bool:
    _end_mutants(name)
    if name not in _mutants or not _mutants[name].alive:
        _end_mutants("")
        _mutants[name] = Mutant(name)
    return bool(_mutants[name].run(seed).problem)


def _is_violated(task: _Try) -> bool:
    if task.planted and task.name in EDITED:
        return _has_mutant_found(task.name, task.seed)
    planted = frozenset([task.name] if task.planted else ())
    return bool(run_seed(task.seed, planted=planted, mode=mode_of(task.name)).problem)


def mode_of(planted: str) -> Mode:
    """The mode that finds a planted bug soonest."""
    if planted in SHARDED:
        return Mode.SHARDS
    return Mode.CLIENTS if planted in SERVED else Mode.MODEL


_MODULES: Final = {
    Mode.CLIENTS: ("mako.sim.procedures",),
    Mode.SHARDS: ("mako.sim.shards.procedures", "mako.sim.shards.tpcc"),
}


def _load(*modes: Mode) -> None:
    """The first time the engine and procedures are compiled, which is no part of a seed."""
    if set(modes) <= {Mode.MODEL}:
        return
    from mako.engine.warmup import load, warmup

    warmup(lambda unit, done, total: None)
    for mode in modes:
        load(each.procedure for each in deploy(_MODULES.get(mode, ())).values())


def _run(mode: Mode, seed: int) -> Outcome:
    """One seed, with the garbage of the run collected once, at its end; what was there before,
    such as a compiler, is not looked at."""
    enabled = gc.isenabled()
    gc.disable()
    gc.freeze()
    try:
        return run_seed(seed, mode=mode)
    finally:
        gc.collect()
        gc.unfreeze()
        if enabled:
            gc.enable()
