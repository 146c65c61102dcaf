"""Who has opted out by the topic through which collectors tell each other."""

import asyncio
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from collector.settings import CollectorSettings
from heliograph.errors import Failure
from schemas import keyring
from schemas.optout import Entry, Sealer

_STALL_SECONDS: Final = 30


def listed(settings: CollectorSettings) -> dict[str, Entry]:
    """Who has opted out; raises KeyFileError, OSError, or Failure where Kafka does not tell."""
    sealer = Sealer(keyring.load(settings.key_file).content.hash_secret)
    try:
        found = asyncio.run(_read(settings, sealer))
    except (KafkaError, TimeoutError) as error:
        raise Failure(f"Kafka: {type(error).__name__}: {error}") from None
    return {name: entry for name, entry in found.items() if entry.out}


async def _read(settings: CollectorSettings, sealer: Sealer) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    consumer: Any = AIOKafkaConsumer(
        **settings.client_options(), enable_auto_commit=False, auto_offset_reset="earliest",
        request_timeout_ms=_STALL_SECONDS * 1000,
    )  # fmt: skip
    try:
        await consumer.start()
        name = settings.optout_topic
        if name not in await consumer.topics():
            raise Failure(f"there is no topic {name}: no collector has made it yet")
        places = [TopicPartition(name, n) for n in consumer.partitions_for_topic(name) or {0}]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        while any([await consumer.position(p) < ends[p] for p in places]):
            read = await consumer.getmany(timeout_ms=_STALL_SECONDS * 1000)
            if not read:
                raise Failure(f"Kafka: no answer for {_STALL_SECONDS} s")
            for record in (record for records in read.values() for record in records):
                _take(sealer, record.value, found)
    finally:
        await consumer.stop()
    return found


def _take(sealer: Sealer, value: bytes, found: dict[str, Entry]) -> None:
    """The later entry holds, wherever it was made; what is of another ring is skipped."""
    try:
        entry = sealer.open(value)
    except ValueError:
        return
    known = found.get(entry.recipient)
    if known is None or (entry.at, entry.out) > (known.at, known.out):
        found[entry.recipient] = entry
