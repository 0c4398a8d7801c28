"""One line per second, `key=value` in a stable order: for eyes, grep, awk and golden tests alike.

t        seconds from the start of the measurement, negative in the warm-up
txn/s    completed transactions per second, all types; then each type by its name
p50_us … max_us   latency of all types together
abort/s  attempts lost to a conflict and retried; - if nobody was seen who counts them
w        watermark: the closed timestamp; lag_ms: how far it is behind the clock
mem_mib  memory in use; log_b: log bytes per transaction that wrote
durable_p50_us …  of a replicated database: latency until durable
local/s, cross_shard/s  of several partitions: completed transactions by side
sent_b_s, leader  of a cluster: bytes that processes sent each other, and who leads
retried=, unknown=, …  of terminals: what did not end with a result, if there was any
"""

from bench.report.model import Setting
from bench.stats import Interval

_LABEL_WIDTH = 8


def format_interval(interval: Interval) -> str:
    """The line of one interval."""
    latency = interval.every.latency
    micros = (
        " ".join(
            f"{name}={value:.1f}"
            for name, value in (
                ("p50_us", latency.p50_us),
                ("p90_us", latency.p90_us),
                ("p99_us", latency.p99_us),
                ("max_us", latency.max_us),
            )
        )
        if latency
        else "p50_us=- p90_us=- p99_us=- max_us=-"
    )
    kinds = " ".join(f"{kind.name}/s={kind.per_s:.0f}" for kind in interval.kinds)
    aborts = interval.aborts
    aborts_per_s = sum(aborts.values()) / interval.duration_s if aborts else 0
    log_bytes = interval.log_bytes_per_txn
    return (
        f"{interval.phase:<{_LABEL_WIDTH}} t={interval.end_s:.1f}"
        f" txn/s={interval.every.per_s:.0f} {kinds} {micros}"
        f" abort/s={'-' if aborts is None else f'{aborts_per_s:.0f}'}"
        f" w={interval.watermark} lag_ms={interval.watermark_lag_ms:.2f}"
        f" mem_mib={interval.memory_bytes / (1 << 20):.0f}"
        f" log_b={'-' if log_bytes is None else f'{log_bytes:.0f}'}{_cluster(interval)}"
    )


def _cluster(interval: Interval) -> str:
    parts: list[str] = []
    durable = interval.every.durable
    if durable is not None:
        parts.append(f"durable_p50_us={durable.p50_us:.0f} durable_p99_us={durable.p99_us:.0f}")
    parts += [f"{side.stats.name}/s={side.stats.per_s:.0f}" for side in interval.sides]
    cluster = interval.cluster
    if cluster is not None:
        sent = cluster.sent_per_s
        parts.append(f"sent_b_s={'-' if sent is None else f'{sent:.0f}'}")
        parts.append(f"leader={','.join(cluster.leaders.values()) or '-'}")
    parts += [f"{how}={count}" for how, count in interval.endings.items()]
    return "".join(f" {part}" for part in parts)


def format_event(label: str, text: str) -> str:
    """A line between the intervals: "load     stock 100,000 rows"."""
    return f"{label:<{_LABEL_WIDTH}} {text}"


def format_setting(setting: Setting) -> str:
    """What runs, in one line; the first of every run."""
    chosen = " ".join(f"{name}={value}" for name, value in setting.options.items())
    who = f"workers={setting.workers}"
    if setting.clients:
        who = f"clients={setting.clients} connections={setting.connections}"
    return (
        f"{setting.workload}: {setting.title} · {chosen} · {who}"
        f" seed={setting.seed} · {setting.loop}"
    )
