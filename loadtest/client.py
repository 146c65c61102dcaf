"""A client that fetches each of some paths once over keep-alive connections, cheaply.

`python -m loadtest.client HOST PORT CONNECTIONS < paths` prints seconds and answered pixels.
"""

import asyncio
import random
import sys
import time

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


def main() -> None:
    """Entry point."""
    host, port, connections = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    chance, agents = random.Random(1), Agents()
    requests = [request(line.strip(), f"{host}:{port}", agents, chance) for line in sys.stdin]
    began = time.perf_counter()
    answered = uvloop.run(fetch(host, port, connections, requests))
    print(time.perf_counter() - began, answered, flush=True)


if __name__ == "__main__":
    main()
