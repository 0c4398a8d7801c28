"""Snapshots on their way between processes: whose offer is taken, and what becomes of the other."""

import pytest

from mako.entry import GroupId, NodeId, SnapshotMeta
from mako.raft.message import SnapshotRequest
from mako.replication.aside import Aside
from mako.replication.snapshots import Moved, SnapshotMover, SnapshotParcel
from mako.storage.memory_disk import MemoryDisk
from mako.storage.snapshot_format import SnapshotHeader, pack_rows
from mako.storage.snapshot_store import SnapshotStore
from mako.storage.snapshot_stream import SnapshotChunk, SnapshotOffer, StreamSettings
from tests.storage.building import meta
from tests.storage.test_snapshot import some_rows

GROUP = GroupId(1)
CLUSTER = 7
STREAM = StreamSettings(chunk_bytes=1000, window_bytes=1000, timeout_ms=50)
RECEIVER = NodeId(2)


class End:
    """A process as far as snapshots are concerned."""

    def __init__(
        self,
        mark: SnapshotMeta | None = None,
        sync_bytes: int = 1 << 20,
        disk: MemoryDisk | None = None,
    ) -> None:
        self.disk = disk or MemoryDisk()
        #: Up to which index its log has all.
        self.last = 0
        self.store = SnapshotStore(self.disk, "snapshots", CLUSTER)
        self.store.recover({GROUP: meta(0, 0)} if disk else {})
        self.sent: list[SnapshotParcel] = []
        self.stepped: list[SnapshotRequest] = []
        self.aside = Aside()
        self.mover = SnapshotMover(
            self.store,
            STREAM,
            1 << 30,
            self.aside,
            sync_bytes,
            put=self.sent.append,
            step=self.stepped.append,
            newest=lambda group: self.last,
        )
        if mark is not None:
            pending = self.store.create(SnapshotHeader(CLUSTER, GROUP, mark, int(mark.index)))
            for block in pack_rows(some_rows(900, 10)):
                pending.writer.add(block)
            self.store.commit(pending)

    def take(self) -> list[SnapshotParcel]:
        sent, self.sent[:] = self.sent[:], []
        return sent


def request(mark: SnapshotMeta, source: int, term: int) -> SnapshotRequest:
    return SnapshotRequest(GROUP, NodeId(source), RECEIVER, term, mark)


def begun(index: int, source: int, term: int, receiver: End) -> End:
    """A leader that has sent the beginning of its snapshot, and then falls silent."""
    mark = meta(index, 1)
    leader = End(mark)
    leader.mover.send(request(mark, source, term), 0)
    for _ in range(3):
        exchange(leader, receiver, 0)
    assert receiver.stepped == []
    return leader


def exchange(leader: End, receiver: End, now_ms: int) -> None:
    """Bring what both have to say."""
    leader.mover.poll(now_ms)
    for parcel in leader.take():
        receiver.mover.on_parcel(parcel, now_ms)
    while receiver.aside.begin():
        receiver.aside.run()
        receiver.aside.end()
    for parcel in receiver.take():
        leader.mover.on_parcel(parcel, now_ms)


def finish(leader: End, receiver: End) -> None:
    """Let it go on for as long as the whole takes, and longer."""
    for now_ms in range(1, 100):
        exchange(leader, receiver, now_ms)


def test_a_new_leader_is_obeyed_though_its_snapshot_is_older_than_what_is_half_there() -> None:
    receiver = End()
    begun(367, 3, 18, receiver)
    mark = meta(358, 1)
    leader = End(mark)
    wanted = request(mark, 1, 19)
    leader.mover.send(wanted, 0)
    finish(leader, receiver)
    assert receiver.stepped == [wanted]


def test_a_leader_that_leads_anew_says_so_and_goes_on_where_it_was() -> None:
    receiver = End()
    leader = begun(367, 1, 18, receiver)
    wanted = request(meta(367, 1), 1, 19)
    leader.mover.send(wanted, 0)
    leader.mover.send(wanted, 0)
    assert [type(parcel.body) for parcel in leader.sent].count(SnapshotOffer) == 1, "once a term"
    chunks = []
    for now_ms in range(1, 40):  # Less than the time after which it offers by itself.
        leader.mover.poll(now_ms)
        chunks += [p.body for p in leader.sent if isinstance(p.body, SnapshotChunk)]
        exchange(leader, receiver, now_ms)
    assert receiver.stepped == [wanted]
    assert chunks
    assert all(chunk.offset for chunk in chunks), "nothing is sent twice"


