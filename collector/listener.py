"""Accepting connections: the first request is read before there is a transport.

Mail programs mostly ask once. The kernel is told to wake us when a new connection has sent
something (TCP_DEFER_ACCEPT), so its first request is there and can be taken, answered and closed
with four system calls. Only what stays open gets a transport of the event loop's, which costs as
much as a request does.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from typing import Any, Final

log = logging.getLogger(__name__)

#: What is accepted before others have their turn.
_AT_ONCE: Final = 64
_FIRST_BYTES: Final = 1 << 16
#: How long the kernel keeps a connection that sends nothing to itself, in seconds.
_DEFER_SECONDS: Final = 5
#: How long to wait when there are no descriptors left.
_PAUSE_SECONDS: Final = 0.2
_DONTWAIT: Final = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class Fresh(asyncio.Transport):
    """A transport that can only write and close, until `adopt` replaces it by a whole one."""

    def __init__(self, sock: socket.socket, peer: Any, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._sock = sock
        self._peer = peer
        self._protocol = protocol
        self._unsent = b""
        self._closing = False
        self._adopting = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """The peer's address; nothing else is asked of a fresh connection."""
        return self._peer if name == "peername" else default

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self._closing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send; what the kernel does not take is left to the adopted transport."""
        sent = 0
        with contextlib.suppress(OSError):  # a peer that is gone is found so when it is read
            sent = self._sock.send(data, _DONTWAIT)
        self._unsent = bytes(data[sent:])
        asyncio.get_running_loop().call_soon(self._stay)

    def _stay(self) -> None:
        if not self._closing:
            self.adopt(_nothing)

    def pause_reading(self) -> None:
        """Nothing is read here."""

    def resume_reading(self) -> None:
        """Nothing is read here."""

    def close(self) -> None:
        """Close once everything is sent."""
        if self._closing:
            return
        self._closing = True
        if self._unsent and not self._adopting:
            self.adopt(_nothing)
        elif not self._adopting:
            self._sock.close()
            self._protocol.connection_lost(None)

    abort = close

    def adopt(self, then: Callable[[], None]) -> None:
        """Give the connection a whole transport, through connection_made, and go on with `then`."""
        if not self._adopting:
            self._adopting = True
            task = asyncio.get_running_loop().create_task(self._adopt(then))
            _tasks.add(task)
            task.add_done_callback(_tasks.discard)

    async def _adopt(self, then: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        try:
            whole, _ = await loop.connect_accepted_socket(lambda: self._protocol, self._sock)
        except OSError:
            self._closing = True
            self._sock.close()
            self._protocol.connection_lost(None)
            return
        if self._unsent:
            whole.write(self._unsent)
        if self._closing:
            whole.close()
        then()


def _nothing() -> None:
    return


_tasks: set[asyncio.Task[None]] = set()


class Listener:
    """Accepts connections for a protocol from a bound socket. Call inside the loop."""

    def __init__(self, sock: socket.socket, make: Callable[[], asyncio.Protocol]) -> None:
        self._sock = sock
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._closed = False
        sock.setblocking(False)
        sock.listen(1024)
        if hasattr(socket, "TCP_DEFER_ACCEPT") and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _DEFER_SECONDS)
        self._loop.add_reader(sock, self._accept)

    def close(self) -> None:
        """Accept no more."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._sock)
            self._sock.close()

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                sock, peer = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error("no connection can be accepted: %s", error)
                self._loop.remove_reader(self._sock)
                self._loop.call_later(_PAUSE_SECONDS, self._go_on)
                return
            self._first(sock, peer)

    def _go_on(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._sock, self._accept)

    def _first(self, sock: socket.socket, peer: Any) -> None:
        try:
            data = sock.recv(_FIRST_BYTES, _DONTWAIT)
        except BlockingIOError:  # it was deferred for long enough
            data = b""
        except OSError:
            sock.close()
            return
        protocol = self._make()
        fresh = Fresh(sock, peer, protocol)
        protocol.connection_made(fresh)
        if data:
            protocol.data_received(data)
        else:  # nothing yet, or the end: the loop will tell
            fresh.adopt(_nothing)
