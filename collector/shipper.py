"""The shipper: journals to Kafka, at least once, each journal in order.

`python -m collector.shipper HEALTH_FD`, started by the supervisor. It never gives up: whatever
Kafka answers, it begins anew at the last acknowledged position, with a pause. While Kafka is away
at most some 20 MB wait in memory, the rest in the journals. No event is looked at: frames become
records as they are.
"""

import asyncio
import contextlib
import ctypes
import gc
import itertools
import logging
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import uvloop
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from prometheus_client import CollectorRegistry

from collector import topic
from collector.exchange import Exchange
from collector.health import State, serve_child
from collector.metrics import ShipperMetrics
from collector.settings import CollectorSettings
from collector.track import Track
from schemas import keyring
from schemas.child import end_of_service, read_settings, start_logging
from schemas.journal import directory, reship
from schemas.kafka import MAX_RECORD
from schemas.optout import Sealer

log = logging.getLogger(__name__)

_IN_FLIGHT_BYTES: Final = 16 << 20
#: A producer of aiokafka has one request at a broker at a time: the other fills the pause.
_PRODUCERS: Final = 4
_POLL_SECONDS: Final = 0.1
_HOUSEKEEPING_SECONDS: Final = 1.0
_EXPIRE_SECONDS: Final = 5.0
_SLOW_SECONDS: Final = 5.0
#: Without an answer for so long the producer is given up, whatever it still hopes for.
_STALL_SECONDS: Final = 30.0
_REQUEST_SECONDS: Final = 15
_LONGEST_PAUSE: Final = 5.0


class Stalled(Exception):
    """Kafka has not answered for too long."""


_FAILURES: Final = (KafkaError, OSError, RuntimeError, TimeoutError, topic.TopicError, Stalled)


