"""Changing the members of a partition, step by step, from outside (docs/operations.md).

    every process meets the others ─▶ new nodes are learners ─▶ they catch up ─▶ one joint change

Each step is asked of whoever leads, and looked for at whoever leads then: a leader that ends in the
middle costs time and nothing else. Whatever was interrupted is done by the same command again.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Final, Self

from mako.client.remote.administration import Administrator, Members
from mako.config import ClusterConfig, Process, Site
from mako.errors import ConfigError, ConnectionLost, Error

#: Seconds that one request may take, with an election in between.
_REQUEST_SECONDS: Final = 10.0
#: Seconds for a process to answer that may have ended.
_PROCESS_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.1
#: Seconds between two lines about the same wait.
_SAY_SECONDS: Final = 2.0
#: Entries by which a member may trail and has caught up.
_BEHIND_MAX: Final = 1000

Say = Callable[[str], None]


class Timeout(Error):
    """What was waited for has not come in time. The message says what was done so far."""


def address_of(process: Process) -> str:
    host = f"[{process.host}]" if ":" in process.host else process.host
    return f"{host}:{process.ports[0]}"


class Membership:
    """One partition of a running cluster. `say` is told what happens, `seconds` bound each wait."""

    def __init__(self, config: ClusterConfig, partition: int, say: Say, *, seconds: float) -> None:
        self._config = config
        self._partition = partition
        self._say = say
        self._seconds = seconds
        self._undo = ExitStack()
        if partition >= len(config.partitions):
            known = ", ".join(map(str, range(len(config.partitions))))
            raise ConfigError(f"there is no partition {partition}; there is {known}")
        sites = config.partitions[partition]
        self._processes = [p for p in config.processes if p.sites]
        self._names = {site.node: site.process for site in sites}
        addresses = ",".join(address_of(config.process(site.process)) for site in sites)
        self._leader = self._undo.enter_context(
            Administrator.connect(
                addresses, cluster=config.id, partition=partition, timeout=_REQUEST_SECONDS
            )
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    # --- Facts ---------------------------------------------------------------------------------

    @property
    def sites(self) -> tuple[Site, ...]:
        return self._config.partitions[self._partition]

    def site_of(self, process: str) -> Site:
        for site in self.sites:
            if site.process == process:
                return site
        self._config.process(process)  # Says so if there is none at all.
        raise ConfigError(
            f"process {process} has no replica of partition {self._partition}; give it a site"
        )

    def members(self) -> Members:
        """As the leader knows them."""
        return self._leader.members()

    def name(self, node: int) -> str:
        """For people."""
        process = self._names.get(node)
        return f"node {node}" if process is None else f"{process} (node {node})"

    def names(self, nodes: Iterable[int]) -> str:
        return ", ".join(map(self.name, sorted(nodes)))

    # --- Steps ---------------------------------------------------------------------------------

    def each_process(
        self, act: Callable[[Administrator], None], *, here: bool = False
    ) -> list[str]:
        """Do something at every process that answers, or at those that have the partition `here`;
        the names of those that did not."""
        silent = []
        for process in self._processes:
            partitions = [site.partition for site in process.sites]
            if here and self._partition not in partitions:
                continue
            try:
                with Administrator.connect(
                    address_of(process),
                    cluster=self._config.id,
                    partition=self._partition if here else partitions[0],
                    timeout=_PROCESS_SECONDS,
                    replica=True,
                ) as one:
                    act(one)
            except (ConnectionLost, TimeoutError, OSError) as error:
                silent.append(process.name)
                self._say(f"{process.name} does not answer: {' '.join(str(error).split())}")
        return silent

    def introduce(self) -> None:
        """Tell all processes of each other, and of the nodes that they have."""
        processes = [(p.number, p.name, p.host, p.ports[0]) for p in self._processes]
        numbers = {p.name: p.number for p in self._processes}
        places = [
            (site.partition, site.node, numbers[site.process])
            for sites in self._config.partitions
            for site in sites
        ]
        self.each_process(lambda one: one.meet(processes, places))

    def change(self, voters: Iterable[int], learners: Iterable[int]) -> None:
        """Make these the members: new ones join as learners, and vote once they have caught up."""
        target = frozenset(voters), frozenset(learners)
        now = self._settled("an earlier change of the members")
        coming = (target[0] | target[1]) - now.all
        fresh = coming | (target[0] - now.voters)
        if coming:
            self._say(f"adding {self.names(coming)}")
            self._leader.change_members(now.voters, now.learners | coming)
            now = self._settled("the new members to be added")
        self._catch_up(fresh)
        if (now.voters, now.learners) != target:
            self._leader.change_members(*target)
            now = self._settled("the change of the members")
        if (now.voters, now.learners) != target:
            raise Timeout("somebody else changes the members, too; look, and do it again")

    def _settled(self, what: str) -> Members:
        found: list[Members] = []

        def settled() -> str:
            found[:] = [self.members()]
            return "" if found[0].settled else f"waits for {what}"

        self._wait(settled)
        return found[0]

    def _catch_up(self, nodes: frozenset[int]) -> None:
        def missing() -> str:
            now = self.members()
            for node in sorted(nodes):
                peer = now.progress.get(node)
                if peer is None or peer.match == 0 or not peer.answers:
                    return f"{self.name(node)} does not answer the leader yet; is it started?"
                if now.commit - peer.match > _BEHIND_MAX:
                    return f"{self.name(node)} has {peer.match:,} of {now.commit:,} entries"
                if peer.returning:  # As it is new; as a voter it would not count yet.
                    return f"{self.name(node)} has no vote yet, until it is sure to lack nothing"
            return ""

        self._wait(missing)

    def _wait(self, missing: Callable[[], str]) -> None:
        """Until nothing is missing any more."""
        deadline = time.monotonic() + self._seconds
        said = time.monotonic()
        while text := missing():
            now = time.monotonic()
            if now >= deadline:
                raise Timeout(f"{text} (after {self._seconds:g} s); the same command goes on later")
            if now - said >= _SAY_SECONDS:
                self._say(text)
                said = now
            time.sleep(_LOOK_SECONDS)

    def hand_over(self, process: str) -> float:
        """Have the replica of a process lead; the seconds until it did."""
        node = self.site_of(process).node
        self.each_process(lambda one: one.prefer(node), here=True)
        began = time.monotonic()
        if self.members().node == node:
            return 0.0
        self._leader.hand_over(node)

        def missing() -> str:
            now = self.members()
            done = now.node == node and now.leads
            return "" if done else f"{self.name(node)} does not lead yet"

        self._wait(missing)
        return time.monotonic() - began
