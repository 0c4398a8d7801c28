"""Many groups of a process: shared messages, shared heartbeats, and nobody left out."""

import random

import pytest

from mako.entry import EntryId, GroupId, Index, NodeId, Term
from mako.raft import (
    Host,
    HostMessage,
    MemoryLogStorage,
    RaftNode,
    ReadState,
    Role,
    Settings,
)
from mako.raft.host import Beat, BeatReply, digest_of
from mako.raft.message import (
    AppendReply,
    AppendRequest,
    Heartbeat,
    HeartbeatReply,
    PreVoteReply,
    PreVoteRequest,
    VoteReply,
    VoteRequest,
)
from tests.raft.cluster import voters

MEMBERS = voters(1, 2, 3)
GROUPS = 20


class Processes:
    """Three processes with a node of every group, and what travels between them."""

    def __init__(self, groups: int = GROUPS, seed: int = 1) -> None:
        self.random = random.Random(seed)
        self.groups = groups
        self.hosts = {number: self.start(number) for number in (1, 2, 3)}
        self.cut: set[tuple[int, int]] = set()
        #: What was sent since the last look.
        self.sent: list[tuple[int, int, HostMessage]] = []
        self.stores: dict[tuple[int, int], MemoryLogStorage] = {}

    def start(self, number: int, hosts: Host | None = None) -> Host:
        host = Host(number)
        for group in range(1, self.groups + 1):
            old = hosts[GroupId(group)] if hosts is not None else None
            storage = old.storage if old is not None else MemoryLogStorage(MEMBERS)
            node = RaftNode(
                Settings(),
                storage,
                node=NodeId(number),
                group=GroupId(group),
                randrange=self.random.randrange,
            )
            host.add(node)
        return host

    def restart(self, number: int) -> None:
        self.hosts[number] = self.start(number, self.hosts[number])

    def turn(self, number: int) -> list[tuple[int, int, HostMessage]]:
        host = self.hosts[number]
        out: list[tuple[int, int, HostMessage]] = []
        while host.has_turn():
            turn = host.turn()
            for process, messages in turn.messages.items():
                out += [(number, process, message) for message in messages]
            for node, ready in turn.readys:
                storage = node.storage
                assert isinstance(storage, MemoryLogStorage)
                storage.append(ready.entries)
                if ready.hard_state is not None:
                    storage.set_hard_state(ready.hard_state)
            for process, messages in turn.messages_after_sync.items():
                out += [(number, process, message) for message in messages]
            host.advance(turn)
            for node, ready in turn.readys:
                if ready.committed:
                    node.applied(ready.committed[-1].index)
        return out

    def settle(self) -> None:
        while True:
            out = [item for number in self.hosts for item in self.turn(number)]
            if not out:
                return
            self.sent += out
            for source, target, message in out:
                if (source, target) not in self.cut:
                    self.hosts[target].step([message])

    def run(self, ticks: int) -> None:
        for _ in range(ticks):
            for host in self.hosts.values():
                host.tick()
            self.settle()

    def lead(self, number: int) -> None:
        """Make one process the leader of every group, and let them grow quiet."""
        for node in self.hosts[number]:
            node.campaign()
            self.hosts[number].touch(node.group)
        self.settle()
        self.run(5)
        assert self.leaders() == {number: self.groups}

    def leaders(self) -> dict[int, int]:
        """Process -> groups that it leads."""
        counts = {
            number: sum(node.role is Role.LEADER for node in host)
            for number, host in self.hosts.items()
        }
        return {number: count for number, count in counts.items() if count}

    def isolate(self, number: int) -> None:
        self.cut = {(number, n) for n in self.hosts} | {(n, number) for n in self.hosts}


def test_idle_groups_cost_one_short_message_per_process_and_tick() -> None:
    processes = Processes()
    processes.lead(1)
    processes.sent.clear()
    processes.run(10)
    kinds = [type(message) for _, _, message in processes.sent]
    assert set(kinds) == {Beat, BeatReply}
    assert len(kinds) == 10 * 4
    beats = [message for _, _, message in processes.sent if isinstance(message, Beat)]
    assert all(beat.groups == () for beat in beats)


