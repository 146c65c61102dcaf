"""A TCP proxy before a store that loses answers: of chosen statements, as a bad network does."""

import asyncio
import contextlib
from typing import Literal

Fault = Literal["none", "cut", "stall"]


class Proxy:
    """Passes everything on, but for the answers to requests that contain `statement`.

    While `faults` lasts, each such request takes one of them: none, or once the server has answered
    the connection is cut, or nothing more ever comes.
    """

    def __init__(self, port: int, statement: bytes) -> None:
        self._upstream = port
        self._statement = statement
        self.faults: list[Fault] = []
        self.done: list[Fault] = []
        self.port = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._upstream)
        chosen: list[Fault] = []
        up = asyncio.create_task(self._upwards(reader, back, chosen))
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            while data := await there.read(65536):
                if chosen:
                    self.done.append(chosen[0])
                    if chosen[0] == "stall":
                        await up  # until the client has had enough
                    break
                writer.write(data)
                await writer.drain()
        up.cancel()
        for each in (writer, back):
            each.close()

    async def _upwards(
        self, reader: asyncio.StreamReader, back: asyncio.StreamWriter, chosen: list[Fault]
    ) -> None:
        recent = b""
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                recent = recent[-len(self._statement) :] + data
                if self._statement in recent and self.faults:
                    fault = self.faults.pop(0)
                    chosen += [fault] if fault != "none" else []
                    recent = b""
                back.write(data)
                await back.drain()
