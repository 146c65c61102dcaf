"""A Kafka topic as a source: a member of a consumer group, committing after the store."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from consumer.batch import Block, Partition
from consumer.errors import Fenced
from consumer.settings import ConsumerSettings
from consumer.source import OnRelease
from schemas.kafka import let_go

_log: Final = logging.getLogger(__name__)
#: After so long without a sign of life a consumer's partitions go to others, in milliseconds.
SESSION_MS = 10_000
_PAUSE: Final = 1.0
#: After so long without a failure one that was before is over, in seconds.
_QUIET: Final = 15.0
#: How long an answer to a commit is waited for, in seconds.
_PATIENCE: Final = 30.0
#: How long leaving the group is waited for, by itself and once told to end, in seconds.
_LEAVING: Final = (SESSION_MS / 1000, 1.0)
#: What a client may raise: see `let_go`.
_FAILURES: Final = (KafkaError, RuntimeError)


class KafkaSource(ConsumerRebalanceListener):  # type: ignore[misc]
    """Partitions of the topic, shared with the other consumers of the group.

    `report` is told why Kafka cannot be joined or gives no records, or "" when it does, and
    `missed` how many records Kafka had removed before they were counted.
    """

    finite = False

    def __init__(
        self,
        settings: ConsumerSettings,
        report: Callable[[str], None],
        missed: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._report = report
        self._missed = missed
        self._consumer: AIOKafkaConsumer | None = None
        self._on_release: OnRelease = _nothing
        self._given: dict[TopicPartition, int] = {}
        self._first: dict[TopicPartition, int] = {}  # not compared with what is committed yet
        self._next: dict[TopicPartition, int] = {}  # what is to come since the last assignment
        self._refused = ""  # why no records could be had, as long as none come
        self._started_at = 0.0

    async def start(self, on_release: OnRelease) -> None:
        """Join the group; waits for Kafka as long as it takes."""
        self._on_release = on_release
        pause = 0.2
        while self._consumer is None:
            consumer = self._make()
            try:
                await consumer.start()
            except _FAILURES as error:
                _log.warning("Kafka does not answer, trying again: %s", error)
                self._report(f"{type(error).__name__}: {error}")
                await _leave(consumer)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
            else:
                consumer.subscribe([self._settings.topic], listener=self)
                self._consumer = consumer
                self._started_at = time.monotonic()
                self._report(self._refused)

    def _make(self) -> AIOKafkaConsumer:
        s = self._settings
        return AIOKafkaConsumer(
            **s.client_options(),
            group_id=s.group,
            # The store knows what it has, so starting too early is safe, too late is not.
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            # A partition a fetch, in a random order: more at once only takes more memory.
            max_partition_fetch_bytes=8 << 20,
            fetch_max_bytes=8 << 20,
            metadata_max_age_ms=10_000,
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=SESSION_MS // 3,
            max_poll_interval_ms=3_600_000,
        )

    @property
    def _joined(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise Fenced("not in the group")
        return self._consumer

    async def poll(self, timeout: float) -> Mapping[Partition, Sequence[Block]]:
        """See `Source`. Kafka's absence is waited out; what is raised here a client never heals."""
        if self._joined._client._sync_task.done():
            # Of an error that it did not expect, and nobody is told: https://github.com/
            # aio-libs/aiokafka/issues/712. What needs to know a partition's broker waits for ever.
            raise Fenced("the client has lost its view of the cluster")
        try:
            with _cut_off():
                found = await self._joined.getmany(timeout_ms=int(timeout * 1000))
        except _FAILURES as error:
            # To join again heals much, but no record that cannot be read: so this is told until
            # records come, or none did for a while and no failure either.
            self._refused = f"Kafka gives no records: {type(error).__name__}: {error}"
            self._report(self._refused)
            await asyncio.sleep(_PAUSE)
            raise Fenced(self._refused) from error
        if self._refused and (found or time.monotonic() - self._started_at > _QUIET):
            self._refused = ""
            self._report("")
        for tp, records in found.items():
            first = records[0].offset
            if tp in self._next:
                self._expect(tp, self._next[tp], first)
            else:
                self._first[tp] = first
            self._given[tp] = self._next[tp] = records[-1].offset + 1
        return {
            (tp.topic, tp.partition): [_block(record) for record in records]
            for tp, records in found.items()
        }

    def _expect(self, place: TopicPartition, offset: int, found: int) -> None:
        """Tell of what should have come first: aiokafka goes on behind it without a word."""
        if found > offset:
            _log.error(
                "partition %d: %d records are no longer in Kafka, and this group has not counted "
                "them; `heliograph audit` names their events, `heliograph reship` sends them again",
                place.partition,
                found - offset,
            )
            self._missed(found - offset)

    async def confirm(self, partition: Partition) -> None:
        """Commit the position as it is: only a member of the current generation can.

        It is where the first record was, if Kafka had removed what should have come before.
        """
        place = TopicPartition(*partition)
        async with _answer():
            position = await self._joined.committed(place) or 0
            first = max(position, self._first.get(place, 0))
            await self._joined.commit({place: first})
        self._expect(place, position, first)
        self._first.pop(place, None)

    async def commit(self, partition: Partition, blocks: Sequence[Block]) -> None:
        """See `Source`."""
        async with _answer():
            await self._joined.commit({TopicPartition(*partition): blocks[-1].offset + 1})

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Let what is in flight come to an end before somebody else reads on."""
        await self._on_release([(tp.topic, tp.partition) for tp in revoked])

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Fences are put up when the first blocks come."""
        self._first.clear()
        self._next.clear()

    async def rejoin(self) -> None:
        """See `Source`."""
        await self.close()
        await self.start(self._on_release)

    def lag(self) -> int:
        """Records known to be in the topic and not yet given."""
        consumer = self._consumer
        if consumer is None:
            return 0
        ours: set[TopicPartition] = consumer.assignment() & self._given.keys()
        return sum(max(0, (consumer.highwater(tp) or 0) - self._given[tp]) for tp in ours)

    async def close(self) -> None:
        """Leave the group."""
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            await _leave(consumer)


