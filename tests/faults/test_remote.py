"""Kafka and ClickHouse under kill -9: what is in the topic is in the store once."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from consumer.migrate import migrate
from consumer.settings import ConsumerSettings
from schemas import event
from tests.engine import Engine, clickhouse_url, client, engine
from tests.faults.load import (
    Producer,
    all_there,
    assert_counts,
    assert_once,
    body,
    delete_topic,
    make_topic,
    new_journal,
    stored,
    until,
)
from tests.faults.processes import Remote
from tests.faults.proxy import Proxy
from tests.kafka_broker import Broker

__all__ = ["clickhouse_url", "engine"]

pytestmark = [pytest.mark.kafka, pytest.mark.kill]
Consume = Callable[..., Remote]


@pytest.fixture
def topic() -> str:
    return f"faults-{new_journal()}"


@pytest.fixture
def database(clickhouse_url: str) -> Iterator[tuple[str, str]]:
    """A server, and a migrated database of one's own on it."""
    name = f"faults_{new_journal()}"
    migrate(client(clickhouse_url), name)
    yield clickhouse_url, name
    with contextlib.suppress(Exception):  # the engine may be down
        client(clickhouse_url).command(f"DROP DATABASE {name} SYNC")


@pytest.fixture
def consume(
    kafka_broker: Broker, topic: str, database: tuple[str, str], tmp_path: Path
) -> Iterator[Consume]:
    """Makes consumers of the topic into the database; not started yet."""
    made: list[Remote] = []

    def make(**more: Any) -> Remote:
        given = {
            "kafka": (kafka_broker.bootstrap,),
            "topic": topic,
            "group": f"g-{topic}",
            "clickhouse": database[0],
            "database": database[1],
            "batch_seconds": 0.2,
        }
        settings = ConsumerSettings(**{**given, **more})
        made.append(Remote(tmp_path / f"consumer{len(made)}.log", settings))
        return made[-1]

    yield make
    for each in made:
        each.close()
        print(each.log.name, each.log.read_text()[-3000:], sep="\n")  # shown where the test failed


@pytest.fixture
async def producer(kafka_broker: Broker, topic: str) -> AsyncIterator[Producer]:
    async with Producer(kafka_broker.bootstrap, topic) as made:
        yield made


@contextlib.asynccontextmanager
async def loading(producer: Producer, **how: Any) -> AsyncIterator[None]:
    """Load while the block runs."""
    stop = asyncio.Event()
    task = asyncio.create_task(producer.under_load(stop, **how))
    try:
        yield
    finally:
        stop.set()
        await task


async def arrived(producer: Producer, url: str, name: str, seconds: float = 120.0) -> None:
    """Wait until nothing is missing, and hold that all is there once."""

    def there() -> bool:
        try:
            return all_there(client(url), producer.expected, name)
        except Exception:
            return False

    await until(lambda: asyncio.to_thread(there), seconds)
    await asyncio.to_thread(assert_once, client(url), producer.expected, name)


async def test_a_store_that_goes_while_a_consumer_starts(
    kafka_broker: Broker, topic: str, engine: Engine, consume: Consume
) -> None:
    """Between the first and the second client it asks for: that was the end of the process."""
    await make_topic(kafka_broker.bootstrap, topic)
    migrate(client(engine.url), "between")
    async with Proxy(engine.port, b"system.settings") as proxy:
        proxy.faults = ["none", "cut", "cut"]  # the driver asks a second time by itself
        consumer = consume(clickhouse=proxy.url, database="between")
        consumer.start()
        await until(consumer.ready)
        assert proxy.done == ["cut", "cut"]


async def test_a_topic_deleted_and_made_again(
    kafka_broker: Broker,
    topic: str,
    database: tuple[str, str],
    producer: Producer,
    consume: Consume,
) -> None:
    """Kafka takes the group's offsets along, but a live consumer keeps its position.

    While the new topic is shorter, that position is out of range, and the consumer begins anew at
    the first record. Once the new topic has grown beyond it, the consumer goes on there, and what
    stands before is skipped without a word. The audit shows the gap; shipping again fills it.
    """
    await make_topic(kafka_broker.bootstrap, topic)
    consumer = consume()
    consumer.start()
    journal = new_journal()
    for _ in range(30):
        await producer.send(journal, 10)
    await arrived(producer, *database)

    await delete_topic(kafka_broker.bootstrap, topic)
    await make_topic(kafka_broker.bootstrap, topic)
    async with Producer(kafka_broker.bootstrap, topic) as fresh:
        fresh.expected = dict(producer.expected)
        for _ in range(50):
            await fresh.send(journal, 10)
        await asyncio.sleep(2)
        got = sum(row[1] for row in stored(client(database[0]), database[1]).values())
        print(f"before shipping again {sum(fresh.expected.values()) - got} events are missing")
        fresh.records = producer.records + fresh.records
        await fresh.again()
        await arrived(fresh, *database)
    assert consumer.terminate() == 0


