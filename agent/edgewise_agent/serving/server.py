"""The HTTP server: a few threads over one epoll, of which one leads.

The leader hears a request and answers it itself, with no hand-over in between; before an inference that takes long
(``LONG_S``) it gives the lead away, and another thread listens meanwhile. Where one client asks again and again, it has
the acceptor watch instead, who gives the lead away once something else comes. So quick models, and slow ones with one
client, are served by one thread on one core, and slow ones with several by as many as may run. Why not an event loop
with a pool behind it: ``docs/decisions/0006-http-server.md``. Linux (epoll, eventfd). It is past 400 lines since what
becomes of a connection, from its first byte to its last, is seen here whole.

Rules that hold here:
- no thread waits for a client: sockets do not block, and a connection that has to wait goes back to the epoll;
- no thread waits for a model: a request that may not run yet is left at its ``Gate``, and the thread goes on;
- a connection belongs to one thread at a time (``EPOLLONESHOT``), to its gate while it waits there, or to the epoll;
  only the thread that has it changes or closes it;
- there are two threads more than requests that may run, and a leader that hangs loses its lead (``HANG_S``): health
  is answered, and what is too much is refused, at any load;
- connections, heads, bodies and the time of each are bounded (``Options``).
"""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from edgewise_agent.serving.connections import Connection
from edgewise_agent.serving.gate import Gate
from edgewise_agent.serving.http import (
    CONTINUE,
    END,
    MAX_HEAD,
    Answer,
    Head,
    HttpError,
    encode,
    error_answer,
    parse_head,
)
from edgewise_agent.serving.options import Options

log = logging.getLogger(__name__)

SPARE_THREADS = 2
LONG_S = 0.001
"""While an inference that takes longer runs, whatever else comes is worth a change of threads."""
HANG_S = 0.25
LINGER_S = 2.0
"""Seconds for a client to read a refusal before the connection goes: it may still be sending."""
PATIENCE = 4
"""So many times the bound of a body are read and forgotten while a refused client sends on."""
ALIGNMENT = 16
_CHUNK = 64 * 1024
_SWEEP_S = 0.5
_BUSY = {"retry-after": "1"}
_READ, _WRITE = select.EPOLLIN | select.EPOLLONESHOT, select.EPOLLIN | select.EPOLLOUT | select.EPOLLONESHOT
_NOTHING = select.EPOLLONESHOT


class Handler(Protocol):
    """What is served. Called by several threads at once; may raise HttpError, and nothing else."""

    def bound(self, head: Head) -> int:
        """Bytes that the body of this request may have."""

    def gate(self, head: Head) -> Gate[Connection] | None:
        """Where it waits for its turn; None: it never does."""

    def answer(self, head: Head, body: memoryview) -> Answer:
        """The answer to a whole request."""


