"""The shipper on a real Kafka: at least once, in order, whatever is killed."""

import asyncio
import contextlib
import itertools
import math
import os
import random
import re
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import OutOfOrderSequenceNumber
from prometheus_client import CollectorRegistry

from collector import shipper, topic
from collector.journal import Journal
from collector.metrics import ShipperMetrics
from collector.settings import CollectorSettings
from schemas import event
from schemas.journal import directory, reship
from schemas.kafka import MAX_RECORD
from schemas.settings import encode
from tests.collecting import ROOT, collecting, mint, settings, wait_for
from tests.integration import test_consent as consent
from tests.kafka_broker import Broker

pytestmark = pytest.mark.kafka
Seqs = dict[str, list[int]]


def config(data: Path, broker: Broker, name: str, **more: Any) -> CollectorSettings:
    return CollectorSettings(
        data=data, kafka=(broker.bootstrap,), topic=name, topic_partitions=2, **more
    )


def bodies(count: int) -> list[bytes]:
    one = event.event(int(time.time() * 1000), "open", campaign="c", send="c", recipient="r" * 40,
                      key_id="abcdef", user_agent="u" * 100)  # fmt: skip
    return [one] * count


class Writer:
    """Journals as the workers write them."""

    def __init__(self, wanted: CollectorSettings) -> None:
        self._settings = wanted
        self.live: list[Journal] = []
        self.expected: dict[str, int] = {}

    def start(self) -> Journal:
        made = Journal(
            self._settings.journal,
            directory.journal_id(time.time_ns() // 1_000_000, os.urandom(8)),
            time.time,
            segment_bytes=1 << 20,
        )
        self.live.append(made)
        return made

    def write(self, made: Journal, groups: int, size: int) -> None:
        for _ in range(groups):
            assert made.append(bodies(size))
        self.expected[made.id] = made.next_seq - 1

    def close(self) -> None:
        for made in self.live:
            made.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "journal").mkdir()
    settings(tmp_path)  # makes keys
    return tmp_path


class Process:
    """The shipper as its own process."""

    def __init__(self, wanted: CollectorSettings) -> None:
        self._health = socket.create_server(("127.0.0.1", 0))
        self._line = encode(wanted)
        self._log = (wanted.data / "shipper.log").open("ab")
        self.process = self.start()

    def start(self) -> "subprocess.Popen[bytes]":
        number = self._health.fileno()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "collector.shipper", str(number)],
            stdin=subprocess.PIPE,
            stderr=self._log,
            pass_fds=[number],
            cwd=ROOT,
        )
        assert self.process.stdin
        self.process.stdin.write(self._line)
        self.process.stdin.flush()
        return self.process

    async def ask(self, path: str) -> str:
        url = f"http://127.0.0.1:{self._health.getsockname()[1]}{path}"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return await answer.text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdin:
            with contextlib.suppress(OSError):
                self.process.stdin.close()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        self.kill()
        self._health.close()
        self._log.close()


@contextlib.contextmanager
def shipping(wanted: CollectorSettings) -> Iterator[Process]:
    process = Process(wanted)
    try:
        yield process
    finally:
        process.close()


async def read_topic(broker: Broker, name: str) -> list[ConsumerRecord]:
    """Every record of a topic, those of a partition in order."""
    async with AIOKafkaConsumer(
        bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest"
    ) as consumer:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
        await admin.start()
        described = await admin.describe_topics([name])
        await admin.close()
        partitions = [TopicPartition(name, p["partition"]) for p in described[0]["partitions"]]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found: list[ConsumerRecord] = []
        async with asyncio.timeout(60):
            while any([await consumer.position(p) < ends[p] for p in partitions]):
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    found += records
        return found


