"""Readers who open pixels without a pause, and remember every nonce that was answered."""

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import AsyncIterator, Sequence
from urllib.parse import urlsplit

PIXEL = bytes.fromhex(
    "47494638396101000100800000ffffff00000021f90401000000002c00000000010001000002024401003b"
)


class Readers:
    """Each request bears a nonce as its user agent."""

    def __init__(self, port: int, urls: Sequence[str]) -> None:
        self.port = port  # where the edge is now
        self.sent: set[str] = set()
        self.answered: set[str] = set()
        self._paths = itertools.cycle([urlsplit(url).path for url in urls])
        self._run = secrets.token_hex(4)

    @contextlib.asynccontextmanager
    async def reading(self, connections: int = 4, pause: float = 0.0) -> AsyncIterator[None]:
        """Open pixels over kept connections for the length of a block; made anew as they break."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(self._read_on(stop, pause))
            try:
                yield
            finally:
                stop.set()

    async def _read_on(self, stop: asyncio.Event, pause: float) -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                async with asyncio.timeout(5):
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    while not stop.is_set():
                        async with asyncio.timeout(5):
                            await self._open(reader, writer)
                        await asyncio.sleep(pause)
                finally:
                    writer.close()
            await asyncio.sleep(0.02)

    async def _open(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonce = f"{self._run}-{len(self.sent)}"
        self.sent.add(nonce)
        path = next(self._paths)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: e2e\r\nUser-Agent: {nonce}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        assert await reader.readexactly(len(PIXEL)) == PIXEL
        self.answered.add(nonce)

    def check(self, stored: dict[str, int]) -> None:
        """Hold the store's count of each nonce against what was answered here."""
        lost = self.answered - stored.keys()
        assert not lost, f"{len(lost)} of {len(self.answered)} answered opens are not stored"
        repeated = {nonce: count for nonce, count in stored.items() if count != 1}
        assert not repeated, f"stored more than once: {len(repeated)}, such as {repeated}"[:300]
        assert stored.keys() <= self.sent, "what nobody sent is stored"