async def _leave(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer. One that hangs in doing so is left alone: its session ends by itself."""
    let_go(consumer._client)
    leaving = asyncio.create_task(consumer.stop())
    for patience in _LEAVING:
        await asyncio.wait([leaving], timeout=patience)
        if leaving.done():
            break
        _log.warning("leaving the group takes too long")
        leaving.cancel()  # it waits for a task of its own that has missed its cancellation
    if not leaving.done() or leaving.cancelled() or leaving.exception():
        let_go(consumer._client)
        with contextlib.suppress(*_FAILURES, TimeoutError):  # it has stopped half-way
            await asyncio.wait_for(consumer._client.close(), _PAUSE)


@contextlib.asynccontextmanager
async def _answer() -> AsyncIterator[None]:
    """Turn every failure to commit into `Fenced`.

    Whether it was done is not always known: reading the batch again is harmless. aiokafka itself
    would try for ever where the partition is gone.
    """
    try:
        with _cut_off():
            async with asyncio.timeout(_PATIENCE):
                yield
    except (*_FAILURES, TimeoutError) as error:
        raise Fenced(f"no commit: {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def _cut_off() -> Iterator[None]:
    """Turn a cancellation that nobody has asked of us into `Fenced`: aiokafka cancels what waits in
    a client that is being closed, and that would pass for an orderly end of this process.
    """
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise Fenced("cut off from Kafka") from None


async def _nothing(partitions: Collection[Partition]) -> None:
    return


def _block(record: "ConsumerRecord[Any, Any]") -> Block:
    headers = dict(record.headers or ())
    data = record.value or b""
    if data and not data.endswith(b"\n"):
        data += b"\n"
    return Block(
        record.topic,
        record.partition,
        record.offset,
        (record.key or b"").decode("utf-8", "replace"),
        _number(headers.get("first_seq")),
        _number(headers.get("count")),
        data,
    )


def _number(header: bytes | None) -> int:
    """A decimal header; 0 where a stranger's record has none."""
    return int(header) if header and header.isdigit() and len(header) < 19 else 0