def test_a_leader_that_is_none_any_more_does_not_break_off_what_the_new_one_sends() -> None:
    receiver = End()
    old = End(meta(367, 1))
    old.mover.send(request(meta(367, 1), 3, 18), 0)
    leader = begun(358, 1, 19, receiver)
    exchange(old, receiver, 0)
    finish(leader, receiver)
    assert [stepped.meta.index for stepped in receiver.stepped] == [358]


def test_a_late_offer_of_an_older_snapshot_does_not_hide_the_newer_one() -> None:
    receiver = End()
    leader = begun(367, 1, 19, receiver)
    older = End(meta(358, 1))
    older.mover.send(request(meta(358, 1), 1, 19), 0)
    older.mover.poll(0)
    (late,) = older.take()
    assert isinstance(late.body, SnapshotOffer)
    receiver.mover.on_parcel(late, 0)
    finish(leader, receiver)
    assert [stepped.meta.index for stepped in receiver.stepped] == [367]


def whole(receiver: End) -> tuple[End, SnapshotRequest]:
    """A leader whose snapshot has come wholly and is being checked."""
    leader = End(meta(367, 1))
    wanted = request(meta(367, 1), 1, 18)
    leader.mover.send(wanted, 0)
    for now_ms in range(40):
        talk(leader, receiver, now_ms)
    assert receiver.aside.begin()
    return leader, wanted


def talk(leader: End, receiver: End, now_ms: int) -> None:
    """As `exchange`, while the receiver's other thread is at work."""
    leader.mover.poll(now_ms)
    for parcel in leader.take():
        receiver.mover.on_parcel(parcel, now_ms)
    for parcel in receiver.take():
        leader.mover.on_parcel(parcel, now_ms)


def test_a_sender_is_patient_while_its_snapshot_is_checked() -> None:
    receiver = End()
    leader, wanted = whole(receiver)
    for now_ms in range(40, 50 * STREAM.timeout_ms):
        talk(leader, receiver, now_ms)
    assert not any(moved.failed for moved in leader.mover.news)
    receiver.aside.run()
    receiver.aside.end()
    talk(leader, receiver, 10_000)
    assert receiver.stepped == [wanted]
    assert leader.mover.news[-1].done


def test_what_is_received_is_synced_now_and_then() -> None:
    receiver = End(sync_bytes=3 * STREAM.chunk_bytes)
    leader = End(meta(367, 1))
    leader.mover.send(request(meta(367, 1), 1, 18), 0)
    most = worked = 0
    for now_ms in range(40):
        talk(leader, receiver, now_ms)
        most = max(most, receiver.disk.unsynced_bytes())
        while receiver.aside.begin():
            worked += 1
            receiver.aside.run()
            receiver.aside.end()
    assert receiver.stepped
    assert worked > 3
    assert most <= 4 * STREAM.chunk_bytes


def test_the_offer_of_a_new_leader_waits_until_what_is_here_is_checked() -> None:
    receiver = End()
    _, wanted = whole(receiver)
    mark = meta(358, 1)
    leader = End(mark)
    newer = request(mark, 2, 19)
    leader.mover.send(newer, 0)
    for now_ms in range(1, 2 * STREAM.timeout_ms):
        talk(leader, receiver, now_ms)
    receiver.aside.run()
    receiver.aside.end()
    assert receiver.stepped == [wanted], "Raft knows whether it is too late"
    for now_ms in range(2 * STREAM.timeout_ms, 10 * STREAM.timeout_ms):
        exchange(leader, receiver, now_ms)
    assert receiver.stepped == [wanted, newer]


