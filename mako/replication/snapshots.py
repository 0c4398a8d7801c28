"""Snapshots on their way between the processes of a group, for all replicas of a process.

Raft's SnapshotRequest says which snapshot a follower needs. It travels with the offer; the receiver
keeps it until it has the whole snapshot, checked and safe on its disk, and only then steps it:

    leader      SnapshotRequest ─▶ SnapshotSender ── parcels ──▶ SnapshotReceiver
    follower                          whole ─▶ checked, aside ─▶ step(SnapshotRequest) ─▶ Ready

While it is checked nothing else of its group is received: who offers another one comes back to it.
What there is no room for is not begun, and is removed where there is none for the rest: it would
keep the last bytes of the disk from the log. The sender is not answered, and gives up in the end.
What is lost is asked for again by the streams themselves (mako.storage.snapshot_stream). Of two
leaders the one of the higher term is obeyed, whose snapshot may be the older one.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from mako.entry import GroupId, NodeId, SnapshotMeta
from mako.raft.message import SnapshotRequest
from mako.replication.aside import Aside
from mako.storage.errors import DiskFull, FileMissing
from mako.storage.snapshot_format import SnapshotHeader
from mako.storage.snapshot_store import SnapshotStore
from mako.storage.snapshot_stream import (
    Action,
    InstallSnapshot,
    ReadChunk,
    SnapshotChunk,
    SnapshotDone,
    SnapshotName,
    SnapshotOffer,
    SnapshotReceiver,
    SnapshotSender,
    SnapshotWanted,
    StreamSettings,
    WriteChunk,
)
from mako.storage.token_bucket import TokenBucket

Body = SnapshotOffer | SnapshotChunk | SnapshotWanted | SnapshotDone


@dataclass(slots=True)
class SnapshotParcel:
    """A piece of a stream between two nodes of a group."""

    group: GroupId
    source: NodeId
    target: NodeId
    body: Body
    #: With an offer: what the receiver steps in the end.
    request: SnapshotRequest | None = None


@dataclass(slots=True)
class _Sending:
    sender: SnapshotSender
    request: SnapshotRequest


@dataclass(slots=True)
class _Receiving:
    receiver: SnapshotReceiver
    request: SnapshotRequest
    #: Bytes written since it was synced, and whether another thread does that.
    unsynced: int = 0
    synced: bool = False
    #: All of it is here and another thread has the file.
    checked: bool = False
    #: Times that the whole was not what was offered.
    bad: int = 0


@dataclass(slots=True)
class Moved:
    """News of a snapshot on its way to `target`; neither flag: it moves."""

    group: GroupId
    target: NodeId
    failed: bool = False
    done: bool = False
    #: The receiver has read it all and refuses it: check it.
    refused: bool = False


class SnapshotMover:
    """All snapshots that come and go. `put(parcel)` sends; `step(request)` is for Raft; `now_ms` is
    a clock that never steps, or nothing would be sent for as long as one was set back."""

    def __init__(
        self,
        store: SnapshotStore,
        settings: StreamSettings,
        rate_per_s: int,
        aside: Aside,
        sync_bytes: int,
        *,
        put: Callable[[SnapshotParcel], None],
        step: Callable[[SnapshotRequest], None],
        newest: Callable[[GroupId], int],
    ) -> None:
        self._store = store
        self._settings = settings
        self._rate_per_s = rate_per_s
        self._aside = aside
        self._sync_bytes = sync_bytes
        self._bucket: TokenBucket | None = None
        self._put = put
        self._step = step
        # Up to which index a group has all here, in a snapshot or the log.
        self._newest = newest
        self._sending: dict[tuple[GroupId, NodeId], _Sending] = {}
        self._receiving: dict[GroupId, _Receiving] = {}
        #: What Raft is to be told; the driver takes it.
        self.news: list[Moved] = []

    def sends(self, group: GroupId) -> bool:
        """Whether a snapshot of the group is under way."""
        return any(key[0] == group for key in self._sending)

    def sent(self, group: GroupId) -> list[SnapshotMeta]:
        """The snapshots of the group that are under way: they must not be removed now."""
        return [one.request.meta for key, one in self._sending.items() if key[0] == group]

    def forget(self, group: GroupId) -> None:
        """The replica is let go."""
        for key in [key for key in self._sending if key[0] == group]:
            del self._sending[key]
        self._receiving.pop(group, None)

    def drop(self, group: GroupId, index: int) -> None:
        """The group has all up to `index` here: what has come of such a snapshot may go."""
        receiving = self._receiving.get(group)
        if receiving is not None and receiving.checked:
            return  # The file is another thread's.
        if receiving is not None and receiving.request.meta.index <= index:
            del self._receiving[group]
        self._store.drop_parts(group, index)

    # --- Sending -------------------------------------------------------------------------------

    def send(self, request: SnapshotRequest, now_ms: int) -> None:
        """Raft wants the follower to have this snapshot. One that is under way goes on."""
        key = request.group, request.target
        known = self._sending.get(key)
        if known is not None and known.request.meta == request.meta:
            if known.request.term != request.term:
                # It leads anew. The receiver would step the request of the old term in the end,
                # refuse that, and begin at nothing: it is told, and says where it is.
                offer = SnapshotOffer(known.sender.name)
                self._put(SnapshotParcel(key[0], request.source, key[1], offer, request))
            known.request = request
            return
        try:
            name = self._store.name_of(request.group, request.meta)
        except FileMissing:
            # A newer one took its place: Raft asks again.
            self.news.append(Moved(request.group, request.target, failed=True))
            return
        if self._bucket is None:
            burst = max(self._settings.window_bytes, 1)
            self._bucket = TokenBucket(self._rate_per_s, burst, now_ms)
        sender = SnapshotSender(name, self._bucket, self._settings, now_ms)
        self._sending[key] = _Sending(sender, request)

    def poll(self, now_ms: int) -> None:
        """Send what may be sent now. To be called with every tick, and after `on_parcel`."""
        for key, sending in list(self._sending.items()):
            self._poll(key, sending, now_ms)

    def _poll(self, key: tuple[GroupId, NodeId], sending: _Sending, now_ms: int) -> None:
        group, target = key
        source = sending.request.source
        sender = sending.sender
        while (todo := sender.poll(now_ms)) is not None:
            if isinstance(todo, ReadChunk):
                try:
                    data = self._store.read(sender.name, todo.offset, todo.length)
                except FileMissing:
                    data = b""
                if len(data) != todo.length:
                    sender.failed = True
                    break
                body: Body = sender.chunk(todo, data)
                self._put(SnapshotParcel(group, source, target, body))
            else:
                self._put(SnapshotParcel(group, source, target, todo, sending.request))
        if sender.done or sender.failed:
            del self._sending[key]
            self.news.append(Moved(group, target, failed=sender.failed, done=sender.done))

    # --- Both ----------------------------------------------------------------------------------

    def on_parcel(self, parcel: SnapshotParcel, now_ms: int) -> None:
        body = parcel.body
        if isinstance(body, SnapshotOffer | SnapshotChunk):
            self._on_data(parcel, body)
            return
        key = parcel.group, parcel.source
        sending = self._sending.get(key)
        if sending is None or sending.request.source != parcel.target:
            return
        if isinstance(body, SnapshotWanted):
            sending.sender.on_wanted(body, now_ms)
            self.news.append(Moved(*key))
        else:
            sending.sender.on_done(body)
            if sending.sender.failed:
                self.news.append(Moved(*key, refused=True))
        self._poll(key, sending, now_ms)

    # --- Receiving -----------------------------------------------------------------------------

    def _on_data(self, parcel: SnapshotParcel, body: SnapshotOffer | SnapshotChunk) -> None:
        group = parcel.group
        receiving = self._receiving.get(group)
        request = parcel.request
        if receiving is not None and request is not None:
            if _age(request) < _age(receiving.request):
                return  # Late, or of a leader that is none any more.
            if receiving.checked and request.meta != receiving.request.meta:
                return
            if request.term > receiving.request.term and request.meta != receiving.request.meta:
                # The new leader decides, even if its snapshot is the older one: nobody else may
                # ever send the rest of what is here.
                receiving = None
            else:
                receiving.request = request
        if receiving is None:
            if request is None:
                return  # The offer was before a restart: the sender comes back to it.
            receiver = SnapshotReceiver(group, self._newest(group), self._store.partial)
            receiving = self._receiving[group] = _Receiving(receiver, request)
        receiving.receiver.index = max(receiving.receiver.index, self._newest(group))
        actions = receiving.receiver.step(body)
        if isinstance(body, SnapshotOffer) and not self._has_room(actions):
            self._give_up(receiving, body.name)
            return
        self._carry_out(receiving, actions)

    def _has_room(self, actions: list[Action]) -> bool:
        """Whether there is room for the rest of what was offered."""
        wanted = [action for action in actions if isinstance(action, SnapshotWanted)]
        return all(self._store.has_room(one.name.size - one.offset) for one in wanted)

    def _give_up(self, receiving: _Receiving, name: SnapshotName) -> None:
        """The disk is full. What is here goes, and the next offer begins anew."""
        self._receiving.pop(receiving.request.group, None)
        self._store.drop_part(name)

    def _carry_out(self, receiving: _Receiving, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, WriteChunk):
                try:
                    self._store.write_part(action.name, action.offset, action.data)
                except DiskFull:
                    self._give_up(receiving, action.name)
                    return
                self._sync(receiving, action.name, len(action.data))
            elif isinstance(action, InstallSnapshot):
                self._check(receiving, action.name)
            else:
                self._answer(receiving, action)

    def _sync(self, receiving: _Receiving, name: SnapshotName, written: int) -> None:
        """Sync it now and then: the log shares the disk, and would have to wait in the end."""
        receiving.unsynced += written
        if receiving.synced or receiving.unsynced < self._sync_bytes:
            return
        receiving.synced, receiving.unsynced = True, 0

        def sync() -> None:
            with suppress(FileMissing):  # Another one is received instead.
                self._store.sync_part(name)

        def then(_: None) -> None:
            receiving.synced = False

        self._aside.put(sync, then)

    def _check(self, receiving: _Receiving, name: SnapshotName) -> None:
        receiving.checked = True

        def check() -> SnapshotHeader | DiskFull | FileMissing | None:
            try:
                return self._store.check_part(name)
            except (DiskFull, FileMissing) as error:
                return error

        self._aside.put(check, lambda found: self._install(receiving, name, found))

    def _install(
        self,
        receiving: _Receiving,
        name: SnapshotName,
        found: SnapshotHeader | DiskFull | FileMissing | None,
    ) -> None:
        group = receiving.request.group
        if self._receiving.get(group) is not receiving:
            # The replica was let go meanwhile; another one may receive the same anew.
            if group not in self._receiving:
                with suppress(FileMissing):
                    self._store.keep_part(name, good=False)
            return
        receiving.checked = False
        if isinstance(found, DiskFull | FileMissing):
            # Writing a file again takes room, on some disks.
            self._give_up(receiving, name)
            return
        good = found is not None
        try:
            self._store.keep_part(name, good=good)
        except DiskFull:
            self._give_up(receiving, name)
            return
        answers = receiving.receiver.installed(good=good)
        if not good:
            receiving.bad += 1
            if receiving.bad > 1:
                # Once may be a power cut here, twice is the sender's copy.
                self._answer(receiving, SnapshotDone(name, accepted=False))
                self._receiving.pop(group, None)
                return
        self._carry_out(receiving, answers)

    def _answer(self, receiving: _Receiving, body: SnapshotWanted | SnapshotDone) -> None:
        request = receiving.request
        self._put(SnapshotParcel(request.group, request.target, request.source, body))
        if isinstance(body, SnapshotDone) and body.accepted:
            # Whether Raft still wants it or not, the file is no longer this stream's.
            self._receiving.pop(request.group, None)
            self._store.drop_parts(request.group, body.name.index)
            if request.meta.index == body.name.index:
                self._step(request)


def _age(request: SnapshotRequest) -> tuple[int, int]:
    """Grows with each snapshot that leaders offer, whatever became of those before."""
    return request.term, request.meta.index
