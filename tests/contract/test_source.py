"""What every source promises, held against the journals of this machine and a real Kafka."""

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

from collector.journal import Journal
from consumer.batch import Block, Partition
from consumer.errors import Fenced
from consumer.journal_source import JournalSource
from consumer.kafka_source import KafkaSource
from consumer.settings import ConsumerSettings
from consumer.source import Source
from schemas.journal import reship
from tests.faults.load import Producer, body, make_topic, new_journal
from tests.kafka_broker import Broker

Place = tuple[str, int]


class Kit(Protocol):
    """A stream, and sources on it."""

    async def append(self, events: int, journal: int = 0) -> Place:
        """One block more; its journal and first seq."""

    async def open(self) -> Source:
        """A started source, like one of a new process."""

    async def close(self) -> None: ...


class JournalKit:
    """Two live journals under one root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.writers = [Journal(root, new_journal(), time.time) for _ in range(2)]
        self.damaged = 0
        self.trouble: list[str] = []

    async def append(self, events: int, journal: int = 0) -> Place:
        writer = self.writers[journal]
        place = writer.id, writer.next_seq
        assert writer.append([body(n) for n in range(events)])
        return place

    async def open(self) -> Source:
        def damaged(journal: Path, size: int, kept: Path) -> None:
            self.damaged += size

        source = JournalSource(self.root, damaged, self.trouble.append)
        await source.start(nothing)
        return source

    async def close(self) -> None:
        for writer in self.writers:
            writer.close()


class KafkaKit:
    """A topic of its own, and a group."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self.broker, self.topic = broker, topic
        self.producer = Producer(broker.bootstrap, topic)
        self.journals = [new_journal() for _ in range(2)]
        self.sources: list[KafkaSource] = []
        self.reports: list[str] = []
        self.missed: list[int] = []

    async def append(self, events: int, journal: int = 0) -> Place:
        name = self.journals[journal]
        place = name, self.producer.expected.get(name, 0) + 1
        await self.producer.send(name, events)
        return place

    def make(self, group: str = "g") -> KafkaSource:
        settings = ConsumerSettings(
            kafka=(self.broker.bootstrap,), topic=self.topic, group=f"{group}-{self.topic}"
        )
        self.sources.append(KafkaSource(settings, self.reports.append, self.missed.append))
        return self.sources[-1]

    async def open(self, on_release: Any = None) -> KafkaSource:
        source = self.make()
        await source.start(on_release or nothing)
        return source

    async def close(self) -> None:
        for source in self.sources:
            await source.close()
        await self.producer.__aexit__()


async def nothing(partitions: Collection[Partition]) -> None:
    return


@pytest.fixture
async def kafka_kit(kafka_broker: Broker) -> AsyncIterator[KafkaKit]:
    topic = f"source-{new_journal()}"
    await make_topic(kafka_broker.bootstrap, topic)
    kit = KafkaKit(kafka_broker, topic)
    await kit.producer.__aenter__()
    yield kit
    await kit.close()


@pytest.fixture
async def journal_kit(tmp_path: Path) -> AsyncIterator[JournalKit]:
    kit = JournalKit(tmp_path / "journal")
    yield kit
    await kit.close()


@pytest.fixture(params=["journal", pytest.param("kafka", marks=pytest.mark.kafka)])
def kit(request: pytest.FixtureRequest) -> Kit:
    found: Kit = request.getfixturevalue(f"{request.param}_kit")
    return found


async def take(source: Source, count: int, seconds: float = 60.0) -> list[Block]:
    """The next `count` blocks, of whatever partitions."""
    found: list[Block] = []
    async with asyncio.timeout(seconds):
        while len(found) < count:
            for blocks in (await source.poll(0.2)).values():
                found += blocks
    assert len(found) == count
    return found


async def commit(source: Source, blocks: Sequence[Block]) -> None:
    partition = blocks[0].topic, blocks[0].partition
    await source.confirm(partition)
    await source.commit(partition, blocks)


def places(blocks: Sequence[Block], journal: str | None = None) -> list[Place]:
    found = [(block.journal, block.first_seq) for block in blocks]
    return [place for place in found if journal in (None, place[0])]


