"""Explore scenarios by hand, and replay what failed.

    NUMBA_DISABLE_JIT=1 python -m tests.interpreted.explore                    all, some seeds each
    NUMBA_DISABLE_JIT=1 python -m tests.interpreted.explore mix prune --seeds 5000
    NUMBA_DISABLE_JIT=1 python -m tests.interpreted.explore mix --seed 17      that one again
    NUMBA_DISABLE_JIT=1 python -m tests.interpreted.explore mix --seed 17 --switches 3:1,40:0
    NUMBA_DISABLE_JIT=1 python -m tests.interpreted.explore write-skew --all   every schedule

A seed determines the program, where it has random parts, and the schedule. `--switches` gives
the schedule instead (`tests.interpreted.loom`); after a failure a shorter one is looked for.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Self

from mako.ids import Outcome
from tests.interpreted import checks
from tests.interpreted.instruments import explored, log_kept
from tests.interpreted.loom import (
    Diverged,
    Livelock,
    Replay,
    Run,
    Scheduler,
    Strategy,
    Switch,
    exhaust,
    format_switches,
    parse_switches,
    strategy_of,
)
from tests.interpreted.scenarios import SCENARIOS, Scenario
from tests.interpreted.world import World

#: Of one schedule; it takes milliseconds.
CPU_SECONDS_MAX = 10.0
_REPLAY = "NUMBA_DISABLE_JIT=1 python -m tests.interpreted.explore"


class Failed(AssertionError):
    """A schedule after which something does not hold; the message replays it."""

    def __init__(self, scenario: str, seed: int, run: Run, cause: BaseException) -> None:
        self.seed = seed
        self.run = run
        what = f"{type(cause).__name__}: {cause}"
        again = f"{_REPLAY} {scenario} --seed {seed} --switches {format_switches(run.switches)}"
        super().__init__(f"{what}\n  replay with  {again}")


class Stage:
    """A scenario with its world; schedules are played on it one after the other."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self._points = 0  # of an undisturbed run: among them priorities change
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        scenario = self.scenario
        self._undo.enter_context(
            explored(
                fanout=scenario.fanout, spin_max=scenario.spin_max, kept_bytes=scenario.kept_bytes
            )
        )
        self.world = World(
            scenario.kind,
            impatient=scenario.spin_max is not None,
            replicated=scenario.replicated,
        )
        self._undo.callback(self.world.close)
        self._undo.enter_context(log_kept(self.world))
        scenario.fill(self.world)
        self.world.save()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def play(self, seed: int, strategy: Strategy | None = None) -> Run:
        """Run the program of `seed` under its strategy, or under the given one, and check."""
        rng = random.Random(seed)
        program, drawn = random.Random(rng.random()), random.Random(rng.random())
        if strategy is None and self._points == 0:
            self.play_quietly(0)
        self.world.restore()
        tasks = self.scenario.tasks(self.world, program)
        if strategy is None:
            strategy = strategy_of(drawn, len(tasks), self._points)
        scheduler = Scheduler(strategy)
        # Freed memory may have links in a circle. Only `main` makes a failure of this signal.
        signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS_MAX)
        try:
            run = scheduler.execute(tasks)
            self.check()
        except Diverged:
            raise
        except Exception as error:
            raise Failed(self.scenario.name, seed, scheduler.run, error) from error
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        return run

    def play_quietly(self, seed: int) -> Run:
        """Run the tasks one after the other; where that is promised, nothing aborts."""
        run = self.play(seed, Replay())
        if seed == 0:
            self._points = max(run.points, 1)
        if self.scenario.quiet:
            aborted = [a for a in self.world.history if a.outcome is not Outcome.COMMITTED]
            if aborted:
                cause = AssertionError(f"nobody interferes, and yet {aborted[0]} is aborted")
                raise Failed(self.scenario.name, seed, run, cause)
        return run

    def play_seeds(self, seeds: Sequence[int]) -> None:
        for seed in seeds:
            self.play(seed)

    def play_all(self, seed: int, preemptions: int) -> int:
        """Every schedule with at most so many preemptions; how many there are."""
        return sum(
            1
            for _ in exhaust(
                lambda switches: self.play(seed, Replay(switches)), preemptions=preemptions
            )
        )

    def shorten(self, failed: Failed) -> Failed:
        """Leave out switches as long as it still fails."""
        best = failed
        again = True
        while again:
            again = False
            for i in range(len(best.run.switches)):
                fewer: list[Switch] = best.run.switches[:i] + best.run.switches[i + 1 :]
                try:
                    self.play(failed.seed, Replay(fewer))
                except Diverged:
                    continue
                except Failed as shorter:
                    if len(shorter.run.switches) < len(best.run.switches):
                        best = shorter
                        again = True
                        break
        return best

    def check(self) -> None:
        """Everything of `checks`; then the world is at rest."""
        world = self.world
        checks.check_tree(world, self.scenario.fanout, empty_leaves=True)
        world.turn()
        checks.check_history(world)
        rows = world.contents()
        checks.quiesce(world)
        tree = checks.check_tree(world, self.scenario.fanout, empty_leaves=world.impatient)
        checks.check_memory(world, tree)
        assert world.contents() == rows, "reclaiming changes no row"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("scenario", nargs="*", default=list(SCENARIOS), help="its name")
    parser.add_argument("--seeds", type=int, default=200, help="how many schedules of each")
    parser.add_argument("--first", type=int, default=0, help="the first of the seeds")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--switches", help="the schedule, as a failure printed it")
    parser.add_argument("--first-failure", action="store_true", help="end with it, as it is")
    parser.add_argument("--all", action="store_true", help="every schedule, where it is feasible")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGVTALRM, _give_up)
    failures = 0
    for name in given.scenario:
        started = time.monotonic()
        with Stage(SCENARIOS[name]) as stage:
            try:
                said = _explore(stage, given)
            except Failed as failed:
                failures += 1
                said = str(failed if given.first_failure else stage.shorten(failed))
        sys.stdout.write(f"{name}: {said} ({time.monotonic() - started:.1f} s)\n")
        if failures and given.first_failure:
            break
    return 1 if failures else 0


def _give_up(*_: object) -> None:
    raise Livelock("a loop without atomics does not end")


def _explore(stage: Stage, given: Any) -> str:
    if given.all:
        preemptions = stage.scenario.preemptions
        if preemptions is None:
            return "too many schedules to try all"
        return f"{stage.play_all(0, preemptions)} schedules, all with {preemptions} preemptions"
    if given.seed is not None:
        switches = None if given.switches is None else Replay(parse_switches(given.switches))
        run = stage.play(given.seed, switches)
        return f"seed {given.seed}: {run.points} points, {len(run.switches)} switches"
    stage.play_seeds(range(given.first, given.first + given.seeds))
    return f"{given.seeds} seeds"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