async def test_consumers_come_and_go_under_load(
    kafka_broker: Broker,
    topic: str,
    database: tuple[str, str],
    producer: Producer,
    consume: Consume,
) -> None:
    await make_topic(kafka_broker.bootstrap, topic, 6)
    first, second, third = consume(), consume(), consume()
    first.start()
    async with loading(producer):
        await until(lambda: first.metric("heliograph_consumer_batches_total") > 0)
        second.start()
        await until(lambda: second.metric("heliograph_consumer_batches_total") > 0)
        third.start()
        await until(lambda: third.metric("heliograph_consumer_batches_total") > 0)
        assert await asyncio.to_thread(second.terminate) == 0
        await asyncio.sleep(1)
        second.start()
        first.kill9()
        await asyncio.sleep(1)
        first.start()
        await until(lambda: first.metric("heliograph_consumer_batches_total") > 0)
        assert await asyncio.to_thread(third.terminate) == 0
    await arrived(producer, *database)
    print(f"{sum(producer.expected.values())} events, members came and went")


async def test_told_to_stop_while_the_server_is_silent(
    kafka_broker: Broker, topic: str, engine: Engine, producer: Producer, consume: Consume
) -> None:
    """In the middle of a write whose answer does not come; long before that is given up."""
    await make_topic(kafka_broker.bootstrap, topic)
    name = "silent"
    migrate(client(engine.url), name)
    consumer = consume(clickhouse=engine.url, database=name)
    consumer.start()
    async with loading(producer):
        await until(lambda: consumer.metric("heliograph_consumer_batches_total") > 0)
        os.kill(engine.pid, signal.SIGSTOP)
        await asyncio.sleep(1)
        await asyncio.to_thread(consumer.terminate)
        os.kill(engine.pid, signal.SIGCONT)
        consumer.start()
    await arrived(producer, engine.url, name)


async def test_poison_is_set_aside_and_blocks_nothing(
    kafka_broker: Broker,
    topic: str,
    database: tuple[str, str],
    producer: Producer,
    consume: Consume,
) -> None:
    await make_topic(kafka_broker.bootstrap, topic, 1, {"max.message.bytes": str(4 << 20)})
    url, name = database
    journal = new_journal()

    def line(**changes: object) -> bytes:
        import orjson

        whole = event.block(journal, 1, [body()])
        return bytes(orjson.dumps({**orjson.loads(whole), "seq": 9_000, **changes})) + b"\n"

    poison = {
        b"garbage\n": "malformed",
        b'{"journal":"\xff\xfe"}\n': "utf-8",
        line(extra=1): "extra",
        line(seq=-1): "$.seq",
        line(seq="SEQ").replace(b'"SEQ"', b"1" + 20 * b"0"): "",
        line(ts=10**17): "ts",
        line(sent_at=2**33): "sent_at",
        line(kind="opened"): "kind",
        line(journal="../x"): "$.journal",
        line(campaign=7): "",
        line(campaign=None): "",
        line(seq="12x"): "",
        b"\n": "truncated",
        b"[]\n": "Expected `object`",
        line().strip() + line(): "malformed",
        b"x" * (2 << 20) + b"\n": "malformed",
        line(campaign={"a": 1}): "",
        line()[:-20] + b"\n": "",
    }
    consumer = consume()
    consumer.start()
    for bad in poison:
        # Alone, and between good ones of a block that says what it should hold.
        await producer.send(journal, 3)
        await producer.raw(bad)
        first = producer.expected[journal] + 1
        good = event.block(journal, first, [body(), body()]).splitlines(keepends=True)
        headers = [("first_seq", b"%d" % first), ("count", b"3")]
        await producer.raw(good[0] + bad + good[1], journal.encode(), headers)
        producer.expected[journal] += 2
    await producer.raw(None, b"k")
    await producer.raw(b"last, without a newline")
    await producer.send(journal, 1)
    await arrived(producer, url, name)
    letters = f"SELECT raw, reason FROM {name}.dead_letter FINAL ORDER BY `offset`, line"
    dead = client(url).query(letters).result_rows
    assert len(dead) == 2 * len(poison) + 1
    for (raw, reason), (bad, expected) in zip(
        dead, [item for item in poison.items() for _ in range(2)], strict=False
    ):
        assert raw == bad[: 64 << 10].decode("utf-8", "replace")
        assert reason
        assert expected in reason, (raw[:200], reason)
    # It counts them once it knows that they are in.
    letters_total = "heliograph_consumer_dead_letters_total"
    await until(lambda: consumer.metric(letters_total) == len(dead), 10)
    assert consumer.ask("/readyz")[0] == 200
    assert_counts(client(url), name)


async def test_a_backlog_is_taken_in_bounded_memory(
    kafka_broker: Broker,
    topic: str,
    database: tuple[str, str],
    producer: Producer,
    consume: Consume,
) -> None:
    """12 partitions, no batch of which is ever full or due: what waits of all stays below one."""
    await make_topic(kafka_broker.bootstrap, topic, 12)
    names = [new_journal() for _ in range(32)]
    for _ in range(2):
        await asyncio.gather(*(producer.send(each, 250) for each in names))
    backlog = sum(len(value) for _, value, _ in producer.records)
    limit = 1 << 20
    assert backlog > 4 * limit
    consumer = consume(batch_bytes=limit, batch_rows=1_000_000, batch_seconds=60.0)
    consumer.start()
    held = limit / backlog * sum(producer.expected.values())  # events in so many bytes
    least = sum(producer.expected.values()) - held
    await until(lambda: consumer.metric("heliograph_consumer_events_total") >= least, 55)
    assert consumer.terminate() == 0  # what waits is written