def test_what_is_checked_for_a_replica_that_was_let_go_is_not_installed() -> None:
    receiver = End()
    leader, wanted = whole(receiver)
    receiver.mover.forget(GROUP)
    receiver.aside.run()
    receiver.aside.end()
    assert receiver.stepped == []
    assert receiver.disk.list("snapshots") == [], "nobody would ever go on with it"
    for now_ms in range(1, 10 * STREAM.timeout_ms):
        exchange(leader, receiver, now_ms)
    assert receiver.stepped == [wanted], "it may come again, for the next one"


def until_given_up(leader: End, receiver: End) -> None:
    """The leader goes on until it reports that nothing comes of it."""
    for now_ms in range(1, 2 * STREAM.timeout_ms * STREAM.timeouts_max):
        exchange(leader, receiver, now_ms)
        if leader.mover.news[-1:] == [Moved(GROUP, RECEIVER, failed=True)]:
            return
    raise AssertionError("it goes on for ever")


def test_what_there_is_no_room_for_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = End()
    monkeypatch.setattr(receiver.store, "write_part", None)
    leader = End(meta(367, 1))
    wanted = request(meta(367, 1), 1, 18)
    size = leader.store.name_of(GROUP, wanted.meta).size
    receiver.disk.capacity_bytes = size - 1
    leader.mover.send(wanted, 0)
    until_given_up(leader, receiver)
    assert receiver.disk.list("snapshots") == []
    assert not leader.mover.sends(GROUP)
    monkeypatch.undo()
    receiver.disk.capacity_bytes = size
    leader.mover.send(wanted, 10_000)
    for now_ms in range(10_000, 10_100):
        exchange(leader, receiver, now_ms)
    assert receiver.stepped == [wanted]


def test_a_receiver_whose_disk_fills_up_keeps_none_of_it() -> None:
    """The log needs the last bytes; and the leader may not wait for ever."""
    receiver = End()
    leader = begun(367, 1, 18, receiver)
    assert receiver.disk.used_bytes()
    receiver.disk.capacity_bytes = receiver.disk.used_bytes()
    exchange(leader, receiver, 1)
    assert receiver.disk.list("snapshots") == []
    until_given_up(leader, receiver)
    assert receiver.disk.list("snapshots") == []


def test_the_rest_of_what_an_earlier_process_has_received_may_have_no_room() -> None:
    receiver = End()
    begun(367, 1, 18, receiver)
    again = End(disk=receiver.disk)
    assert again.disk.list("snapshots"), "it would go on where it was"
    again.disk.capacity_bytes = again.disk.used_bytes() + 1000
    leader = End(meta(367, 1))
    leader.mover.send(request(meta(367, 1), 1, 18), 0)
    until_given_up(leader, again)
    assert again.disk.list("snapshots") == []


@pytest.mark.parametrize("restarted", [False, True])
def test_what_has_come_of_a_snapshot_goes_when_the_log_has_it_all(
    restarted: bool,  # noqa: FBT001 - a parameter of the test.
) -> None:
    receiver = End()
    begun(367, 1, 18, receiver)
    if restarted:
        receiver = End(disk=receiver.disk)
    receiver.mover.drop(GROUP, 366)
    receiver.mover.drop(GroupId(2), 400)
    assert receiver.disk.list("snapshots")
    receiver.mover.drop(GROUP, 367)
    assert receiver.disk.list("snapshots") == []


def test_what_is_checked_is_not_removed_meanwhile() -> None:
    receiver = End()
    leader, wanted = whole(receiver)
    receiver.mover.drop(GROUP, 400)
    exchange(leader, receiver, 1)
    receiver.aside.run()
    receiver.aside.end()
    assert receiver.stepped == [wanted]


def test_an_offer_of_what_the_log_has_by_now_needs_nothing_to_be_sent() -> None:
    receiver = End()
    leader = begun(367, 1, 18, receiver)
    receiver.last = 370
    exchange(leader, receiver, STREAM.timeout_ms)
    exchange(leader, receiver, STREAM.timeout_ms)
    assert receiver.stepped == [request(meta(367, 1), 1, 18)], "Raft tells the leader what is here"
    assert receiver.disk.list("snapshots") == []
    assert leader.mover.news[-1].done
