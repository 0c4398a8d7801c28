"""`mako replica` with a process that has replicas of several partitions, some of them untouched."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import pytest

from mako.cli import membership
from mako.cli.app import main
from mako.client.remote.administration import Follower, Members


class Group:
    """A partition: who is in it, who does not answer its leader, and who may not vote yet."""

    def __init__(self, *voters: int) -> None:
        self.voters, self.learners = frozenset(voters), frozenset[int]()
        self.silent: set[int] = set()
        self.returning: set[int] = set()
        self.commit = 9
        #: Up to where those have the log that do not have all of it.
        self.match: dict[int, int] = {}
        #: A change of the members that is under way; whoever looks twice sees it done.
        self.under_way = 0
        self.changes = 0

    def members(self) -> Members:
        settled, self.under_way = not self.under_way, max(self.under_way - 1, 0)
        progress = {
            node: Follower(
                self.match.get(node, self.commit),
                node not in self.silent,
                returning=node in self.returning,
            )
            for node in self.voters | self.learners
        }
        leads = True
        return Members(1, leads, self.voters, self.learners, settled, self.commit, progress)

    def change_members(self, voters: Iterable[int], learners: Iterable[int]) -> None:
        self.voters, self.learners = frozenset(voters), frozenset(learners)
        self.changes += 1


class World:
    """Two partitions on p1, p2 and p3, and what operators ask of them."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "cluster.json"
        self.groups = [Group(1, 2, 3), Group(1, 2, 3)]
        #: Whoever was told where nodes live.
        self.introduced = 0
        self.configure()

    def configure(self, *, site: dict[str, str] | None = None, **more: Any) -> None:
        """The sites of partition 0 are a1, a2 and a3; `site` says who lives elsewhere."""
        sites = [
            [f"{letter}{n}:{port + n}" for n in (1, 2, 3)]
            for letter, port in (("a", 7000), ("b", 7100))
        ]
        process = {f"{letter}{n}": f"p{n}" for letter in "ab" for n in (1, 2, 3)}
        host = {f"p{n}": "127.0.0.1" for n in (1, 2, 3, 4)}
        document = {
            "site": {"server": sites},
            "process": process | (site or {}),
            "host": host,
            "http": {name: 9000 + i for i, name in enumerate(host)},
            **more,
        }
        self.file.write_text(json.dumps(document))

    def connect(self, addresses: str, *, partition: int, **_: object) -> "Asked":
        return Asked(self, self.groups[partition])

    def replica(self, command: str, *arguments: str) -> int:
        return main(["replica", command, "-f", str(self.file), "--timeout", "0", *arguments])

    @property
    def voters(self) -> list[list[int]]:
        return [sorted(group.voters) for group in self.groups]

    @property
    def changes(self) -> list[int]:
        return [group.changes for group in self.groups]


class Asked:
    """Takes the place of an Administrator."""

    def __init__(self, world: World, group: Group) -> None:
        self._world = world
        self.members, self.change_members = group.members, group.change_members

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def meet(self, processes: object, places: object) -> None:
        self._world.introduced += 1


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path)
    monkeypatch.setattr(membership, "Administrator", made)
    return made


def test_a_replacement_that_was_interrupted_goes_on(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """The host of p2 is lost, and with it a replica of each partition."""
    world.configure(node={"a2": 4, "b2": 5})
    world.groups[1].silent.add(5)
    assert world.replica("replace", "p2") == 2
    assert "goes on later" in capsys.readouterr().err
    assert world.voters == [[1, 3, 4], [1, 2, 3]]
    assert world.groups[1].learners == {5}
    changes = world.changes[0]

    world.groups[1].silent.clear()
    assert world.replica("replace", "p2") == 0
    assert capsys.readouterr().out.splitlines() == [
        "partition 0: p2 (node 4) is a member already",
        "partition 1: voters p1 (node 1), p3 (node 3), p2 (node 5)",
    ]
    assert world.voters == [[1, 3, 4], [1, 3, 5]]
    assert not world.groups[1].learners
    assert world.changes[0] == changes


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ({"silent": {4}}, "p2 (node 4) does not answer the leader yet; is it started?"),
        ({"match": {4: 0}}, "p2 (node 4) does not answer the leader yet; is it started?"),
        ({"match": {4: 3_999}}, "p2 (node 4) has 3,999 of 5,000 entries"),
        ({"returning": {4}}, "p2 (node 4) has no vote yet, until it is sure to lack nothing"),
    ],
)
def test_a_new_node_is_a_learner_until_it_has_caught_up(
    world: World, capsys: pytest.CaptureFixture[str], trouble: dict[str, Any], said: str
) -> None:
    """As a voter without the log, or without a vote, it would only be in the way of a majority."""
    world.configure(node={"a2": 4, "b2": 4})
    group = world.groups[0]
    group.commit = 5_000
    for name, value in trouble.items():
        setattr(group, name, value)
    assert world.replica("replace", "p2") == 2
    assert said in capsys.readouterr().err
    assert world.voters[0] == [1, 2, 3]
    assert group.learners == {4}
    group.silent, group.returning, group.match = set(), set(), {4: 4_000}
    assert world.replica("replace", "p2") == 0
    assert world.voters == [[1, 3, 4], [1, 3, 4]]