def test_leaders_stay_leaders_on_beats_alone() -> None:
    processes = Processes()
    processes.lead(1)
    processes.sent.clear()
    processes.run(300)
    assert processes.leaders() == {1: GROUPS}
    assert not [m for _, _, m in processes.sent if isinstance(m, Heartbeat)]
    assert {node.term for node in processes.hosts[2]} == {1}


def test_messages_of_many_groups_travel_together() -> None:
    processes = Processes()
    processes.lead(1)
    for node in processes.hosts[1]:
        assert node.propose([b"x"])
        processes.hosts[1].touch(node.group)
    turn = processes.hosts[1].turn()
    appends = [m for m in turn.messages[2] if isinstance(m, AppendRequest)]
    assert len(appends) == GROUPS
    assert len(turn.readys) == GROUPS
    assert turn.must_sync


def test_a_quiet_group_wakes_for_a_proposal_and_grows_quiet_again() -> None:
    processes = Processes()
    processes.lead(1)
    processes.hosts[1][GroupId(3)].propose([b"x"])
    processes.hosts[1].touch(GroupId(3))
    processes.settle()
    processes.run(4)
    assert [host[GroupId(3)].commit_index for host in processes.hosts.values()] == [2, 2, 2]
    processes.sent.clear()
    processes.run(3)
    assert {type(message) for _, _, message in processes.sent} == {Beat, BeatReply}


def test_a_process_that_is_cut_off_loses_all_its_groups() -> None:
    processes = Processes()
    processes.lead(1)
    processes.isolate(1)
    processes.run(60)
    leaders = processes.leaders()
    assert 1 not in leaders
    assert sum(leaders.values()) == GROUPS


def test_after_it_is_back_every_group_has_one_leader_in_its_term() -> None:
    processes = Processes()
    processes.lead(1)
    processes.isolate(1)
    processes.run(60)
    processes.cut.clear()
    processes.run(30)
    assert sum(processes.leaders().values()) == GROUPS
    for group in range(1, GROUPS + 1):
        nodes = [host[GroupId(group)] for host in processes.hosts.values()]
        assert len({(node.term, node.leader) for node in nodes}) == 1


def test_a_restarted_follower_asks_for_the_list() -> None:
    """H2: it does not know the digest; nobody loses an election over that."""
    processes = Processes()
    processes.lead(1)
    processes.restart(2)
    processes.sent.clear()
    processes.run(8)
    unknown = [m for _, _, m in processes.sent if isinstance(m, BeatReply) and not m.known]
    assert unknown
    assert any(isinstance(m, Beat) and m.groups for _, _, m in processes.sent)
    processes.run(100)
    assert processes.leaders() == {1: GROUPS}


def test_a_restarted_leader_does_not_beat_for_what_it_led() -> None:
    """H1: its followers elect another one."""
    processes = Processes()
    processes.lead(1)
    processes.restart(1)
    processes.run(60)
    assert sum(processes.leaders().values()) == GROUPS
    assert all(node.term > 1 for node in processes.hosts[2])


def test_a_group_that_moved_leaves_the_list() -> None:
    """H1: a leader that hands over beats no more for that group."""
    processes = Processes()
    processes.lead(1)
    processes.hosts[1][GroupId(4)].transfer_leadership(NodeId(2))
    processes.hosts[1].touch(GroupId(4))
    processes.settle()
    processes.run(10)
    assert processes.leaders() == {1: GROUPS - 1, 2: 1}
    processes.run(100)
    assert processes.leaders() == {1: GROUPS - 1, 2: 1}


def test_a_beat_that_does_not_fit_is_refused_for_that_group() -> None:
    """H3: a term that is over does not keep an election away."""
    processes = Processes()
    processes.lead(1)
    entry = (GroupId(1), NodeId(3), NodeId(2), 0, 0)
    processes.hosts[2].step([Beat(3, 2, digest_of((entry,)), (entry,))])
    sent = processes.turn(2)
    replies = [message for _, _, message in sent if isinstance(message, BeatReply)]
    assert [reply.refused for reply in replies] == [(GroupId(1),)]
    assert processes.hosts[2][GroupId(1)].leader == 1


