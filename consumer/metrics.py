"""The consumer's metrics: every name once, with what it means."""

import time
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from consumer.writer import Outcome

#: The loop is taken for stuck when it has not come round for this long, in seconds. A batch is
#: several statements, and each may take as long as the store's time limit.
STUCK: Final = 600.0


class Metrics:
    """Counters of one consumer process, and what its health is judged by."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.events = Counter(
            "heliograph_consumer_events", "events verified in the store", registry=r
        )
        self.dead = Counter(
            "heliograph_consumer_dead_letters", "lines that are no event", registry=r
        )
        self.batches = Counter("heliograph_consumer_batches", "batches committed", registry=r)
        self.blocks = Counter("heliograph_consumer_blocks", "blocks committed", registry=r)
        self.rejoins = Counter("heliograph_consumer_rejoins", "times fenced or cut off", registry=r)
        self.troubles = Counter(
            "heliograph_consumer_troubles", "failed tries of a batch", registry=r
        )
        self.revised = Counter(
            "heliograph_consumer_revised_hits",
            "hits whose verdict was revised for what came beside them",
            ["old", "new"],
            registry=r,
        )
        self.damaged = Counter("heliograph_journal_damaged_bytes", "bytes set aside", registry=r)
        self.freshness = Gauge(
            "heliograph_consumer_delay_seconds",
            "age of the last batch's first event when it was committed",
            registry=r,
        )  # fmt: skip
        self.lag = Gauge(
            "heliograph_consumer_lag_records",
            "records known to be in the topic and not yet taken from it",
            registry=r,
        )
        self.missed = Counter(
            "heliograph_consumer_missed_records",
            "records that Kafka had removed before this group counted them",
            registry=r,
        )
        self.trouble = ""
        self.source_trouble = ""
        self.started = False
        self._turned_at = time.monotonic()

    def wrote(self, outcome: Outcome, blocks: int) -> None:
        """A batch is committed."""
        self.events.inc(outcome.events)
        self.dead.inc(outcome.dead)
        self.batches.inc()
        self.blocks.inc(blocks)
        if outcome.first_ts:
            self.freshness.set(max(0.0, time.time() - outcome.first_ts / 1000))

    def in_trouble(self, reason: str) -> None:
        """The store failed, or (with no reason) works again."""
        self.trouble = reason
        if reason:
            self.troubles.inc()
            self._turned_at = time.monotonic()  # trying again is not being stuck

    def source_in_trouble(self, reason: str) -> None:
        """The source cannot be reached, or (with no reason) is there."""
        self.source_trouble = reason
        self._turned_at = time.monotonic()

    def turned(self) -> None:
        """The loop came round."""
        self.started = True
        self._turned_at = time.monotonic()

    def stuck(self) -> bool:
        """Whether the loop has stopped moving."""
        return time.monotonic() - self._turned_at > STUCK
