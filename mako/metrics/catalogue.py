"""The metrics of a server. docs/metrics.md lists them; a test holds the two together.

`raft_*` has the names that users of other Raft databases know; the rest begins with `mako_`.
Times are in seconds, sizes in bytes, as Prometheus asks for.
"""

from typing import Final

from mako.metrics.registry import Registry

#: The value of raft_role.
ROLE_NUMBERS: Final = {
    "follower": 0,
    "pre-candidate": 1,
    "candidate": 2,
    "leader": 3,
    "learner": 4,
    "starting": 5,
}
#: From a fast SSD's 50 µs to a disk that makes its leader resign.
FSYNC_BOUNDS: Final = (
    0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0,
)  # fmt: skip

_REPLICA: Final = ("partition", "node")


class ServerMetrics:
    """A registry with every family of a server as an attribute."""

    def __init__(self) -> None:
        self.registry = Registry()
        self._declare_raft(self.registry)
        self._declare_partition(self.registry)
        self._declare_others(self.registry)
        self._declare_process(self.registry)

    def _declare_raft(self, new: Registry) -> None:
        roles = ", ".join(f"{number} {role}" for role, number in ROLE_NUMBERS.items())
        self.role = new.gauge("raft_role", f"Role of the replica: {roles}.", _REPLICA)
        self.term = new.gauge("raft_term", "Term of the replica.", _REPLICA)
        self.commit_index = new.gauge(
            "raft_commit_index", "Index of the last entry known to be committed.", _REPLICA
        )
        self.last_applied = new.gauge(
            "raft_last_applied", "Index of the last entry applied here.", _REPLICA
        )
        self.log_size = new.gauge("raft_log_size", "Entries in the log here.", _REPLICA)
        self.elections = new.counter(
            "raft_elections_total", "Times that the replica stood for election.", _REPLICA
        )
        self.replication_failures = new.counter(
            "raft_replication_failures_total",
            "Times that this replica learned, as the leader, that a peer was out of reach.",
            (*_REPLICA, "peer"),
        )

    def _declare_partition(self, new: Registry) -> None:
        self.epoch = new.gauge("mako_epoch", "Epoch of the partition, as applied here.", _REPLICA)
        self.watermark = new.gauge(
            "mako_watermark_seconds",
            "Time of the watermark, since the Unix epoch: what is older is durable.",
            _REPLICA,
        )
        self.watermark_lag = new.gauge(
            "mako_watermark_lag_seconds", "The present less the watermark.", _REPLICA
        )
        self.closed = new.gauge(
            "mako_closed_timestamp_seconds",
            "Time of the closed timestamp, since the Unix epoch: nothing older can still begin.",
            _REPLICA,
        )
        self.transactions = new.counter(
            "mako_transactions_total",
            "Attempts of transactions here by how they ended.",
            (*_REPLICA, "outcome"),
        )
        self.memory = new.gauge("mako_memory_bytes", "Memory that the data takes up.", _REPLICA)
        self.memory_limit = new.gauge(
            "mako_memory_limit_bytes", "Memory that the data may take up.", _REPLICA
        )
        self.snapshot_index = new.gauge(
            "mako_snapshot_index", "Index that the newest snapshot on disk covers.", _REPLICA
        )
        self.snapshot_bytes = new.gauge(
            "mako_snapshot_bytes", "Size of the newest snapshot on disk.", _REPLICA
        )
        self.worker_cpu = new.counter(
            "mako_worker_cpu_seconds_total",
            "Processor time of a worker thread; workers run while the replica leads.",
            (*_REPLICA, "worker"),
        )

    def _declare_others(self, new: Registry) -> None:
        self.distributed = new.counter(
            "mako_distributed_total",
            "What the leader here did for transactions over partitions: committed, raised (with a"
            " second round), refused (attempts that another partition refused), parked (waited for"
            " a prepared lock), local_parked (of them those that touched no other partition),"
            " inherited (committed with partitions in the mask that took no part), local_inherited"
            " (the same of those that touched no other partition), reads (rows read for others),"
            " waits (a message waited for room), unavailable (ended, as a partition was out of"
            " reach), stalled (ended, as they read or overwrote what waits for a partition that"
            " makes nothing durable), apart (refused, as a timestamp was too far ahead of the"
            " time), turned_away (requests that were told to come back, as no lane was free),"
            " gave_way (transactions that were run again, or ended, as other partitions had waited"
            " for their worker for half a second).",
            (*_REPLICA, "what"),
        )
        self.conflicts = new.counter(
            "mako_distributed_conflicts_total",
            "Of mako_transactions_total: attempts of transactions over partitions that others were"
            " in the way of, where they began (part coordinator) and elsewhere (participant).",
            (*_REPLICA, "outcome", "part"),
        )
        self.waiting_for = new.gauge(
            "mako_waiting_for",
            "Transactions here that hold something until another partition answers.",
            (*_REPLICA, "other"),
        )
        self.undurable = new.gauge(
            "mako_waiting_for_watermark",
            "Transactions here that are not durable before the watermark of a partition has passed"
            " them; of the oldest 5000.",
            (*_REPLICA, "other"),
        )
        self.reachable = new.gauge(
            "mako_partition_reachable",
            "Of a leader: 1 while the leader of another partition answers.",
            (*_REPLICA, "other"),
        )
        self.set_aside = new.gauge(
            "mako_results_set_aside",
            "Results that wait for another partition which makes nothing durable.",
            (*_REPLICA, "other"),
        )
        self.given_up = new.counter(
            "mako_epochs_given_up_total",
            "Times that the leader here gave its epoch up, as another partition did not answer.",
            _REPLICA,
        )
        self.discarded = new.counter(
            "mako_discarded_versions_total",
            "Versions that were taken back here, by the partition whose epoch it was.",
            (*_REPLICA, "cause"),
        )
        self.recovered = new.gauge(
            "mako_recovery_discarded_versions",
            "Versions that were taken back here for an epoch of a partition; of the last 16 epochs"
            " that this replica has taken in.",
            (*_REPLICA, "cause", "epoch"),
        )
        self.judged = new.counter(
            "mako_judged_results_total",
            "Results that waited when an epoch ended: durable, discarded or unknown; in both of the"
            " first two what is durable here and then discarded with another partition.",
            (*_REPLICA, "fate"),
        )

    def _declare_process(self, new: Registry) -> None:
        self.info = new.gauge(
            "mako_info", "Always 1; what runs here.", ("process", "cluster", "version")
        )
        self.uptime = new.gauge("mako_uptime_seconds", "Since the process started.")
        self.process_cpu = new.counter(
            "mako_process_cpu_seconds_total", "Processor time of the process, all its threads."
        )
        self.connections = new.gauge("mako_client_connections", "Clients that are connected.")
        self.log_bytes = new.gauge(
            "mako_log_bytes", "Size of the log, which all replicas of the process share."
        )
        self.log_full = new.gauge(
            "mako_log_full", "1 while the disk has no room and growth is refused."
        )
        self.fsync = new.histogram(
            "mako_fsync_seconds",
            "From the moment a turn is handed to the disk until it is durable.",
            FSYNC_BOUNDS,
        )
        peer = ("peer",)
        self.peer_connected = new.gauge("mako_peer_connected", "1 while it is connected.", peer)
        self.queue_bytes = new.gauge(
            "mako_peer_queue_bytes", "Bytes that wait to be sent to the process.", peer
        )
        self.sent_bytes = new.counter(
            "mako_peer_sent_bytes_total", "Bytes sent to the process.", peer
        )
        self.received_bytes = new.counter(
            "mako_peer_received_bytes_total", "Bytes received from the process.", peer
        )
        self.dropped_messages = new.counter(
            "mako_peer_dropped_messages_total",
            "Messages not sent: no connection, a full queue, too large. Raft repeats itself.",
            peer,
        )
