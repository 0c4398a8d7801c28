"""One connection of a client: frames in, frames out, no I/O.

    receive(bytes) -+-> CALL: straight into the rings of workers ------------> RESULT
                    +-> REQUEST: done here, at once ----> waits for the gate -> REPLY

What has a timestamp is answered when the gate has passed it, the watermarks of the partitions on
which it depends (DESIGN §6): the packed results by `Serving.collect`, the others by `settle`. When
the leadership ends, both are held until `judge`.
When the workers have no room, `blocked` is set and the owner stops reading until `resume` clears
it: that is the back-pressure.

What a client costs that asks for much and takes little is bounded (docs/wire.md). While it has not
taken `ANSWERS_MAX` bytes, its calls and requests wait (`mako.server.pending`), and with enough of
these nothing more of it is looked at. What comes of one request has a limit, too (`GET_BYTES_MAX`).

    REQUEST --room?--> done -----------> gate -> REPLY
       |                 ^  reads: while few bytes wait for the gate
       +-> pending ------+

What a GET without a session has found waits for the gate, and may be long. Such reads have a bound,
and a queue, of their own: a partition that stands still holds up them alone.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from mako.call_format import BATCH_BYTES
from mako.errors import Aborted, ConfigError, Error, SchemaError, outcome_of
from mako.ids import Status
from mako.net.limits import DEFAULT_LIMITS
from mako.server.asking import ANYWHERE, Asking, Job
from mako.server.backend import Backend
from mako.server.gated import EVERYBODY, NOBODY, Gated, Waiting, is_lost, parted
from mako.server.held import SAYS_NOTHING, Judged
from mako.server.moving import Move, Moves
from mako.server.pending import Pending, Request, busy, is_read, weight_of, work_of
from mako.server.sessions import Refused, Sessions
from mako.wire.errors import WireError
from mako.wire.frame import HELLO_BODY_MAX, Frame, FrameReader
from mako.wire.hello import (
    HELLO_TIMEOUT_S,
    Hello,
    check_hello,
    expect_hello,
    hello_parts,
)
from mako.wire.requests import (
    CLIENT_BODY_MAX,
    ClientKind,
    Operation,
    Reply,
    batch_head,
    frame,
    join_replies,
    pack_reply,
    unpack_requests,
)

#: Answers that wait for the gate, per connection.
WAITING_MAX: Final = 4096
#: Bytes that a client has not taken, beyond which calls and requests wait. One more answer is
#: about a value, the largest of which has 4 MiB, or a part of something.
ANSWERS_MAX: Final = 1 << 20
#: Bytes that reads without a session may have waiting for the gate before the next one waits.
READS_MAX: Final = 1 << 20
#: Bytes of requests that are pending: beyond it nothing more is read; and the same of reads that
#: wait for others to pass the gate: beyond it they are BUSY.
PENDING_MAX: Final = 256 << 10
#: Bytes of a frame of several answers.
FRAME_BYTES: Final = 256 << 10
#: Requests, and elements of their arguments, such as keys, that are done before others have their
#: turn: some milliseconds. One with more is done by itself.
TURN_WORK: Final = 512
#: Rows of requests that are deleted at once, when the client does not send them again.
FORGET_STEP: Final = 1024
#: As many times that at once; what is left stays until it is swept (`mako.server.sweeping`).
FORGET_STEPS_MAX: Final = 16
#: What comes of a request whose arguments are of another kind, or nested too deeply to be shown.
_WRONG: Final = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    OverflowError,
    RecursionError,
    struct.error,
)


class ClientConnection:
    """A client as the server sees it."""

    def __init__(
        self,
        backend: Backend,
        write: Callable[[bytes], None],
        now: float,
        untaken: Callable[[], int] = lambda: 0,
    ) -> None:
        """`write(frames)` takes what is to be sent, `untaken()` is how many bytes of that the
        client has not taken; when it has taken some, `resume` is called. `now` is monotonic, in
        seconds."""
        self._backend = backend
        self._write = write
        self._untaken = untaken
        self._frames = FrameReader(HELLO_BODY_MAX)
        self._began = now
        # When the unfinished frame began, or it was last not read from.
        self._partial_since = now
        self._greeted = False
        self._number: int | None = None
        self._client = 0
        self._confirmed = 0
        #: A batch that was not taken whole: (client, calls, bytes taken).
        self._rest: tuple[int, memoryview, int] | None = None
        #: Frames behind one that made it full.
        self._backlog: list[Frame] = []
        #: Requests, and reads without a session, that were not begun.
        self._pending = Pending()
        self._reads = Pending()
        #: Bytes that those reads have waiting in the three below.
        self._read = 0
        self._waiting: Gated[Reply] = Gated()
        #: The same of an epoch that has ended and that nobody has judged yet.
        self._held: list[Waiting[Reply]] = []
        #: And of one that was judged, as far as they depend on other partitions.
        self._due: Gated[Reply] = Gated()
        self._asking = Asking(backend)
        self._moves = Moves(backend, self._asking.sessions)
        self._jobs: list[tuple[int, Job]] = []
        #: What may be done of `TURN_WORK` yet.
        self._left = TURN_WORK
        self._taken_at = now
        self._open = True

    @property
    def blocked(self) -> bool:
        """Whether nothing more is to be read for now."""
        return bool(self._backlog) or self._is_full

    @property
    def _is_full(self) -> bool:
        return (
            self._rest is not None
            or self._pending.size >= PENDING_MAX
            or self._waiting_count >= WAITING_MAX
            or self._left <= 0
        )

    @property
    def _waiting_count(self) -> int:
        return len(self._waiting) + len(self._held) + len(self._due) + len(self._moves)

    @property
    def quiet(self) -> bool:
        """Whether nothing waits here, so that `settle` and `resume` have nothing to do."""
        waits = self._waiting or self._held or self._due or self._moves
        held_up = self._pending or self._reads or self._backlog or self._rest is not None
        return not waits and not held_up and self._left > 0

    @property
    def pending(self) -> int:
        """Requests that were not begun."""
        return len(self._pending) + len(self._reads)

    @property
    def stuck(self) -> bool:
        """Whether `resume` is to be called when there may be room."""
        return bool(self._pending or self._reads) or self.blocked

    @property
    def greeted(self) -> bool:
        """Whether it knows who the client is, and has said who it is."""
        return self._greeted

    @property
    def waiting(self) -> bool:
        """Whether an answer waits for the gate."""
        return bool(self._waiting or self._due or self._moves)

    @property
    def awaited(self) -> tuple[int, list[int]]:
        """Its number, and the timestamps that the gate has to pass for the answers that wait."""
        return self._number or 0, [each.timestamp for each in self._waiting.waiting]

    @property
    def holds(self) -> bool:
        """Whether there are answers that wait for `judge`."""
        return bool(self._held)

    @property
    def sessions(self) -> Sessions:
        return self._asking.sessions

    @property
    def has_jobs(self) -> bool:
        """Whether there are some to be taken."""
        return bool(self._jobs)

    def receive(self, data: bytes, now: float) -> None:
        """Take what has come. WireError: say goodbye and close the connection."""
        assert not self.blocked or not data, "the owner stops reading"
        self._take(data, now)

    def took(self, now: float) -> None:
        """The client has taken something: what is pending waits for that, and gets more time."""
        self._taken_at = now

    def resume(self, now: float) -> None:
        """Go on with what there was no room for."""
        self._take(b"", now)

    def _take(self, data: bytes, now: float) -> None:
        if not self._open:
            return
        self._left = TURN_WORK
        self._take_some(data, now)
        if self._left <= 0:
            self._left = TURN_WORK
            if self.stuck:  # Others have their turn, and then it goes on.
                self._backend.serving.wake()

    def _take_some(self, data: bytes, now: float) -> None:
        if self._rest is not None:
            client, calls, taken = self._rest
            self._rest = None
            self._post(client, calls, taken)
        self._go_on(now)
        partial = self._frames.partial_bytes
        frames, self._backlog = self._backlog or self._frames.feed(data), []
        if frames or not partial:
            self._partial_since = now
        for at, (kind, _, body) in enumerate(frames):
            if (at or not data) and self._is_full:
                self._backlog = frames[at:]
                break
            self._frame(kind, body, now)

    def _frame(self, kind: int, body: memoryview, now: float) -> None:
        if not self._greeted:
            self._greet(expect_hello(kind, body))
        elif kind == ClientKind.CALL:
            client, confirmed = batch_head(body)
            self._forget(client, confirmed)
            self._post(client, body, BATCH_BYTES)
        elif kind == ClientKind.REQUEST:
            self._answer(self._asked(unpack_requests(body), now))
            self._go_on(now)
        else:
            raise WireError(f"a client sends no frame of kind {kind}")

    # --- the hello ----------------------------------------------------------------------

    def _greet(self, theirs: Hello) -> None:
        mine = self._backend.hello
        if theirs.cluster == 0:  # It does not care.
            theirs = dataclasses.replace(theirs, cluster=mine.cluster)
        refusal = check_hello(mine, theirs)
        if refusal is None and theirs.partition != mine.partition:
            refusal = f"this is partition {mine.partition}, and you ask for {theirs.partition}"
        if refusal is not None:
            raise WireError(refusal)
        self._number = self._backend.serving.open(self._write)
        if self._number is None:
            raise WireError("too many connections; close some, or share them")
        self._greeted = True
        self._frames.limit = CLIENT_BODY_MAX
        self._write(b"".join(hello_parts(mine, reply=True)))

    # --- packed calls -------------------------------------------------------------------

    def _post(self, client: int, body: memoryview, at: int) -> None:
        assert self._number is not None, "greeted"
        if self._untaken() >= ANSWERS_MAX:
            self._rest = (client, body, at)
            return
        status = 0
        if not self._backend.leads:
            status = int(Status.NOT_LEADER)
            self.redirect()
        calls = body[at:]
        if not calls:
            return
        if "request_rows_by_connection" in self._backend.planted:
            client += self._number
        taken = self._backend.serving.post(self._number, client, calls, status)
        if taken < len(calls):
            self._rest = (client, body, at + taken)

    def redirect(self) -> None:
        """Tell the client where the leader is."""
        self._write(frame(ClientKind.REDIRECT, self._backend.leader.encode()))

    def _forget(self, client: int, confirmed: int) -> None:
        if client != self._client:
            self._client, self._confirmed = client, max(confirmed - FORGET_STEP, 0)
        if confirmed == 0 or not self._backend.leads:
            return
        self._confirmed = max(self._confirmed, confirmed - FORGET_STEPS_MAX * FORGET_STEP)
        while confirmed - self._confirmed >= FORGET_STEP:
            end = self._confirmed + FORGET_STEP
            self._backend.serving.forget(client, self._confirmed, end)
            self._confirmed = end

    # --- requests -----------------------------------------------------------------------

    @property
    def _has_room(self) -> bool:
        """Whether one more answer may come of something."""
        return (
            self._untaken() < ANSWERS_MAX and self._waiting_count < WAITING_MAX and self._left > 0
        )

    def _asked(self, requests: list[list[Any]], now: float) -> Iterator[Reply | None]:
        """The answers to the requests of a frame. Who takes them writes them before he takes many.

        Without room they are pending, but a PING: who asks whether the server is there is told so.
        A CANCEL is done at once, if it is this connection's turn, and answered in its own.
        """
        for request in requests:
            if request[1] == Operation.PING or (not self._pending and self._has_room):
                self._left -= work_of(request)
                yield self._begin(request, now)
                continue
            try:
                if request[1] == Operation.CANCEL and self._left > 0:
                    self._pending.add_answered(self._cancel(request[0], request[2:]), now)
                else:
                    self._pending.add(request, now)
            except _WRONG as error:
                yield Reply(request[0], Status.REFUSED, text=f"it cannot wait for room: {error}")

    def _go_on(self, now: float) -> None:
        """Begin what is pending, as far as there is room."""
        if self._pending or self._reads:
            self._answer(self._taken_up(now))

    def _taken_up(self, now: float) -> Iterator[Reply | None]:
        while self._reads and self._read < READS_MAX and self._has_room:
            request = self._reads.take()
            assert not isinstance(request, Reply), "no CANCEL is a read"
            self._left -= work_of(request)
            yield self._do(request, now)
        while self._pending and self._has_room:
            taken = self._pending.take()
            if isinstance(taken, Reply):
                yield taken
            else:
                self._left -= work_of(taken)
                yield self._begin(taken, now)

    def _begin(self, request: list[Any], now: float) -> Reply | None:
        """The reply, or None if it comes later."""
        waits = bool(self._reads) or self._read >= READS_MAX
        if not waits or not self._backend.leads or not is_read(request):
            return self._do(request, now)
        if self._reads.size >= PENDING_MAX:
            return busy(request[0])
        try:
            self._reads.add(request, now)
        except _WRONG as error:
            return Reply(request[0], Status.REFUSED, text=f"it cannot wait for room: {error}")
        return None

    def _do(self, request: list[Any], now: float) -> Reply | None:
        """The reply, or None if it comes later."""
        number, code, *arguments = request
        try:
            operation = Operation(code)
        except ValueError:
            return Reply(number, Status.REFUSED, text=f"there is no operation {code}")
        if operation is Operation.CANCEL:
            return self._cancel(number, arguments)
        session = arguments[0] if arguments else None
        if not (self._backend.leads or self._is_anybodys(operation, session)):
            return Reply(number, Status.NOT_LEADER, text=self._backend.leader)
        try:
            timestamp, value, wait = self._asking.do(operation, arguments, now, number)
        except Refused as error:
            refused = Reply(number, error.status, text=str(error))
            return refused if error.saw is None else self._later(*error.saw, refused)
        except Aborted as error:
            # What it saw, to find that it must fail, has to be durable, too.
            failed = Reply(number, outcome_of(error), text=str(error))
            if failed.status in SAYS_NOTHING:  # Of what is there.
                return failed
            mask = EVERYBODY if error.depends_on is None else error.depends_on
            return self._later(self._backend.engine.clock, mask, failed)
        except (SchemaError, ConfigError) as error:
            return Reply(number, Status.REFUSED, text=str(error))
        except Error as error:
            return Reply(number, Status.BUSY, text=str(error))
        except _WRONG:
            return Reply(
                number, Status.REFUSED, text=f"wrong arguments for {operation.name.lower()}"
            )
        if isinstance(value, Job):
            self._jobs.append((number, value))
            return None
        if isinstance(value, Move):
            if (turned_away := self._moves.add(number, value)) is not None:
                return turned_away
            self._answer(self._moves.due())
            return None
        reply = Reply(number, 0, timestamp, value)
        return self._later(timestamp, wait, reply) if wait != NOBODY else reply

    def take_jobs(self) -> list[tuple[int, Job]]:
        """What takes long: the owner runs each `job.run` in a thread, then says `job_done`."""
        jobs, self._jobs = self._jobs, []
        return jobs

    def job_done(self, number: int, job: Job) -> None:
        """A job has run: answer it."""
        try:
            job.ended()
        except _WRONG as error:
            job.error = error
        if not self._open:
            return
        if isinstance(job.error, Aborted):
            self._answer([Reply(number, outcome_of(job.error), text=str(job.error))])
        elif isinstance(job.error, Refused):
            self._answer([Reply(number, job.error.status, text=str(job.error))])
        elif isinstance(job.error, SchemaError | ConfigError):
            self._answer([Reply(number, Status.REFUSED, text=str(job.error))])
        elif isinstance(job.error, Error):
            self._answer([Reply(number, Status.BUSY, text=str(job.error))])
        elif isinstance(job.error, _WRONG):  # No client ends the process.
            self._answer([Reply(number, Status.REFUSED, text="wrong arguments")])
        elif job.error is not None:
            raise job.error
        else:
            self._answer([Reply(number, 0, value=job.value)])

    def _later(self, timestamp: int, mask: int, reply: Reply) -> Reply | None:
        """The reply, if its time has come already."""
        if self._backend.passed(timestamp, mask):
            return reply
        self._waiting.add(timestamp, mask, reply)
        self._read += weight_of(reply)
        self._backend.on_waiting(timestamp)
        return None

    def settle(self) -> None:
        """Send the answers that the gate has passed, and move snapshots on."""
        self._answer(self._moves.due())
        if self._waiting:
            self._answer(self._out(self._waiting.take(self._backend.passed)))
        if self._due:
            due = self._due.take(lambda at, _: self._backend.passed(at, EVERYBODY))
            self._answer(self._out(due))

    def _out(self, replies: list[Reply]) -> list[Reply]:
        """The same, which do not wait any more."""
        self._read -= sum(map(weight_of, replies))
        return replies

    def deposed(self) -> None:
        """The epoch has ended, and with it transactions. What waits for the gate is held: the
        watermark that moves on is one of another epoch. What only a leader does is not begun."""
        self.settle()
        self._held += self._waiting.take_all()
        gone = self._reads.remove(lambda request: True)
        # As it may have been for what is discarded now: any watermark passes it one day.
        waits = self._pending.remove(lambda one: one.operation == Operation.WAIT_WATERMARK)
        gone += self._pending.remove(self._is_leaders)
        leader = self._backend.leader
        self._answer(Reply(number, Status.UNKNOWN) for number in waits)
        self._answer(Reply(number, Status.NOT_LEADER, text=leader) for number in gone)
        self.sessions.abort_transactions()

    def _is_leaders(self, request: Request) -> bool:
        return not self._is_anybodys(request.operation, request.session)

    def _is_anybodys(self, operation: int, session: object) -> bool:
        """Whether any replica does it, with this as its first argument."""
        if operation in (Operation.GET, Operation.SCAN):
            return self.sessions.is_snapshot(session)
        return operation in ANYWHERE

    def judge(self, final: int, lost: Status) -> Judged:
        """What is held at or below `final` is durable here, and waits for the time, and for other
        partitions if it depends on any; what is above it is answered `lost`."""
        held, self._held = self._held, []
        ended: list[Reply] = []
        own = 1 << self._backend.partition
        for timestamp, _, mask, reply in held:
            if timestamp <= final:
                (self._waiting if mask == own else self._due).add(timestamp, mask, reply)
            else:
                self._out([reply])
                ended.append(Reply(reply.id, lost, timestamp))
        self._answer(ended)
        self.settle()
        return Judged(len(held) - len(ended), len(ended))

    def lost(self, partition: int, final: int, status: Status = Status.DISCARDED) -> int:
        """What depends on what that partition had above `final` is discarded, or answered with
        another status; how many."""
        gone = self._waiting.remove(lambda one: _is_lost(one, partition, final))
        gone += self._due.remove(lambda one: _is_lost(one, partition, final))
        these, self._held = parted(self._held, lambda one: _is_lost(one, partition, final))
        gone += these
        self._out([one.item for one in gone])
        self._answer([Reply(one.item.id, status, one.timestamp) for one in gone])
        return len(gone)

    def _cancel(self, number: int, arguments: list[Any]) -> Reply:
        if len(arguments) != 1:
            return Reply(number, 0, value=False)
        (asked,) = arguments
        self._left -= self._waiting_count >> 4  # It looks at each.
        gone = self._waiting.remove(lambda one: one.item.id == asked)
        gone += self._due.remove(lambda one: one.item.id == asked)
        these, self._held = parted(self._held, lambda one: one.item.id == asked)
        gone += these
        self._out([one.item for one in gone])
        found = bool(gone) or self._moves.cancel(asked)
        found = self._pending.cancel(asked) or self._reads.cancel(asked) or found
        if not found and self._asking.cancel_drive(asked):
            return Reply(number, 0, value=True)  # Its own answer comes, or has come.
        if found:
            self._answer([Reply(asked, Status.TIMED_OUT, text="cancelled")])
        return Reply(number, 0, value=found)

    def _answer(self, replies: Iterable[Reply | None]) -> None:
        """Write replies, many small ones in a frame."""
        packed: list[bytes] = []
        size = 0
        for reply in replies:
            if reply is None:
                continue
            packed.append(pack_reply(reply))
            size += len(packed[-1])
            if size >= FRAME_BYTES:
                self._write(frame(ClientKind.REPLY, join_replies(packed)))
                packed, size = [], 0
        if packed:
            self._write(frame(ClientKind.REPLY, join_replies(packed)))

    # --- time and the end ---------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Close what was left open. WireError if the client does not say who it is, or
        does not end a frame that it began."""
        if not self._greeted and now - self._began > HELLO_TIMEOUT_S:
            raise WireError("no hello came in time")
        if self.blocked:  # What is missing may be here, and is not read.
            self._partial_since = now
        limit = DEFAULT_LIMITS.partial_frame_s
        if self._frames.partial_bytes and now - self._partial_since > limit:
            raise WireError(f"a frame that was begun did not end within {limit:g} s")
        late = self._pending.late(now, self._taken_at) + self._reads.late(now, self._taken_at)
        self._answer(self._too_late(request, now) for request in late)
        self.sessions.expire(now)

    def _too_late(self, request: Request, now: float) -> Reply | None:
        """The answer to one that was pending for too long. What ends a session needs no room worth
        mentioning, and ends it: nobody asks for that again."""
        if request.operation in (Operation.CLOSE, Operation.ABORT):
            return self._do([request.number, request.operation, request.session], now)
        if request.operation == Operation.COMMIT:
            self.sessions.end(request.session)
        return request.reply or busy(request.number)

    def close(self) -> None:
        """The connection has ended: nobody is answered, transactions are aborted."""
        if self._open:
            self._open = False
            self._waiting.take_all()
            self._due.take_all()
            self._held.clear()
            self._moves.clear()
            self._pending.clear()
            self._reads.clear()
            self._rest, self._backlog, self._read = None, [], 0
            self.sessions.close_all()
            self._asking.close()
            for _, job in self.take_jobs():
                job.drop()
            if self._number is not None:
                self._backend.serving.leave(self._number)


def _is_lost(one: Waiting[Reply], partition: int, final: int) -> bool:
    """Whether an answer is discarded with what that partition had above `final`.

    Nobody knows on whom a failure depends: what it has met may be what was lost. It had no effect,
    so that is said of it. What else waits for everybody depends on nobody's rows.
    """
    if one.mask == EVERYBODY:
        return one.item.status != 0 and one.timestamp > final
    return is_lost(one, partition, final)
