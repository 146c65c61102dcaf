"""The topic as a source, where Kafka does not behave."""

import asyncio
from typing import Any

from consumer.kafka_source import KafkaSource
from consumer.settings import ConsumerSettings


class HalfStopped:
    """As aiokafka when it is stopped in a fetch: it cancels that, and waits for it unprotected."""

    def __init__(self) -> None:
        self.closed = False
        self._client = self

    async def stop(self) -> None:
        fetch = asyncio.create_task(asyncio.sleep(60))
        await asyncio.sleep(0)
        fetch.cancel()
        await fetch

    async def close(self) -> None:
        self.closed = True


async def test_a_fetch_that_is_cancelled_does_not_end_the_consumer() -> None:
    source = KafkaSource(ConsumerSettings(), lambda _: None)
    consumer: Any = HalfStopped()
    source._consumer = consumer
    await source.close()
    assert consumer.closed
