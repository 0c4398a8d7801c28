"""What a client does, without sockets, clocks and threads: one connection at a time, to whoever
leads.

      add(call) ---> queued ---> take(): bytes to send      feed(bytes) ---> calls change
                        ^                                        |
                        +------- NOT_LEADER, BUSY, lost ---------+

The owner dials what `dial` says, sends what `take` returns, feeds what it receives, tells when the
connection is lost, calls `expire` when `next_time` has come, and `quiet` when it has listened in
vain. A call ends in exactly one way:

    C1  A call that was sent, may have an effect and is not run once is never sent again, unless
        the server said that nothing was executed (NOT_LEADER, BUSY, `STOPPED`) or all was undone
        (DISCARDED).
    C2  What belongs to a connection (a transaction, a snapshot) ends with it.
    C3  Every way around, to another server and back, waits longer than the one before, up to a
        second (`mako.client.remote.route`); the deadline of each call bounds it.
    C4  A call that was sent and never answered may have run, and may last. It is asked again only
        for what is durable, not early: the answer of a later run tells of that run, DISCARDED too,
        and one that only found the row of the first can be discarded while the first lasts. Any
        other failure ends it as Unknown: the first may still wait behind a long procedure, and run.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Sequence
from typing import Final

from mako.call_format import IS_EARLY, IS_NOTICE
from mako.client.remote.calls import (
    STOPPED,
    Call,
    State,
    ended_with_its_connection,
    failure,
    is_commit,
    is_wait,
    late,
    lost_with_its_connection,
    may_last,
    nobody_knows,
    refused,
    request_of,
)
from mako.client.remote.deadlines import Deadlines
from mako.client.remote.directory import Directory
from mako.client.remote.route import PAUSE_MAX, PAUSE_MIN, Route
from mako.errors import (
    Busy,
    Closed,
    ConnectionLost,
    Discarded,
    Error,
    NotLeader,
    Rejected,
    Unavailable,
)
from mako.ids import Outcome, Status
from mako.placement import ShardMap
from mako.wire.errors import WireError
from mako.wire.frame import LATER, FrameKind, FrameReader, goodbye_reason
from mako.wire.hello import PROCESS_NONE, Hello, Role, expect_hello, hello_parts
from mako.wire.requests import (
    REPLY_BODY_MAX,
    ClientKind,
    Operation,
    Reply,
    frame,
    pack_batch,
    pack_procedure,
    pack_request,
    read_results,
    request_frames,
    unpack_replies,
)

SOFTWARE: Final = "mako client 0.1.0"
#: Bytes of one frame of calls, about.
BATCH_BYTES_MAX: Final = 256 << 10
#: Calls, and bytes of calls, that are under way at a time; more wait here.
FLYING_MAX: Final = 2048
FLYING_BYTES_MAX: Final = 4 << 20
#: Seconds that a server may take to say what it has, or to answer what is under way once it has
#: said that it does not lead.
PATIENCE: Final = 2.0
#: Seconds of silence after which it is left, although asked after `PATIENCE` whether it is there.
SILENCE_MAX: Final = 6.0


class Core:
    """A client of a cluster."""

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        chance: random.Random,
        cluster: int = 0,
        name: str = "client",
        stay: bool = False,
        partition: int = 0,
        shards: ShardMap | None = None,
        silence_max: float | None = None,
    ) -> None:
        """With `stay` it talks to whichever server it reaches, leader or not.

        `shards` is the map of another core of the same cluster: a server that has another one is
        not talked to. `silence_max` is SILENCE_MAX, or less.
        """
        self.client: Final = chance.getrandbits(62) | 1
        self._chance = chance
        self._route = Route(addresses, chance)
        self._stay = stay
        self.partition: Final = partition
        self._shards = shards
        self._hello = Hello(
            cluster, Role.CLIENT, PROCESS_NONE, name, self.client, SOFTWARE, partition=partition
        )
        #: Of the server that does what is asked; and of the last one that was asked, which may
        #: not lead.
        self.directory: Directory | None = None
        self.about: Directory | None = None
        self._reader = FrameReader(REPLY_BODY_MAX)
        #: Counts connections; 0 while there is none.
        self.connection = 0
        self._connections = 0
        self._greeted = False
        self._ready = False
        # The server does not lead. It is left for another one, or it will say who leads.
        self._leaving = False
        self._listening = False
        # Until when a server may take to say what it has; to say who leads; or, once it is to be
        # left, to answer what it was asked before.
        self._patient_until = 0.0
        # Something was sent and nothing has come since: seconds that the owner has listened, and
        # whether the server was asked if it is there.
        self._unanswered = False
        self._quiet = 0.0
        self._silence_max = SILENCE_MAX if silence_max is None else silence_max
        self._pinged = False
        self._last_id = 0
        self._output: list[bytes] = []
        self._queue: deque[Call] = deque()
        self._later: list[tuple[float, int, Call]] = []
        self._flying: dict[int, Call] = {}
        self._flying_bytes = 0
        self._deadlines = Deadlines()
        #: The highest timestamp of which it was told that all up to it that it saw is durable.
        self.acknowledged = 0
        self._once: list[int] = []
        self._once_open: set[int] = set()
        self.closed: Exception | None = None
        #: The last reason a connection failed, for messages.
        self.trouble = ""

    # --- asking -------------------------------------------------------------------------

    def next_id(self) -> int:
        """A number for a call that is then added."""
        self._last_id += 1
        return self._last_id

    def add(self, call: Call) -> None:
        """Ask for something. Closed if the client is closed."""
        if self.closed is not None:
            raise Closed(str(self.closed))
        if call.bound and call.bound != self.connection:
            raise lost_with_its_connection(call)
        assert call.id, "numbered by next_id"
        if call.once:
            heapq.heappush(self._once, call.id)
            self._once_open.add(call.id)
        self._deadlines.add(call)
        self._queue.append(call)

    @property
    def has_room(self) -> bool:
        """Whether another call would be sent at once; otherwise it waits here."""
        return (
            len(self._flying) + len(self._queue) < FLYING_MAX
            and self._flying_bytes < FLYING_BYTES_MAX
        )

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._flying

    @property
    def ready(self) -> bool:
        """Whether calls can be sent."""
        return self._ready

    @property
    def queued(self) -> int:
        return len(self._queue)

    # --- connections --------------------------------------------------------------------

    def dial(self, now: float) -> str | None:
        """The address to connect to now, or None: there is a connection, or it is too early."""
        if self.connection or self.closed is not None or now < self._route.due:
            return None
        return self._route.next()

    def connected(self, now: float) -> None:
        """The owner has connected to what `dial` said."""
        self._connections += 1
        self.connection = self._connections
        self._reader = FrameReader(REPLY_BODY_MAX)
        self._greeted = self._ready = self._leaving = self._listening = False
        self._patient_until = now + PATIENCE
        self._heard()
        self._output = [b"".join(hello_parts(self._hello))]

    def leaves(self, now: float) -> bool:
        """Whether the owner must close the connection now and call `left`."""
        if not self.connection:
            return False
        if self._ready:
            if self._quiet < self._silence_max or not self._pinged:
                return False
            self.trouble = "a server that was asked says nothing any more"
            return True
        if now >= self._patient_until and not self._listening:
            self.trouble = self.trouble or "a server accepted the connection and says nothing"
            return True
        # Whatever it was asked it will answer, if only by NOT_LEADER; what became of a commit it
        # knows a little later. The rest of what is bound to the connection ends with it.
        return self._leaving and not any(
            is_commit(call) or not call.bound for call in self._flying.values()
        )

    def left(self, now: float) -> None:
        """The owner has closed the connection, as `leaves` said."""
        if not self._leaving:  # It was not sent away.
            self._route.mute(now)
        self._drop()

    def lost(self, now: float, trouble: str = "") -> None:
        """The connection is lost, or could not be made."""
        self.trouble = trouble or self.trouble
        if not self._leaving:
            self._route.failed(now, settled=self._ready)
        self._drop()

    def _drop(self) -> None:
        """There is no connection any more, and nothing on its way."""
        self.connection = 0
        self._ready = self._greeted = self._leaving = self._listening = False
        self._output = []
        flying, self._flying, self._flying_bytes = self._flying, {}, 0
        again: list[Call] = []
        for call in flying.values():
            if call.bound:  # C2
                self._end(call, ended_with_its_connection(call))
            elif call.state is State.EARLY or not call.safe:  # C1
                self._end(call, nobody_knows(call))
            else:
                call.state = State.QUEUED
                call.why = ConnectionLost
                call.tries += 1
                call.ask_again()
                again.append(call)
        for call in [call for call in self._queue if call.bound]:
            self._queue.remove(call)
            self._end(call, ended_with_its_connection(call))
        self._queue.extendleft(reversed(again))
        for call in self._queue:
            call.why = call.why or ConnectionLost

    def _not_here(self, leader: str, now: float) -> None:
        """This server does not lead; `leader` does, as far as it knows."""
        if self._leaving:
            return
        if self._route.told(leader):
            self._leave(now)
            return
        self._listening = True
        self._ready = False
        self._patient_until = now + self._route.pause()

    def _hear(self, leader: str, now: float) -> None:
        """This server says, unasked, who leads. If its description is on the way, that says so."""
        if self._stay:
            return
        if self._ready:
            self._not_here(leader, now)
        elif self._leaving:
            self._route.news(leader)  # For when it is left.
        elif self._listening and leader == self._route.here:
            self._describe()
            self._patient_until = now + PATIENCE
        elif self._listening and self._route.news(leader):
            self._leave(now)

    def _leave(self, now: float) -> None:
        """Leave this server once it has answered what it was asked."""
        self._leaving = True
        self._ready = self._listening = False
        self._patient_until = now + PATIENCE

    # --- output -------------------------------------------------------------------------

    def take(self, now: float) -> bytes:
        """What is to be sent now."""
        if not self.connection:
            return b""
        while self._later and self._later[0][0] <= now:
            self._queue.append(heapq.heappop(self._later)[2])
        if self._ready and self._queue:
            self._fill()
        output, self._output = self._output, []
        if output:
            self._unanswered = True
        return b"".join(output)

    def _fill(self) -> None:
        """Put calls from the queue into frames, as far as there is room."""
        packed, requests, size = list[bytes](), list[bytes](), 0
        queue, flying = self._queue, self._flying
        while queue and len(flying) < FLYING_MAX and self._flying_bytes < FLYING_BYTES_MAX:
            call = queue.popleft()
            if call.state is State.ENDED:
                continue
            if call.packed:
                packed.append(call.packed)
                size += len(call.packed)
            elif isinstance(request := request_of(call), Exception):
                self._end(call, request)
                continue
            else:
                requests.append(request)
            call.size = len(call.packed or requests[-1])
            self._flying_bytes += call.size
            call.state = State.SENT
            flying[call.id] = call
            if size > BATCH_BYTES_MAX:
                self._put_batch(packed)
                packed, size = [], 0
        if packed:
            self._put_batch(packed)
        self._output += request_frames(requests)

    def _put_batch(self, packed: list[bytes]) -> None:
        body = pack_batch(self.client, self._confirmed(), packed)
        self._output.append(frame(ClientKind.CALL, body))

    def _confirmed(self) -> int:
        """The lowest id that may be sent again; 0 if nothing was ever run once."""
        if not self._once and not self._once_open:
            return 0
        while self._once and self._once[0] not in self._once_open:
            heapq.heappop(self._once)
        return self._once[0] if self._once else self._last_id + 1

    # --- input --------------------------------------------------------------------------

    def feed(self, data: bytes, now: float) -> None:
        """Take what has come. WireError: close the connection and say `lost`."""
        self._heard()
        for kind, _, body in self._reader.feed(data):
            if kind == ClientKind.RESULT:
                self._results(body, now)
            elif kind == ClientKind.REPLY:
                for reply in unpack_replies(bytes(body)):
                    self._reply(reply, now)
            elif kind == ClientKind.REDIRECT:
                self._hear(bytes(body[:256]).decode(errors="replace"), now)
            elif kind == FrameKind.HELLO_REPLY and not self._greeted:
                self._greet(expect_hello(kind, body, reply=True))
            elif kind == FrameKind.GOODBYE:
                self._goodbye(goodbye_reason(body))
            else:
                raise WireError(f"a server sends no frame of kind {kind}")
        self._unanswered = bool(self._flying)

    def _heard(self) -> None:
        """The server is there."""
        self._unanswered = self._pinged = False
        self._quiet = 0.0

    def _greet(self, server: Hello) -> None:
        if server.partition != self.partition:
            raise WireError(f"the server is of a version without a partition {self.partition}")
        self._greeted = True
        self._describe()

    def _describe(self) -> None:
        self._output += request_frames([pack_request([0, int(Operation.DESCRIBE)])])

    def _goodbye(self, reason: str) -> None:
        if not self._greeted and not reason.endswith(LATER):
            # It will say the same the next time: nobody needs to wait for it.
            self.fail(Rejected(f"the server refuses this client: {reason}"))
        raise WireError(f"the server closed the connection: {reason}")

    def fail(self, error: Exception) -> None:
        """End everything: what may last with Unknown, the rest with `error`."""
        for call in [*self._queue, *(each[2] for each in self._later), *self._flying.values()]:
            self._end(call, nobody_knows(call) if may_last(call) else error)
        self._queue.clear()
        self._later.clear()
        self._flying.clear()
        self._flying_bytes = 0

    def close(self) -> None:
        """Nothing more is asked, and what was is over."""
        if self.closed is None:
            self.closed = Closed("the database is closed; connect again")
            self.fail(self.closed)

    def _described(self, reply: Reply, now: float) -> None:
        if reply.status != 0 or not isinstance(reply.value, dict):
            raise WireError("the server does not describe itself")
        if self._leaving:
            return  # Calls that wait for it to be left must not be sent to it.
        directory = Directory(reply.value)
        if self._shards not in (None, directory.shards):
            raise WireError("the server has another shard map than others; give all the same files")
        self.about = directory
        stays = self._stay and directory.hosted
        if not stays:
            self._route.learn(directory.places[self.partition])
        if not directory.leads and not stays:
            for call in self._queue:
                call.why = NotLeader
            self._not_here(directory.leader, now)
            return
        known, self.directory = self.directory, directory
        if known is not None and known.procedures != directory.procedures:
            for call in [*self._queue, *(each[2] for each in self._later)]:
                self._pack_again(call)
        self._ready = True
        self._listening = False
        self._route.settled()

    def _pack_again(self, call: Call) -> None:
        """This server numbers its procedures in another way."""
        if call.source is None or self.directory is None:
            return
        name, arguments = call.source
        known = self.directory.procedures.get(name)
        if known is None:
            self._unqueue(call)
            self._end(call, refused(call, failure(call, Status.NO_PROCEDURE, 0)))
        else:
            call.packed = pack_procedure(known[0], call.id, call.packed[5], arguments)

    def _results(self, body: memoryview, now: float) -> None:
        flying = self._flying
        once = self._once_open
        for number, status, flags, timestamp, value, detail, data in read_results(body):
            call = flying.get(number)
            if call is None:  # It was given up.
                continue
            if flags & IS_EARLY:
                call.state = State.EARLY
                call.timestamp, call.value = timestamp, value
            elif status == 0:
                self._forget(call)
                if not flags & IS_NOTICE:
                    call.timestamp, call.value, call.data = timestamp, value, data
                call.state = State.ENDED
                self.acknowledged = max(self.acknowledged, call.timestamp)
                if call.once:
                    once.discard(number)
            else:
                self._forget(call)
                if status < Status.NOT_LEADER:  # What it has seen, to fail, is durable.
                    self.acknowledged = max(self.acknowledged, timestamp)
                self._not_done(call, status, detail, "", now)
                continue
            if call.on_change is not None:
                call.on_change()

    def _reply(self, reply: Reply, now: float) -> None:
        if reply.id == 0:
            self._described(reply, now)
            return
        call = self._flying.get(reply.id)
        if call is None:
            return
        self._forget(call)
        if reply.status == 0:
            call.timestamp, call.value = reply.timestamp, reply.value
            self.acknowledged = max(self.acknowledged, reply.timestamp)
            call.connection = self.connection
            self._end(call, None)
            return
        if reply.status == Status.NOT_LEADER:
            self._hear(str(reply.text), now)
        self._not_done(call, reply.status, 0, str(reply.text), now)

    def _not_done(self, call: Call, status: int, detail: int, text: str, now: float) -> None:
        """An answer that is no success: again, or the end."""
        call.detail = detail
        if call.bound:
            if status == Status.NOT_LEADER:
                self._end(call, lost_with_its_connection(call))
            else:
                self._end(call, failure(call, status, detail, text))
        elif status == Status.NOT_LEADER:
            self._again(call, NotLeader, now if self._stay else 0)
        elif status == Status.BUSY:
            call.said = text
            self._again(call, Busy, now)
        elif status == Outcome.UNAVAILABLE:
            self._again(call, Unavailable, now)
        elif is_wait(call) and status in (Status.DISCARDED, Status.UNKNOWN):
            # Of another leader the watermark passes any timestamp, which says nothing.
            self._end(call, failure(call, status, detail, text))
        elif status == Status.DISCARDED and not call.early:  # Nobody was told anything.
            self._again(call, Discarded, now)
        elif status == Status.UNKNOWN and call.safe and not call.early:
            call.ask_again()
            self._again(call, ConnectionLost, now)
        elif call.packed and (why := STOPPED.get(status)) is not None:
            self._again(call, why, now)
        else:
            self._end(call, refused(call, failure(call, status, detail, text)))

    def _again(self, call: Call, why: type[Error], now: float) -> None:
        """Queue a call without an effect once more; with `now`, to ask the same, after a pause."""
        call.state = State.QUEUED
        call.why = why
        call.tries += 1
        if now == 0:  # Another server is asked, and that is what takes its time.
            self._queue.append(call)
            return
        call.pause = min(max(2 * call.pause, PAUSE_MIN), PAUSE_MAX)
        due = now + self._chance.uniform(call.pause / 2, call.pause)
        heapq.heappush(self._later, (due, call.id, call))

    def _end(self, call: Call, error: Exception | None) -> None:
        self._once_open.discard(call.id)
        if call.state is not State.ENDED:
            call.end(error)

    def _unqueue(self, call: Call) -> None:
        """It is not to be sent, now or later."""
        if call.state is not State.QUEUED:
            return
        if call in self._queue:
            self._queue.remove(call)
        else:
            self._later = [each for each in self._later if each[2] is not call]
            heapq.heapify(self._later)

    def _forget(self, call: Call) -> None:
        if self._flying.pop(call.id, None) is not None:
            self._flying_bytes -= call.size

    # --- time ---------------------------------------------------------------------------

    def next_time(self) -> float | None:
        """When `expire`, `dial` or `take` is to be called at the latest."""
        first = self._deadlines.next()
        times = [] if first is None else [first]
        if not self.connection:
            times.append(self._route.due)
        elif not self._ready:
            times.append(self._patient_until)
        elif self._later:
            times.append(self._later[0][0])
        return min(times) if times else None

    def expire(self, now: float) -> bool:
        """End the calls whose time is over; whether there were any."""
        if self._listening and now >= self._patient_until:
            self._route.in_vain()
            self._leave(now)
        ended = False
        while (call := self._deadlines.pop(now)) is not None:
            error = late(call)
            self._unqueue(call)
            self._forget(call)
            self._end(call, error)
            ended = True
        return ended

    def quiet(self, seconds: float) -> None:
        """The owner has listened for so long, and nothing has come. A host without power, or a
        process that is stopped, ends no connection."""
        if not (self._ready and self._unanswered):
            return
        self._quiet += seconds
        if self._quiet >= min(PATIENCE, self._silence_max / 2) and not self._pinged:
            self._pinged = True
            ping = pack_request([self.next_id(), int(Operation.PING)])
            self._output += request_frames([ping])  # That it is answered is the answer.

    def give_up(self, call: Call) -> None:
        """Nobody waits for a call any more; its answer will be ignored."""
        self._unqueue(call)
        self._forget(call)
        self._end(call, late(call))
