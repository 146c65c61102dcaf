"""The consumer's loop against a rebalance in the middle of a turn, and a store that is away."""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from consumer.batch import Batch, Block, Partition
from consumer.errors import Fenced, StoreTrouble
from consumer.kafka_source import KafkaSource
from consumer.loop import Loop
from consumer.metrics import Metrics
from consumer.settings import ConsumerSettings
from consumer.source import OnRelease
from consumer.store import TableGone
from consumer.writer import Outcome
from tests.faults.load import until

FIRST, SECOND = ("t", 0), ("t", 1)


def block(partition: Partition, offset: int) -> Block:
    return Block(*partition, offset, "j", offset, 1, b"{}\n")


class Stage:
    def fence(self) -> int:
        return 0

    def drop(self) -> None:
        return


class Writer:
    """Waits until it may insert, then keeps what it inserted."""

    def __init__(self, may: threading.Event, written: list[list[int]]) -> None:
        self.stage = Stage()
        self.began = threading.Event()
        self._may, self._written = may, written

    def load(self, batch: Batch) -> Any:
        return batch

    def insert(self, batch: Batch) -> Outcome:
        self.began.set()
        if not self._may.wait(60):
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


def loop_on(
    source: Source, writer: Any, metrics: Metrics, rows: int = 2, seconds: float = 0.05
) -> Loop:
    return Loop(
        source, lambda partition: (writer, writer), lambda: Batch(rows, 1 << 20, seconds), metrics
    )


@pytest.mark.parametrize("moved", [FIRST, SECOND])
async def test_blocks_of_a_partition_that_moves_during_a_turn_are_dropped(
    moved: Partition,
) -> None:
    """What was polled before is not committed after: what stood before it may be lost with it."""
    source = Source({p: [block(p, n) for n in range(1, 8)] for p in (FIRST, SECOND)})
    may, written = threading.Event(), list[list[int]]()
    writer = Writer(may, written)
    loop = loop_on(source, writer, Metrics())
    stop = asyncio.Event()
    running = asyncio.create_task(loop.run(stop, 5.0))
    # The first batch of the first partition is being written.
    assert await asyncio.to_thread(writer.began.wait, 60)
    releasing = asyncio.create_task(loop.release([moved]))
    # What is being inserted is waited for; of the second partition nothing is yet.
    done, _ = await asyncio.wait({releasing}, timeout=0.5 if moved == FIRST else 60)
    assert bool(done) is (moved == SECOND)
    may.set()
    await releasing
    source.polls.append({moved: [block(moved, 3)]})  # it came back, and goes on after its commit
    other = SECOND if moved == FIRST else FIRST
    await until(lambda: {(other, 7), (moved, 3)} <= set(source.commits))
    await asyncio.sleep(0.1)  # for what should not be done
    stop.set()
    await running
    assert source.commits.count((other, 7)) == 1
    assert [offset for place, offset in source.commits if place == moved] == (
        [2, 3] if moved == FIRST else [3]
    )


@pytest.mark.parametrize("failing", [True, False])
async def test_a_stop_is_heard_while_the_store_fails_or_is_silent(failing: bool) -> None:
    class Away(Writer):
        def insert(self, batch: Batch) -> Outcome:
            if failing:
                raise StoreTrouble("away")
            return super().insert(batch)

    may = threading.Event()
    metrics = Metrics()
    source = Source({FIRST: [block(FIRST, 1)]})
    writer = Away(may, [])
    loop = loop_on(source, writer, metrics)
    stop = asyncio.Event()
    running = asyncio.create_task(loop.run(stop, 0.5))
    await until(lambda: bool(metrics.trouble) if failing else writer.began.is_set())
    stop.set()
    async with asyncio.timeout(45):
        await running
    assert source.commits == []
    may.set()


async def test_what_waits_of_all_partitions_is_bounded() -> None:
    places = [("t", number) for number in range(20)]
    big = b"x" * (100 << 10) + b"\n"
    source = Source(*({p: [Block(*p, n, "j", n, 1, big)] for p in places} for n in range(1, 4)))
    waiting: list[int] = []

    class Watching(Writer):
        def insert(self, batch: Batch) -> Outcome:
            waiting.append(sum(lane.batch.size for lane in loop._lanes.values()))
            return super().insert(batch)

    may = threading.Event()
    may.set()
    written: list[list[int]] = []
    watching = Watching(may, written)
    loop = loop_on(source, watching, Metrics(), 99, 99)
    stop = asyncio.Event()
    running = asyncio.create_task(loop.run(stop, 5.0))
    async with asyncio.timeout(30):
        while sum(map(len, written)) < 50:  # the rest is below the bound
            await asyncio.sleep(0.02)
    stop.set()
    await running
    assert sum(map(len, written)) == 60
    assert max(waiting) <= (1 << 20) + 20 * len(big)


