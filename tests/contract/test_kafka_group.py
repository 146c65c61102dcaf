"""A Kafka topic as a source: who has its partitions, and Kafka away."""

import asyncio
from collections.abc import Collection
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from consumer.batch import Block, Partition
from consumer.errors import Fenced
from consumer.source import Source
from tests.contract.test_source import (
    KafkaKit,
    commit,
    kafka_kit,
    nothing,
    places,
    take,
    take_nothing,
)
from tests.faults.load import make_topic, new_journal, until
from tests.kafka_broker import Broker

__all__ = ["kafka_kit"]


async def test_foreign_records_come_as_lines_without_a_name(kafka_kit: KafkaKit) -> None:
    producer = kafka_kit.producer
    await producer.raw(b"no newline")
    await producer.raw(None, b"key only")
    await producer.raw(b"", b"\xff\xfe", [("first_seq", b"-1"), ("count", b"9" * 40)])
    await producer.raw(b"x\ny\n", b"k", [("first_seq", b"12"), ("count", b"2"), ("other", None)])
    source = await kafka_kit.open()
    blocks = await take(source, 4)
    assert [block.data for block in blocks] == [b"no newline\n", b"", b"", b"x\ny\n"]
    assert [(block.first_seq, block.events) for block in blocks] == [(0, 0)] * 3 + [(12, 2)]
    assert [block.offset for block in blocks] == [0, 1, 2, 3]
    await commit(source, blocks)
    await source.rejoin()
    await take_nothing(source)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_a_topic_may_say_how_records_are_compressed(kafka_kit: KafkaKit, codec: str) -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=kafka_kit.broker.bootstrap, compression_type=codec
    ) as producer:
        await producer.send_and_wait(kafka_kit.topic, b"{}\n" * 1000)
    source = await kafka_kit.open()
    assert [block.data for block in await take(source, 1)] == [b"{}\n" * 1000]


