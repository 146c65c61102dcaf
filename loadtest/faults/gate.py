"""A proxy before ClickHouse: it knows when an insert is under way, and can slow it down."""

import asyncio
import contextlib
import threading
from typing import Final

_CHUNK: Final = 65536
#: Of the statement that puts events into the table; the stage and the ledger have others.
INSERT: Final = b".events\nSETTINGS"


class Gate:
    """Passes everything on. Counts the statements that `INSERT` is in: `seen` on their way there,
    `done` once ClickHouse has answered, `lost` where it never did. `delay` holds each up for so
    many seconds; while `withhold` is set, the answers are not passed on, and while `stop` is, the
    statements are not (`stopped` counts them).
    """

    def __init__(self, upstream: int) -> None:
        self.port = self.seen = self.done = self.lost = self.stopped = 0
        self.delay = 0.0
        self.withhold = self.stop = False
        self._upstream = upstream
        self._serving: set[object] = set()  # asyncio by itself lets them be collected
        self._ended = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)
        self._thread.start()
        self._ready.wait(10)

    @property
    def url(self) -> str:
        """Where ClickHouse is now."""
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(10)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._ended.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(task := asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.CancelledError):
            there, back = await asyncio.open_connection("127.0.0.1", self._upstream)
            waiting: list[bool] = []
            up = asyncio.create_task(self._upwards(reader, back, waiting))
            with contextlib.suppress(OSError):
                while data := await there.read(_CHUNK):
                    answered, waiting[:] = bool(waiting), []
                    self.done += answered
                    if answered and self.withhold:
                        await up  # until the client is gone
                        break
                    writer.write(data)
                    await writer.drain()
            self.lost += len(waiting)
            up.cancel()
        writer.close()
        self._serving.discard(task)

    async def _upwards(
        self, reader: asyncio.StreamReader, back: asyncio.StreamWriter, waiting: list[bool]
    ) -> None:
        recent = b""
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                recent = recent[-len(INSERT) :] + data
                if INSERT in recent:
                    recent = b""
                    if self.stop:
                        self.stopped += 1
                        while await reader.read(_CHUNK):  # until the client is gone
                            pass
                        break
                    await asyncio.sleep(self.delay)
                    waiting.append(True)
                    self.seen += 1
                back.write(data)
                await back.drain()
        back.close()
