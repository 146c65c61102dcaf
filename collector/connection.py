"""A connection of the hot path, which needs no more than its socket.

A transport of the event loop costs as much to make as a few requests do to answer, and something
again with each read and write. A connection of plain requests needs nothing of what it offers:
requests come whole, and answers fit into the kernel's buffer. So it stays a socket in the
listener's selector, until `adopt` gives it a transport: when aiohttp is to have it, or when its
peer does not read its answers.
"""

import asyncio
import selectors
import socket
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

_READ_BYTES: Final = 1 << 14
_FLAGS: Final = socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0)


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
        sock: socket.socket | None = None,
        peer: str = "",
        selector: selectors.BaseSelector | None = None,
    ) -> None:
        self.peer = peer
        self.eof = False  # the peer sends no more
        self.ended = False  # whatever follows is ignored
        self.left = False  # whatever follows is aiohttp's
        self.paused = False  # its peer does not read
        self.queued = 0
        self.seen = 0.0
        self._owner = owner
        self._sock = sock
        self._selector = selector
        self._reading = False  # in the selector
        self._unsent = b""
        self._closing = False
        self._adopted: Callable[[], None] | None = None  # called once it is
        self.transport: asyncio.Transport | None = None
        if sock is not None:
            owner.opened(self)

    def read(self) -> bytes:
        """What has come over the socket; b"" if nothing has."""
        assert self._sock is not None
        try:
            data = self._sock.recv(_READ_BYTES, _FLAGS)
        except (BlockingIOError, InterruptedError):
            return b""
        except OSError:
            self.abort()
            return b""
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
            assert self._sock is not None
            try:
                sent = self._sock.send(data, _FLAGS)
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
        if self._adopted is not None:
            return
        if self._unsent:
            self.adopt(_nothing)
            return
        assert self._sock is not None
        self._sock.close()
        self._owner.closed(self)

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
        elif self._reading and self._selector is not None and self._sock is not None:
            self._reading = False
            self._selector.unregister(self._sock)

    def resume_reading(self) -> None:
        """See `pause_reading`. What is new is not in the selector before."""
        if self.transport is not None:
            if not self.transport.is_closing():
                self.transport.resume_reading()
        elif not (self._reading or self._closing or self._adopted is not None):
            assert self._selector is not None
            assert self._sock is not None
            self._reading = True
            self._selector.register(self._sock, selectors.EVENT_READ, self)

    def adopt(self, then: Callable[[], None]) -> None:
        """Have the loop make a transport for the socket, and go on with `then`."""
        if self._adopted is None and self._sock is not None:
            self.pause_reading()
            self._adopted = then
            loop = asyncio.get_running_loop()
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
        if self._adopted is None:
            self.peer = (whole.get_extra_info("peername") or ("",))[0]
            self._owner.opened(self)
            return
        if self._unsent:
            whole.write(self._unsent)
        if self._closing:
            whole.close()
        # Before anything that is read: that comes in a later turn.
        asyncio.get_running_loop().call_soon(self._adopted)

    def data_received(self, data: bytes) -> None:
        """Bytes over the transport."""
        self._owner.arrived(self, data)

    def eof_received(self) -> bool:
        """The peer sends no more, but reads on: what is queued is still answered."""
        self.eof = True
        return self.queued > 0

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


_tasks: set[asyncio.Future[Any]] = set()