class Bench:
    """Writers that say what they do, and may be told to fail at it."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.may = threading.Event()
        self.failing: list[str] = []
        self.opened = 0

    def open(self, partition: Partition) -> Any:
        self.opened += 1
        return _Logged(self, f"{self.opened}a"), _Logged(self, f"{self.opened}b")

    def note(self, what: str) -> None:
        self.log.append(what)
        if what in self.failing:
            self.failing.remove(what)
            raise StoreTrouble(what)


class _Logged:
    def __init__(self, bench: Bench, name: str) -> None:
        self.stage = Stage()
        self._bench, self._name = bench, name

    def load(self, batch: Batch) -> Batch:
        self._bench.note(f"load {batch.blocks[-1].offset} in {self._name}")
        return batch

    def insert(self, batch: Batch) -> Outcome:
        last = batch.blocks[-1].offset
        if last > 2:
            self._bench.may.wait(60)
        self._bench.note(f"insert {last} from {self._name}")
        return Outcome(batch.rows, 0, 0)


async def overlapping(bench: Bench) -> tuple[list[str], list[int]]:
    """Four batches through a loop; what was done while the second waited to be inserted, and the
    commits."""
    source = Source({FIRST: [block(FIRST, n) for n in range(1, 9)]})
    loop = Loop(source, bench.open, lambda: Batch(2, 1 << 20, 99), Metrics())
    stop = asyncio.Event()
    running = asyncio.create_task(loop.run(stop, 5.0))
    async with asyncio.timeout(30):
        while not any(line.startswith("load 6") for line in bench.log):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # for what should not be done
    meanwhile = list(bench.log)
    bench.may.set()
    async with asyncio.timeout(30):
        while len(source.commits) < 4:
            await asyncio.sleep(0.01)
    stop.set()
    await running
    return meanwhile, [offset for _, offset in source.commits]


async def test_a_batch_is_loaded_while_the_one_before_is_inserted() -> None:
    """In the other stage, and never more than one ahead."""
    bench = Bench()
    meanwhile, commits = await overlapping(bench)
    assert "insert 2 from 1b" in meanwhile
    assert "load 6 in 1b" in meanwhile
    assert not any(line.startswith(("insert 4", "load 8")) for line in meanwhile)
    assert commits == [2, 4, 6, 8]
    assert bench.opened == 1


async def test_what_was_loaded_early_is_loaded_again_after_trouble() -> None:
    """The insert before it failed: the take-over that follows has dropped its stage."""
    bench = Bench()
    bench.failing = ["insert 4 from 1a"]
    _, commits = await overlapping(bench)
    inserted = [line for line in bench.log if line.startswith("insert")]
    assert "load 6 in 1b" in bench.log
    assert "load 6 in 2b" in bench.log
    assert inserted.index("insert 4 from 2a") < inserted.index("insert 6 from 2b")
    assert commits == [2, 4, 6, 8]


async def test_an_early_load_that_fails_is_made_up_for_in_a_new_stage() -> None:
    """Its lines may still arrive in the old one."""
    bench = Bench()
    bench.failing = ["load 6 in 1b"]
    _, commits = await overlapping(bench)
    assert "insert 4 from 1a" in bench.log
    assert "insert 6 from 2b" in bench.log
    assert commits == [2, 4, 6, 8]


async def test_nothing_is_committed_behind_a_batch_that_is_fenced() -> None:
    class Gone(_Logged):
        def insert(self, batch: Batch) -> Outcome:
            if batch.blocks[-1].offset == 4:
                bench.may.wait(60)
                raise TableGone("dropped")
            return super().insert(batch)

    bench = Bench()
    bench.open = lambda partition: (Gone(bench, "a"), Gone(bench, "b"))  # type: ignore[method-assign]
    source = Source({FIRST: [block(FIRST, n) for n in range(1, 9)]})
    metrics = Metrics()
    loop = Loop(source, bench.open, lambda: Batch(2, 1 << 20, 99), metrics)
    stop = asyncio.Event()
    running = asyncio.create_task(loop.run(stop, 5.0))
    async with asyncio.timeout(30):
        while "load 6 in b" not in bench.log:
            await asyncio.sleep(0.01)
        bench.may.set()
        while not metrics.rejoins._value.get():
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    stop.set()
    await running
    assert [offset for _, offset in source.commits] == [2]
    assert not any(line.startswith("insert 6") for line in bench.log)


async def test_nothing_is_committed_behind_a_batch_that_fails_in_whatever_way() -> None:
    """The process ends, but not at once: the next batch must not be committed meanwhile."""

    class Faulty(_Logged):
        def insert(self, batch: Batch) -> Outcome:
            if batch.blocks[-1].offset == 2:
                bench.may.wait(60)
                raise MemoryError
            return super().insert(batch)

    class Slow(Source):
        async def poll(self, timeout: float) -> Mapping[Partition, Sequence[Block]]:
            if not self.polls:  # while this waits nobody looks at the batches
                bench.may.set()
                await asyncio.sleep(0.5)
            return await super().poll(timeout)

    bench = Bench()
    bench.open = lambda partition: (Faulty(bench, "a"), Faulty(bench, "b"))  # type: ignore[method-assign]
    source = Slow({FIRST: [block(FIRST, n) for n in range(1, 5)]})
    loop = Loop(source, bench.open, lambda: Batch(2, 1 << 20, 99), Metrics())
    with pytest.raises(MemoryError):
        await loop.run(asyncio.Event())
    assert source.commits == []


async def test_a_loop_that_is_cut_off_is_no_orderly_end() -> None:
    """A client that is closed in the middle of a commit cancels it: the process ended with 0."""

    class Cut(Source):
        async def commit(self, partition: Partition, blocks: Sequence[Block]) -> None:
            raise asyncio.CancelledError

    bench = Bench()
    source = Cut({FIRST: [block(FIRST, 1), block(FIRST, 2)]})
    loop = Loop(source, bench.open, lambda: Batch(2, 1 << 20, 99), Metrics())
    with pytest.raises(asyncio.CancelledError):
        await loop.run(asyncio.Event())


@pytest.mark.parametrize("asked", [False, True])
async def test_a_commit_that_is_cancelled_by_the_client_is_read_again(asked: bool) -> None:
    source = KafkaSource(ConsumerSettings(), lambda _: None)
    waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    class Client:
        async def commit(self, _: object) -> None:
            await waiting

    source._consumer = Client()  # type: ignore[assignment]
    commit = asyncio.create_task(source.commit(FIRST, [block(FIRST, 1)]))
    await asyncio.sleep(0)
    (commit if asked else waiting).cancel()
    with pytest.raises(asyncio.CancelledError if asked else Fenced):
        await commit
