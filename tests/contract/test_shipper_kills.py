"""The shipper while it, or Kafka, is killed: at least once, in order."""

import asyncio
import itertools
import random
import re
from pathlib import Path

import pytest

from schemas.journal import directory
from tests.contract.shipping import (
    Writer,
    checked,
    config,
    data,
    in_order,
    name,
    read_topic,
    shipped,
    shipping,
)
from tests.kafka_broker import Broker

__all__ = ["data", "name"]
pytestmark = [pytest.mark.kafka, pytest.mark.kill]


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


async def test_kafka_that_is_not_there_yet(own_kafka_broker: Broker, data: Path, name: str) -> None:
    broker = own_kafka_broker
    broker.stop()
    wanted = config(data, broker, name)
    writer = Writer(wanted)
    live = writer.start()
    writer.write(live, 1, 10)
    with shipping(wanted) as process:
        told = await process.told("/readyz", "Connection")
        assert told.startswith("ok\nKafka: KafkaConnectionError")
        broker.start()
        await shipped(writer, wanted)
    writer.close()
