"""`mako sim`: simulate whole clusters under faults, many seeds or one; `mako sim planted`.

    mako sim --seeds 500                many seeds, on all cores; one line with totals at the end
    mako sim --seed 17 --trace          one seed again, with what happened in it
    mako sim --seeds 500 --model        with lists in plain Python instead of the engine
    mako sim --seeds 500 --clients      with servers, and remote clients connected to them
    mako sim --seeds 500 --shards       with servers of several partitions, transactions over them
    mako sim planted                    whether the simulator finds the bugs planted for it
    mako sim check FILE                 whether a recorded history can be: see mako.cli.check

Exit status 1: a rule was violated, a planted bug was not found, or no seed counts. Progress goes to
standard error, and so do each seed that fails and each planted bug that is found, at once. A batch
that is interrupted prints its totals so far, and ends with 130.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from mako.cli.check import check
from mako.cli.options import text_or_json

if TYPE_CHECKING:
    from mako.sim.batch import Summary
    from mako.sim.cluster import Mode, Outcome

#: Between two lines of progress in a pipe.
_SAY_SECONDS: Final = 60.0

_jobs = click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=None,
    help="Processes that share the work.  [default: one per core]",
)


@click.group(invoke_without_command=True)
@click.option("--seeds", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--first-seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=None, help="Only this one.")
@click.option("--trace", is_flag=True, help="With --seed: print what happens.")
@click.option(
    "--model", is_flag=True, help="With lists in plain Python as state machine, not the engine."
)
@click.option(
    "--clients", is_flag=True, help="With servers, and remote clients that call procedures."
)
@click.option(
    "--shards", is_flag=True, help="The same with several partitions, and transactions over them."
)
@_jobs
@text_or_json
@click.pass_context
def sim(
    ctx: click.Context,
    seeds: int,
    first_seed: int,
    seed: int | None,
    jobs: int | None,
    output: str,
    *,
    trace: bool,
    model: bool,
    clients: bool,
    shards: bool,
) -> None:
    """Simulate clusters under faults, and check that nothing acknowledged is lost."""
    if ctx.invoked_subcommand is not None:
        return
    mode = _mode(model=model, clients=clients, shards=shards)
    if seed is not None:
        _one(ctx, seed, output, trace=trace, mode=mode)
        return
    if trace:
        raise click.UsageError("--trace needs --seed")
    from mako.sim.batch import run_batch
    from mako.sim.cluster import Mode

    with _progress(seeds, "seeds") as step:
        summary = run_batch(first_seed, seeds, jobs=_jobs_or_cores(jobs), mode=mode, show=step)
    if output == "json":
        click.echo(json.dumps(summary.as_dict()))
    else:
        for number, problem in summary.violations:
            click.echo(f"seed {number}: {problem}")
            option = "" if mode is Mode.ENGINE else f" --{mode.value}"
            click.echo(f"  replay it: mako sim --seed {number} --trace{option}")
        if summary.missing():
            click.echo(f"never reached: {', '.join(summary.missing())}")
        if not summary.counted:
            click.echo("no seed counts: none proves anything; try more of them")
        if summary.interrupted:
            click.echo(f"interrupted after {summary.seeds} of {seeds} seeds")
        click.echo(format_summary(summary))
    if summary.interrupted and not summary.violations:
        ctx.exit(130)
    if summary.violations or summary.missing() or not summary.counted:
        ctx.exit(1)


sim.add_command(check)


@sim.command()
@click.argument("names", nargs=-1)
@click.option("--first-seed", type=click.IntRange(min=0), default=1, show_default=True)
@_jobs
@text_or_json
@click.pass_context
def planted(
    ctx: click.Context, names: tuple[str, ...], first_seed: int, jobs: int | None, output: str
) -> None:
    """Switch on one planted bug after the other, and count the seeds until it is found.

    Bugs below the engine are looked for as with `mako sim --model`, which is faster; those of
    servers, and of leaders with workers, as with `--clients`; those of transactions over
    partitions, as with `--shards`.
    """
    from mako.sim.batch import PLANTED, PLANTED_SEEDS_MAX, find_planted

    if unknown := [name for name in names if name not in PLANTED]:
        raise click.UsageError(f"there is no planted bug {unknown[0]!r}")
    wanted = names or tuple(sorted(PLANTED))
    with _progress(len(wanted), "bugs") as step:
        found = find_planted(wanted, first_seed=first_seed, jobs=_jobs_or_cores(jobs), show=step)
    if output == "json":
        bugs = [{"name": name, "seeds": seeds} for name, seeds in found.items()]
        click.echo(json.dumps({"bugs": bugs}))
    else:
        for name, seeds in found.items():
            text = f"not found in {PLANTED_SEEDS_MAX}"
            if seeds is not None:
                text = f"seed {first_seed + seeds - 1}"
            click.echo(f"{name:<40}  {text:<16}  {PLANTED[name]}")
    if None in found.values():
        ctx.exit(1)


def _one(ctx: click.Context, seed: int, output: str, *, trace: bool, mode: "Mode") -> None:
    from mako.sim.cluster import Trace, run_seed

    def show(now: int, process: int, what: str, detail: str) -> None:
        where = f"p{process}" if process else "  "
        click.echo(f"{now / 1e9:10.6f}  {where:<3} {what:<12} {detail}")

    shown: Trace | None = show if trace else None
    outcome = run_seed(seed, trace=shown, mode=mode)
    if output == "json":
        click.echo(json.dumps(_outcome_dict(outcome)))
    else:
        text = "counts" if outcome.counts else "does not count"
        clean = "unknown, for a check gave up" if outcome.gave_up else "clean"
        click.echo(
            f"seed {seed}: {outcome.problem or clean}; {outcome.acknowledged} acknowledged,"
            f" {outcome.faults.total()} faults, {outcome.leader_changes} leader changes in"
            f" {outcome.virtual_ns / 1e9:.1f} virtual s ({text}), digest {outcome.digest:08x}"
        )
    if outcome.problem or outcome.gave_up:
        ctx.exit(1)


def _mode(*, model: bool, clients: bool, shards: bool) -> "Mode":
    from mako.sim.cluster import Mode

    if model and (clients or shards):
        raise click.UsageError("clients need the engine; give --model, or --clients or --shards")
    if clients and shards:
        raise click.UsageError("partitions have clients anyway; give --clients or --shards")
    if model:
        return Mode.MODEL
    if shards:
        return Mode.SHARDS
    return Mode.CLIENTS if clients else Mode.ENGINE


def _outcome_dict(outcome: "Outcome") -> dict[str, Any]:
    return {
        "seed": outcome.seed,
        "problem": outcome.problem,
        "counts": outcome.counts,
        "gave_up": outcome.gave_up,
        "acknowledged": outcome.acknowledged,
        "reads": outcome.reads,
        "leader_changes": outcome.leader_changes,
        "virtual_seconds": outcome.virtual_ns / 1e9,
        "digest": f"{outcome.digest:08x}",
        "faults": dict(sorted(outcome.faults.items())),
        "situations": dict(sorted(outcome.coverage.items())),
    }


def format_summary(summary: "Summary") -> str:
    """The one line at the end."""
    faults = ", ".join(f"{name} {count}" for name, count in sorted(summary.faults.items()))
    situations = sum(1 for name in summary.coverage if not name.startswith("packet "))
    rate = summary.counted * 60 / max(summary.seconds, 1e-9)
    gave_up = f" checks gave up in {summary.gave_up}," if summary.gave_up else ""
    return (
        f"{summary.seeds} seeds, {summary.counted} counted ({rate:.0f}/min),{gave_up}"
        f" {len(summary.violations)} violations: {summary.acknowledged} acknowledged"
        f" transactions, {summary.reads} reads, {summary.leader_changes} leader changes,"
        f" {summary.faults.total()} faults ({faults}), {situations} situations reached,"
        f" {summary.virtual_ns / 1e9:.0f} virtual s in {summary.seconds:.1f} s"
    )


def _jobs_or_cores(jobs: int | None) -> int:
    return jobs or len(os.sched_getaffinity(0))


@contextmanager
def _progress(total: int, unit: str) -> Iterator[Any]:
    """A function to call for each step. On standard error there is a bar where that is a terminal,
    or else a line now and then, and what is bad as soon as it is found."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (
        TextColumn(unit),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[bad]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(unit, total=total, bad="")
        done = bad = 0
        said = began = time.monotonic()

        def step(first: Any, second: Any = 0) -> None:
            nonlocal done, bad, said
            done += 1
            if problem := getattr(first, "problem", ""):
                bad += 1
                say(f"seed {first.seed}: {problem}")
            elif second is None:
                bad += 1
                say(f"not found: {first}")
            elif isinstance(first, str):
                say(f"found in {second} seeds: {first}")
            progress.update(task, advance=1, bad=f"{bad} bad" if bad else "")
            now = time.monotonic()
            if not console.is_terminal and now - said >= _SAY_SECONDS:
                said = now
                rate = 60 * done / (now - began)
                say(f"{done} of {total} {unit}, {bad} bad, {rate:.0f} a minute")

        def say(text: str) -> None:
            progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

        yield step
