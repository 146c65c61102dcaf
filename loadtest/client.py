"""A client that fetches each of some paths once over keep-alive connections, cheaply.

`python -m loadtest.client HOST PORT CONNECTIONS [RATE] < paths` prints when it began and ended, and
how many pixels were answered. With a rate it sends so many a second, evenly, and prints when each
was answered. Times are of the monotonic clock.
"""

import asyncio
import random
import sys
import time
from collections import deque

import uvloop

from loadtest.traffic import Agents, request

_ANSWER_END = bytes.fromhex("02024401003b")


class Connection(asyncio.Protocol):
    """One reader at a time: the next request goes out when the pixel is in."""

    def __init__(self, requests: list[bytes], done: asyncio.Future[int]) -> None:
        self._requests = requests
        self._done = done
        self._answered = 0
        self._seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        if self._requests:
            self._transport.write(self._requests.pop())  # type: ignore[attr-defined]
        else:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._seen += data
        if self._seen.endswith(_ANSWER_END):
            self._answered += self._seen.startswith(b"HTTP/1.1 200")
            self._seen = b""
            self._ask()

    def connection_lost(self, _: Exception | None) -> None:
        self._done.set_result(self._answered)


async def fetch(host: str, port: int, connections: int, requests: list[bytes]) -> int:
    """Send all requests; how many were answered with the pixel."""
    loop = asyncio.get_running_loop()
    waiting = []
    for _ in range(connections):
        done: asyncio.Future[int] = loop.create_future()
        await loop.create_connection(lambda d=done: Connection(requests, d), host, port)
        waiting.append(done)
    return sum(await asyncio.gather(*waiting))


class Waiting(asyncio.Protocol):
    """A connection that waits for its next request among the idle ones."""

    def __init__(
        self, idle: deque["Waiting"], answered: list[float], lost: list["Waiting"]
    ) -> None:
        self._idle = idle
        self._lost = lost
        self._answered = answered
        self._seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._idle.append(self)

    def data_received(self, data: bytes) -> None:
        self._seen += data
        if self._seen.endswith(_ANSWER_END):
            if self._seen.startswith(b"HTTP/1.1 200"):
                self._answered.append(time.monotonic())
            self._seen = b""
            self._idle.append(self)

    def connection_lost(self, _: Exception | None) -> None:
        self._lost.append(self)


async def keep_pace(
    host: str, port: int, connections: int, requests: list[bytes], rate: float
) -> list[float]:
    """Send all requests evenly spaced; when those that got the pixel were answered.

    Raises ConnectionError if the server closes a connection.
    """
    loop, idle, answered = asyncio.get_running_loop(), deque[Waiting](), list[float]()
    lost = list[Waiting]()
    for _ in range(connections):
        await loop.create_connection(lambda: Waiting(idle, answered, lost), host, port)
    began, sent = time.monotonic(), 0
    while sent < len(requests) or len(idle) < connections:
        due = min(len(requests), int((time.monotonic() - began) * rate) + 1)
        while sent < due and idle:
            idle.popleft().transport.write(requests[sent])  # type: ignore[attr-defined]
            sent += 1
        if lost:
            raise ConnectionError(f"{len(lost)} of {connections} connections were closed")
        await asyncio.sleep(0.002)
    return answered


def main() -> None:
    """Entry point."""
    host, port, connections = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    chance, agents = random.Random(1), Agents()
    requests = [request(line.strip(), f"{host}:{port}", agents, chance) for line in sys.stdin]
    if len(sys.argv) > 4:
        print(*uvloop.run(keep_pace(host, port, connections, requests, float(sys.argv[4]))))
        return
    began = time.monotonic()
    answered = uvloop.run(fetch(host, port, connections, requests))
    print(began, time.monotonic(), answered, flush=True)


if __name__ == "__main__":
    main()
