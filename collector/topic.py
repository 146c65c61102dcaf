"""The topic: made if it is missing, with the partitions and replicas that the settings ask for."""

from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import for_code

from collector.settings import CollectorSettings

_ALREADY_EXISTS: Final = 36
_SECONDS: Final = 15


class TopicError(Exception):
    """The topic is missing and cannot be made; the message says why."""


async def ensure(settings: CollectorSettings) -> bool:
    """Make the topic unless it is there; whether it was made. Raises TopicError, KafkaError."""
    admin: Any = AIOKafkaAdminClient(
        **settings.client_options(), request_timeout_ms=_SECONDS * 1000
    )
    try:
        await admin.start()
        if settings.topic in await admin.list_topics():
            return False
        answer = await admin.create_topics(
            [NewTopic(settings.topic, settings.topic_partitions, settings.topic_replication)]
        )
        _, code, *message = answer.topic_errors[0]
    finally:
        await admin.close()
    if code == _ALREADY_EXISTS:
        return False
    if code:
        reason = next((text for text in message if text), "") or for_code(code).__name__
        raise TopicError(
            f"topic {settings.topic} is missing and cannot be made with "
            f"{settings.topic_partitions} partitions and {settings.topic_replication} replicas: "
            f"{reason}"
        )
    return True
