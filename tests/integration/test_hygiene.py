"""Hygiene mode: of hits the date of the last open is left, and what is told is no wrong number."""

import csv
import io
import time
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from consumer.audit import audit
from consumer.erasures import Erasures
from consumer.migrate import migrations, render
from consumer.retention import Retention
from consumer.settings import ConsumerSettings
from consumer.store import execute, rows
from tests.integration.test_cli_lists import NOW as IMPORTED
from tests.integration.test_cli_lists import ask, data, happen, happened, keeping
from tests.integration.test_erase import holds
from tests.store import HUMAN, NOW, batch, block, body, client, writer
from tests.unit.mint_kit import heliograph

__all__ = ["client", "data"]
ON = Retention.of(ConsumerSettings(hygiene=True))
APPLE, SCANNER = "Mozilla/5.0", "curl/8.5.0"
DAY = 86_400
DATES = "SELECT recipient, toString(max(day)) FROM heliograph.last_opens GROUP BY 1 ORDER BY 1"


def day(at: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at))


def at(days: float, kind: str = "open", **fields: object) -> bytes:
    return body(kind, ts=int((NOW - days * DAY) * 1000), **fields)


def test_the_last_date_stays_whatever_comes_again(client: Client) -> None:
    """Also of what is too old to be stored, and of nobody who is anonymous or opted out."""
    made = writer(client, retention=ON)
    early = [
        at(40, recipient="reader"),
        at(3, recipient="reader"),
        at(0, recipient="reader", user_agent=APPLE),
        at(2, recipient="apple", user_agent=APPLE),
        at(2, recipient="scanned", user_agent=SCANNER),
        at(2, "click", recipient="clicker"),
        at(2, recipient="", consent="anonymous"),
        at(9, "optout", campaign="", send="", recipient="out"),
        at(2, "sent", recipient="unseen"),
    ]
    made.write(batch(block(early)))
    late = [at(0.5, recipient="reader"), at(30, recipient="reader"), at(1, recipient="out")]
    nothing = "1970-01-01"
    for _ in range(2):
        made.write(batch(block(late, 10)))
        made.write(batch(block(early)))
    assert rows(client, DATES) == [
        ("apple", nothing), ("clicker", nothing), ("reader", day(NOW - DAY // 2)),
        ("scanned", nothing),
    ]  # fmt: skip
    stored = "SELECT toUInt8(seq) FROM heliograph.events WHERE kind IN ('open', 'click') ORDER BY 1"
    assert rows(client, stored) == [(3,), (10,)]
    (told,) = audit(client, "heliograph", retention_days=ON.shortest)
    assert (told.sound, told.stored, told.expired) == (True, 4, 8)
    execute(client, "OPTIMIZE TABLE heliograph.last_opens FINAL")
    assert rows(client, "SELECT count() FROM heliograph.last_opens") == [(4,)], "one date each"


def test_an_existing_store_keeps_the_dates_and_its_files_no_hit(
    client: Client, tmp_path: Path
) -> None:
    now, referer = int(time.time()), "https://wvkpqzxj.example/"
    months = [
        body(kind, ts=(now - days * DAY) * 1000, recipient="reader", **more)
        for days in (90, 45, 2)
        for kind, more in (
            ("sent", {}), ("open", {"referer": referer}), ("click", {"link": "https://x/1"}),
        )
    ]  # fmt: skip
    made = writer(client)
    made.write(batch(block(months)))
    made.write(batch(block([body(ts=now * 1000, recipient="young", user_agent=HUMAN)], 10)))
    assert holds(tmp_path / "store", "wvkpqzxj")
    execute(client, "ALTER TABLE heliograph.events MODIFY SETTING old_parts_lifetime = 1")
    ON.apply(client, "heliograph")
    assert Retention.stored(client, "heliograph") == ON
    deadline = time.monotonic() + 60
    while holds(tmp_path / "store", "wvkpqzxj"):
        assert time.monotonic() < deadline, "the engine rewrites the parts"
        time.sleep(0.2)
    left = "SELECT recipient, kind, count() FROM heliograph.events GROUP BY ALL ORDER BY ALL"
    assert rows(client, left) == [("reader", "sent", 3), ("young", "open", 1)]
    dates = [("reader", day(now - 2 * DAY)), ("young", day(now))]
    assert rows(client, DATES) == dates
    mutations = "SELECT count() FROM system.mutations"
    before = rows(client, mutations)
    ON.apply(client, "heliograph")
    assert (rows(client, mutations), rows(client, DATES)) == (before, dates)
    (told,) = audit(client, "heliograph", retention_days=1)
    assert (told.sound, told.expired) == (True, 6)
    # Turned off, hits are kept again, and what is known stays known.
    Retention().apply(client, "heliograph")
    assert Retention.stored(client, "heliograph") == Retention()
    assert rows(client, DATES) == dates


def listed(data: Path, out: Path, *argv: object) -> set[str]:
    assert heliograph("inactive", "--min-sends", 2, "-o", out, "--data", data, *argv) == 0
    return {row["recipient"] for row in csv.DictReader(io.StringIO(out.read_text()))}


def test_what_the_commands_say(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Erasures, "_forget_parts", lambda *_: None)  # which test_erase waits for
    keeping(data, hygiene=True)
    names = "reader", "apple", "clicker", "long-ago", "silent"
    sends: list[Any] = [
        happened("sent", who, days, send=f"s{days}") for who in names for days in (20, 300)
    ]
    hits = [
        happened("open", "reader", 5), happened("open", "apple", 5, APPLE),
        happened("click", "clicker", 5), happened("open", "long-ago", 200),
    ]  # fmt: skip
    happen(data, [*sends, *hits])
    out = tmp_path / "inactive.csv"
    assert listed(data, out, "--since", "365d", "--include-undecidable") == {
        "apple", "clicker", "silent",
    }  # fmt: skip
    assert listed(data, out, "--since", "365d") == {"silent"}
    assert "hygiene mode" in capsys.readouterr().err
    assert heliograph("report", "--data", data) == 1
    assert "`report campaigns` cannot be told" in capsys.readouterr().err
    assert heliograph("reclassify", "--data", data) == 0
    assert "dates of last opens stay" in capsys.readouterr().err
    assert {row["kind"]: row["days"] for row in ask(capsys, data, "retention")} == {
        "send": None, "open": 1, "click": 1, "receipt": 1, "last_open": None, "dead_letter": 30,
        "optout": None,
    }  # fmt: skip
    whole = ask(capsys, data, "export", "long-ago")
    assert whole["last_open"] == [day(IMPORTED - 200 * DAY)]
    assert [row["kind"] for row in whole["events"]] == ["sent", "sent"]
    assert ask(capsys, data, "export", "apple")["last_open"] == [
        f"none by a person; something else in {day(IMPORTED - 5 * DAY)[:7]} or before"
    ]
    assert heliograph("erase", "long-ago", "--data", data) == 0
    assert '"last_open": true' in capsys.readouterr().out
    happen(data, [happened("open", "long-ago", 0), happened("open", "reader", 0)])
    whole = ask(capsys, data, "export", "long-ago")
    assert (whole["events"], whole["last_open"]) == ([], [])
    assert heliograph("audit", "--data", data) == 0


def test_the_dates_end(client: Client) -> None:
    """By the open, and where there was none by the month of what else was seen."""
    now = int(time.time())
    for kept in (
        Retention.of(ConsumerSettings(hygiene=True, retention=("last_open=100d", "send=900d"))),
        Retention.of(ConsumerSettings(hygiene=True, retention_days=100)),
    ):
        kept.apply(client, "heliograph")
        assert Retention.stored(client, "heliograph") == kept
        assert (kept.last_open, kept.window) == (100, 100)
        mutations = rows(client, "SELECT count() FROM system.mutations")
        kept.apply(client, "heliograph")
        assert rows(client, "SELECT count() FROM system.mutations") == mutations, "only if it must"
    seen = ((40, HUMAN), (150, HUMAN), (40, APPLE), (150, APPLE))
    bodies = [
        body(ts=(now - days * DAY) * 1000, recipient=f"{agent[-3:]}{days}", user_agent=agent)
        for days, agent in seen
    ]
    writer(client, retention=kept, clock=time.time).write(batch(block(bodies)))
    execute(client, "OPTIMIZE TABLE heliograph.last_opens FINAL")
    assert rows(client, DATES) == [
        (f"{APPLE[-3:]}40", "1970-01-01"), (f"{HUMAN[-3:]}40", day(now - 40 * DAY)),
    ]  # fmt: skip
    ON.apply(client, "heliograph")
    assert Retention.stored(client, "heliograph") == ON


def test_entries_of_before_they_could_end_are_as_of_the_upgrade(client: Client) -> None:
    execute(client, "ALTER TABLE heliograph.last_opens DROP COLUMN seen")
    execute(client, "INSERT INTO heliograph.last_opens VALUES ('a', 0), ('b', today() - 150)")
    for statement in render(
        next(m.text for m in migrations(cluster=False) if m.number == 26), "heliograph", ""
    ):
        execute(client, statement)
    kept = ConsumerSettings(hygiene=True, retention=("last_open=100d",))
    Retention.of(kept).apply(client, "heliograph")
    execute(client, "OPTIMIZE TABLE heliograph.last_opens FINAL")
    assert rows(client, "SELECT recipient, seen = today() FROM heliograph.last_opens") == [
        ("a", 1), ("b", 1),
    ]  # fmt: skip


def test_a_retention_of_hits_contradicts_it() -> None:
    with pytest.raises(ValueError, match="hygiene keeps"):
        ConsumerSettings(hygiene=True, retention=("open=400d",))
    kept = Retention.of(ConsumerSettings(hygiene=True, retention=("send=9d",)))
    assert (kept.days["sent"], kept.days["open"], kept.window) == (9, 1, 9)
