"""The listener: accepts, and reads all connections of the hot path, a turn at a time.

It polls its sockets by an epoll of its own, which is itself readable in the event loop when one of
them is. So a turn is one call: all that can be read is read, taken, written and answered, without
a callback for each. The kernel is told to wake us only when a new connection has sent something
(TCP_DEFER_ACCEPT): its first request is read at once, and if it is the only one the connection is
closed before it was polled at all.

A request that comes alone, to cold caches, costs three times what each of ten does. So where some
thousands come a second, but too few to come together by themselves, the sockets are not polled but
looked at every millisecond, as network cards coalesce their interrupts. What that adds to an answer
is below what a network does. At lower rates it would gain nothing; at higher ones each turn is
followed by the next at once, and after some of these the loop's other tasks have theirs.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import resource
import select
import socket
import time
from collections.abc import Callable
from typing import Final

from collector.connection import Connection, Polled
from collector.hot_path import HotPath

log = logging.getLogger(__name__)

#: Connections that are accepted, or read, before others have their turn.
_ACCEPTED_AT_ONCE: Final = 64
_READ_AT_ONCE: Final = 64
#: Turns before the loop's other tasks have theirs.
_TURNS: Final = 8
#: How long the kernel keeps a connection that sends nothing to itself, in seconds.
_DEFER_SECONDS: Final = 5
_MOST_DESCRIPTORS: Final = 1 << 16
#: How long to wait when there are no descriptors left but those for the journal, and its like.
_PAUSE_SECONDS: Final = 0.2
_SPARE_DESCRIPTORS: Final = 32
#: Between turns is a rest of so many seconds, where more than the lower and less than the higher
#: number of requests came a second, counted over so many seconds.
_REST_SECONDS: Final = 1e-3
_SOME: Final = 2_000.0
_MANY: Final = 12_000.0
_COUNTED_SECONDS: Final = 0.01


class Listener:
    """Accepts and reads connections from a bound socket. Call inside the loop."""

    def __init__(self, sock: socket.socket, hot: HotPath) -> None:
        self._sock = sock
        self._hot = hot
        self._loop = asyncio.get_running_loop()
        self._polled = Polled()
        self._fd = sock.fileno()
        # As socket.accept, whose Python around the two takes a tenth of what a connection costs.
        self._accept_one: Callable[[], tuple[int, object]] = sock._accept  # type: ignore[attr-defined]
        self._kind = int(sock.family), int(sock.type), sock.proto
        self._new: list[Connection] = []
        self._closed = False
        self._most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE_DESCRIPTORS
        self._crowded = False
        self._rests = False
        self._taken = 0
        self._counted_at = time.perf_counter()
        sock.setblocking(False)
        sock.listen(1024)
        if sock.family != socket.AF_UNIX:  # what is accepted inherits it
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(socket, "TCP_DEFER_ACCEPT"):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _DEFER_SECONDS)
        _widen(sock)
        self._listen()
        self._loop.add_reader(self._polled.epoll, self._turn)

    def close(self) -> None:
        """Accept no more; what is open goes on."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(OSError):  # it is not polled in a pause
                self._polled.epoll.unregister(self._fd)
            self._sock.close()

    def _listen(self) -> None:
        if not self._closed:
            self._polled.epoll.register(self._fd, select.EPOLLIN)

    def _turn(self) -> None:
        try:
            for _ in range(_TURNS):
                events = self._polled.epoll.poll(0, _READ_AT_ONCE)
                if not events:
                    break
                self._taken += self._serve(events)
        finally:  # whatever failed
            self._await_turn()

    def _await_turn(self) -> None:
        rested, rests = self._rests, self._gathers()
        self._rests = rests
        if rests:
            self._loop.call_later(_REST_SECONDS, self._turn)
        if rests and not rested:
            self._loop.remove_reader(self._polled.epoll)
        elif rested and not rests:
            self._loop.add_reader(self._polled.epoll, self._turn)

    def _gathers(self) -> bool:
        """Whether so many come that a rest gathers some, but too few to gather by themselves: as it
        was in the last window, which ends here when it is over.
        """
        now = time.perf_counter()
        seconds = now - self._counted_at
        if seconds < _COUNTED_SECONDS:
            return self._rests
        taken, self._taken, self._counted_at = self._taken, 0, now
        return _SOME < taken / seconds < _MANY

    def _serve(self, events: list[tuple[int, int]]) -> int:
        """Read, take and answer; of how many reads it was."""
        hot, connections = self._hot, self._polled.connections
        for fd, _ in events:
            connection = connections.get(fd)
            if connection is not None:
                if data := connection.read():
                    hot.queue(connection, data)
            elif fd == self._fd:
                self._accept()
        taken = hot.tick()
        new, self._new = self._new, []
        for connection in new:
            if not connection.queued:  # or its answer waits for a sync
                connection.resume_reading()
        return taken

    def _pause(self, why: str) -> None:
        log.error("no connection can be accepted: %s", why)
        self._polled.epoll.unregister(self._fd)
        self._loop.call_later(_PAUSE_SECONDS, self._listen)

    def _accept(self) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            if self._crowded and _lowest_free() >= self._most:
                self._pause("too many are open")
                return
            try:
                fd, peer = self._accept_one()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(str(error))
                return
            self._crowded = fd >= self._most
            sock = socket.SocketType(*self._kind, fd)
            connection = self._hot(sock, peer[0] if isinstance(peer, tuple) else "", self._polled)
            self._new.append(connection)
            if data := connection.read():
                self._hot.queue(connection, data)


def _lowest_free() -> int:
    """The descriptor that would be given next."""
    try:
        free = os.dup(0)
    except OSError:
        return _MOST_DESCRIPTORS << 10
    os.close(free)
    return free


def _widen(sock: socket.socket) -> None:
    """Have the kernel make the table of descriptors as large as it may become. It would double it
    as it fills, and a process with threads waits some milliseconds for each doubling.
    """
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError):
        os.close(fcntl.fcntl(sock, fcntl.F_DUPFD_CLOEXEC, min(most, _MOST_DESCRIPTORS) - 1))
