"""The topic as a source, where Kafka does not behave."""

import asyncio
import contextlib
import time
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CorruptRecordException

from consumer import kafka_source
from consumer.errors import Fenced
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


class Reading:
    """As aiokafka with records that it cannot read, until it is told otherwise."""

    def __init__(self) -> None:
        self.found: dict[TopicPartition, list[Any]] | None = None
        self._client = self
        self._sync_task = asyncio.get_running_loop().create_future()

    async def getmany(self, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        if self.found is None:
            raise CorruptRecordException
        return self.found


async def test_a_record_that_cannot_be_read_is_told_until_records_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To join again, which is always done, looks well, and the same record comes."""
    monkeypatch.setattr(kafka_source, "_PAUSE", 0.0)
    told: list[str] = []
    source = KafkaSource(ConsumerSettings(), told.append)
    consumer: Any = Reading()
    source._consumer = consumer
    source._started_at = time.monotonic()
    with pytest.raises(Fenced):
        await source.poll(0.1)
    assert "CorruptRecord" in told[-1]
    consumer.found = {}
    await source.poll(0.1)
    assert "CorruptRecord" in told[-1]
    source._started_at -= kafka_source._QUIET
    await source.poll(0.1)
    assert told[-1] == ""
