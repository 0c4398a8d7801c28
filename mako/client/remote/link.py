"""A core on a plain socket, for threads.

Nobody reads in the background. Whoever waits for an answer drives: it sends, receives, dials and
keeps time for all; the others who wait are woken when something has come. When nobody waits, a
small thread still sends what was submitted.
"""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

from mako.client.remote.addresses import host_and_port
from mako.client.remote.core import Core
from mako.errors import Closed
from mako.forks import LEFT_CONNECTED, leave_in_child
from mako.wire.errors import WireError

RECEIVE_BYTES: Final = 256 << 10
#: Seconds to make a connection.
DIAL_SECONDS: Final = 2.0
#: Longest time that a driver sleeps at once.
SLEEP_MAX: Final = 1.0


class Link:
    """The core of a database, its lock and its socket."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.lock = threading.Condition(threading.Lock())
        self._socket: socket.socket | None = None
        # The last one that was made; before it is connected there is no other one.
        self._dialed: socket.socket | None = None
        self._unsent = b""
        self._driving = False
        self._waiters = 0
        self._due = threading.Event()
        self._sender: threading.Thread | None = None
        self._open = True
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        leave_in_child(self, Link._leave)

    # --- sending ------------------------------------------------------------------------

    def send(self) -> None:
        """Send what can be sent without waiting. The lock is held."""
        if self.core.idle and not self._driving:
            self._look()
        if self._socket is None:
            return
        data = self.core.take(time.monotonic())
        if self._unsent:
            data = self._unsent + data
        if not data:
            return
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._unsent = b""
            self._lose(str(error))
            return
        self._unsent = data[sent:]
        if self._unsent and self._driving:
            os.eventfd_write(self._event, 1)  # The driver waits for room, too.

    def _look(self) -> None:
        """See what came while nobody looked. A server that has ended in the meantime would not
        answer what it is sent now, and nobody could tell what became of that."""
        if self._socket is None:
            return
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(str(error))
            return
        if data:
            self._take(data)
        else:
            self._lose("the server closed the connection")

    def send_soon(self) -> None:
        """Have it sent, if not by this thread then by the one for it. The lock is held."""
        if self.core.idle or self.core.queued >= 256:
            self.send()
        if self._due.is_set():
            return
        self._due.set()
        if self._sender is None:
            self._sender = threading.Thread(
                target=self._send_what_is_due, name="mako-client", daemon=True
            )
            self._sender.start()

    def _send_what_is_due(self) -> None:
        while True:
            self._due.wait()
            with self.lock:
                self._due.clear()
                if not self._open:
                    return
                if (self.core.queued or self._unsent) and not self._driving:
                    if self._socket is None:
                        self._drive_once(0.05)
                    self.send()
                    if self._unsent or self.core.queued:
                        self._due.set()
            if self._due.is_set():
                time.sleep(0.001)

    # --- waiting ------------------------------------------------------------------------

    def wait(self, over: Callable[[], bool], deadline: float | None = None) -> bool:
        """Drive until `over()`; False if the deadline comes first. The lock is held."""
        self.send()
        while not over():
            if self.core.closed is not None:
                raise Closed(str(self.core.closed))
            left = SLEEP_MAX if deadline is None else min(deadline - time.monotonic(), SLEEP_MAX)
            if left <= 0:
                return False
            if self._driving:
                self._waiters += 1
                self.lock.wait(left)
                self._waiters -= 1
            else:
                self._drive_once(left)
        return True

    def _drive_once(self, limit: float) -> None:
        """Wait for something to happen, at most `limit` seconds, and let it happen."""
        self._driving = True
        try:
            self._turn(limit)
        finally:
            self._driving = False
            if self._waiters:
                self.lock.notify_all()

    def _turn(self, limit: float) -> None:
        core = self.core
        now = time.monotonic()
        when = core.next_time()
        if when is not None and when <= now:
            self._take_what_is_there()
        if core.expire(now):
            return
        self._leave_if_told()
        address = core.dial(now)
        if address is not None:
            self._dial(address)
        when = core.next_time()
        if when is not None:
            limit = min(limit, max(when - time.monotonic(), 0))
        self.send()
        connection = self._socket
        unsent = bool(self._unsent)
        began = time.monotonic()
        self.lock.release()
        try:
            readable = self._select(connection, limit, unsent=unsent)
            data = b""
            trouble = ""
            if connection is not None and readable:
                try:
                    data = connection.recv(RECEIVE_BYTES)
                    trouble = "" if data else "the server closed the connection"
                except BlockingIOError:
                    readable = False
                except OSError as error:
                    trouble = str(error)
        finally:
            self.lock.acquire()
        if connection is None or connection is not self._socket:
            return
        if trouble:
            self._lose(trouble)
        elif readable:
            self._take(data)
        else:
            # This process may have been stopped itself: then it did not listen for longer.
            core.quiet(min(time.monotonic() - began, limit))
        if self._socket is not None:
            self.send()

    def _take_what_is_there(self) -> None:
        """Before a call is over for its time: nobody may have read, though its answer came."""
        while self._socket is not None:
            try:
                data = self._socket.recv(RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                self._lose(str(error))
                return
            if not data:
                self._lose("the server closed the connection")
                return
            self._take(data)

    def _take(self, data: bytes) -> None:
        try:
            self.core.feed(data, time.monotonic())
        except WireError as error:
            self._lose(str(error))
            return
        self._leave_if_told()

    def _leave_if_told(self) -> None:
        now = time.monotonic()
        if self.core.leaves(now):
            self._close_socket()
            self.core.left(now)

    def _select(self, connection: socket.socket | None, limit: float, *, unsent: bool) -> bool:
        """Wait for the socket or for the eventfd; whether the socket can be read."""
        with selectors.PollSelector() as selector:
            selector.register(self._event, selectors.EVENT_READ)
            if connection is not None:
                wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if unsent else 0)
                selector.register(connection, wanted)
            readable = False
            for key, events in selector.select(limit):
                if key.fileobj is connection:
                    readable = bool(events & selectors.EVENT_READ)
                else:
                    os.eventfd_read(self._event)
            return readable

    # --- connections --------------------------------------------------------------------

    def _dial(self, address: str) -> None:
        """Connect, without the lock: others may ask and wait meanwhile."""
        self.lock.release()
        made: socket.socket | None = None
        trouble = ""
        try:
            made = self._connected(address)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.settimeout(0)
        except OSError as error:
            trouble = f"{address}: {error}"
        finally:
            self.lock.acquire()
        if made is None:
            self.core.lost(time.monotonic(), trouble)
        elif not self._open:
            made.close()
        else:
            self._socket = made
            self._unsent = b""
            self.core.connected(time.monotonic())

    def _connected(self, address: str) -> socket.socket:
        """A socket of a server. `socket.create_connection` would have one that no child knows."""
        host, port = host_and_port(address)
        trouble = OSError("it has no address")
        for family, kind, protocol, _, where in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        ):
            made = self._dialed = socket.socket(family, kind, protocol)
            try:
                made.settimeout(DIAL_SECONDS)
                made.connect(where)
                return made
            except BaseException as error:
                made.close()
                if not isinstance(error, OSError):
                    raise
                trouble = error
        raise trouble

    def _lose(self, trouble: str) -> None:
        self._close_socket()
        self.core.lost(time.monotonic(), trouble)

    def _close_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._unsent = b""

    def close(self) -> None:
        with self.lock:
            if not self._open:
                return
            self._open = False
            self.core.close()
            self._close_socket()
            self._due.set()
            os.eventfd_write(self._event, 1)
            self.lock.notify_all()
            while self._driving:
                self.lock.wait(SLEEP_MAX)
        if self._sender is not None and self._sender is not threading.current_thread():
            self._sender.join(SLEEP_MAX)
        self._close_event()

    def _close_event(self) -> None:
        event, self._event = self._event, -1
        if event >= 0:
            os.close(event)

    def _leave(self) -> None:
        """See `mako.forks`."""
        self.lock = threading.Condition(threading.Lock())
        # Nothing else of it is touched: somebody may have been changing it.
        self.core.closed = Closed(LEFT_CONNECTED)
        self._sender = None
        self._driving = False
        self._open = False
        self._close_event()
        self._close_socket()
        if self._dialed is not None:
            self._dialed.close()
