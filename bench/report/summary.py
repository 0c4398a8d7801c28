"""summary.json and intervals.jsonl.

    result              PASS, FAIL, UNCHECKED with --no-check, or INTERRUPTED: nothing failed, but
                        not all conditions were evaluated
    phase               measure; warmup if the run ended before the measurement: then all figures
                        are of the warm-up
    seconds             measured, without the warm-up; less than asked for if the run ended early
    txn_per_s           completed transactions of all types, designed rollbacks included
    tpmC                completed new orders per minute, unaudited (clause 5.4.2); of a scale
                        other than spec it is new_orders_per_minute, which compares with nothing
    types, all          per type, and all together: count, rolled_back, per_s, p50_us … max_us
    durable_…           the same per type until it was durable, of a replicated database: per
                        second, and percentiles from its begin
    aborts, abort_pct   attempts lost and retried, by reason; their share of all attempts. null, as
                        parked and inherited: those who count them were not seen
    local, cross_shard  of several partitions: transactions with rows in one, and in several:
                        as a type; aborts and abort_pct of their own attempts; endings; how often
                        one was parked, as it waited for a prepared lock, which is no abort; how
                        many inherited: depended on a partition that took no part in them
    log_bytes_per_txn   per transaction that wrote
    memory_bytes        in use at the end; loaded.memory_bytes right after the load, and
                        loaded.memory_per_data that divided by key_bytes + row_bytes
    watermark           the closed timestamp at the end
    watermark_lag_ms    how far it is behind the clock: mean; _p50, _p99, _max
    consistency, audit  clause to PASS, FAIL or SKIP; property to value, bounds and status
    clients             with --clients: terminals that asked a cluster; connections they shared
    endings             what they were told that is no result: retried, unknown, discarded, …
    cluster             of a run with -f: replication bytes (all that processes sent each other)
                        per second and transaction; per process role, processor seconds, those of
                        its workers, bytes sent; leaders: who led from when on, t as below; of
                        several partitions distributed: what leaders did for transactions over them,
                        in the words of mako_distributed_total; cascades: versions of a partition
                        that were taken back because of another one, the cause
    stopped             why the run ended early, "" if it did not; interrupted: by the user
    notes               what has to be known of the figures, as the table says it

A line of intervals.jsonl is one second: `t` is when it ended, from the start of the measurement
(so not positive in the warm-up), and the other fields are those of that second. Of a cluster it
has replication_bytes_per_s, leaders by partition, and cores: processor seconds per second.

Latencies are in microseconds, sizes in bytes, percentages from 0 to 100. A value that does not
exist or is not finite, as the latency of a type that never ran, is null.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, Final

from bench.cluster.model import ProcessUse, Stretch
from bench.report.model import RunReport, Setting
from bench.stats import Interval, KindStats, Side
from bench.workload import AuditResult

#: Raised when a field changes its meaning or goes away, not when one is added.
SCHEMA: Final = 1


def summary(report: RunReport) -> dict[str, Any]:
    """The run as one JSON object."""
    setting, total = report.setting, report.total
    return {
        "schema": SCHEMA,
        "workload": setting.workload,
        "title": setting.title,
        "result": report.result,
        "workers": setting.workers,
        **_terminals(setting),
        **dict(setting.options),
        "seed": setting.seed,
        "rate": setting.rate,
        "phase": total.phase,
        "seconds": _round(total.duration_s),
        "warmup_seconds": setting.warmup_s,
        "txn_per_s": _round(total.every.per_s),
        **{extra.name: _round(extra.value) for extra in report.extras},
        "types": {kind.name: _kind(kind) for kind in total.kinds},
        "all": _kind(total.every),
        "aborts": _aborts(total.aborts),
        "abort_pct": _round(total.abort_pct),
        **_sides(total),
        "log_bytes_per_txn": _round(total.log_bytes_per_txn),
        "memory_bytes": total.memory_bytes,
        "memory_limit_bytes": total.memory_limit_bytes,
        "loaded": _loaded(report),
        "watermark": total.watermark,
        "watermark_lag_ms": _round(report.lag.mean_ms),
        "watermark_lag_ms_p50": _round(report.lag.p50_ms),
        "watermark_lag_ms_p99": _round(report.lag.p99_ms),
        "watermark_lag_ms_max": _round(report.lag.max_ms),
        **_cluster(report),
        "consistency": {check.clause: check.status.value for check in report.checks},
        "consistency_detail": {check.clause: check.detail for check in report.checks},
        "audit": {audit.name: _audit(audit) for audit in report.audits},
        "stopped": report.stopped,
        "interrupted": report.interrupted,
        "notes": list(report.notes),
        "machine": dict(setting.machine),
        "version": setting.version,
        "command": setting.command,
        "started": setting.started,
    }


def _sides(interval: Interval) -> dict[str, Any]:
    """Nothing where there is one partition."""
    return {side.stats.name: _side(side) for side in interval.sides}


def _side(side: Side) -> dict[str, Any]:
    return {
        **_kind(side.stats),
        "aborts": _aborts(side.aborts),
        "abort_pct": _round(side.abort_pct),
        "parked": side.parked,
        "inherited": side.inherited,
        **({"endings": dict(side.endings)} if side.endings else {}),
    }


def _aborts(aborts: Mapping[str, int] | None) -> dict[str, int] | None:
    return None if aborts is None else dict(aborts)


def _terminals(setting: Setting) -> dict[str, int]:
    if not setting.clients:
        return {}
    return {"clients": setting.clients, "connections": setting.connections}


def _cluster(report: RunReport) -> dict[str, Any]:
    """Nothing for a database in this process."""
    found: dict[str, Any] = {}
    if report.setting.clients:
        found["endings"] = dict(report.total.endings)
    if report.total.cluster is not None:
        found["cluster"] = {
            "name": report.setting.cluster,
            "replication_bytes_per_s": _round(report.total.cluster.sent_per_s),
            "replication_bytes_per_txn": _round(report.total.sent_bytes_per_txn),
            "processes": {each.name: _process(each) for each in report.total.cluster.processes},
            "leader_changes": len(report.changes) if report.leaderships else None,
            "leaders": [
                {
                    "t": _round(led.at_s),
                    "process": led.process,
                    "partition": led.partition,
                    "term": led.term,
                }
                for led in report.leaderships
            ],
            **_over(report.total.cluster),
        }
    return found


def _over(cluster: Stretch) -> dict[str, Any]:
    if not cluster.distributed:
        return {}
    cascades = [dataclasses.asdict(each) for each in cluster.cascades]
    return {"distributed": dict(cluster.distributed), "cascades": cascades}


#: What a process used; null if it was not seen.
_USED: Final = ("cpu_seconds", "worker_cpu_seconds", "sent_bytes")


def _process(process: ProcessUse) -> dict[str, Any]:
    if not process.duration_s:
        return {"role": process.role, "seconds": 0.0, **dict.fromkeys(_USED)}
    return {
        "role": process.role,
        "seconds": _round(process.duration_s),
        "cpu_seconds": _round(process.cpu_s),
        "worker_cpu_seconds": {name: _round(used) for name, used in process.workers_s.items()},
        "sent_bytes": round(process.sent_bytes),
    }


def summary_text(report: RunReport) -> str:
    """`summary` as text for a file or for stdout, ending with a line feed."""
    return json.dumps(summary(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def interval_record(interval: Interval) -> dict[str, Any]:
    """One interval as a JSON object; `t` is when it ended, negative in the warm-up."""
    return {
        "t": _round(interval.end_s),
        "phase": interval.phase,
        "seconds": _round(interval.duration_s),
        "txn_per_s": _round(interval.every.per_s),
        "types": {kind.name: _kind(kind) for kind in interval.kinds},
        "all": _kind(interval.every),
        "aborts": _aborts(interval.aborts),
        **_sides(interval),
        "log_bytes_per_txn": _round(interval.log_bytes_per_txn),
        "memory_bytes": interval.memory_bytes,
        "watermark": interval.watermark,
        "watermark_lag_ms": _round(interval.watermark_lag_ms),
        **_cluster_then(interval),
    }


def _cluster_then(interval: Interval) -> dict[str, Any]:
    found: dict[str, Any] = {"endings": dict(interval.endings)} if interval.endings else {}
    cluster = interval.cluster
    if cluster is not None:
        lag = cluster.lag
        found |= {
            "watermark_lag_ms_p50": _round(lag.p50_ms) if lag else None,
            "watermark_lag_ms_p99": _round(lag.p99_ms) if lag else None,
            "watermark_lag_ms_max": _round(lag.max_ms) if lag else None,
            "replication_bytes_per_s": _round(cluster.sent_per_s),
            "cores": {
                each.name: _round(each.cores) if each.duration_s else None
                for each in cluster.processes
            },
            "leaders": {str(partition): name for partition, name in cluster.leaders.items()},
        }
    return found


def interval_text(interval: Interval) -> str:
    """`interval_record` as one line of intervals.jsonl."""
    return json.dumps(interval_record(interval), allow_nan=False) + "\n"


def _kind(kind: KindStats) -> dict[str, Any]:
    latency = kind.latency
    return {
        "count": kind.count,
        "rolled_back": kind.rolled_back,
        "per_s": _round(kind.per_s),
        "p50_us": _round(latency.p50_us) if latency else None,
        "p90_us": _round(latency.p90_us) if latency else None,
        "p99_us": _round(latency.p99_us) if latency else None,
        "max_us": _round(latency.max_us) if latency else None,
        **_durable(kind),
    }


def _durable(kind: KindStats) -> dict[str, Any]:
    """The same until a transaction was durable; nothing for a database without replicas."""
    if kind.durable_per_s is None:
        return {}
    latency = kind.durable
    return {
        "durable_per_s": _round(kind.durable_per_s),
        "durable_p50_us": _round(latency.p50_us) if latency else None,
        "durable_p90_us": _round(latency.p90_us) if latency else None,
        "durable_p99_us": _round(latency.p99_us) if latency else None,
        "durable_max_us": _round(latency.max_us) if latency else None,
    }


def _loaded(report: RunReport) -> dict[str, Any]:
    loaded = report.loaded
    return {
        "rows": loaded.size.rows,
        "key_bytes": loaded.size.key_bytes,
        "row_bytes": loaded.size.row_bytes,
        "seconds": _round(loaded.seconds),
        "memory_bytes": loaded.memory_bytes,
        "memory_per_data": _round(loaded.memory_per_data),
        "pretouched_bytes": loaded.pretouched_bytes,
    }


def _audit(audit: AuditResult) -> dict[str, Any]:
    return {
        "value": _round(audit.value),
        "low": _round(audit.low),
        "high": _round(audit.high),
        "samples": audit.samples,
        "status": audit.status.value,
    }


def _round(value: float | None) -> float | None:
    """Three decimals: beyond that it is noise, and diffs of two reports become hard to read."""
    return None if value is None or not math.isfinite(value) else round(value, 3)
