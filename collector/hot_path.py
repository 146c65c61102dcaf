"""The hot path: plain pixel requests, answered a loop tick at a time.

What is read is only queued. Once a tick all that is queued goes through the steps together: find
the plain requests (see `plain`), open their tokens and make their events (`beacon`), write all
events with one write (`group_commit`), and only then answer. Each step runs over a whole batch, so
its code and data are in the cache, and one write serves all who came in the meantime.

Rules:
- An answer leaves after its event was written (or synced, or counted as lost): never before.
- Answers leave in the order of their requests.
- At the first bytes that are not plain (another route, a request cut in two, wrong bytes) the
  connection is aiohttp's, for good, with these bytes and all that follow. Whatever this path does
  answer, aiohttp would have answered with the same bytes and the same event.
- A peer that does not read its answers is not read from.
"""

import asyncio
import logging
import re
import socket
from collections.abc import Callable
from typing import Final, cast

from collector.beacon import Beacon
from collector.client import TrustedProxies
from collector.connection import Connection, Polled
from collector.group_commit import GroupCommit
from collector.pixel import PixelAnswer
from collector.plain import Plain
from schemas.token import TokenError

log = logging.getLogger(__name__)

#: Pipelined requests taken of one read; what follows is aiohttp's.
_MOST_PIPELINED: Final = 64
#: What a token may look like. Other bytes may be an escaped one: aiohttp unescapes.
_TOKEN_LIKE: Final = re.compile(rb"[A-Za-z0-9_-]*")


#: What a connection gets: so many pixels, and then its end, or aiohttp with the bytes left.
Answer = tuple[Connection, int, bool, bytes]


class HotPath:
    """All connections of a worker that are still on the hot path."""

    def __init__(
        self,
        plain: Plain,
        beacon: Beacon,
        proxies: TrustedProxies,
        commit: GroupCommit,
        clock: Callable[[], float],
        hand_over: Callable[[], asyncio.Protocol],
    ) -> None:
        """Call inside the loop. `hand_over` makes aiohttp's protocol for a connection that it takes
        over; `clock` gives Unix seconds.
        """
        self.draining = False
        self.connections: set[Connection] = set()
        self._plain = plain
        self._beacon = beacon
        self._proxies = proxies
        self._commit = commit
        self._clock = clock
        self._hand_over = hand_over
        self._queue: list[tuple[Connection, bytes]] = []
        self._ticking = False
        self._call_soon = asyncio.get_running_loop().call_soon
        self._pixel = PixelAnswer()
        self._now = clock()
        self._round = 0  # of sweeps: the clock may jump

    def __call__(
        self,
        sock: socket.SocketType | None = None,
        peer: str = "",
        polled: Polled | None = None,
    ) -> Connection:
        """A new connection: an accepted socket, or the protocol of a transport."""
        return Connection(self, sock, peer, polled)

    def opened(self, connection: Connection) -> None:
        """A connection has come."""
        connection.seen = self._round
        connection.address, connection.proxied = self._proxies.peer(connection.peer)
        self.connections.add(connection)

    def closed(self, connection: Connection) -> None:
        """A connection has gone; what it asked before is recorded all the same."""
        self.connections.discard(connection)

    def arrived(self, connection: Connection, data: bytes) -> None:
        """Bytes from a transport of the loop's, which tells nobody when it has read all."""
        if not self._ticking:
            self._ticking = True
            self._call_soon(self.tick)
        self.queue(connection, data)

    def queue(self, connection: Connection, data: bytes) -> None:
        """Take bytes for the next tick."""
        connection.queued += 1
        self._queue.append((connection, data))

    def tick(self) -> int:
        """Take, write and answer all that is queued; of how many reads it was."""
        queue, self._queue = self._queue, []
        self._ticking = False
        self._now = self._clock()
        bodies: list[bytes] = []
        answers: list[Answer] = []
        for connection, data in queue:
            try:
                answers.append(self._take(connection, data, bodies))
            except Exception:  # a fault of ours must not take the others' answers along
                log.exception("a request could not be taken")
                connection.abort()
        synced = None
        if bodies:
            self._beacon.count("open", len(bodies))
            synced = self._commit.write(bodies)
        if synced is None:
            self._answer(answers)
            return len(queue)
        for connection, _, _, _ in answers:
            connection.pause_reading()
        synced.add_done_callback(lambda _: self._answer_synced(answers))
        return len(queue)

    def _take(self, connection: Connection, data: bytes, bodies: list[bytes]) -> Answer:
        """Read plain requests off the data, and add their events to `bodies`."""
        if connection.ended:
            return connection, 0, False, b""
        pixels, close = 0, False
        while data and not (close or connection.left) and pixels < _MOST_PIPELINED:
            token, forwarded, referer, client, close, size = self._plain.read(data)
            if not size:
                break
            address = connection.address
            if forwarded and connection.proxied:
                address = self._proxies.behind(address, (forwarded,))
            try:
                _, body = self._beacon.take("open", token, client, address, referer, self._now)
            except TokenError as error:
                if not _TOKEN_LIKE.fullmatch(token):
                    close = False
                    break
                self._beacon.refuse("open", error)
            else:
                if body:
                    bodies.append(body)
            pixels += 1
            data = data[size:]
        connection.ended = close
        connection.left = not close and data != b""
        return connection, pixels, close, data

    def _answer(self, answers: list[Answer]) -> None:
        self._pixel.date(self._now)
        for answer in answers:
            try:
                self._answer_one(answer)
            except Exception:  # see `tick`
                log.exception("a request could not be answered")
                answer[0].abort()

    def _answer_one(self, answer: Answer) -> None:
        connection, pixels, close, rest = answer
        connection.queued -= 1
        connection.seen = self._round
        if connection.is_closing():
            return
        more = self._pixel.more
        if pixels and (close or (self.draining and not rest)):
            connection.write(more * (pixels - 1) + self._pixel.last)
            if rest or connection.more or self.draining:
                connection.finish()
            else:
                connection.close()
            return
        if pixels:
            connection.write(more if pixels == 1 else more * pixels)
        if rest:
            self._leave(connection, rest)
        elif connection.eof and not connection.queued:
            connection.close()

    def _answer_synced(self, answers: list[Answer]) -> None:
        for connection, _, _, _ in answers:
            connection.more = True  # it was not read meanwhile
            connection.resume_reading()
        self._answer(answers)

    def _leave(self, connection: Connection, data: bytes) -> None:
        """Hand a connection over to aiohttp, or bytes that were queued before it was."""
        transport = connection.transport
        if transport is None:
            connection.adopt(lambda: self._leave(connection, data))
            return
        if connection in self.connections:
            self.connections.remove(connection)
            transport.set_protocol(self._hand_over())
            transport.get_protocol().connection_made(transport)
            if connection.paused:
                transport.get_protocol().pause_writing()
        protocol = cast(asyncio.Protocol, transport.get_protocol())
        protocol.data_received(data)
        if connection.eof and not connection.queued and not protocol.eof_received():
            transport.close()

    def sweep(self, rounds: int) -> None:
        """Close what has been idle for more than so many rounds; called every few seconds."""
        self._round += 1
        for connection in list(self.connections):
            if self._round - connection.seen > rounds:
                connection.abort()

    def close(self) -> None:
        """Close what is idle; what waits for a sync is closed when it is answered."""
        for connection in list(self.connections):
            if not connection.queued:
                connection.close()
