"""The simulator finds bugs that were planted for it. All of them: `mako sim planted`."""

import pytest

from mako.sim.batch import PLANTED, SERVED, SHARDED, find_planted, mode_of
from mako.sim.cluster import Mode, run_seed
from mako.sim.shards.planted import EDITED

#: Found within a few seeds, so that continuous integration can afford them.
QUICK = {
    "acknowledged_when_proposed": 5,
    "append_acknowledged_before_sync": 5,
    "append_truncates_without_comparing": 5,
    "hard_state_not_written": 5,
    "no_sync_before_ack": 5,
    "read_served_before_applied": 5,
    "sent_before_sync": 5,
    "speculation_kept": 5,
    "undurable_tail_believed": 15,
    "vote_not_persisted": 5,
    "vote_without_log_check": 5,
}


#: The same with servers and clients.
QUICK_SERVED = {
    "clock_read_after_floors": 8,
    "closed_after_draining": 4,
    "deposed_leader_keeps_versions": 4,
    "replay_ignores_timestamp_order": 4,
}


#: The seed to begin with, where it is not 1.
FIRST_SERVED = {"deposed_leader_keeps_versions": 3}


#: The same with several partitions, and the seed to begin with: one that finds it soon.
QUICK_SHARDED = {
    "acknowledged_by_own_watermark": 6,
    "discard_not_logged": 8,
    "lost_results_kept": 6,
    "snapshot_said_to_be_new": 9,
}


def test_the_quick_ones_are_planted_bugs() -> None:
    assert QUICK_SHARDED.keys() <= SHARDED.keys() - EDITED.keys()
    assert QUICK.keys() <= PLANTED.keys() - SERVED.keys()
    assert QUICK_SERVED.keys() <= SERVED.keys()
    assert len(PLANTED) - len(SERVED) >= 12
    assert len(SERVED) >= 8
    assert len(SHARDED) >= 12
    assert {mode_of(name) for name in SHARDED} == {Mode.SHARDS}


@pytest.mark.parametrize("name", sorted(QUICK))
def test_a_planted_bug_is_found(name: str) -> None:
    problems = (
        run_seed(seed, planted=frozenset([name])).problem for seed in range(1, QUICK[name] + 1)
    )
    assert any(problems), f"{name} was not found in {QUICK[name]} seeds"


@pytest.mark.parametrize("name", sorted(QUICK_SERVED))
def test_a_bug_that_was_planted_in_a_served_group_is_found(name: str) -> None:
    planted = frozenset([name])
    first = FIRST_SERVED.get(name, 1)
    seeds = range(first, first + QUICK_SERVED[name])
    problems = (run_seed(seed, planted=planted, mode=Mode.CLIENTS).problem for seed in seeds)
    assert any(problems), f"{name} was not found in {QUICK_SERVED[name]} seeds"


@pytest.mark.parametrize("name", sorted(QUICK_SHARDED))
def test_a_bug_of_transactions_over_partitions_is_found(name: str) -> None:
    planted = frozenset([name])
    first = QUICK_SHARDED[name]
    seeds = range(first, first + 4)
    problems = (run_seed(seed, planted=planted, mode=Mode.SHARDS).problem for seed in seeds)
    assert any(problems), f"{name} was not found in {seeds}"


#: The same in the engine, and the seed to begin with: the one before takes a minute.
QUICK_ENGINE = {
    "closed_before_installed": 1,
    "mask_not_inherited_on_overwrite": 1,
    "mask_not_inherited_on_update": 3,
    "validated_again_only_by_who_asked": 7,
}


@pytest.mark.parametrize("name", sorted(QUICK_ENGINE))
def test_a_bug_of_the_engine_is_found_in_a_process_of_its_own(name: str) -> None:
    seeds = find_planted([name], first_seed=QUICK_ENGINE[name])[name]
    assert seeds is not None
    assert seeds <= 4


def test_planted_bugs_do_not_change_the_plan_of_a_seed() -> None:
    clean = run_seed(2)
    # Of a part that this seed does not reach: nothing may differ.
    same = run_seed(2, planted=frozenset(["snapshot_over_uncommitted_prefix"]))
    assert same.digest == clean.digest