async def test_every_block_comes_as_it_was_written_each_journal_in_order(kit: Kit) -> None:
    sent = [await kit.append(1 + n, n % 2) for n in range(20)]
    source = await kit.open()
    blocks = await take(source, 20)
    sent += [await kit.append(3, n % 2) for n in range(4)]
    blocks += await take(source, 4)
    for name in {name for name, _ in sent}:
        assert places(blocks, name) == [place for place in sent if place[0] == name]
    for block in blocks:
        lines = block.data.splitlines(keepends=True)
        assert len(lines) == block.events
        for number, line in enumerate(lines, block.first_seq):
            assert line.startswith(b'{"journal":"%b","seq":%d,' % (block.journal.encode(), number))
    assert await source.poll(0.1) == {}
    await source.close()


async def test_a_new_process_goes_on_after_the_last_commit(kit: Kit) -> None:
    sent = [await kit.append(2) for _ in range(6)]
    source = await kit.open()
    blocks = await take(source, 6)
    await commit(source, blocks[:2])
    await commit(source, blocks[2:4])
    await source.close()
    source = await kit.open()
    assert places(await take(source, 2)) == sent[4:]
    await source.close()
    source = await kit.open()  # what was only given is given again
    again = await take(source, 2)
    await commit(source, again)
    await source.close()
    source = await kit.open()
    sent = [await kit.append(1)]
    assert places(await take(source, 1)) == sent
    await source.close()


async def test_rejoining_gives_the_uncommitted_again(kit: Kit) -> None:
    sent = [await kit.append(2) for _ in range(5)]
    source = await kit.open()
    blocks = await take(source, 5)
    await commit(source, blocks[:3])
    await source.rejoin()
    assert places(await take(source, 2)) == sent[3:]
    await source.close()


async def test_a_commit_of_old_blocks_only_repeats(kit: Kit) -> None:
    """As when a batch is written twice after a take-over: at least once, never a gap."""
    sent = [await kit.append(1) for _ in range(4)]
    source = await kit.open()
    blocks = await take(source, 4)
    await commit(source, blocks)
    await commit(source, blocks[:2])
    await source.rejoin()
    assert places(await take(source, 2)) == sent[2:]
    await source.close()


async def test_a_source_without_anything_new_says_so_soon(kit: Kit) -> None:
    source = await kit.open()
    await take_nothing(source)
    began = time.monotonic()
    assert await source.poll(0.2) == {}
    assert time.monotonic() - began < 30
    await source.close()


async def take_nothing(source: Source) -> None:
    async with asyncio.timeout(60):
        while await source.poll(0.2):
            pass


async def test_one_look_at_many_journals_is_bounded_and_none_starves(tmp_path: Path) -> None:
    kit = JournalKit(tmp_path / "journal")
    big = [b'{"ts":1,"pad":"%b"}' % (b"x" * 100_000)] * 50
    for _ in range(12):
        writer = Journal(kit.root, new_journal(), time.time)
        writer.append(big)
        writer.close()
    last = await kit.append(1, 1)
    source = await kit.open()
    seen: list[Block] = []
    for _ in range(12):
        found: Mapping[Partition, Sequence[Block]] = await source.poll(0.1)
        assert sum(len(b.data) for blocks in found.values() for b in blocks) < 48 << 20
        seen += [block for blocks in found.values() for block in blocks]
    assert sum(block.events for block in seen) == 12 * 50 + 1
    assert last in places(seen)
    await kit.close()


async def test_a_request_to_ship_again_is_obeyed(journal_kit: JournalKit) -> None:
    sent = [await journal_kit.append(2) for _ in range(3)]
    source = await journal_kit.open()
    blocks = await take(source, 3)
    await commit(source, blocks[:2])
    reship.request(journal_kit.root, 0)
    with pytest.raises(Fenced):
        await source.poll(0.1)
    await commit(source, blocks)  # what was in its insert then must not undo it
    await source.rejoin()
    assert places(await take(source, 3)) == sent
    (journal_kit.root / reship.REQUEST).write_text("tomorrow")  # which asks for nothing
    await take_nothing(source)


async def test_a_disk_that_fails_is_reported_and_outlived(
    journal_kit: JournalKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    await journal_kit.append(2)
    source = await journal_kit.open()
    blocks = await take(source, 1)
    with monkeypatch.context() as patch:
        patch.setattr("os.pwrite", _no_space)
        with pytest.raises(Fenced):
            await commit(source, blocks)
    assert "No space" in journal_kit.trouble[-1]
    await source.rejoin()
    await commit(source, await take(source, 1))
    assert journal_kit.trouble[-1] == ""


def _no_space(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