class Server:
    """Serves what ``handler`` answers on ``listeners``, which listen already and stay their owner's."""

    def __init__(self, handler: Handler, listeners: Sequence[socket.socket], options: Options, running: int) -> None:
        """``running``: how many requests the gates let run together."""
        self._handler, self._listeners, self._options = handler, listeners, options
        self._epoll, self._watch = select.epoll(), select.epoll()
        self._connections: dict[int, Connection] = {}
        self._held = 0
        self._lock = threading.Lock()
        self._lead = threading.Lock()
        self._term = 0
        """Which lead this is: it rises when a leader gives the lead away, or loses it."""
        self._led = (0, float("inf"))
        """The last lead that was taken, and when its leader began what it does; infinity while it listens."""
        self._stands_in = 0
        """The lead whose leader the acceptor watches for."""
        self._latest: Connection | None = None
        """Whose inference was begun last: the same one again, and it is alone for all that is known."""
        self._draining, self._accepted_last = False, threading.Event()
        self._drain_said, self._stop_said = os.eventfd(0), os.eventfd(0)
        self._epoll.register(self._stop_said, select.EPOLLIN)
        self._watch.register(self._epoll.fileno(), _NOTHING)
        self._threads = [
            threading.Thread(target=self._work, name=f"serve-{i}", daemon=True) for i in range(running + SPARE_THREADS)
        ]
        self._acceptor = threading.Thread(target=self._accept, name="serve-accept", daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        for listener in self._listeners:
            listener.setblocking(False)
        for thread in (*self._threads, self._acceptor):
            thread.start()

    def drain(self, patience_s: float) -> None:
        """Accept no more; answer what is there or comes on a connection that is open, each answer closing its own.

        Returns when every connection is closed; after ``patience_s`` idle ones are closed from here.
        """
        self._draining = True
        os.eventfd_write(self._drain_said, 1)
        self._accepted_last.wait()
        self._until_empty(patience_s)
        for connection in list(self._connections.values()):
            if connection.head is None and not connection.buffer and not connection.out:
                self._hang_up(connection)
        self._until_empty(self._options.receive_s)
        os.eventfd_write(self._stop_said, 1)
        for thread in (*self._threads, self._acceptor):
            thread.join()
        self._watch.close()
        self._epoll.close()
        os.close(self._drain_said)
        os.close(self._stop_said)

    def _until_empty(self, patience_s: float) -> None:
        deadline = time.monotonic() + patience_s
        while self._connections and time.monotonic() < deadline:
            self._sweep()
            time.sleep(0.01)

    # Accepting

    def _accept(self) -> None:
        """Thread: new connections, what comes while the leader is busy, and the end of what takes too long."""
        listeners = {listener.fileno(): listener for listener in self._listeners}
        for fd in (*listeners, self._drain_said, self._stop_said):
            self._watch.register(fd, select.EPOLLIN)
        swept = time.monotonic()
        while True:
            for fd, _ in self._watch.poll(_SWEEP_S if self._connections else -1):
                if fd == self._epoll.fileno():
                    self._give_up(self._stands_in)
                elif fd == self._stop_said:
                    return
                elif not self._draining:
                    self._welcome(listeners[fd])
                elif not self._accepted_last.is_set():
                    for ended in (*listeners, self._drain_said):
                        self._watch.unregister(ended)
                    self._accepted_last.set()
            now = time.monotonic()
            term, since = self._led
            if now - since > HANG_S:
                self._give_up(term)
            if now - swept >= _SWEEP_S:
                self._sweep()
                swept = now

    def _welcome(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except BlockingIOError:  # another process that serves, or is about to, was quicker
            return
        except OSError as error:  # no descriptor left: the client waits, and so do we
            log.error("cannot accept: %s", error)
            time.sleep(0.05)
            return
        sock.setblocking(False)
        if sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(sock, time.monotonic() + self._options.idle_s)
        self._connections[sock.fileno()] = connection
        if len(self._connections) > self._options.max_connections:
            connection.refusal = HttpError(
                503, f"at most {self._options.max_connections} connections", _BUSY, close=True
            )
        self._epoll.register(sock.fileno(), _READ)

    def _sweep(self) -> None:
        now = time.monotonic()
        for connection in list(self._connections.values()):
            if now > connection.deadline:
                self._hang_up(connection)

    def _hang_up(self, connection: Connection) -> None:
        """End what is not ours: the thread that has it, or gets it from the epoll now, sees the end and closes it."""
        try:
            connection.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is closed already

    # Working

    def _work(self) -> None:
        """Thread: wait for the lead; then one connection after another, until the lead is gone."""
        while True:
            self._lead.acquire()
            term = self._term
            while self._term == term:
                self._led = term, float("inf")
                for fd, _ in self._epoll.poll(-1, 1):
                    if fd == self._stop_said:
                        self._give_up(term)
                        return
                    self._led = term, time.monotonic()
                    self._turn(self._connections[fd], term)

    def _give_up(self, term: int) -> None:
        """Let another thread lead, where the lead is still that of ``term``."""
        with self._lock:
            if self._term != term:
                return
            self._term += 1
        self._lead.release()

    def _stand_by(self, term: int, events: int) -> None:
        """Have the acceptor watch, or no longer, for what comes while the leader of ``term`` is busy."""
        with self._lock:
            if self._term == term:
                self._stands_in = term
                self._watch.modify(self._epoll.fileno(), events)

    def _turn(self, connection: Connection, term: int) -> None:
        """Take a connection as far as it goes; with it, those that wait at its gate."""
        if connection.out and not self._flush(connection):
            return
        try:
            if not self._receive(connection):
                return
            assert connection.head is not None
            gate = self._handler.gate(connection.head)
        except HttpError as error:
            self._refuse(connection, error)
            return
        if gate is None:
            self._send(connection, self._answer(connection), close=False)
            return
        entered = gate.enter(connection)
        if entered == "full":
            self._refuse(connection, HttpError(503, "too many requests wait for this model", _BUSY))
        elif entered == "run":
            long = gate.takes(LONG_S)
            if long and connection is self._latest:
                self._stand_by(term, _READ)
            elif long:
                self._give_up(term)
            self._latest = connection
            job: Connection | None = connection
            while job is not None:
                began = time.perf_counter()
                answer = self._answer(job)
                following = gate.leave(time.perf_counter() - began)
                if long and following is None:
                    self._stand_by(term, _NOTHING)  # before the client can ask again
                self._send(job, answer, close=False)
                job = following

    def _receive(self, connection: Connection) -> bool:
        """Read what is there. True: a whole request is. False: it waits for more, or is closed. Raises HttpError."""
        sock = connection.sock
        try:
            if connection.lingering:
                count = len(sock.recv(_CHUNK))
                connection.lingering -= count
                if not count or connection.lingering <= 0:
                    self._close(connection)
                else:
                    self._arm(connection)
                return False
            if connection.refusal is not None:
                raise connection.refusal
            if connection.head is None:
                if END not in connection.buffer:
                    data = sock.recv(_CHUNK)
                    if not data:
                        self._close(connection)
                        return False
                    if not connection.buffer:
                        connection.deadline = time.monotonic() + self._options.receive_s
                    connection.buffer += data
                if not self._head(connection):
                    self._arm(connection)
                    return False
            while connection.got < len(connection.body):
                count = sock.recv_into(connection.body[connection.got :])
                if not count:
                    self._close(connection)
                    return False
                connection.got += count
        except BlockingIOError:
            self._arm(connection)
            return False
        except OSError:
            self._close(connection)
            return False
        connection.deadline = float("inf")
        return True

    def _head(self, connection: Connection) -> bool:
        """Is the head there? Then make room for the body. Raises HttpError."""
        end = connection.buffer.find(END, 0, MAX_HEAD)
        if end < 0:
            if len(connection.buffer) >= MAX_HEAD:
                raise HttpError(431, f"expected a head of at most {MAX_HEAD} bytes", close=True)
            return False
        head = parse_head(connection.buffer[:end])
        rest = connection.buffer[end + len(END) :]
        connection.head, connection.buffer = head, rest[head.length :]
        try:
            bound = self._handler.bound(head)
            if head.length > bound:
                raise HttpError(413, f"expected a body of at most {bound} bytes, got {head.length}")
            # What follows the header of a binary request is read as numbers where it lies: it begins aligned.
            padding = -(head.number(b"inference-header-content-length") or 0) % ALIGNMENT
            self._hold(head.length)
        except HttpError as error:
            error.close = error.close or head.length > len(rest)  # the rest of the body is still to come
            raise
        connection.body = memoryview(bytearray(padding + head.length))[padding:]
        connection.got = min(len(rest), head.length)
        connection.body[: connection.got] = rest[: connection.got]
        if connection.got < head.length and head.headers.get(b"expect", b"").lower() == b"100-continue":
            connection.sock.send(CONTINUE)
        return True

    def _hold(self, count: int) -> None:
        with self._lock:
            if self._held + count > self._options.max_bodies:
                raise HttpError(503, f"at most {self._options.max_bodies} bytes of requests at a time", _BUSY)
            self._held += count

    # Answering

    def _answer(self, connection: Connection) -> Answer:
        assert connection.head is not None
        try:
            return self._handler.answer(connection.head, connection.body)
        except HttpError as error:
            return error_answer(error)
        except Exception:  # a mistake of ours costs this answer, not the thread that would give the next ones
            log.exception("cannot answer %s", connection.head.path)
            return error_answer(HttpError(500, "the agent failed; its log says why"))

    def _refuse(self, connection: Connection, error: HttpError) -> None:
        if error.close:
            connection.lingering, connection.buffer = PATIENCE * self._options.max_body, b""
        self._send(connection, error_answer(error), close=error.close)

    def _send(self, connection: Connection, answer: Answer, *, close: bool) -> None:
        head = connection.head
        connection.closing = close or self._draining or head is None or not head.keep_alive
        without_body = head is not None and head.method == "HEAD"
        connection.out = encode(answer, close=connection.closing, without_body=without_body)
        with self._lock:
            self._held -= len(connection.body)
        connection.head, connection.body, connection.got = None, memoryview(b""), 0
        connection.deadline = time.monotonic() + self._options.receive_s
        if self._flush(connection):
            self._arm(connection)

    def _flush(self, connection: Connection) -> bool:
        """Send what the client takes. False when the connection waits to send on, or is closed."""
        try:
            sent = connection.sock.sendmsg(connection.out)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close(connection)
            return False
        for i, part in enumerate(connection.out):
            if sent < len(part):
                connection.out = [memoryview(part)[sent:], *connection.out[i + 1 :]]
                self._arm(connection)
                return False
            sent -= len(part)
        connection.out = []
        now = time.monotonic()
        if connection.lingering:
            connection.deadline = now + LINGER_S
            self._half_close(connection)
        elif connection.closing:
            self._close(connection)
            return False
        else:
            connection.deadline = now + self._options.idle_s
        return True

    def _half_close(self, connection: Connection) -> None:
        try:
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the client is gone, which the epoll says next

    def _arm(self, connection: Connection) -> None:
        """Back to the epoll; at once ready where something is to be sent, or a request is in the buffer already."""
        busy = connection.out or END in connection.buffer
        self._epoll.modify(connection.sock.fileno(), _WRITE if busy else _READ)

    def _close(self, connection: Connection) -> None:
        with self._lock:
            self._held -= len(connection.body)
        connection.body = memoryview(b"")
        del self._connections[connection.sock.fileno()]
        connection.sock.close()
