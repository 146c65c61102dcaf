"""Both ways through the edge, without sockets: a worker whose connections begin on the hot path,
and one whose connections are aiohttp's from the first byte.
"""

import asyncio
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from collector.worker import Worker
from schemas.journal.reader import Reader
from tests.collecting import settings
from tests.raw_requests import OPTED_OUT, Places
from tests.wire import ADDRESS, Wire

_DATE = re.compile(rb"\r\nDate: [^\r]*")
#: Ticks without news after which a connection is taken to rest.
REST = 12
_AS_THEY_COME = ("journal", "seq", "ts")


class Said(NamedTuple):
    """What a connection brought: its answers without their dates, and whether it stayed open."""

    told: bytes
    open: bool


class EdgePath:
    """One of the two. Make it inside a loop."""

    def __init__(self, name: Literal["hot", "aiohttp"], data: Path, keys: Path | None) -> None:
        self._name = name
        if keys is not None:
            data.mkdir()
            shutil.copy(keys, data / "keys.json")  # what both are told is the same
        self.worker = Worker(
            settings(data, public_url="https://px.example.org/m", trusted_proxies=(ADDRESS,))
        )
        self.worker.optouts.recipients.put(OPTED_OUT, True)
        self.keys = data / "keys.json"
        self.places = Places(self.worker.keys.ring)
        self._runner = self.worker.runner()
        self._reader = Reader(self.worker.commit.journal.path, 1)

    async def start(self) -> None:
        await self._runner.setup()
        assert self._runner.server is not None
        self._make: Any = self._runner.server
        if self._name == "hot":
            self._make = self.worker.hot_path(self._runner.server)

    async def stop(self) -> None:
        await self._runner.cleanup()
        await self.worker.commit.close()

    def events(self) -> list[dict[str, Any]]:
        """The events since the last time."""
        frames = self._reader.read(1 << 24)
        found = [msgspec.json.decode(line) for f in frames for line in f.block.splitlines()]
        return [{k: v for k, v in event.items() if k not in _AS_THEY_COME} for event in found]

    async def talk(
        self, scripts: Sequence[Sequence[bytes | None]], seconds: float = 0.0
    ) -> list[Said]:
        """Connections that say their scripts side by side: pieces of bytes, None for the end.
        They are looked at some `seconds` later.
        """
        wires = [Wire(self._make()) for _ in scripts]
        for turn in range(max(map(len, scripts), default=0)):
            for wire, script in zip(wires, scripts, strict=True):
                if turn < len(script):
                    piece = script[turn]
                    wire.feed(piece) if piece is not None else wire.feed_eof()
            await _rest(wires)
        await asyncio.sleep(seconds)
        said = [Said(_DATE.sub(b"", bytes(wire.told)), not wire.ended) for wire in wires]
        for wire in wires:
            wire.close()
        await _rest(wires)
        return said


async def _rest(wires: Sequence[Wire]) -> None:
    """Until nothing has happened for a while."""
    quiet, before = 0, -1
    while quiet < REST:
        await asyncio.sleep(0)
        now = sum(len(wire.told) + wire.ended for wire in wires)
        quiet = quiet + 1 if now == before else 0
        before = now
