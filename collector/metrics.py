"""Every metric of the collector: its name once, its meaning beside it."""

from collections.abc import Iterable
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from collector.group_commit import GroupCommit
from collector.journal import LOSSES
from collector.keys import Keys
from collector.optouts import Optouts
from schemas.token import Purpose

disable_created_metrics()  # type: ignore[no-untyped-call]

#: Why a hit on a pixel or a link was not recorded; "recorded" where it was given to the journal.
#: off: the consent mode keeps nothing. unread: who has opted out is not known yet. excess: more
#: anonymous ones than a minute may have.
RESULTS: Final = (
    "recorded", "off", "opted_out", "unread", "excess", "malformed", "unknown_key", "forged",
    "content",
)  # fmt: skip


class EdgeMetrics(Collector):
    """What a worker counts while it answers. `hits` are plain numbers, for they are on the hot
    path: answered requests by kind and by what became of them.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        purposes: tuple[Purpose, ...] = ("open", "click")
        self.hits = {(kind, result): 0 for kind in purposes for result in RESULTS}
        registry.register(self)
        sends = Counter(
            "heliograph_sends",
            "Lines of POST /v1/sends: recorded, refused for a reason given, or not storable",
            ["result"],
            registry=registry,
        )
        self.sends = {name: sends.labels(name) for name in ("recorded", "refused", "lost")}
        self.bad_requests = Counter(
            "heliograph_bad_requests",
            "Requests refused for their Host header or for a body where none belongs",
            registry=registry,
        )

    def collect(self) -> Iterable[Metric]:
        """The hits so far."""
        hits = CounterMetricFamily(
            "heliograph_hits",
            "Answered requests to pixels and links, by kind and by what became of them",
            labels=["kind", "result"],
        )
        for labels, count in self.hits.items():
            hits.add_metric(labels, count)
        yield hits


def hung_workers(registry: CollectorRegistry) -> Counter:
    """What the supervisor counts: see `watch`."""
    told = "Workers that were killed because they ran, but did not answer"
    return Counter("heliograph_workers_hung", told, registry=registry)


class JournalMetrics(Collector):
    """What the journal and the keys know of themselves, read when asked."""

    def __init__(self, commit: GroupCommit, keys: Keys, max_bytes: int) -> None:
        self._commit = commit
        self._keys = keys
        self._max_bytes = max_bytes

    def collect(self) -> Iterable[Metric]:
        """The families at this moment."""
        journal = self._commit.journal
        yield CounterMetricFamily(
            "heliograph_journal_events", "Events written to this journal", journal.written
        )
        lost = CounterMetricFamily(
            "heliograph_events_lost",
            "Events answered but not written: journal at its cap, disk full, disk failing, closed",
            labels=["reason"],
        )
        for reason in LOSSES:
            lost.add_metric([reason], journal.lost[reason])
        yield lost
        yield GaugeMetricFamily(
            "heliograph_journal_bytes", "Bytes of all journals on disk", journal.used
        )
        yield GaugeMetricFamily(
            "heliograph_journal_max_bytes", "The most that journals may take", self._max_bytes
        )
        yield CounterMetricFamily(
            "heliograph_journal_sync_failures",
            "Failed fdatasync calls",
            self._commit.sync_failures,
        )
        yield GaugeMetricFamily(
            "heliograph_key_file_ok",
            "0 while the key file cannot be read and older keys are in use",
            0 if self._keys.trouble else 1,
        )


class OptoutMetrics(Collector):
    """What a worker knows of opt-outs, read when asked."""

    def __init__(self, optouts: Optouts) -> None:
        self._optouts = optouts

    def collect(self) -> Iterable[Metric]:
        """The families at this moment."""
        yield GaugeMetricFamily(
            "heliograph_opted_out", "Recipients that have opted out", self._optouts.recipients.count
        )
        yield CounterMetricFamily(
            "heliograph_optouts_damaged", "Lines of the opt-outs' file that are no entries",
            self._optouts.damaged,
        )  # fmt: skip


class ShipperMetrics:
    """What the shipper counts; the lags are asked of it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        self.connected = gauge(
            "heliograph_kafka_connected",
            "1 while the shipper has a producer and the topic is there",
        )
        self.events = counter("heliograph_shipped_events", "Events acknowledged by Kafka")
        self.bytes = counter("heliograph_shipped_bytes", "Bytes acknowledged by Kafka")
        self.records = counter("heliograph_shipped_records", "Records acknowledged by Kafka")
        self.failures = counter(
            "heliograph_ship_failures",
            "Times shipping had to begin anew at the last acknowledged position",
        )
        self.quarantined = counter(
            "heliograph_quarantined_bytes",
            "Damaged bytes of journals, set aside in DATA/quarantine",
        )
        self.expired = counter(
            "heliograph_expired_segments",
            "Segments deleted after they were shipped and kept",
        )
        self.lag_events = gauge("heliograph_lag_events", "Events in journals not acknowledged yet")
        self.lag_seconds = gauge(
            "heliograph_lag_seconds",
            "Age of the oldest event not acknowledged yet (0: none)",
        )
        self.topic_kept = gauge(
            "heliograph_topic_kept_seconds",
            "How long the topic keeps an event at most, by its retention.ms and segment.ms",
        )
        self.optouts_waiting = gauge(
            "heliograph_optouts_waiting",
            "Opt-outs of this machine that Kafka has not acknowledged",
        )
