"""What the tests rely on in their Kafka: it is real, and its data outlives kill -9."""

import asyncio
import os

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.kafka_broker import Broker


async def make_topic(broker: Broker, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        answer = await admin.create_topics([NewTopic(name, 1, 1)])
    finally:
        await admin.close()
    assert answer.topic_errors[0][:2] == (name, 0)


async def produce(broker: Broker, topic: str, values: list[bytes]) -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=broker.bootstrap, acks="all", enable_idempotence=True
    ) as producer:
        for value in values:
            await producer.send_and_wait(topic, value, key=b"journal")


async def fetch(broker: Broker, topic: str, count: int) -> list[bytes | None]:
    async with AIOKafkaConsumer(
        topic, bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest"
    ) as consumer:
        async with asyncio.timeout(30):
            return [(await consumer.getone()).value for _ in range(count)]


async def test_a_record_comes_back_as_it_was_sent(kafka_broker: Broker) -> None:
    await make_topic(kafka_broker, "as-sent")
    values = [b'{"seq":1}\n{"seq":2}\n', b"\xff\x00"]
    await produce(kafka_broker, "as-sent", values)
    assert await fetch(kafka_broker, "as-sent", 2) == values


@pytest.mark.kill
async def test_data_and_address_outlive_kill_9(own_kafka_broker: Broker) -> None:
    broker = own_kafka_broker
    address, first = broker.bootstrap, broker.pid
    await make_topic(broker, "kept")
    await produce(broker, "kept", [b"before"])
    broker.kill9()
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    with pytest.raises(RuntimeError, match="not running"):
        _ = broker.pid
    broker.start()
    assert (broker.bootstrap, broker.pid != first) == (address, True)
    await produce(broker, "kept", [b"after"])
    assert await fetch(broker, "kept", 2) == [b"before", b"after"]


async def test_a_suspended_broker_hangs_and_goes_on(own_kafka_broker: Broker) -> None:
    broker = own_kafka_broker
    await make_topic(broker, "hung")
    broker.suspend()
    sending = asyncio.create_task(produce(broker, "hung", [b"late"]))
    done, _ = await asyncio.wait({sending}, timeout=1)
    assert not done
    broker.resume()
    await asyncio.wait_for(sending, 60)
    assert await fetch(broker, "hung", 1) == [b"late"]
    broker.stop()