def test_beats_do_not_prove_reads() -> None:
    processes = Processes()
    processes.lead(1)
    processes.sent.clear()
    processes.run(1)
    answers = [m for _, _, m in processes.sent if isinstance(m, BeatReply)]
    assert [(answer.source, answer.known) for answer in answers] == [(2, True), (3, True)]
    host = processes.hosts[1]
    node = host[GroupId(1)]
    node.read_index(9)
    host.touch(GroupId(1))
    turn = host.turn()
    assert turn.readys[0][1].reads == []
    beats = [m for m in turn.messages[2] if isinstance(m, Heartbeat)]
    assert [beat.read > 0 for beat in beats] == [True]
    host.advance(turn)
    host.step(answers)
    host.touch(GroupId(1))
    assert [read for _, ready in host.turn().readys for read in ready.reads] == []
    host.step([HeartbeatReply(GroupId(1), NodeId(2), NodeId(1), node.term, beats[0].read)])
    reads = [read for _, ready in host.turn().readys for read in ready.reads]
    assert reads == [ReadState(9, node.commit_index)]


def test_a_read_that_nobody_answers_ends_in_a_quiet_group_too() -> None:
    processes = Processes()
    processes.lead(1)
    host = processes.hosts[2]
    node = host[GroupId(1)]
    assert node.read_index(9) is None
    node.ready().messages.clear()  # The request is lost.
    reads: list[ReadState] = []
    for _ in range(2 * Settings().election_ticks):
        processes.hosts[1].tick()
        for _, target, message in processes.turn(1):
            if target == 2:
                host.step([message])
        host.tick()
        turn = host.turn()
        assert node.role is Role.FOLLOWER, "beats keep it quiet"
        reads += [read for _, ready in turn.readys for read in ready.reads]
    assert reads == [ReadState(9, None)]


def test_a_node_that_was_removed_is_forgotten() -> None:
    processes = Processes()
    processes.lead(1)
    processes.hosts[1].remove(GroupId(1))
    processes.run(60)
    assert processes.leaders()[1] == GROUPS - 1
    assert sum(processes.leaders().values()) == GROUPS


def test_a_beat_says_what_is_committed() -> None:
    """H3: a follower that missed the last commit index learns it from the list."""
    processes = Processes()
    processes.lead(1)
    group = GroupId(5)
    processes.hosts[1][group].propose([b"x"])
    processes.hosts[1].touch(group)
    for number in (1, 2, 3, 1):
        for source, target, message in processes.turn(number):
            lost = source == 1 and isinstance(message, AppendRequest) and not message.entries
            if not lost:
                processes.hosts[target].step([message])
    assert processes.hosts[1][group].commit_index == 2
    # Until the group is quiet again, nothing arrives at 2.
    processes.cut = {(1, 2)}
    processes.run(4)
    processes.cut.clear()
    assert processes.hosts[2][group].commit_index == 1
    processes.sent.clear()
    processes.run(2)
    assert processes.hosts[2][group].commit_index == 2
    assert not [m for _, _, m in processes.sent if isinstance(m, Heartbeat)]
    assert processes.hosts[1][group].last_index == 2, "nothing was written for that"


@pytest.mark.parametrize("term", [0, 1, 2])
def test_a_beat_of_another_term_is_no_sign_of_life(term: int) -> None:
    processes = Processes()
    processes.lead(1)
    node = processes.hosts[2][GroupId(1)]
    node.state.election_elapsed = 5
    entry = (GroupId(1), NodeId(1), NodeId(2), term, 0)
    processes.hosts[2].step([Beat(1, 2, digest_of((entry,)), (entry,))])
    replies = [m for _, _, m in processes.turn(2) if isinstance(m, BeatReply)]
    assert [reply.refused for reply in replies] == [() if term == 1 else (GroupId(1),)]
    assert (node.state.election_elapsed == 5) == (term < 1)
    assert node.term == max(term, 1)


def test_a_returning_follower_refuses_a_beat_and_says_that_it_is_returning() -> None:
    """An answer to a beat counts for check-quorum, and that node must not count."""
    processes = Processes()
    processes.lead(1)
    group = GroupId(5)
    processes.hosts[2].add(
        RaftNode(
            Settings(),
            MemoryLogStorage(MEMBERS),
            node=NodeId(2),
            group=group,
            returning=True,
            randrange=processes.random.randrange,
        )
    )
    entry = (group, NodeId(1), NodeId(2), 1, 0)
    for _ in range(2):  # The second time it knows the leader.
        processes.hosts[2].step([Beat(1, 2, digest_of((entry,)), (entry,))])
        sent = [message for _, _, message in processes.turn(2)]
        assert [m.refused for m in sent if isinstance(m, BeatReply)] == [(group,)]
        assert [m.returning for m in sent if isinstance(m, HeartbeatReply)] == [True]