class Shipper:
    """Ships until told to end. `connect` gives a started producer, or raises one of _FAILURES."""

    def __init__(
        self,
        settings: CollectorSettings,
        connect: Callable[[], Awaitable[Any]],
        metrics: ShipperMetrics,
        ended: asyncio.Event,
    ) -> None:
        self.trouble = "not connected yet"
        self._settings = settings
        self._root = settings.journal
        self._connect = connect
        self._metrics = metrics
        self._ended = ended
        self._tracks: dict[str, Track] = {}
        self._numbers = itertools.count()
        self._finished: set[str] = set()
        self._progress = time.monotonic()
        self._housekept = self._expired = 0.0
        metrics.lag_events.set_function(self.lag_events)
        metrics.lag_seconds.set_function(self.lag_seconds)

    def lag_events(self) -> float:
        """Events on disk that Kafka has not acknowledged."""
        tracks = self._tracks.values()
        return sum(max(0, directory.end_seq(t.journal) - t.acked) for t in tracks)

    def lag_seconds(self) -> float:
        """Age of the oldest event that waits for Kafka's answer."""
        waiting = [t.pending[0].ts_ms for t in self._tracks.values() if t.pending]
        return max(0.0, time.time() - min(waiting) / 1000) if waiting else 0.0

    async def run(self) -> None:
        """Ship until the end of service, and then what is on disk at that moment."""
        pause = 0.1
        while True:
            began = time.monotonic()
            try:
                await self._session()
                return
            except _FAILURES as error:
                self._failed(error)
            _give_memory_back()
            pause = 0.1 if time.monotonic() - began > 60 else min(2 * pause, _LONGEST_PAUSE)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), pause)
                return  # it cannot be shipped now; the next start goes on here

    async def _session(self) -> None:
        """Ship over new producers until one fails or all is done."""
        producers: list[Any] = []
        try:
            for _ in range(_PRODUCERS):
                producers.append(await self._connect())
            self.trouble = ""
            self._metrics.connected.set(1)
            self._progress = time.monotonic()
            await self._pump(producers)
        finally:
            self._metrics.connected.set(0)
            for track in self._tracks.values():
                track.rewind()
            await asyncio.gather(*map(topic.abandon, producers))

    def _failed(self, error: BaseException) -> None:
        told = f"{type(error).__name__}: {error}"
        if told != self.trouble:
            log.error("Kafka: %s; shipping goes on when it can", told)
        self.trouble = told
        self._metrics.failures.inc()

    async def _pump(self, producers: Sequence[Any]) -> None:
        while True:
            ending = self._ended.is_set()  # asked first: what was written before is then seen
            await self._housekeep()
            read = self._fill()
            self._send(producers)
            self._acknowledge()
            waiting = [f for t in self._tracks.values() for f in t.waiting]
            if ending and not read and not waiting:
                return
            if not read:
                await self._wait(waiting)

    def _fill(self) -> bool:
        """Read what is new of every journal, as far as memory allows; whether there was more."""
        for journal in directory.journals(self._root):
            if journal.name not in self._tracks and journal.name not in self._finished:
                self._tracks[journal.name] = Track(journal, self._damaged, next(self._numbers))
        room = _IN_FLIGHT_BYTES - sum(t.pending_bytes for t in self._tracks.values())
        read = False
        for track in self._tracks.values():
            if room <= 0:
                break
            before = track.pending_bytes
            read = track.fill() or read
            room -= track.pending_bytes - before
        return read

    def _send(self, producers: Sequence[Any]) -> None:
        """Let each journal's records go to its producer, which keeps their order."""
        for track in self._tracks.values():
            track.send(producers[track.number % len(producers)], self._settings.topic)

    def _acknowledge(self) -> None:
        for name, track in list(self._tracks.items()):
            for record in track.acknowledge():
                self._progress, self.trouble = time.monotonic(), ""
                self._metrics.events.inc(record.count)
                self._metrics.bytes.inc(len(record.value))
                self._metrics.records.inc()
            if track.finished:
                del self._tracks[name]
                self._finished.add(name)

    async def _wait(self, waiting: list[asyncio.Future[Any]]) -> None:
        """For an answer, or for a moment: new events tell nobody of themselves."""
        if waiting:
            silent = time.monotonic() - self._progress
            if silent > _STALL_SECONDS:
                raise Stalled(f"no answer for {_STALL_SECONDS:.0f} s")
            if silent > _SLOW_SECONDS and not self.trouble:
                self.trouble = f"no answer for {_SLOW_SECONDS:.0f} s"
                log.warning("Kafka: %s; the journals grow meanwhile", self.trouble)
            await asyncio.wait(waiting, timeout=_POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        else:
            self._progress = time.monotonic()
            await asyncio.sleep(_POLL_SECONDS)

    async def _housekeep(self) -> None:
        now = time.monotonic()
        if now - self._housekept < _HOUSEKEEPING_SECONDS:
            return
        self._housekept = now
        if reship.obey(self._root):
            log.info("asked to ship again what is kept")
            self._tracks.clear()
            self._finished.clear()
        if now - self._expired >= _EXPIRE_SECONDS:
            self._expired = now
            settings = self._settings
            keep = settings.journal_keep_hours * 3600
            arguments = (self._root, time.time(), keep, settings.journal_max_bytes)
            removed = await asyncio.to_thread(directory.make_room, *arguments)
            self._metrics.expired.inc(removed)
            self._finished &= {path.name for path in directory.journals(self._root)}

    def _damaged(self, journal: Path, size: int, kept: Path) -> None:
        log.error("%d damaged bytes in journal %s were set aside in %s", size, journal.name, kept)
        self._metrics.quarantined.inc(size)


def _give_memory_back() -> None:
    """What a session's records and producers took. Some of it is in cycles, which would be kept
    for many sessions, and glibc keeps what they leave, in pieces. Without the first it was 40 MB
    more after eleven sessions at 2 s of latency.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # other C libraries have none
        ctypes.CDLL(None).malloc_trim(0)


async def connect(settings: CollectorSettings) -> AIOKafkaProducer:
    """A started producer for a topic that is there; raises one of _FAILURES."""
    if await topic.ensure(settings):
        log.info("topic %s made with %d partitions", settings.topic, settings.topic_partitions)
    producer = AIOKafkaProducer(
        **settings.client_options(),
        enable_idempotence=True,
        acks="all",
        max_batch_size=MAX_RECORD + (64 << 10),
        max_request_size=1 << 20,
        request_timeout_ms=_REQUEST_SECONDS * 1000,
    )
    try:
        await producer.start()
    except BaseException:
        await topic.abandon(producer)
        raise
    return producer


async def _ship(settings: CollectorSettings, health: socket.socket) -> None:
    ended = end_of_service()
    registry = CollectorRegistry()
    metrics = ShipperMetrics(registry)
    shipper = Shipper(settings, lambda: connect(settings), metrics, ended)
    secret = keyring.load(settings.key_file).content.hash_secret
    exchange = Exchange(settings, Sealer(secret))
    metrics.optouts_waiting.set_function(lambda: len(exchange.waiting))

    def state() -> State:
        """Always ready: while Kafka is away, the edge goes on."""
        notes = [f"Kafka: {shipper.trouble}"] if shipper.trouble else []
        if exchange.trouble:
            notes.append(f"opt-outs are not exchanged: {exchange.trouble}")
        return State(notes=tuple(notes))

    runner = await serve_child(health, state, registry)
    shipping = asyncio.create_task(shipper.run())
    exchanging = asyncio.create_task(exchange.run())
    watching = asyncio.create_task(topic.watch(settings, metrics.topic_kept.set))
    ending = asyncio.create_task(ended.wait())
    await asyncio.wait([shipping, ending], return_when=asyncio.FIRST_COMPLETED)
    with contextlib.suppress(TimeoutError, KafkaError):
        async with asyncio.timeout(settings.drain_seconds / 5):
            await shipping
            await exchange.finish()
    exchanging.cancel()
    watching.cancel()
    await asyncio.wait([exchanging, watching], timeout=1.0)
    await runner.cleanup()


def main() -> None:
    """The process."""
    start_logging()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it repeats itself; we tell once
    health = int(sys.argv[1])
    settings = read_settings(CollectorSettings)
    uvloop.run(_ship(settings, socket.socket(fileno=health)))


if __name__ == "__main__":
    main()
