"""The consumer's loop: gather blocks into batches, write each batch, then commit it.

Four batches are on their way: while one is gathered, one waits, the one before is loaded into a
stage, and the one before that is inserted, verified and committed. Only the last step counts
anything, and it is done by one batch at a time, in the order in which they were gathered. Loading
early is a bet: it happens in the stage of a partition that is ours already and that no other batch
is in, and whatever becomes of it (a failure, a stage that a fence has dropped meanwhile), the batch
is loaded again when its turn to be inserted has come. So a batch that is inserted has been loaded
into a stage of the last take-over.

A partition is taken over (see `stage`) before its first batch and after every trouble. Whatever
goes wrong, a batch is committed only after it was written, and a batch that is not committed is
given again by the source. A partition that is given up, or taken away, ends its lane: what is being
inserted comes to its end and is committed, if it still can; what is behind it is dropped.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from consumer.batch import Batch, Block, Partition
from consumer.errors import Fenced, Released, StoreTrouble
from consumer.metrics import Metrics
from consumer.source import Source
from consumer.store import TableGone
from consumer.writer import Outcome, Staged, Writer

_log: Final = logging.getLogger(__name__)
_POLL: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
#: Batches that wait, are loaded or inserted at a time: one each. One that waits lets us poll on.
_UNDER_WAY: Final = 3


#: Opens both writers of a partition, whose batches alternate between them.
OpenWriters = Callable[[Partition], Sequence[Writer]]


@dataclass(slots=True)
class Lane:
    """A partition of ours: its open batch; once taken over its writers, and whose turn each is."""

    batch: Batch
    begun: int = 0
    writers: Sequence[Writer] = ()
    turns: Sequence[asyncio.Lock] = field(default_factory=lambda: (asyncio.Lock(), asyncio.Lock()))
    writing: set[asyncio.Task[None]] = field(default_factory=set)
    released: asyncio.Event = field(default_factory=asyncio.Event)


class Early(NamedTuple):
    """What came of loading a batch before its turn."""

    writer: Writer
    staged: Staged | StoreTrouble


class Loop:
    """Moves events from a source to the store until told to stop."""

    def __init__(
        self,
        source: Source,
        open_writers: OpenWriters,
        new_batch: Callable[[], Batch],
        metrics: Metrics,
    ) -> None:
        self._source = source
        self._open_writers = open_writers
        self._new_batch = new_batch
        self._metrics = metrics
        self._lanes: dict[Partition, Lane] = {}
        self._under_way: list[asyncio.Task[None]] = []  # in the order of their batches
        self._loading = asyncio.Lock()
        self._inserting = asyncio.Lock()

    async def run(self, stop: asyncio.Event, drain_seconds: float = 0.0) -> None:
        """Work until `stop`; then count what is left of a finite source, if the time allows."""
        work = asyncio.create_task(self._work(stop))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([work, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        # Store and source may both be away, and then no turn ever ends by itself.
        await asyncio.wait([work], timeout=drain_seconds)
        if work.done():
            work.result()  # one that ended by itself, cancelled too, is not an orderly end
            return
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
        """Poll once and begin to write what is due; was there more? The `last` one writes all."""
        try:
            found = {} if last else await self._source.poll(_POLL)
            await self._gather(found)
            await self._begin_due(last)
            await self._settle(0 if last else _UNDER_WAY)
            self._metrics.turned()
            return bool(found)
        except Fenced as fenced:
            _log.warning("joining anew: %s", fenced)
            self._metrics.rejoins.inc()
            await self._abandon()
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
                    await self._begin(partition, lane)

    async def _begin_due(self, last: bool) -> None:
        """Write the batches whose time has come, and the largest ones until the rest is bounded.

        Where writing does not keep up, a batch grows meanwhile: larger ones cost less.
        """
        await self._settle(_UNDER_WAY)
        lanes = [(p, lane) for p, lane in self._lanes.items() if lane.batch.blocks]
        for partition, lane in sorted(lanes, key=lambda item: item[1].batch.opened_at):
            free = len(self._under_way) < _UNDER_WAY
            if last or (free and lane.batch.due(time.monotonic())):
                await self._begin(partition, lane)
        # Partitions may be many: what waits of all of them together is bounded as well.
        lanes.sort(key=lambda item: item[1].batch.size)
        while lanes and sum(lane.batch.size for _, lane in lanes) >= lanes[-1][1].batch.max_bytes:
            await self._begin(*lanes.pop())

    async def _begin(self, partition: Partition, lane: Lane) -> None:
        """Let a batch go its way, as soon as fewer than three others are on theirs."""
        await self._settle(_UNDER_WAY - 1)
        if lane.released.is_set() or not lane.batch.blocks:
            return
        batch, lane.batch = lane.batch, self._new_batch()
        lane.begun += 1
        task = asyncio.create_task(self._write(partition, lane, batch, lane.begun % 2))
        lane.writing.add(task)
        task.add_done_callback(lane.writing.discard)
        self._under_way.append(task)

    async def _settle(self, left: int) -> None:
        """Wait until so few batches are under way; raises what one of them met."""
        while self._under_way and (len(self._under_way) > left or self._under_way[0].done()):
            await asyncio.wait(self._under_way[:1])
            self._under_way.pop(0).result()

    async def _write(self, partition: Partition, lane: Lane, batch: Batch, which: int) -> None:
        async with lane.turns[which]:
            try:
                early = await self._load_early(partition, lane, batch, which)
                async with self._inserting:
                    if lane.released.is_set():
                        return
                    outcome = await self._until_written(partition, lane, batch, which, early)
                    await self._source.commit(partition, batch.blocks)
            except Released:
                return
            except BaseException:  # whatever it is: what follows must not be committed past it
                for each in self._lanes.values():
                    each.released.set()  # before the next one's turn
                raise
        self._metrics.wrote(outcome, len(batch.blocks))

    async def _load_early(
        self, partition: Partition, lane: Lane, batch: Batch, which: int
    ) -> Early | None:
        if not lane.writers:
            async with self._inserting:
                with contextlib.suppress(StoreTrouble):  # its turn will tell
                    if not lane.writers and not lane.released.is_set():
                        lane.writers = await self._take_over(partition)
        if not lane.writers or lane.released.is_set():
            return None
        writer = lane.writers[which]
        try:
            return Early(writer, await self._load(writer, batch))
        except TableGone:
            return None  # fenced: by ourselves, or its turn will tell
        except StoreTrouble as trouble:
            return Early(writer, trouble)

    async def _load(self, writer: Writer, batch: Batch) -> Staged:
        async with self._loading:
            return await asyncio.to_thread(writer.load, batch)

    async def _until_written(
        self, partition: Partition, lane: Lane, batch: Batch, which: int, early: Early | None
    ) -> Outcome:
        pause = 0.1
        while True:
            try:
                if not lane.writers:
                    lane.writers = await self._take_over(partition)
                writer = lane.writers[which]
                if early is None or early.writer is not writer:
                    early = Early(writer, await self._load(writer, batch))
                if isinstance(early.staged, StoreTrouble):
                    raise early.staged
                outcome = await asyncio.to_thread(writer.insert, early.staged)
            except TableGone as gone:
                # Only a fence drops a stage. To make it again would undo the fence.
                raise Fenced(str(gone)) from None
            except StoreTrouble as trouble:
                lane.writers = ()
                self._metrics.in_trouble(str(trouble))
                _log.warning("the store is in trouble, trying again: %s", trouble)
                await _pause(pause, lane.released)
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                self._metrics.in_trouble("")
                return outcome

    async def _take_over(self, partition: Partition) -> Sequence[Writer]:
        writers = await asyncio.to_thread(self._open_writers, partition)
        await self._source.confirm(partition)
        await asyncio.to_thread(writers[0].stage.fence)
        return writers

    async def release(self, partitions: Collection[Partition]) -> None:
        """Give partitions up: let the insert in flight end, drop the rest."""
        lanes = [self._lanes[partition] for partition in partitions if partition in self._lanes]
        for lane in lanes:
            lane.released.set()
        for lane in lanes:
            if lane.writing:
                await asyncio.wait(lane.writing)
        for partition in partitions:
            if partition in self._lanes:
                await self._drop(self._lanes.pop(partition))

    async def _abandon(self) -> None:
        """Give everything up; the next fence drops the stages."""
        for lane in self._lanes.values():
            lane.released.set()
        if self._under_way:
            await asyncio.wait(self._under_way)
        self._under_way.clear()
        self._lanes.clear()

    async def _drop(self, lane: Lane) -> None:
        try:
            for writer in lane.writers:
                await asyncio.to_thread(writer.stage.drop)
        except StoreTrouble:
            _log.info("a staging table is left to the next consumer's fence")

    async def _close(self) -> None:
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
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
