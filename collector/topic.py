"""Topics: made if they are missing, with the partitions and replicas that the settings ask for."""

import asyncio
import contextlib
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, for_code

from collector.settings import CollectorSettings

_ALREADY_EXISTS: Final = 36
_SECONDS: Final = 15


class TopicError(Exception):
    """The topic is missing and cannot be made; the message says why."""


async def ensure(settings: CollectorSettings, other: NewTopic | None = None) -> bool:
    """Make the topic of the events, or another, unless it is there; whether it was made.

    Raises TopicError, KafkaError.
    """
    new = other or _events(settings)
    admin: Any = AIOKafkaAdminClient(
        **settings.client_options(), request_timeout_ms=_SECONDS * 1000
    )
    try:
        await admin.start()
        if new.name in await admin.list_topics():
            return False
        answer = await admin.create_topics([new])
        _, code, *message = answer.topic_errors[0]
    finally:
        await admin.close()
    if code == _ALREADY_EXISTS:
        return False
    if code:
        reason = next((text for text in message if text), "") or for_code(code).__name__
        raise TopicError(
            f"topic {new.name} is missing and cannot be made with "
            f"{new.num_partitions} partitions and {new.replication_factor} replicas: "
            f"{reason}"
        )
    return True


def _events(settings: CollectorSettings) -> NewTopic:
    """What it holds of people goes after the retention, and the day that a segment may be open."""
    kept = int(settings.topic_retention_hours * 3_600_000)
    bounds = {"retention.ms": str(kept), "segment.ms": str(min(kept, 86_400_000))}
    partitions, replicas = settings.topic_partitions, settings.topic_replication
    return NewTopic(settings.topic, partitions, replicas, topic_configs=bounds)


async def abandon(producer: Any) -> None:
    """Stop a producer. One that cannot flush would try for ever: it is cut off."""
    with contextlib.suppress(KafkaError, TimeoutError):
        async with asyncio.timeout(0.5):
            await producer.stop()
            return
    if producer._sender.sender_task is not None:  # aiokafka has no public way
        producer._sender.sender_task.cancel()
    await producer.client.close()