def test_a_change_that_is_under_way_is_waited_for(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command was interrupted in the middle of a joint change: the new voters are in force."""
    world.configure(node={"a2": 4, "b2": 4})
    for group in world.groups:
        group.voters = frozenset({1, 3, 4})
    world.groups[1].under_way = 1
    assert world.replica("replace", "p2") == 0
    assert "partition 1: voters p1" in capsys.readouterr().out
    assert world.changes == [0, 0]


def test_a_site_moves_to_a_process_whose_other_replicas_stay(world: World) -> None:
    world.configure(site={"a3": "p4", "b2": "p4"}, node={"b2": 4})
    assert world.replica("replace", "p4") == 0
    assert world.voters == [[1, 2, 3], [1, 3, 4]]
    assert world.changes[0] == 0


def test_what_is_gone_elsewhere_holds_up_nothing(world: World) -> None:
    """Of the two replicas of p2 one comes back there, and the other one at p4: each command does
    its own."""
    world.configure(site={"a3": "p4", "b2": "p4"}, node={"a2": 4, "b2": 4})
    world.groups[0].learners = frozenset({9})
    assert world.replica("replace", "p4") == 0
    assert world.voters == [[1, 2, 3], [1, 3, 4]]
    assert world.replica("replace", "p2") == 0
    assert world.voters == [[1, 3, 4], [1, 3, 4]]


def test_a_learner_takes_the_place_of_a_learner(world: World) -> None:
    world.configure(learner=["p4"], site={"a4": "p4"}, node={"a4": 5, "a2": 6}, joined=["a4"])
    document = json.loads(world.file.read_text())
    document["site"]["server"][0].append("a4:7004")
    world.file.write_text(json.dumps(document))
    world.groups[0].learners = frozenset({4})
    assert world.replica("replace", "p4") == 0
    assert world.groups[0].learners == {5}
    assert world.voters[0] == [1, 2, 3], "the voter that is gone, too, is not its to replace"


def test_where_there_is_nothing_to_do_nobody_is_told_of_anything(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """A process that is to be replaced has ids that were never used; one that was has them."""
    assert world.replica("replace", "p2") == 2
    assert capsys.readouterr().err == (
        "mako: p2 is a member already; give site a2 or b2 an id that was never used under `node`\n"
    )
    world.configure(node={"a2": 4, "b2": 4})
    assert world.replica("replace", "p2") == 0
    world.introduced = 0
    assert world.replica("replace", "p2") == 2
    assert capsys.readouterr().err == (
        "mako: there is nothing to do for p2: it was replaced, and is a member; to replace it once"
        " more, give site a2 or b2 another id that was never used under `node`\n"
    )
    assert world.introduced == 0


@pytest.mark.parametrize(
    ("command", "voters"), [("add", {1, 3, 4}), ("remove", {1, 2, 3}), ("replace", {3})]
)
def test_a_command_that_is_refused_has_told_nobody_where_nodes_are(
    world: World, command: str, voters: set[int], capsys: pytest.CaptureFixture[str]
) -> None:
    """What it would have told may be as wrong as the rest."""
    world.groups[0].voters = frozenset(voters)
    assert world.replica(command, "p2") == 2
    assert "there would be" in capsys.readouterr().err
    assert world.introduced == 0


@pytest.mark.parametrize("timeout", ["nan", "inf", "-1", "soon"])
@pytest.mark.parametrize("command", ["lead", "replace", "add", "remove"])
def test_a_timeout_that_never_ends_is_refused(
    timeout: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replica", command, "p1", "-f", "cluster.yml", "--timeout", timeout]) == 2
    said = capsys.readouterr().err
    assert said == f"mako: --timeout: {timeout!r} is no number of seconds; give one such as 30\n"