def checked(records: list[ConsumerRecord]) -> Seqs:
    """The seqs of each journal as they stand in the topic; every record is what it says it is."""
    seqs: Seqs = defaultdict(list)
    homes: dict[str, int] = {}
    for record in records:
        journal = record.key.decode()
        assert homes.setdefault(journal, record.partition) == record.partition
        assert len(record.value) <= MAX_RECORD
        headers = dict(record.headers)
        first, count = int(headers["first_seq"]), int(headers["count"])
        here = [int(seq) for seq in re.findall(rb'^{"journal":"%b","seq":(\d+),' % record.key,
                                               record.value, re.MULTILINE)]  # fmt: skip
        assert here == list(range(first, first + count))
        assert record.value.count(b"\n") == count
        seqs[journal] += here
    return seqs


def in_order(seqs: list[int]) -> bool:
    """Whether each seq first comes after the one before it, repetitions aside."""
    return list(dict.fromkeys(seqs)) == sorted(set(seqs))


async def shipped(writer: Writer, wanted: CollectorSettings, seconds: float = 60.0) -> None:
    """Wait until every position stands behind everything written."""
    async with asyncio.timeout(seconds):
        while any(
            directory.read_position(wanted.journal / name) <= last
            for name, last in writer.expected.items()
        ):
            await asyncio.sleep(0.05)


@pytest.fixture
def name() -> str:
    return f"events-{random.getrandbits(48):x}"


async def test_all_arrives_once_in_order_and_in_large_records(
    kafka_broker: Broker, data: Path, name: str
) -> None:
    wanted = config(data, kafka_broker, name)
    writer = Writer(wanted)
    sealed, live = writer.start(), writer.start()
    writer.write(sealed, 400, 40)
    sealed.close()
    writer.write(live, 100, 40)
    with shipping(wanted) as process:
        await shipped(writer, wanted)
        writer.write(live, 1, 3)
        await shipped(writer, wanted)
        writer.write(live, 1, 5)
        writer.close()
        process.process.terminate()  # what is on disk at the signal still goes
        assert process.process.wait(60) == 0
    records = await read_topic(kafka_broker, name)
    assert checked(records) == {n: list(range(1, last + 1)) for n, last in writer.expected.items()}
    assert len(records) < 60  # of 502 frames
    assert len({record.partition for record in records}) <= 2


@pytest.mark.kill
async def test_twenty_kills_under_load(kafka_broker: Broker, data: Path, name: str) -> None:
    wanted = config(data, kafka_broker, name)
    writer = Writer(wanted)
    stop = asyncio.Event()

    async def load() -> None:
        first, second = writer.start(), writer.start()
        for turn in itertools.count():
            if stop.is_set():
                return
            writer.write(first, 1, 20)
            writer.write(second, 1, 20)
            if turn % 400 == 399:  # as when a worker is restarted
                second.close()
                second = writer.start()
            await asyncio.sleep(0.005)

    def position() -> int:
        return sum(directory.read_position(p) for p in directory.journals(wanted.journal))

    loading = asyncio.create_task(load())
    chance = random.Random(20)
    with shipping(wanted) as process:
        moved = {position()}
        for turn in range(20):
            if turn % 4:  # some are killed while they start, most while they ship
                async with asyncio.timeout(60):
                    while position() in moved:
                        await asyncio.sleep(0.02)
            await asyncio.sleep(chance.uniform(0, 0.5))
            process.kill()
            moved.add(position())
            process.start()
        stop.set()
        await loading
        await shipped(writer, wanted)
    writer.close()
    seqs = checked(await read_topic(kafka_broker, name))
    assert {n: sorted(set(found)) for n, found in seqs.items()} == {
        n: list(range(1, last + 1)) for n, last in writer.expected.items()
    }
    assert all(map(in_order, seqs.values()))
    assert len(moved) > 10  # it was at work when it was killed
    total, distinct = sum(map(len, seqs.values())), sum(writer.expected.values())
    print(f"{distinct} events, {total - distinct} repeated over 20 kills")