async def test_what_kafka_removed_before_it_was_read_is_told(
    kafka_kit: KafkaKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiokafka would go on behind it without a word: at the start, and between two records."""
    for _ in range(7):
        await kafka_kit.append(1)
    source = await kafka_kit.open()
    blocks = await take(source, 7)
    await source.confirm((kafka_kit.topic, 0))
    assert kafka_kit.missed == []  # a new group begins where the topic does
    await commit(source, blocks[:2])
    await source.rejoin()
    await take(source, 5)
    await source.confirm((kafka_kit.topic, 0))
    await source.close()
    assert kafka_kit.missed == []
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_kit.broker.bootstrap)
    await admin.start()
    removed = {TopicPartition(kafka_kit.topic, 0): RecordsToDelete(before_offset=5)}
    await admin.delete_records(removed)
    await admin.close()
    for _ in range(2):  # the second time nothing is new
        source = await kafka_kit.open()
        assert [block.offset for block in await take(source, 2)] == [5, 6]
        await source.confirm((kafka_kit.topic, 0))
        await source.confirm((kafka_kit.topic, 0))
        assert kafka_kit.missed == [3]
        await source.close()
    other = kafka_kit.make("other")  # as one whose offsets Kafka has forgotten
    await other.start(nothing)
    await take(other, 2)
    await other.confirm((kafka_kit.topic, 0))
    assert kafka_kit.missed == [3, 5]
    await other.close()
    source = await kafka_kit.open()
    await take(source, 2)
    await kafka_kit.append(1)
    await kafka_kit.append(1)
    getmany = source._joined.getmany

    async def without_one(**how: Any) -> dict[Any, Any]:
        found = await getmany(**how)
        left = {tp: [r for r in records if r.offset != 7] for tp, records in found.items()}
        return {tp: records for tp, records in left.items() if records}

    monkeypatch.setattr(source._joined, "getmany", without_one)
    assert [block.offset for block in await take(source, 1)] == [8]
    assert kafka_kit.missed == [3, 5, 1]


async def test_a_partition_moves_only_when_its_owner_has_let_it_go(kafka_kit: KafkaKit) -> None:
    """A second member joins: the first may finish and commit what is in flight, then it moves."""
    events: list[str] = []
    sent = [await kafka_kit.append(1) for _ in range(4)]
    blocks: list[Block] = []
    let_go = asyncio.Event()

    async def release(partitions: Collection[Partition]) -> None:
        if partitions:
            events.append("asked")
            await let_go.wait()
            await first.commit((kafka_kit.topic, 0), blocks[:2])
            events.append("released")

    first = await kafka_kit.open(release)
    blocks += await take(first, 4)
    second = await kafka_kit.open()
    polls = [asyncio.create_task(_poll_until(source, events)) for source in (first, second)]
    await until(lambda: events == ["asked"])
    await asyncio.sleep(1.5)
    assert events == ["asked"]  # nobody is given anything meanwhile
    let_go.set()
    done, pending = await asyncio.wait(polls, timeout=60, return_when=asyncio.FIRST_COMPLETED)
    for poll in pending:
        poll.cancel()
    assert events == ["asked", "released"]
    assert places(done.pop().result())[:1] == [sent[2]]


async def _poll_until(source: Source, events: list[str]) -> list[Block]:
    while True:
        for found in (await source.poll(0.2)).values():
            assert events[-1:] == ["released"]
            return list(found)


async def test_who_does_not_let_go_in_time_is_fenced(kafka_kit: KafkaKit) -> None:
    """The group waits for its session's length, then goes on without the one that hangs."""
    sent = [await kafka_kit.append(1) for _ in range(2)]
    for_ever = asyncio.Event()

    async def hang(partitions: Collection[Partition]) -> None:
        if partitions:
            await for_ever.wait()

    first = await kafka_kit.open(hang)
    blocks = await take(first, 2)
    partition = kafka_kit.topic, 0
    await first.confirm(partition)
    second = await kafka_kit.open()
    assert places(await take(second, 2)) == sent
    with pytest.raises(Fenced):
        await first.commit(partition, blocks)
    with pytest.raises(Fenced):
        await first.confirm(partition)
    await second.confirm(partition)
    for_ever.set()


async def test_who_has_left_or_was_never_given_a_partition_is_fenced(kafka_kit: KafkaKit) -> None:
    await kafka_kit.append(1)
    source = kafka_kit.make()
    with pytest.raises(Fenced):
        await source.confirm((kafka_kit.topic, 0))
    await source.start(nothing)
    blocks = await take(source, 1)
    with pytest.raises(Fenced):
        await source.commit((kafka_kit.topic, 1), blocks)
    await source.close()
    with pytest.raises(Fenced):
        await source.commit((kafka_kit.topic, 0), blocks)


async def test_a_client_whose_view_of_the_cluster_died_is_replaced(kafka_kit: KafkaKit) -> None:
    """Of that nobody is told: aiokafka waits for ever for what needs it, and so did we."""
    sent = await kafka_kit.append(1)
    source = await kafka_kit.open()
    assert await take(source, 1)
    client = source._consumer._client  # type: ignore[attr-defined]

    async def as_uvloop_does(*_: object) -> bool:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>")

    client._metadata_update = as_uvloop_does
    client.force_metadata_update()
    await asyncio.wait([client._sync_task], timeout=20)
    with pytest.raises(Fenced, match="view of the cluster"):
        await source.poll(0.1)
    await source.rejoin()
    assert places(await take(source, 1)) == [sent]


async def test_many_partitions_come_each_in_order(kafka_broker: Broker) -> None:
    topic = f"source-{new_journal()}"
    await make_topic(kafka_broker.bootstrap, topic, 8)
    kit = KafkaKit(kafka_broker, topic)
    kit.journals = [new_journal() for _ in range(20)]
    await kit.producer.__aenter__()
    sent = [await kit.append(2, n % 20) for n in range(100)]
    source = await kit.open()
    blocks = await take(source, 100)
    for name in kit.journals:
        assert places(blocks, name) == [place for place in sent if place[0] == name]
    assert len({block.partition for block in blocks}) > 1
    assert source.lag() == 0
    for number in {block.partition for block in blocks}:
        await commit(source, [block for block in blocks if block.partition == number])
    await kit.close()


@pytest.mark.kill
async def test_kafka_that_is_away_is_waited_for(own_kafka_broker: Broker) -> None:
    """Down at the start, killed in the middle, hanging: nothing is lost, the caller only waits."""
    broker = own_kafka_broker
    await make_topic(broker.bootstrap, "events")
    kit = KafkaKit(broker, "events")
    await kit.producer.__aenter__()
    sent = [await kit.append(1) for _ in range(3)]
    broker.kill9()
    source = kit.make()
    starting = asyncio.create_task(source.start(nothing))
    await until(lambda: any("KafkaConnectionError" in report for report in kit.reports))
    assert not starting.done()
    broker.start()
    async with asyncio.timeout(90):
        await starting
    assert kit.reports[-1] == ""
    blocks = await take(source, 3)
    await commit(source, blocks[:2])

    broker.kill9()
    for _ in range(5):
        assert await source.poll(0.1) == {}
    committing = asyncio.create_task(commit(source, blocks))
    broker.start()
    async with asyncio.timeout(90):
        try:
            await committing
        except Fenced:
            await source.rejoin()
            assert places(await take(source, 1)) == sent[2:]
    sent = [await kit.append(1)]
    assert places(await take(source, 1)) == sent
    await kit.close()


async def test_a_partition_that_is_gone_does_not_hang_a_commit(
    kafka_kit: KafkaKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.faults.load import delete_topic

    monkeypatch.setattr("consumer.kafka_source._PATIENCE", 2.0)
    await kafka_kit.append(1)
    source = await kafka_kit.open()
    blocks = await take(source, 1)
    await delete_topic(kafka_kit.broker.bootstrap, kafka_kit.topic)
    async with asyncio.timeout(60):
        with pytest.raises(Fenced):
            await source.commit((kafka_kit.topic, 0), blocks)
