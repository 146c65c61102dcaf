"""Opt-outs of several machines: the file here and a compacted topic are kept in step.

What the file has and the topic has not is sent, what the topic has and the file has not is added to
the file, which is all that workers look at. Of two entries of a recipient the later one holds,
wherever it was made. The whole topic is read at each start, so no position has to be kept, and a
topic that was lost is filled again by any machine.
"""

import asyncio
import contextlib
import itertools
import logging
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.errors import KafkaError

from collector import topic
from collector.optouts import Tail, append
from collector.settings import CollectorSettings
from schemas.kafka import let_go
from schemas.optout import FILE, READ, Entry, Sealer

log = logging.getLogger(__name__)

_PAUSE: Final = 2.0
_POLL_MS: Final = 300
#: Entries that are taken at a time: some milliseconds, in which nothing is shipped.
_TOGETHER: Final = 500
_REQUEST_SECONDS: Final = 15
#: RuntimeError: see `let_go`.
_FAILURES: Final = (KafkaError, OSError, RuntimeError, TimeoutError, topic.TopicError)


class Exchange:
    """Runs beside the shipper. `waiting` are the opt-outs that Kafka has not acknowledged."""

    def __init__(self, settings: CollectorSettings, sealer: Sealer) -> None:
        self.trouble = ""
        self.waiting: set[str] = set()
        self._settings = settings
        self._sealer = sealer
        self._path = settings.data / FILE
        self._tail = Tail(self._path, sealer)
        self._known: dict[str, int] = {}  # by recipient: see `_rank`
        self._producer: Any = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._session()
            except _FAILURES as error:
                told = f"{type(error).__name__}: {error}"
                if told != self.trouble:
                    log.error("opt-outs are not exchanged: %s", told)
                self.trouble = told
            await asyncio.sleep(_PAUSE)

    async def finish(self) -> None:
        """Send what has come to the file meanwhile, if Kafka is there."""
        if self._producer is not None and not self.trouble:
            await self._read_file()
            await self._send()

    async def _session(self) -> None:
        settings = self._settings
        name = settings.optout_topic
        wanted = NewTopic(name, 1, settings.topic_replication, topic_configs={
            "cleanup.policy": "compact"})  # fmt: skip
        await topic.ensure(settings, wanted)
        await self._warn_of_expiry()
        options = {**settings.client_options(), "request_timeout_ms": _REQUEST_SECONDS * 1000}
        consumer: Any = AIOKafkaConsumer(
            **options, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        producer: Any = AIOKafkaProducer(**options, enable_idempotence=True, acks="all")
        async with contextlib.AsyncExitStack() as started:
            started.push_async_callback(consumer.stop)
            started.callback(lambda: let_go(consumer._client))
            started.push_async_callback(topic.abandon, producer)
            await consumer.start()
            await producer.start()
            self._producer = producer
            started.callback(self._part)
            await self._exchange(consumer)

    async def _warn_of_expiry(self) -> None:
        """A topic that a broker or somebody else made may drop what is old: nobody would learn of
        these opt-outs any more who is new.
        """
        name = self._settings.optout_topic
        with contextlib.suppress(topic.TopicError, KafkaError):  # not all tell
            kept = await topic.kept_seconds(self._settings, name)
            if kept < math.inf:
                log.error("topic %s forgets opt-outs after %.1f days: set cleanup.policy=compact "
                          "on it", name, kept / 86_400)  # fmt: skip

    def _part(self) -> None:
        self._producer = None

    async def _exchange(self, consumer: Any) -> None:
        name = self._settings.optout_topic
        places = [TopicPartition(name, n) for n in consumer.partitions_for_topic(name) or {0}]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends = await consumer.end_offsets(places)
        await self._read_file()
        self.waiting = set(self._known)
        behind = True
        while not consumer._client._sync_task.done():  # else it may wait for ever: aiokafka #712
            if behind and all([await consumer.position(p) >= ends[p] for p in places]):
                behind, self.trouble = False, ""
                _mark(self._path.with_name(READ))
            if not behind:
                await self._read_file()
                await self._send()
            found = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_TOGETHER)
            self._take(record.value for records in found.values() for record in records)

    async def _read_file(self) -> None:
        """What is new in it; journals are shipped between two steps."""
        while (entries := self._tail.read()) is not None:
            for entry in entries:
                if _rank(entry) > self._known.get(entry.recipient, -1):
                    self._known[entry.recipient] = _rank(entry)
                    self.waiting.add(entry.recipient)
            await asyncio.sleep(0)

    def _take(self, values: Iterable[bytes]) -> None:
        """Entries of the topic: what is news goes into the file, and is known when it is there."""
        news: dict[str, Entry] = {}
        for value in values:
            try:
                entry = self._sealer.open(value)
            except ValueError:
                log.warning(
                    "a record of %s is no opt-out of this ring", self._settings.optout_topic
                )
                continue
            newest = news.get(entry.recipient)
            known = _rank(newest) if newest else self._known.get(entry.recipient, -1)
            if _rank(entry) > known:
                news[entry.recipient] = entry
            if _rank(entry) >= known:
                self.waiting.discard(entry.recipient)
        if news:
            append(self._path, b"".join(map(self._sealer.seal, news.values())))
            self._known |= {name: _rank(entry) for name, entry in news.items()}

    async def _send(self) -> None:
        while self.waiting:
            some = [(n, self._known[n]) for n in itertools.islice(self.waiting, _TOGETHER)]
            answers = [
                await self._producer.send(
                    self._settings.optout_topic,
                    key=self._sealer.name(name),
                    value=self._sealer.seal(Entry(name, rank % 2 == 1, rank // 2)).rstrip(b"\n"),
                )
                for name, rank in some
            ]
            await asyncio.gather(*answers)
            self.waiting -= {name for name, rank in some if self._known[name] == rank}


def _rank(entry: Entry) -> int:
    """The later of a recipient's entries has the higher one; of two at a time, to be out."""
    return entry.at * 2 + entry.out


def _mark(path: Path) -> None:
    """From now on workers may take the file for all that there is."""
    if not path.exists():
        path.touch(mode=0o640)
