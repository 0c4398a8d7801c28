"""A worker's turn for other partitions: take what has come, let its lanes go on, tell the rest.

It is taken between any two transactions. Answers first, which free lanes; then requests, as long
as there is room for their answers; then lanes that are due, or that had no room to send before.
Whoever sleeps where something was sent is woken once, at the end.

A message names the epochs of its sender (`mako.recovery.history.History.view`), and views are
ordered. A newer one waits, and the worker says so (H_STALE): whoever recovers brings this partition
up to date first (DESIGN §8). Of an older one only what was decided counts: its sender forgets the
rest, as soon as it learns what is known here.
"""

from mako.engine.atomics import ld8, load_acquire, shl, st8
from mako.engine.channel import M_KIND, M_TRANSACTION, M_VIEW, oldest, room, send, take, waiting
from mako.engine.closing import learn_watermark
from mako.engine.completing import (
    COMMITTED,
    DRIVE,
    completion_room,
    note_failure,
    record_latency,
    report_at,
)
from mako.engine.coordinator import OPEN, give_up, on_answer, run
from mako.engine.durability import note
from mako.engine.jit import compiled, exported
from mako.engine.lane import (
    ABORT,
    B_BITS,
    B_TIMESTAMP,
    COMMIT,
    FREE,
    H_BUSY,
    H_CLOSED,
    H_KEPT,
    H_LANE_LIST,
    H_NOW,
    H_OFFSET,
    H_PORT_LIST,
    H_PORTS,
    H_STALE,
    H_TELLS,
    H_TOLD,
    HOLDING,
    INSTALLED,
    L_DUE,
    L_KEPT,
    L_KIND,
    L_ORIGIN,
    L_REQUEST,
    L_STARTED,
    L_STATE,
    L_TRANSACTION,
    L_UNSENT,
    L_WAITING,
    LANES_MAX,
    P_ANSWER,
    P_ANSWERED,
    P_ASKED,
    P_EVENT,
    P_PARTITION,
    P_SENT,
    P_STATE,
    READY,
    TELLING,
    VOTE_BYTES,
    VOTING,
    WATERMARK,
)
from mako.engine.layout import (
    C_CONTROL,
    C_ENGINE,
    C_MESH,
    C_RESULT,
    C_TIMESTAMP,
    K_OFFSET,
    K_ROLLED_BACK,
    PARTITION,
    VIEW,
    WATERMARKS,
)
from mako.engine.participant import on_request, send_vote, tell_installed
from mako.engine.rounds import send_unsent
from mako.engine.system import signal_event
from mako.ids import Outcome

_ROLLED_BACK = int(Outcome.ROLLED_BACK)
_UNAVAILABLE = int(Outcome.UNAVAILABLE)
#: Messages of one channel that are handled in a turn.
MESSAGES_MAX = 64
SLEEPING = 2


@compiled
def _report(home: int, lane: int, outcome: int, now: int) -> None:
    """A transaction of a request, or of the workload, has ended."""
    most = ld8(lane + L_KEPT)
    if most != 0:
        mesh = ld8(home + C_MESH)
        slot = completion_room(home, most, 0)  # There is: it was kept.
        report_at(home, lane, ld8(lane + L_REQUEST), ld8(lane + L_ORIGIN), outcome, slot)
        st8(mesh + H_KEPT, ld8(mesh + H_KEPT) - 2 * most)
        st8(lane + L_KEPT, 0)
        return
    if outcome == _UNAVAILABLE:  # Counted among the outcomes, and nothing was done.
        return
    started = ld8(lane + L_STARTED)
    kind = ld8(lane + L_KIND)
    record_latency(home, kind, now - started)
    if outcome == COMMITTED:
        note(home, ld8(lane + C_TIMESTAMP), started, kind, now)
    elif outcome == _ROLLED_BACK:
        counter = home + K_ROLLED_BACK + 8 * kind
        st8(counter, ld8(counter) + 1)
    elif load_acquire(home + C_CONTROL) == DRIVE:
        note_failure(home, lane, outcome)


@compiled
def _age(home: int, message: int) -> int:
    """How the view of a message is to the own one: 1 older, 0 the same, -1 newer."""
    view = ld8(message + M_VIEW)
    own = ld8(ld8(home + C_ENGINE) + VIEW)
    if view == own:
        return 0
    if view < own:
        return 1
    st8(ld8(home + C_MESH) + H_STALE, 1)
    return -1


@compiled
def _take_answers(home: int, port: int, now: int) -> int:
    mesh = ld8(home + C_MESH)
    channel = ld8(port + P_ANSWERED)
    handled = 0
    while handled < MESSAGES_MAX:
        message = oldest(channel)
        if message == 0:
            break
        age = _age(home, message)
        if age < 0:
            break
        kind = ld8(message + M_KIND)
        if kind == WATERMARK:
            if age == 0:
                bits = ld8(message + B_BITS)
                learn_watermark(ld8(home + C_ENGINE), ld8(port + P_PARTITION), bits)
        elif age == 0 or kind == INSTALLED:
            transaction = ld8(message + M_TRANSACTION)
            lane = ld8(mesh + H_LANE_LIST + 8 * (transaction & (LANES_MAX - 1)))
            if ld8(lane + L_TRANSACTION) == transaction and ld8(lane + L_STATE) != FREE:
                outcome = on_answer(lane, port, message, kind)
                if outcome != OPEN:
                    _report(home, lane, outcome, now)
        take(channel, message)
        handled += 1
    return handled


