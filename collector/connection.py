"""A connection of the hot path, which needs no more than its socket.

A transport of the event loop costs as much to make as a few requests do to answer, and something
again with each read and write. A connection of plain requests needs nothing of what it offers:
requests come whole, and answers fit into the kernel's buffer. So it stays a socket, which
the listener polls, until `adopt` gives it a transport: when aiohttp is to have it, or when its
peer does not read its answers.
"""

import asyncio
import select
import socket
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

_READ_BYTES: Final = 1 << 14
#: How long a connection that is finished waits for its peer's end.
_LINGER_SECONDS: Final = 2.0
_FLAGS: Final = socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0)


class Polled:
    """The sockets that are read when they can be, and the connections that they are."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.connections: dict[int, Connection] = {}

    def add(self, fd: int, connection: "Connection") -> None:
        """Poll a descriptor; raises OSError."""
        self.epoll.register(fd, select.EPOLLIN)
        self.connections[fd] = connection

    def remove(self, fd: int) -> None:
        """Poll it no more. Before it is closed."""
        if self.connections.pop(fd, None) is not None:
            self.epoll.unregister(fd)


class Owner(Protocol):
    """Who takes what connections bring: see `hot_path`."""

    def opened(self, connection: "Connection") -> None:
        """It is open, and when it is adopted again."""

    def arrived(self, connection: "Connection", data: bytes) -> None:
        """Bytes came over a transport of the loop's."""

    def closed(self, connection: "Connection") -> None:
        """It is closed."""