def test_a_node_that_is_put_in_the_place_of_a_follower_hears_beats() -> None:
    processes = Processes()
    processes.lead(1)
    processes.run(3)
    old = processes.hosts[2][GroupId(5)]
    processes.hosts[2].add(
        RaftNode(
            Settings(),
            old.storage,
            node=NodeId(2),
            group=GroupId(5),
            randrange=processes.random.randrange,
            applied=old.applied_index,
        )
    )
    processes.run(40)
    node = processes.hosts[2][GroupId(5)]
    assert (node.leader, node.term) == (1, 1)
    assert node.state.election_elapsed <= 1


def test_a_leader_whose_followers_are_gone_steps_down_though_their_processes_answer() -> None:
    processes = Processes()
    processes.lead(1)
    processes.hosts[2].remove(GroupId(5))
    processes.hosts[3].remove(GroupId(5))
    processes.run(3 * Settings().election_ticks)
    assert processes.hosts[1][GroupId(5)].role is not Role.LEADER
    assert processes.leaders() == {1: GROUPS - 1}


def accepted(source: NodeId, term: int, index: int) -> AppendReply:
    hint = EntryId(Term(0), Index(0))
    return AppendReply(GroupId(1), source, NodeId(1), term, accepted=True, index=index, hint=hint)


def test_of_two_members_in_one_process_each_is_heard_of() -> None:
    """A node that was replaced is still a member: the list has room for one of them."""
    host = Host(1, process_of=lambda group, node: 1 if node == 1 else 2)
    group = GroupId(1)
    storage = MemoryLogStorage(voters(1, 2, 3))
    node = RaftNode(Settings(), storage, node=NodeId(1), group=group, randrange=lambda count: 0)
    host.add(node)
    beats: list[Beat] = []
    beaten: set[NodeId] = set()
    node.campaign()
    host.touch(group)
    for _ in range(6):
        host.tick()
        while host.has_turn():
            turn = host.turn()
            for _, ready in turn.readys:
                storage.append(ready.entries)
            host.advance(turn)
            for message in [*turn.messages.get(2, []), *turn.messages_after_sync.get(2, [])]:
                match message:
                    case PreVoteRequest(target=target, term=term):
                        host.step([PreVoteReply(group, target, NodeId(1), term, granted=True)])
                    case VoteRequest(target=target, term=term):
                        host.step([VoteReply(group, target, NodeId(1), term, granted=True)])
                    case AppendRequest(target=target, term=term, previous=previous):
                        index = previous.index + len(message.entries)
                        host.step([accepted(target, term, index)])
                    case Heartbeat(target=target, term=term, read=read):
                        beaten.add(target)
                        host.step([HeartbeatReply(group, target, NodeId(1), term, read)])
                    case Beat():
                        beats.append(message)
                        beaten.clear()
    assert node.role is Role.LEADER
    assert beats, "the group grew quiet"
    named = {entry[2] for entry in beats[-1].groups}
    host.tick()
    heartbeats = [m for m in host.turn().messages.get(2, []) if isinstance(m, Heartbeat)]
    assert named | {message.target for message in heartbeats} == {2, 3}


def test_a_node_that_is_put_in_the_place_of_a_leader_beats_no_more() -> None:
    """H1, also before the next turn."""
    processes = Processes()
    processes.lead(1)
    for group in range(1, GROUPS + 1):
        old = processes.hosts[1][GroupId(group)]
        node = RaftNode(
            Settings(), old.storage, node=NodeId(1), group=GroupId(group),
            randrange=processes.random.randrange,
        )  # fmt: skip
        processes.hosts[1].add(node)
    processes.hosts[1].tick()
    sent = [message for _, _, message in processes.turn(1)]
    assert not [message for message in sent if isinstance(message, Beat)]
