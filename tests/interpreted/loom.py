"""A scheduler that explores how workers interleave, one atomic operation at a time.

Tasks are Python functions that run engine code, each in a greenlet. Only one runs at a time, and
the interpreted engine calls the scheduler before each atomic operation: there, at a pause and
at the end of a task it decides who goes on. So a run is determined by its decisions, and any
run can be had again. (The idea is that of loom for Rust; random priorities with few changes are
"probabilistic concurrency testing", PCT.)

    point       a place where somebody else may go on; points are numbered from 0
    candidates  who may go on there; the first is who goes on if nobody interferes
    switch      (point, task): at that point another than the first candidate went on
    schedule    the switches of a run, which determine it

At an atomic operation the task itself is the first candidate, and anybody else a preemption. At
a pause the task waits for somebody else, so it is no candidate unless it is alone: a spin lets
those progress that it waits for. A run of more than `points_max` points is a livelock.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import greenlet

from mako.engine.interpreted import set_switch

Task = Callable[[], None]
Switch = tuple[int, int]
POINTS_MAX: Final = 40_000


class Livelock(AssertionError):
    """The tasks do not come to an end."""


class Diverged(AssertionError):
    """A schedule names a task that cannot go on at that point: it is of another program."""


class Strategy(Protocol):
    """Decides who goes on."""

    def pick(self, point: int, candidates: Sequence[int], *, forced: bool) -> int:
        """One of `candidates`. `forced`: the task that ran cannot or should not go on."""


class Replay:
    """A given schedule."""

    def __init__(self, switches: Sequence[Switch] = ()) -> None:
        self._switches = dict(switches)

    def pick(self, point: int, candidates: Sequence[int], *, forced: bool) -> int:
        chosen = self._switches.get(point, candidates[0])
        if chosen not in candidates:
            raise Diverged(f"at point {point} task {chosen} is not among {list(candidates)}")
        return chosen


class Bursts:
    """At each point anybody, with a given probability."""

    def __init__(self, rng: random.Random, probability: float) -> None:
        self._rng = rng
        self._probability = probability

    def pick(self, point: int, candidates: Sequence[int], *, forced: bool) -> int:
        if forced or self._rng.random() < self._probability:
            return self._rng.choice(candidates)
        return candidates[0]


class Priorities:
    """The task of the highest priority; at a few points it becomes the lowest (PCT).

    A bug that needs d switches in the right places is found with a probability of at least
    1 / (tasks * points^d), however many points there are in between.
    """

    def __init__(self, rng: random.Random, tasks: int, points: int, changes: int) -> None:
        self._ranks = rng.sample(range(tasks), tasks)
        self._changes = {rng.randrange(max(points, 1)) for _ in range(changes)}
        self._lowest = 0
        self._running = -1

    def pick(self, point: int, candidates: Sequence[int], *, forced: bool) -> int:
        if point in self._changes or (forced and self._running >= 0):
            self._lowest -= 1
            self._ranks[self._running] = self._lowest
        self._running = max(candidates, key=lambda task: self._ranks[task])
        return self._running


def strategy_of(rng: random.Random, tasks: int, points: int) -> Strategy:
    """A strategy drawn at random, for a program of about `points` points."""
    if rng.random() < 0.6:
        return Priorities(rng, tasks, points, rng.randint(1, 4))
    return Bursts(rng, rng.choice((0.02, 0.05, 0.1, 0.3)))


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a run where there was a choice."""

    number: int
    candidates: tuple[int, ...]
    forced: bool


@dataclass(slots=True)
class Run:
    """What was decided in a run."""

    switches: list[Switch] = field(default_factory=list)
    choices: list[Point] = field(default_factory=list)
    points: int = 0


class Scheduler:
    """Runs tasks to their ends under a strategy."""

    def __init__(self, strategy: Strategy, *, points_max: int = POINTS_MAX) -> None:
        self.run = Run()
        self._strategy = strategy
        self._points_max = points_max
        self._greenlets: list[Any] = []
        self._alive: list[int] = []
        self._current = -1

    def execute(self, tasks: Sequence[Task]) -> Run:
        """Run all tasks; what one of them raises ends the run and is raised here."""
        self._greenlets = [greenlet.greenlet(task) for task in tasks]
        self._alive = list(range(len(tasks)))
        set_switch(self._at_atomic)
        try:
            while self._alive:
                self._current = self._pick(self._alive, forced=True)
                # It comes back here when any of the tasks has ended.
                self._greenlets[self._current].switch()
                self._alive = [task for task in self._alive if not self._greenlets[task].dead]
        finally:
            set_switch(None)
            for each in self._greenlets:
                if not each.dead:
                    each.throw()
        return self.run

    def _at_atomic(self, name: str) -> None:
        current = self._current
        others = [task for task in self._alive if task != current]
        if name == "pause" and others:
            # Round robin unless the strategy knows better.
            candidates = [t for t in others if t > current] + [t for t in others if t < current]
            chosen = self._pick(candidates, forced=True)
        else:
            chosen = self._pick([current, *others], forced=False)
        if chosen != current:
            self._current = chosen
            self._greenlets[chosen].switch()

    def _pick(self, candidates: Sequence[int], *, forced: bool) -> int:
        run = self.run
        point = run.points
        run.points += 1
        if point >= self._points_max:
            raise Livelock(f"the tasks have not ended after {point} points")
        chosen = self._strategy.pick(point, candidates, forced=forced)
        if len(candidates) > 1:
            run.choices.append(Point(point, tuple(candidates), forced))
            if chosen != candidates[0]:
                run.switches.append((point, chosen))
        return chosen


def exhaust(
    execute: Callable[[Sequence[Switch]], Run], *, preemptions: int
) -> Iterator[tuple[Switch, ...]]:
    """Run every schedule with at most so many preemptions, each once, depth first.

    `execute` runs one schedule; each is yielded after it was run.
    """
    waiting: list[tuple[tuple[Switch, ...], int]] = [((), 0)]
    while waiting:
        switches, used = waiting.pop()
        run = execute(switches)
        yield switches
        last = switches[-1][0] if switches else -1
        for choice in run.choices:
            cost = used + (not choice.forced)
            if choice.number > last and cost <= preemptions:
                waiting.extend(
                    ((*switches, (choice.number, other)), cost) for other in choice.candidates[1:]
                )


def format_switches(switches: Sequence[Switch]) -> str:
    """As the command line takes them: `3:1,17:0`; `none` for no switch."""
    return ",".join(f"{point}:{task}" for point, task in switches) or "none"


def parse_switches(text: str) -> list[Switch]:
    pairs = [] if text == "none" else text.split(",")
    return [(int(point), int(task)) for point, _, task in (pair.partition(":") for pair in pairs)]
