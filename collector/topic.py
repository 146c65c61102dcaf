"""Topics: made if they are missing, with the partitions and replicas that the settings ask for."""

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, for_code

from collector.settings import CollectorSettings
from schemas.kafka import let_go

log = logging.getLogger(__name__)

_ALREADY_EXISTS: Final = 36
_SECONDS: Final = 15
_RETRY_SECONDS: Final = 10.0
_WATCH_SECONDS: Final = 600.0


class TopicError(Exception):
    """The topic is missing and cannot be made; the message says why."""


async def ensure(settings: CollectorSettings, other: NewTopic | None = None) -> bool:
    """Make the topic of the events, or another, unless it is there; whether it was made.

    Raises TopicError, KafkaError.
    """
    new = other or _events(settings)
    async with _admin(settings) as admin:
        if new.name in await admin.list_topics():
            return False
        answer = await admin.create_topics([new])
        _, code, *message = answer.topic_errors[0]
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


@contextlib.asynccontextmanager
async def _admin(settings: CollectorSettings) -> AsyncIterator[Any]:
    admin: Any = AIOKafkaAdminClient(
        **settings.client_options(), request_timeout_ms=_SECONDS * 1000
    )
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


def _events(settings: CollectorSettings) -> NewTopic:
    """What it holds of people goes after the retention, and the day that a segment may be open."""
    kept = int(settings.topic_retention_hours * 3_600_000)
    bounds = {"retention.ms": str(kept), "segment.ms": str(min(kept, 86_400_000))}
    partitions, replicas = settings.topic_partitions, settings.topic_replication
    return NewTopic(settings.topic, partitions, replicas, topic_configs=bounds)


async def kept_seconds(settings: CollectorSettings, other: str = "") -> float:
    """How long the topic of the events, or another, keeps one at most, by its own settings; inf:
    for ever.

    Raises TopicError, KafkaError.
    """
    name = other or settings.topic
    async with _admin(settings) as admin:
        asked = ConfigResource(ConfigResourceType.TOPIC, name)
        (answer,) = await admin.describe_configs([asked])
    code, _, _, _, entries = answer.resources[0]
    if code:
        raise TopicError(f"topic {name}: its settings cannot be read: "
                         f"{for_code(code).__name__}")  # fmt: skip
    told = {entry[0]: entry[1] for entry in entries}
    kept, open_ms = int(told["retention.ms"]), int(told["segment.ms"])
    if kept < 0 or "delete" not in told["cleanup.policy"]:
        return math.inf
    return (kept + open_ms) / 1000


async def watch(settings: CollectorSettings, kept: Callable[[float], object]) -> None:
    """Tell `kept` how long the topic keeps an event, and say so if that is longer than published,
    until cancelled: anyone may change it.
    """
    bounds = _events(settings).topic_configs
    most = (int(bounds["retention.ms"]) + int(bounds["segment.ms"])) / 1000
    said = 0.0
    while True:
        pause = _RETRY_SECONDS
        with contextlib.suppress(TopicError, KafkaError, OSError, TimeoutError):
            found = await kept_seconds(settings)
            kept(found)
            if found > most and found != said:
                log.warning(
                    "topic %s keeps events for up to %.1f days, HELIOGRAPH_TOPIC_RETENTION_HOURS "
                    "allows %.1f: set retention.ms, segment.ms and cleanup.policy=delete on the "
                    "topic, or publish the longer time", settings.topic, found / 86_400,
                    most / 86_400,
                )  # fmt: skip
            said, pause = found, _WATCH_SECONDS
        await asyncio.sleep(pause)


async def abandon(producer: Any) -> None:
    """Stop a producer. One that cannot flush would try for ever: it is cut off."""
    let_go(producer.client)
    with contextlib.suppress(KafkaError, RuntimeError, TimeoutError):
        async with asyncio.timeout(0.5):
            await producer.stop()
            return
    if producer._sender.sender_task is not None:  # aiokafka has no public way
        producer._sender.sender_task.cancel()
    let_go(producer.client)
    await producer.client.close()