@pytest.mark.kill
async def test_a_broker_that_dies_and_returns(
    own_kafka_broker: Broker, data: Path, name: str
) -> None:
    broker = own_kafka_broker
    wanted = config(data, broker, name)
    writer = Writer(wanted)
    live = writer.start()
    with shipping(wanted) as process:
        writer.write(live, 10, 10)
        await shipped(writer, wanted)
        broker.kill9()
        for _ in range(30):
            writer.write(live, 10, 10)
            await asyncio.sleep(0.1)
        assert directory.read_position(live.path) == 101
        lag = re.search(r"^heliograph_lag_events (\S+)", await process.ask("/metrics"), re.M)
        assert lag
        assert float(lag[1]) == 3000
        broker.start()
        await shipped(writer, wanted)
        broker.suspend()
        writer.write(live, 10, 10)
        await asyncio.sleep(1)
        broker.resume()
        await shipped(writer, wanted)
        assert process.process.poll() is None
    writer.close()
    seqs = checked(await read_topic(broker, name))
    assert sorted(set(seqs[live.id])) == list(range(1, 3201))
    assert in_order(seqs[live.id])


@pytest.mark.kill
async def test_kafka_that_is_not_there_yet(own_kafka_broker: Broker, data: Path, name: str) -> None:
    broker = own_kafka_broker
    broker.stop()
    wanted = config(data, broker, name)
    writer = Writer(wanted)
    live = writer.start()
    writer.write(live, 1, 10)
    with shipping(wanted) as process:
        for _ in range(100):
            told = await process.ask("/readyz")
            if "Connection" in told:
                break
            await asyncio.sleep(0.1)
        assert told.startswith("ok\nKafka: KafkaConnectionError")
        broker.start()
        await shipped(writer, wanted)
    writer.close()


async def test_a_missing_topic_is_made_and_a_present_one_left(
    kafka_broker: Broker, data: Path, name: str
) -> None:
    wanted = config(data, kafka_broker, name)
    assert await topic.ensure(wanted)
    assert not await topic.ensure(wanted)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap)
    await admin.start()
    described = await admin.describe_topics([name])
    await admin.close()
    assert len(described[0]["partitions"]) == 2