class Connection:
    """A connection as long as only plain requests have come over it: a socket, or a transport of
    the loop's whose protocol it is.
    """

    def __init__(
        self,
        owner: Owner,
        sock: socket.SocketType | None = None,
        peer: str = "",
        polled: Polled | None = None,
    ) -> None:
        self.peer = peer
        self.address = ""  # the peer's in its canonical form; "" if it has none
        self.proxied = False  # it is one of our proxies
        self.more = False  # it may have sent more than was read
        self.eof = False  # the peer sends no more
        self.ended = False  # whatever follows is ignored
        self.left = False  # whatever follows is aiohttp's
        self.paused = False  # its peer does not read
        self.queued = 0
        self.seen = 0  # the owner's round of sweeps
        self._owner = owner
        self._sock = sock
        # Bound once: compiled code looks a method up each time.
        self._recv = _no_recv if sock is None else sock.recv
        self._send = _no_send if sock is None else sock.send
        self._polled = polled
        self._reading = False  # it is polled
        self._unsent = b""
        self._closing = False
        self._adopting = False
        self._then: Callable[[], None] = _nothing  # once it is adopted
        self.transport: asyncio.Transport | None = None
        if sock is not None:
            owner.opened(self)

    def read(self) -> bytes:
        """What has come over the socket; b"" if nothing has."""
        try:
            data = self._recv(_READ_BYTES, _FLAGS)
        except (BlockingIOError, InterruptedError):
            return b""
        except OSError:
            self.abort()
            return b""
        self.more = len(data) == _READ_BYTES
        if not data:
            self.pause_reading()
            if not self.eof_received():
                self.close()
        return data

    def write(self, data: bytes) -> None:
        """Send; what the kernel does not take is left to a transport."""
        if self.transport is not None:
            self.transport.write(data)
            return
        sent = 0
        if not self._unsent:
            try:
                sent = self._send(data, _FLAGS)
            except (BlockingIOError, InterruptedError):
                pass
            except OSError:  # a peer that is gone is found so when it is read
                return
        if sent < len(data):
            self._unsent += data[sent:]
            self.pause_reading()
            asyncio.get_running_loop().call_soon(self._send_rest)

    def _send_rest(self) -> None:
        if not self._closing:
            self.adopt(_nothing)

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self._closing if self.transport is None else self.transport.is_closing()

    def close(self) -> None:
        """Close once everything is sent."""
        if self.transport is not None:
            self.transport.close()
            return
        if self._closing:
            return
        self.pause_reading()
        self._closing = True
        if self._adopting:
            return
        if self._unsent:
            self.adopt(_nothing)
            return
        assert self._sock is not None
        self._sock.close()
        self._owner.closed(self)

    def finish(self) -> None:
        """Close once everything is sent, and the peer has ended its side too or a moment has
        passed: what is unread when a socket is closed may take the last answer along (RFC 9112,
        section 9.6). Whatever comes must be ignored.
        """
        if self.eof or (self._unsent and self.transport is None):
            self.close()
            return
        try:
            if self.transport is not None:
                self.transport.write_eof()
            elif self._sock is not None:
                self._sock.shutdown(socket.SHUT_WR)
        except OSError:  # the peer is gone
            self.close()
            return
        asyncio.get_running_loop().call_later(_LINGER_SECONDS, self.close)

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abort()
            return
        self._unsent = b""
        self.close()

    def pause_reading(self) -> None:
        """Unless it is closing, which a transport takes for a fault of ours."""
        if self.transport is not None:
            if not self.transport.is_closing():
                self.transport.pause_reading()
        elif self._reading and self._polled is not None and self._sock is not None:
            self._reading = False
            self._polled.remove(self._sock.fileno())

    def resume_reading(self) -> None:
        """See `pause_reading`. What is new is not polled before."""
        if self.transport is not None:
            if not self.transport.is_closing():
                self.transport.resume_reading()
        elif not (self._reading or self._closing or self._adopting):
            assert self._polled is not None
            assert self._sock is not None
            try:
                self._polled.add(self._sock.fileno(), self)
            except OSError:  # the kernel has no room for it
                self.abort()
            else:
                self._reading = True

    def adopt(self, then: Callable[[], None]) -> None:
        """Have the loop make a transport for the socket, and go on with `then`."""
        if not self._adopting and self._sock is not None:
            self.pause_reading()
            self._adopting = True
            self._then = then
            loop = asyncio.get_running_loop()
            self._sock = socket.socket(fileno=self._sock.detach())  # as loops want it
            task = asyncio.ensure_future(loop.connect_accepted_socket(lambda: self, self._sock))  # type: ignore[type-var]
            _tasks.add(task)
            task.add_done_callback(self._no_transport)

    def _no_transport(self, task: asyncio.Future[Any]) -> None:
        _tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and self._sock is not None:
            self._closing = True
            self._sock.close()
            self._owner.closed(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It has a transport."""
        whole = cast(asyncio.Transport, transport)
        self.transport, self._sock = whole, None
        self._recv, self._send = _no_recv, _no_send
        if not self._adopting:
            self.peer = (whole.get_extra_info("peername") or ("",))[0]
            self._owner.opened(self)
            return
        if self._unsent:
            whole.write(self._unsent)
        if self._closing:
            whole.close()
        else:
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        """Once, and before anything that is read: the loop may read before it calls."""
        then, self._then = self._then, _nothing
        then()

    def data_received(self, data: bytes) -> None:
        """Bytes over the transport."""
        self.more = True
        self._go_on()
        self._owner.arrived(self, data)

    def eof_received(self) -> bool:
        """The peer sends no more, but reads on: what is queued, or aiohttp's, is still answered."""
        self.eof = True
        self._go_on()
        return self.queued > 0 or self.left

    def pause_writing(self) -> None:
        """The peer does not read."""
        self.paused = True
        self.pause_reading()

    def resume_writing(self) -> None:
        """It does again."""
        self.paused = False
        self.resume_reading()

    def connection_lost(self, _: Exception | None) -> None:
        """It is closed."""
        self._owner.closed(self)


def _nothing() -> None:
    return


def _no_recv(size: int, flags: int) -> bytes:
    raise AssertionError("a connection with a transport is not polled")


def _no_send(data: bytes, flags: int) -> int:
    raise AssertionError("a connection with a transport is not sent to")


_tasks: set[asyncio.Future[Any]] = set()
