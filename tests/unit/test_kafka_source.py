"""The topic as a source, where Kafka does not behave."""

import asyncio
import contextlib
from typing import Any

import pytest

from consumer import kafka_source
from consumer.kafka_source import KafkaSource
from consumer.settings import ConsumerSettings


class HalfStopped:
    """As aiokafka when it is stopped in a fetch: it cancels that, and waits for it unprotected."""

    def __init__(self) -> None:
        self.closed = False
        self._client, self._sync_task = self, None

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


class Hanging(HalfStopped):
    """As aiokafka when its heartbeat misses its cancellation, which `wait_for` may swallow."""

    async def stop(self) -> None:
        async def heartbeat() -> None:
            for _ in range(20):
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(1)

        beating = asyncio.create_task(heartbeat())
        await asyncio.sleep(0)
        beating.cancel()
        await beating


async def test_who_hangs_while_it_leaves_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_source, "_LEAVING", (0.1, 0.1))
    source = KafkaSource(ConsumerSettings(), lambda _: None)
    consumer: Any = Hanging()
    source._consumer = consumer
    async with asyncio.timeout(15):
        await source.close()
    assert consumer.closed
