"""The consumer's loop against a rebalance in the middle of a turn, and a store that is away."""

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from consumer.batch import Batch, Block, Partition
from consumer.errors import StoreTrouble
from consumer.loop import Loop
from consumer.metrics import Metrics
from consumer.source import OnRelease
from consumer.writer import Outcome

FIRST, SECOND = ("t", 0), ("t", 1)


def block(partition: Partition, offset: int) -> Block:
    return Block(*partition, offset, "j", offset, 1, b"{}\n")


class Stage:
    def fence(self) -> int:
        return 0

    def drop(self) -> None:
        return


class Writer:
    """Waits until it may write, then keeps what it wrote."""

    def __init__(self, may: threading.Event, written: list[list[int]]) -> None:
        self.stage = Stage()
        self._may, self._written = may, written

    def write(self, batch: Batch) -> Outcome:
        if not self._may.wait(10):
            raise StoreTrouble("never")
        self._written.append([each.offset for each in batch.blocks])
        return Outcome(batch.rows, 0, 0)


class Source:
    """Gives what it is told to give, once."""

    finite = True

    def __init__(self, *polls: dict[Partition, list[Block]]) -> None:
        self.polls = list(polls)
        self.commits: list[tuple[Partition, int]] = []

    async def start(self, on_release: OnRelease) -> None:
        return

    async def poll(self, timeout: float) -> Mapping[Partition, Sequence[Block]]:
        await asyncio.sleep(0.01)
        return self.polls.pop(0) if self.polls else {}

    async def confirm(self, partition: Partition) -> None:
        return

    async def commit(self, partition: Partition, blocks: Sequence[Block]) -> None:
        self.commits.append((partition, blocks[-1].offset))

    async def rejoin(self) -> None:
        return

    async def close(self) -> None:
        return


def loop_on(source: Source, writer: Any, metrics: Metrics, rows: int = 2) -> Loop:
    return Loop(source, lambda partition: writer, lambda: Batch(rows, 1 << 20, 0.05), metrics)


@pytest.mark.parametrize("moved", [FIRST, SECOND])
async def test_blocks_of_a_partition_that_moves_during_a_turn_are_dropped(
    moved: Partition,
) -> None:
    """What was polled before is not committed after: what stood before it may be lost with it."""
    source = Source({p: [block(p, n) for n in range(1, 8)] for p in (FIRST, SECOND)})
    may, written = threading.Event(), list[list[int]]()
    loop = loop_on(source, Writer(may, written), Metrics())
    stop = asyncio.Event()
    running = asyncio.create_task(loop.run(stop, 5.0))
    await asyncio.sleep(0.1)  # the first batch of the first partition is being written
    releasing = asyncio.create_task(loop.release([moved]))
    await asyncio.sleep(0.05)
    assert releasing.done() is False  # it is waited for
    may.set()
    await releasing
    source.polls.append({moved: [block(moved, 3)]})  # it came back, and goes on after its commit
    await asyncio.sleep(0.3)
    stop.set()
    await running
    other = SECOND if moved == FIRST else FIRST
    assert source.commits.count((other, 7)) == 1
    assert [offset for place, offset in source.commits if place == moved] == (
        [2, 3] if moved == FIRST else [3]
    )


@pytest.mark.parametrize("failing", [True, False])
async def test_a_stop_is_heard_while_the_store_fails_or_is_silent(failing: bool) -> None:
    class Away(Writer):
        def write(self, batch: Batch) -> Outcome:
            if failing:
                raise StoreTrouble("away")
            return super().write(batch)

    may = threading.Event()
    metrics = Metrics()
    source = Source({FIRST: [block(FIRST, 1)]})
    loop = loop_on(source, Away(may, []), metrics)
    stop = asyncio.Event()
    running = asyncio.create_task(loop.run(stop, 0.5))
    await asyncio.sleep(0.3)
    assert bool(metrics.trouble) is failing
    stop.set()
    began = time.monotonic()
    await running
    assert time.monotonic() - began < 2
    assert source.commits == []
    may.set()


async def test_what_waits_of_all_partitions_is_bounded() -> None:
    places = [("t", number) for number in range(20)]
    big = b"x" * (100 << 10) + b"\n"
    source = Source(*({p: [Block(*p, n, "j", n, 1, big)] for p in places} for n in range(1, 4)))
    waiting: list[int] = []

    class Watching(Writer):
        def write(self, batch: Batch) -> Outcome:
            waiting.append(sum(lane.batch.size for lane in loop._lanes.values()))
            return super().write(batch)

    may = threading.Event()
    may.set()
    watching = Watching(may, [])
    loop = Loop(source, lambda partition: watching, lambda: Batch(99, 1 << 20, 99), Metrics())  # type: ignore[arg-type,return-value]
    stop = asyncio.Event()
    running = asyncio.create_task(loop.run(stop, 5.0))
    async with asyncio.timeout(5):
        while len(source.commits) < 60:
            await asyncio.sleep(0.02)
    stop.set()
    await running
    assert max(waiting) <= (1 << 20) + 20 * len(big)
