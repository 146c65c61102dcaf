"""The consumer's loop: gather blocks into batches, write each batch, then commit it.

One batch is written at a time. A partition is taken over (see `stage`) before its first batch and
after every trouble. Whatever goes wrong, a batch is committed only after it was written, and a
batch that is not committed is given again by the source.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from consumer.batch import Batch, Block, Partition
from consumer.errors import Fenced, Released, StoreTrouble
from consumer.metrics import Metrics
from consumer.source import Source
from consumer.store import TableGone
from consumer.writer import Outcome, Writer

_log: Final = logging.getLogger(__name__)
_POLL: Final = 0.1
_LONGEST_PAUSE: Final = 5.0


@dataclass(slots=True)
class Lane:
    """A partition of ours: its open batch, and its writer once it has been taken over."""

    batch: Batch
    writer: Writer | None = None
    released: asyncio.Event = field(default_factory=asyncio.Event)


class Loop:
    """Moves events from a source to the store until told to stop."""

    def __init__(
        self,
        source: Source,
        open_writer: Callable[[Partition], Writer],
        new_batch: Callable[[], Batch],
        metrics: Metrics,
    ) -> None:
        self._source = source
        self._open_writer = open_writer
        self._new_batch = new_batch
        self._metrics = metrics
        self._lanes: dict[Partition, Lane] = {}
        self._writing = asyncio.Lock()

    async def run(self, stop: asyncio.Event, drain_seconds: float = 0.0) -> None:
        """Work until `stop`; then count what is left of a finite source, if the time allows."""
        work = asyncio.create_task(self._work(stop))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([work, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        # Store and source may both be away, and then no turn ever ends by itself.
        await asyncio.wait([work], timeout=drain_seconds)
        if not work.done():
            _log.warning("stopping before everything was counted; it will be at the next start")
            work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work

    async def _work(self, stop: asyncio.Event) -> None:
        try:
            await self._source.start(self.release)
            while not stop.is_set():
                await self._turn()
            while self._source.finite and await self._turn():
                continue
            await self._turn(last=True)
        finally:
            await self._close()

    async def catch_up(self) -> None:
        """Count what a finite source holds at this moment."""
        stop = asyncio.Event()
        stop.set()
        await self._work(stop)

    async def _turn(self, *, last: bool = False) -> bool:
        """Poll once and write what is due; was there more? The `last` one only writes, and all."""
        try:
            found = {} if last else await self._source.poll(_POLL)
            await self._gather(found)
            # Partitions may be many: what waits of all of them together is bounded as well.
            lanes = list(self._lanes.items())
            size = sum(lane.batch.size for _, lane in lanes)
            crowded = any(size >= lane.batch.max_bytes for _, lane in lanes)
            for partition, lane in lanes:
                if lane.batch.blocks and (last or crowded or lane.batch.due(time.monotonic())):
                    await self._write(partition, lane)
            self._metrics.turned()
            return bool(found)
        except Fenced as fenced:
            _log.warning("joining anew: %s", fenced)
            self._metrics.rejoins.inc()
            self._lanes.clear()
            await self._source.rejoin()
            return True

    async def _gather(self, found: Mapping[Partition, Sequence[Block]]) -> None:
        """Add blocks to the batches of their partitions, and write those that are full.

        The lanes are named before anything is awaited. Of a partition that is given up meanwhile
        the rest is dropped too: a batch without the blocks before it must never be committed.
        """
        lanes = [self._lanes.setdefault(p, Lane(self._new_batch())) for p in found]
        for lane, (partition, blocks) in zip(lanes, found.items(), strict=True):
            for block in blocks:
                if lane.released.is_set():
                    break
                lane.batch.add(block, time.monotonic())
                if lane.batch.full:
                    await self._write(partition, lane)

    async def _write(self, partition: Partition, lane: Lane) -> None:
        async with self._writing:
            if lane.released.is_set():
                return
            try:
                outcome = await self._until_written(partition, lane)
            except Released:
                return
            await self._source.commit(partition, lane.batch.blocks)
            self._metrics.wrote(outcome, len(lane.batch.blocks))
            lane.batch = self._new_batch()

    async def _until_written(self, partition: Partition, lane: Lane) -> Outcome:
        pause = 0.1
        while True:
            try:
                if lane.writer is None:
                    lane.writer = await self._take_over(partition)
                outcome = await asyncio.to_thread(lane.writer.write, lane.batch)
            except TableGone as gone:
                # Only a fence drops a stage. To make it again would undo the fence.
                raise Fenced(str(gone)) from None
            except StoreTrouble as trouble:
                lane.writer = None
                self._metrics.in_trouble(str(trouble))
                _log.warning("the store is in trouble, trying again: %s", trouble)
                await _pause(pause, lane.released)
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                self._metrics.in_trouble("")
                return outcome

    async def _take_over(self, partition: Partition) -> Writer:
        writer = await asyncio.to_thread(self._open_writer, partition)
        await self._source.confirm(partition)
        await asyncio.to_thread(writer.stage.fence)
        return writer

    async def release(self, partitions: Collection[Partition]) -> None:
        """Give partitions up: let the write in flight end, drop the rest."""
        for partition in partitions:
            if partition in self._lanes:
                self._lanes[partition].released.set()
        async with self._writing:
            for partition in partitions:
                lane = self._lanes.pop(partition, None)
                if lane is not None:
                    await self._drop(lane)

    async def _drop(self, lane: Lane) -> None:
        if lane.writer is not None:
            try:
                await asyncio.to_thread(lane.writer.stage.drop)
            except StoreTrouble:
                _log.info("a staging table is left to the next consumer's fence")

    async def _close(self) -> None:
        await self._source.close()
        for lane in self._lanes.values():
            await self._drop(lane)
        self._lanes.clear()


async def _pause(seconds: float, released: asyncio.Event) -> None:
    """Wait, but not when the partition is being given up meanwhile: raises Released."""
    try:
        await asyncio.wait_for(released.wait(), seconds)
    except TimeoutError:
        return
    raise Released