async def test_how_long_a_topic_keeps_is_told(
    kafka_broker: Broker, data: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What is published of it holds for a topic that we make; any other may keep for longer."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap)
    await admin.start()
    for number, (bounds, days) in enumerate(
        (({}, 8), ({"retention.ms": "86400000", "segment.ms": "3600000"}, 25 / 24),
         ({"retention.ms": "864000000", "segment.ms": "86400000"}, 11),
         ({"retention.ms": "-1"}, math.inf), ({"cleanup.policy": "compact"}, math.inf))
    ):  # fmt: skip
        wanted = config(data, kafka_broker, f"{name}-{number}")
        if bounds:
            await admin.create_topics([NewTopic(wanted.topic, 1, 1, topic_configs=bounds)])
        await topic.ensure(wanted)
        told: asyncio.Queue[float] = asyncio.Queue()
        watching = asyncio.create_task(topic.watch(wanted, told.put_nowait))
        assert await told.get() == days * 86_400
        await asyncio.sleep(0)
        watching.cancel()
        assert (f"topic {wanted.topic} keeps events for up to" in caplog.text) is (days > 8)
    await admin.close()


async def test_in_the_brokers_files_is_what_each_mode_keeps(
    kafka_broker: Broker, data: Path, name: str
) -> None:
    await consent.hits(data)
    with shipping(config(data, kafka_broker, name)):
        async with asyncio.timeout(60):
            while not (parts := list((kafka_broker.home / "data").glob(f"{name}-*/*.log"))) or (
                not any(part.stat().st_size for part in parts)
            ):
                await asyncio.sleep(0.1)
    stored = b"".join(part.read_bytes() for part in parts)
    assert consent.found(stored) == {what: modes for what, (modes, _) in consent.KEPT.items()}


async def test_a_topic_that_cannot_be_made_is_told_clearly(
    kafka_broker: Broker, data: Path, name: str
) -> None:
    wanted = config(data, kafka_broker, name, topic_replication=3)
    with pytest.raises(topic.TopicError, match=f"topic {name} is missing .* 3 replicas: .*replic"):
        await topic.ensure(wanted)
    with shipping(wanted) as process:
        for _ in range(100):
            told = await process.ask("/readyz")
            if "TopicError" in told:
                break
            await asyncio.sleep(0.1)
        assert told.startswith("ok\n")
        assert f"topic {name} is missing" in told
        assert process.process.poll() is None


async def test_shipping_again(kafka_broker: Broker, data: Path, name: str) -> None:
    wanted = config(data, kafka_broker, name)
    writer = Writer(wanted)
    sealed, live = writer.start(), writer.start()
    writer.write(sealed, 5, 10)
    sealed.close()
    writer.write(live, 5, 10)
    with shipping(wanted):
        await shipped(writer, wanted)
        reship.request(wanted.journal, 0)
        async with asyncio.timeout(60):
            while (wanted.journal / reship.REQUEST).exists():
                await asyncio.sleep(0.05)
        writer.write(live, 1, 1)
        await shipped(writer, wanted)
    writer.close()
    seqs = checked(await read_topic(kafka_broker, name))
    assert seqs[sealed.id] == [*range(1, 51), *range(1, 51)]
    assert sorted(seqs[live.id]) == sorted([*range(1, 51), *range(1, 52)])


async def test_a_producer_that_fails_is_replaced_and_nothing_skipped(
    kafka_broker: Broker, data: Path, name: str
) -> None:
    """Every third send is refused for good, in the middle of what is on its way."""
    wanted = config(data, kafka_broker, name)
    writer = Writer(wanted)
    live = writer.start()
    writer.write(live, 60, 60)
    calls = itertools.count(1)

    class Failing:
        def __init__(self, producer: AIOKafkaProducer) -> None:
            self._producer = producer
            self._sender, self.client = producer._sender, producer.client

        async def send(self, *arguments: Any, **more: Any) -> "asyncio.Future[Any]":
            if next(calls) % 3 == 0:
                refused = asyncio.get_running_loop().create_future()
                refused.set_exception(OutOfOrderSequenceNumber())
                return refused
            answer: asyncio.Future[Any] = await self._producer.send(*arguments, **more)
            return answer

        async def stop(self) -> None:
            await self._producer.stop()

    async def connect() -> Failing:
        return Failing(await shipper.connect(wanted))

    ended = asyncio.Event()
    metrics = ShipperMetrics(CollectorRegistry())
    running = asyncio.create_task(shipper.Shipper(wanted, connect, metrics, ended).run())
    for _ in range(6):
        await shipped(writer, wanted)
        writer.write(live, 1, 1)
    await shipped(writer, wanted)
    ended.set()
    await running
    writer.close()
    assert metrics.failures._value.get() >= 2
    seqs = checked(await read_topic(kafka_broker, name))
    assert sorted(set(seqs[live.id])) == list(range(1, writer.expected[live.id] + 1))


async def test_the_collector_as_a_whole(kafka_broker: Broker, data: Path, name: str) -> None:
    """A pixel is fetched, its event is in the topic; so is what was fetched just before the end."""
    wanted = settings(data, kafka=(kafka_broker.bootstrap,), topic=name, workers=2)
    minted = mint(data, "")
    with collecting(wanted) as collector:
        url = f"http://127.0.0.1:{collector.port}{minted.pixel_url}"

        async def fetch(agent: str) -> None:
            headers = {"User-Agent": agent}
            async with aiohttp.ClientSession(headers=headers) as session, session.get(url) as got:
                assert got.status == 200

        await fetch("first")
        wait_for(lambda: 'heliograph_shipped_events_total{process="shipper"} 1.0' in
                 collector.ask("/metrics")[1], 20)  # fmt: skip
        for number in range(20):
            await fetch(f"last-{number}")
        assert await asyncio.to_thread(collector.stop) == 0
    records = await read_topic(kafka_broker, name)
    checked(records)
    agents = {msgspec.json.decode(line)["user_agent"]
              for record in records for line in record.value.splitlines()}  # fmt: skip
    assert agents == {"first", *(f"last-{number}" for number in range(20))}
