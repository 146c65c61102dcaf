"""The journals of this machine as a source: one partition, one reader a journal."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from consumer.batch import Block, Partition
from consumer.errors import Fenced
from consumer.source import OnRelease
from schemas.journal import reship
from schemas.journal.directory import journals, read_position, write_position
from schemas.journal.reader import OnDamage, Reader

PARTITION: Final[Partition] = ("", 0)
#: What is read of one journal before the next has its turn, and of all at a time, in bytes.
_TURN: Final = 4 << 20
_ROUND: Final = 32 << 20
_IDLE: Final = 0.05
_PAUSE: Final = 1.0


class JournalSource:
    """Reads all journals under a root. The positions beside them are its commits.

    The root belongs to one process at a time (the store's lock sees to it), so a partition once
    given is never taken away, and `confirm` has nothing to ask. `report` is told what keeps the
    disk from being read or written, or "" when nothing does.
    """

    finite = True

    def __init__(self, root: Path, on_damage: OnDamage, report: Callable[[str], None]) -> None:
        self._root = root
        self._report = report
        self._on_damage = on_damage
        self._readers: dict[str, Reader] = {}

    async def start(self, on_release: OnRelease) -> None:
        """Nothing is ever released."""

    async def poll(self, timeout: float) -> Mapping[Partition, Sequence[Block]]:
        """See `Source`."""
        try:
            blocks = await asyncio.to_thread(self._read)
        except OSError as error:
            raise await self._trouble(error) from error
        if blocks:
            return {PARTITION: blocks}
        await asyncio.sleep(min(timeout, _IDLE))
        return {}

    def _read(self) -> list[Block]:
        if reship.requested(self._root):
            # What is under way would commit the positions from before: see `rejoin`.
            raise Fenced("shipping again, as requested")
        there = {path.name: path for path in journals(self._root)}
        for gone in self._readers.keys() - there.keys():
            del self._readers[gone]
        for name, path in there.items():
            if name not in self._readers:
                self._readers[name] = Reader(path, read_position(path), self._on_damage)
        blocks: list[Block] = []
        size = 0
        for name, reader in list(self._readers.items()):
            if size >= _ROUND:
                break
            if not reader.finished:
                found = self._blocks(reader)
                size += sum(len(block.data) for block in found)
                blocks += found
                self._readers[name] = self._readers.pop(name)  # to the end of the queue
        return blocks

    def _blocks(self, reader: Reader) -> list[Block]:
        name = reader.journal.name
        frames = reader.read(_TURN)
        return [Block("", 0, f.first_seq, name, f.first_seq, f.events, f.block) for f in frames]

    async def confirm(self, partition: Partition) -> None:
        """Always ours."""

    async def commit(self, partition: Partition, blocks: Sequence[Block]) -> None:
        """See `Source`."""
        ends = {block.journal: block.first_seq + block.events for block in blocks}
        try:
            for journal, next_seq in ends.items():
                write_position(self._root / journal, next_seq)
        except OSError as error:
            raise await self._trouble(error) from error
        self._report("")

    async def _trouble(self, error: OSError) -> Fenced:
        """Say it and wait a moment; what was gathered is read again, which is harmless."""
        self._report(str(error))
        await asyncio.sleep(_PAUSE)
        return Fenced(str(error))

    async def rejoin(self) -> None:
        """See `Source`. Nothing is under way now: positions that are set back stay so."""
        try:
            await asyncio.to_thread(reship.obey, self._root)
        except OSError as error:
            await self._trouble(error)
        self._readers.clear()

    async def close(self) -> None:
        """Nothing is held open."""
