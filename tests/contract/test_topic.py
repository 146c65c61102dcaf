"""The topic that the shipper makes or finds: how it is, how long it keeps, and what is in it."""

import asyncio
import math
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from collector import topic
from tests.contract.shipping import (
    config,
    data,
    name,
    shipping,
)
from tests.faults.load import until
from tests.integration import test_consent as consent
from tests.kafka_broker import Broker

__all__ = ["data", "name"]
pytestmark = pytest.mark.kafka


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

    def stored() -> dict[str, set[str]]:
        parts = (kafka_broker.home / "data").glob(f"{name}-*/*.log")
        return consent.found(b"".join(part.read_bytes() for part in parts))

    with shipping(config(data, kafka_broker, name)):
        await until(lambda: bool(stored()["agent"]))
    # At its end the shipper has sent what was there.
    assert stored() == {what: modes for what, (modes, _) in consent.KEPT.items()}


async def test_a_topic_that_cannot_be_made_is_told_clearly(
    kafka_broker: Broker, data: Path, name: str
) -> None:
    wanted = config(data, kafka_broker, name, topic_replication=3)
    with pytest.raises(topic.TopicError, match=f"topic {name} is missing .* 3 replicas: .*replic"):
        await topic.ensure(wanted)
    with shipping(wanted) as process:
        told = await process.told("/readyz", "TopicError")
        assert told.startswith("ok\n")
        assert f"topic {name} is missing" in told
        assert process.process.poll() is None
