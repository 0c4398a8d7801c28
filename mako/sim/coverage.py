"""Situations that a run has been in: what was never reached was never tested."""

from collections import Counter
from typing import Final

#: A checker gave up. A seed with it does not count, for it might be wrong.
GAVE_UP: Final = "check_gave_up"

#: What a batch of BATCH_SEEDS_MIN seeds must have reached.
REQUIRED: Final = frozenset(
    {
        "committed_by_other_leader",
        "disk_full_refused",
        "disk_full_waited",
        "ended_in_order",
        "failed_sync",
        "failed_write",
        "hung_disk_resigned",
        "joint_left",
        "leader_changed",
        "learner_promoted",
        "log_truncated",
        "machine_survived_failed_sync",
        "old_segment_cut",
        "power_cut_before_sync",
        "power_cut_before_write",
        "power_cut_in_recovery",
        "pre_vote_refused",
        "process_ended_by_disk",
        "read_index_retried",
        "replica_fenced",
        "returned_after_wipe",
        "snapshot_during_conf_change",
        "snapshot_installed",
        "snapshot_resumed",
        "speculation_taken_back",
        "torn_tail_repaired",
        "transfer_done",
    }
)
#: The same of a batch with servers and clients, whose workers wait while the disk is full.
REQUIRED_SERVED: Final = REQUIRED - {
    "disk_full_refused",
    "read_index_retried",
    "speculation_taken_back",
} | {
    "answered_early",
    "asked_again",
    "early_result_discarded",
    "ended_Conflict",
    "ended_Unknown",
    "judged_discarded",
    "judged_durable",
    "judged_unknown",
    "request_pending",
    "silent_server_left",
    "snapshot_served",
    "speculation_discarded",
    "stopped_in_a_commit",
    "worked_between_closing_and_draining",
}
#: The same of a batch with several partitions.
REQUIRED_SHARDED: Final = REQUIRED_SERVED - {
    "stopped_in_a_commit",
} | {
    "clock_beyond_offset",
    "by_hand_in_a_session",
    "discarded_for_another_partition",
    "ended_Unavailable",
    "gathered",
    "history_lost",
    "mail_of_older_epoch",
    "mask_bit_dropped",
    "moment_of_one",
    "moment_over_several",
    "said_yes_twice",
    "several_epochs_missed",
    "snapshot_left_a_partition_out",
    "snapshot_refused_a_row",
    "undone_for_others",
}
BATCH_SEEDS_MIN: Final = 500


class Coverage(Counter[str]):
    """How often each situation was reached."""

    def missing(self, required: frozenset[str] = REQUIRED) -> list[str]:
        return sorted(required - self.keys())
