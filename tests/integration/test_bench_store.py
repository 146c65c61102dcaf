"""The store's section of the bench, and what its generator makes, counted another way."""

from collections import defaultdict
from pathlib import Path

from clickhouse_connect.driver.client import Client

from consumer.audit import audit
from consumer.store import rows
from loadtest.bench import store
from loadtest.generate import Generator, Plan
from tests.store import client

__all__ = ["client"]
PLAN = Plan(30_000, 40, days=60)


def test_the_section_has_all_its_figures(tmp_path: Path) -> None:
    found = list(store.figures(tmp_path, quick=True))
    assert len(found) == 44
    assert all(figure.measured[0].isdigit() for figure in found)


def test_what_is_generated_is_sound_and_counts_as_python_counts(client: Client) -> None:
    Generator(client, "heliograph", PLAN, lambda _: None).run()
    journals = audit(client, "heliograph")
    assert sum(journal.stored for journal in journals) == PLAN.events
    assert all(journal.sound for journal in journals)
    assert len(journals) > 400
    backwards = (
        "SELECT count() FROM (SELECT ts < lagInFrame(ts, 1, ts) OVER (PARTITION BY journal "
        "ORDER BY seq ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS b FROM heliograph.events) "
        "WHERE b"
    )
    assert rows(client, backwards) == [(0,)]
    sends: dict[tuple[str, str, str], tuple[int, bool]] = {}
    opened, clicked = defaultdict(set), defaultdict(set)
    every = "SELECT campaign, send, recipient, kind, class, toUnixTimestamp64Milli(ts) FROM "
    for campaign, send, who, kind, class_, ts in rows(client, every + "heliograph.events"):
        if kind in ("sent", "cancelled"):
            key = (campaign, send, who)
            sends[key] = max(sends.get(key, (0, False)), (ts, kind == "cancelled"))
        elif class_ == "human" or (kind, class_) == ("open", "proxy"):
            (opened if kind == "open" else clicked)[campaign].add(who)
    people = defaultdict(set)
    for (campaign, _, who), (_, taken_back) in sends.items():
        if not taken_back:
            people[campaign].add(who)
    told = "SELECT campaign, recipients, unique_opens, unique_clicks, open_rate FROM "
    found = rows(client, told + "heliograph.campaigns WHERE recipients > 0 ORDER BY campaign")
    assert found == [
        (c, len(p), len(p & opened[c]), len(p & clicked[c]),
         len(p & (opened[c] | clicked[c])) / len(p))
        for c, p in sorted(people.items())
    ]  # fmt: skip
    hourly = rows(client, "SELECT sum(open_hits), sum(clicks) FROM heliograph.activity")
    plain = "SELECT countIf(kind = 'open'), countIf(kind = 'click' AND class = 'human') FROM "
    where = "heliograph.events WHERE class IN ('human', 'proxy')"
    assert hourly == rows(client, plain + where)
