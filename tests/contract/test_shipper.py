"""The shipper on a real Kafka: at least once, in order."""

import asyncio
import itertools
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import OutOfOrderSequenceNumber
from prometheus_client import CollectorRegistry

from collector import shipper
from collector.metrics import ShipperMetrics
from schemas.journal import reship
from tests.collecting import collecting, mint, settings, wait_for
from tests.contract.shipping import (
    Writer,
    checked,
    config,
    data,
    name,
    read_topic,
    shipped,
    shipping,
)
from tests.kafka_broker import Broker

__all__ = ["data", "name"]
pytestmark = pytest.mark.kafka


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
                 collector.ask("/metrics")[1])  # fmt: skip
        for number in range(20):
            await fetch(f"last-{number}")
        assert await asyncio.to_thread(collector.stop) == 0
    records = await read_topic(kafka_broker, name)
    checked(records)
    agents = {msgspec.json.decode(line)["user_agent"]
              for record in records for line in record.value.splitlines()}  # fmt: skip
    assert agents == {"first", *(f"last-{number}" for number in range(20))}