@compiled
def _take_requests(home: int, port: int) -> int:
    channel = ld8(port + P_ASKED)
    handled = 0
    while handled < MESSAGES_MAX:
        message = oldest(channel)
        if message == 0:
            break
        age = _age(home, message)
        if age < 0:
            break
        kind = ld8(message + M_KIND)
        if age == 0 or kind == COMMIT or kind == ABORT:
            if on_request(home, port, message) == 0:
                break
        take(channel, message)
        handled += 1
    return handled


@compiled
def _go_on(home: int, lane: int, now: int) -> int:
    """Let a lane do what it can do; whether it did anything."""
    state = ld8(lane + L_STATE)
    if state == READY:
        if ld8(lane + L_DUE) > now:
            return 0
        outcome = run(lane)
        if outcome != OPEN:
            _report(home, lane, outcome, now)
        return 1
    if state == VOTING:
        return 1 if send_vote(lane) else 0
    if state == TELLING:
        return 1 if tell_installed(lane) else 0
    if ld8(lane + L_WAITING) & load_acquire(ld8(home + C_MESH) + H_CLOSED) != 0:
        outcome = give_up(lane)
        if outcome != OPEN:
            _report(home, lane, outcome, now)
            return 1
    if state != HOLDING and ld8(lane + L_UNSENT) != 0:
        send_unsent(lane)
        return 1
    return 0


@compiled
def _tell_watermark(home: int) -> None:
    """Tell every partition how far this one is durable, if that is news."""
    mesh = ld8(home + C_MESH)
    engine = ld8(home + C_ENGINE)
    own = load_acquire(engine + WATERMARKS + 8 * ld8(engine + PARTITION))
    if own == ld8(mesh + H_TOLD):
        return
    for i in range(ld8(mesh + H_PORTS)):
        port = ld8(mesh + H_PORT_LIST + 8 * i)
        if ld8(port + P_ANSWER) == 0:
            continue
        message = room(ld8(port + P_ANSWER), VOTE_BYTES)
        if message == 0:
            continue  # The next one says more.
        st8(message + M_KIND, WATERMARK)
        st8(message + M_TRANSACTION, 0)
        st8(message + M_VIEW, ld8(engine + VIEW))
        st8(message + B_TIMESTAMP, 0)
        st8(message + B_BITS, own)
        send(ld8(port + P_ANSWER), message, VOTE_BYTES)
        st8(port + P_SENT, 1)
    st8(mesh + H_TOLD, own)


@compiled
def _wake(home: int) -> None:
    mesh = ld8(home + C_MESH)
    for i in range(ld8(mesh + H_PORTS)):
        port = ld8(mesh + H_PORT_LIST + 8 * i)
        if ld8(port + P_SENT) == 0:
            continue
        st8(port + P_SENT, 0)
        state = ld8(port + P_STATE)
        # What was sent was published before this (send: sequentially consistent), and who falls
        # asleep says so before it looks a last time.
        if state != 0 and load_acquire(state) == SLEEPING:
            st8(home + C_RESULT, 1)
            signal_event(ld8(port + P_EVENT), home + C_RESULT)


@exported
def turn(home: int, now: int) -> int:
    """Handle what has come, and let lanes go on, at `now`, monotonic ns; how much was done."""
    mesh = ld8(home + C_MESH)
    st8(mesh + H_NOW, now)
    st8(mesh + H_OFFSET, ld8(home + K_OFFSET))
    ports = ld8(mesh + H_PORTS)
    done = 0
    for i in range(ports):
        port = ld8(mesh + H_PORT_LIST + 8 * i)
        if ld8(port + P_ANSWERED) != 0:
            done += _take_answers(home, port, now)
        if ld8(port + P_ASKED) != 0:
            done += _take_requests(home, port)
    busy = ld8(mesh + H_BUSY)
    if busy != 0:
        for i in range(LANES_MAX):
            if busy & shl(1, i):
                done += _go_on(home, ld8(mesh + H_LANE_LIST + 8 * i), now)
    if ld8(mesh + H_TELLS) != 0:
        _tell_watermark(home)
    _wake(home)
    return done


@compiled
def has_mail(home: int) -> bool:
    """Whether anything has come that was not handled. Any thread may ask."""
    mesh = ld8(home + C_MESH)
    for i in range(ld8(mesh + H_PORTS)):
        port = ld8(mesh + H_PORT_LIST + 8 * i)
        if ld8(port + P_ANSWERED) != 0 and waiting(ld8(port + P_ANSWERED)) != 0:
            return True
        if ld8(port + P_ASKED) != 0 and waiting(ld8(port + P_ASKED)) != 0:
            return True
    return False
