"""Retention by kind: set, changed, lifted; what is older goes, and nothing else."""

import time

import pytest
from clickhouse_connect.driver.client import Client

from consumer.audit import audit
from consumer.retention import Retention
from consumer.settings import ConsumerSettings
from consumer.store import execute, rows
from tests.store import NOW, batch, block, body, client, writer

__all__ = ["client"]
MUTATIONS = "SELECT count() FROM system.mutations WHERE table IN ('events', 'dead_letter')"


def of(*texts: str, days: int = 0) -> Retention:
    return Retention.of(ConsumerSettings(retention=texts, retention_days=days))


def test_it_is_set_once_changed_and_lifted(client: Client) -> None:
    everything = ("sent", "cancelled", "bounced", "open", "click", "receipt")
    for kept, days, dead in (
        (of(days=30), dict.fromkeys(everything, 30), 30),
        (of("open=5d", "click=0d", "dead_letter=7d", days=30),
         {**dict.fromkeys(everything, 30), "open": 5}, 7),
        (of("open=400d"), {"open": 400}, 30),
        (of("dead_letter=0d"), {}, 0),
    ):  # fmt: skip
        kept.apply(client, "heliograph")
        found = Retention.stored(client, "heliograph")
        expected = {k: d for k, d in days.items() if (k, dead) != ("click", 7)}
        assert (dict(found.days), found.dead_letter) == (expected, dead)
        before = rows(client, MUTATIONS)
        kept.apply(client, "heliograph")
        assert rows(client, MUTATIONS) == before, "only if it must"


def test_what_is_older_goes_and_the_audit_knows(client: Client) -> None:
    now = int(time.time())
    kinds = ("sent", "open", "click", "optout")
    old = [body(kind, ts=(now - 20 * 86400) * 1000, campaign="c") for kind in kinds]
    writer(client).write(batch(block([*old, b"no event\n", body(ts=now * 1000)])))
    kept = of("open=10d", "dead_letter=1d", days=30)
    kept.apply(client, "heliograph")
    for table in ("events", "dead_letter"):
        execute(client, f"OPTIMIZE TABLE heliograph.{table} FINAL")
    left = rows(client, "SELECT kind, toUInt8(seq) FROM heliograph.events ORDER BY seq")
    assert left == [("sent", 1), ("click", 3), ("optout", 4), ("open", 6)]
    assert rows(client, "SELECT raw, reason, seq FROM heliograph.dead_letter") == [("", "", 5)]
    hours = "SELECT kind, count() FROM heliograph.events GROUP BY campaign, kind ORDER BY kind"
    assert rows(client, hours) == rows(client, f"{hours} SETTINGS optimize_use_projections = 0")
    made = writer(client, retention=kept)
    made._clock = lambda: float(now)
    made.write(batch(block([*old, b"no event\n", body(ts=now * 1000)])))
    assert rows(client, "SELECT count() FROM heliograph.events") == [(4,)]
    (told,) = audit(client, "heliograph", retention_days=kept.shortest)
    assert (told.sound, told.expired) == (True, 1)


@pytest.mark.parametrize(
    "text", ["open", "open=5", "open=-1d", "hit=5d", "open=9999d", "=5d", "open=3d,open=4d"]
)
def test_what_is_no_retention_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="retention"):
        of(*text.split(","))


def test_opt_outs_stay(client: Client) -> None:
    assert "optout" not in of(days=30).days
    assert of().young(NOW) == "1"
