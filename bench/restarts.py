"""What clients notice when processes are restarted, killed, or come back with an empty disk.

    python -m bench.restarts --folder /tmp/restarts --megabytes 500

Three processes as in the demo, under a load of counters that are added to, each addition once.
Printed is, for each event, the longest time in which no client was answered, all pauses of more
than `PAUSE_MS` together, and the rate of answers; at the end, whether every answer was counted.
"""

import argparse
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final

import mako
from bench.arguments import whole
from bench.demo.cluster import NAMES, Cluster, wait_for_leader, wait_for_preferred

#: Shorter times without an answer are no pause.
PAUSE_MS: Final = 50
#: Seconds of load before, between and after events.
REST_SECONDS: Final = 3.0
_PATIENCE: Final = 120.0


class Adding:
    """A client in a thread: adds 1 to its counter, again and again, and notes each answer."""

    def __init__(self, number: int, addresses: str) -> None:
        self.key = b"count %d" % number
        self.answers: list[float] = []
        self._addresses = addresses
        self._over = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with mako.connect(self._addresses, timeout=_PATIENCE, once=True) as db:
            while not self._over:
                db.add(self.key, 1)
                self.answers.append(time.monotonic())

    def end(self) -> None:
        self._over = True
        self._thread.join()


def applied(cluster: Cluster, name: str) -> tuple[int, int]:
    """What a process has applied, and what the leader has; (0, 1) while it does not answer."""
    try:
        with mako.connect(cluster.address(name), replica=True, timeout=2) as db:
            mine = db.status()
        with mako.connect(cluster.addresses, timeout=5) as db:
            return int(mine["applied"]), int(db.status()["applied"])
    except (mako.Error, TimeoutError):
        return 0, 1


def wait_until_up(cluster: Cluster, name: str) -> None:
    """Until it has all but the newest entries."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        mine, leaders = applied(cluster, name)
        if mine and leaders - mine < 100:
            return
        time.sleep(0.1)
    raise SystemExit(f"{name} does not catch up; see {cluster.folder / name}.log")


def restart(cluster: Cluster, name: str, number: signal.Signals, *, empty: bool = False) -> None:
    cluster.end(name, number)
    if empty:
        shutil.rmtree(cluster.folder / name)
    cluster.start(name)
    wait_until_up(cluster, name)


def fill(addresses: str, megabytes: int) -> None:
    """Put rows of 32 KiB, some at a time."""
    with mako.connect(addresses, timeout=_PATIENCE) as db:
        table = db.table("filling")
        value = bytes(32 << 10)
        for first in range(0, 32 * megabytes, 64):
            submitted = [table.submit_put(b"row %d" % (first + i), value) for i in range(64)]
            for each in submitted:
                each.wait_durable()


def measured(what: str, clients: list[Adding], act: Callable[[], None]) -> float:
    """Do something under load; print and return the answers per second from its begin on.

    Who has no answer at the end has waited since the last one, and perhaps for all of it.
    """
    began = time.monotonic()
    act()
    time.sleep(REST_SECONDS)
    ended = time.monotonic()
    answers = sorted(
        at for client in clients for at in list(client.answers) if began <= at <= ended
    )
    gaps = [1000 * (after - before) for before, after in pairwise([began, *answers, ended])]
    pauses = [gap for gap in gaps if gap > PAUSE_MS]
    rate = len(answers) / (ended - began)
    print(
        f"{what:<32} longest pause {max(gaps):6.0f} ms, pauses {sum(pauses):6.0f} ms in all,"
        f" {rate:7.0f} answers/s",
        flush=True,
    )
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="for the processes; a new one if not given")
    parser.add_argument("--clients", type=whole(), default=8)
    parser.add_argument("--megabytes", type=whole(0), default=0)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="mako-restarts-"))
    folder.mkdir(parents=True, exist_ok=True)
    cluster = Cluster(folder)
    clients: list[Adding] = []
    try:
        for name in NAMES:
            cluster.start(name)
        wait_for_leader(cluster)
        leader = wait_for_preferred(cluster)
        fill(cluster.addresses, options.megabytes)
        clients += [Adding(number, cluster.addresses) for number in range(options.clients)]
        time.sleep(REST_SECONDS)
        quiet = measured("nothing happens", clients, lambda: time.sleep(REST_SECONDS))
        for name in NAMES:
            measured(
                f"{name} restarts (SIGTERM)",
                clients,
                partial(restart, cluster, name, signal.SIGTERM),
            )
        leader = wait_for_preferred(cluster)
        measured(
            "the leader is killed (SIGKILL)",
            clients,
            lambda: restart(cluster, leader, signal.SIGKILL),
        )
        leader = wait_for_preferred(cluster)
        follower = next(name for name in NAMES if name != leader)
        rate = measured(
            f"{follower} comes with an empty disk",
            clients,
            lambda: restart(cluster, follower, signal.SIGKILL, empty=True),
        )
        print(f"while it catches up: {rate / quiet:.0%} of the answers")
        for client in clients:
            client.end()
        with mako.connect(cluster.addresses, timeout=_PATIENCE) as db:
            lost = sum(max(len(c.answers) - (db.get_int(c.key) or 0), 0) for c in clients)
        print(f"{sum(len(c.answers) for c in clients):,} answers, {lost} lost")
        if lost:
            raise SystemExit(1)
    finally:
        for client in clients:
            client._over = True
        cluster.stop()


if __name__ == "__main__":
    main()
