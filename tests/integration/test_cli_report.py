"""Reports and SQL over real chDB: values computed by hand, and text of strangers made harmless."""

import csv
import io
import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from collector.journal import Journal
from heliograph import data_dir
from schemas import event
from schemas.journal.directory import journal_id
from tests.unit.mint_kit import heliograph

Capture = pytest.CaptureFixture[str]
EVIL = '\x1b[31m=HYPERLINK("http://evil")[bold]'
FORMULA = "=cmd|' /C calc'!A0"
MAIL = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.4.0"


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def events() -> Iterable[bytes]:
    sent = at("2026-03-01T10:00:00")

    def make(kind: Any, when: str, recipient: str, campaign: str = "spring", **more: Any) -> bytes:
        more = {"send": campaign, "sent_at": sent, "key_id": "abcdef", "method": "GET"} | more
        ts = at(when) * 1000
        return event.event(ts, kind, campaign=campaign, recipient=recipient, **more)

    # spring: 4 recipients by 5 sends (a twice); d's was taken back.
    for name in ("a", "b", "c", "d"):
        yield make("sent", "2026-03-01T10:00:00", name)
    yield make("sent", "2026-03-01T10:00:01", "a", send="second")
    yield make("sent", "2026-03-01T10:00:02", "a")  # recorded again: nothing changes
    yield make("cancelled", "2026-03-01T10:00:03", "d")
    # a opens twice, and once by who knows what; b only clicks, c's was only asked for by HEAD, d
    # opens all the same.
    yield make("open", "2026-03-01T10:20:00", "a", user_agent=MAIL)
    yield make("open", "2026-03-01T12:35:00", "a", user_agent=MAIL)
    yield make("open", "2026-03-02T18:45:00", "a", user_agent=EVIL)
    yield make("click", "2026-03-01T11:10:00", "b", link="https://shop.example/1", user_agent=MAIL)
    yield make("click", "2026-03-01T11:11:00", "b", link="https://shop.example/1", user_agent=MAIL)
    yield make("open", "2026-03-01T11:20:00", "c", method="HEAD")
    yield make("open", "2026-03-01T11:30:00", "d", user_agent=MAIL)
    # two: one recipient without a send, clocks that go back (Berlin, 2026-10-25 at 01:00 UTC).
    yield make("open", "2026-10-25T00:30:00", "x", "two", user_agent=FORMULA, sent_at=0)
    yield make("open", "2026-10-25T01:30:00", "x", "two", user_agent=FORMULA, sent_at=0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    data_dir.prepare(path)
    (path / "journal").mkdir()
    journal = Journal(path / "journal", journal_id(1, bytes(8)), lambda: 1.0)
    assert journal.append(list(events()))
    journal.close()
    return path


@pytest.fixture
def report(data: Path, capsys: Capture) -> Any:
    def ask(*argv: str, format: str = "json") -> Any:
        assert heliograph("report", *argv, "--data", data, "--format", format) == 0
        text = capsys.readouterr().out
        return json.loads(text) if format == "json" else text

    return ask


def test_campaigns(report: Any) -> None:
    spring = {
        "campaign": "spring", "sends": 4, "recipients": 3, "delivered": 3, "hits": 5, "opens": 3,
        "unique_opens": 1, "readers": 2, "clicks": 2, "unique_clicks": 1, "prefetched_only": 0,
        "open_rate": 2 / 3, "open_rate_low": 0.207654955126, "open_rate_high": 0.938509684724,
        "apparent_rate": 2 / 3, "adjusted_base": None, "adjusted_rate": None,
        "adjusted_rate_low": None, "adjusted_rate_high": None,
        "click_to_open_rate": 1 / 2, "confirmed_rate": 1 / 3,
    }  # fmt: skip
    nothing = {name: None if "rate" in name or "base" in name else 0 for name in spring}
    two = nothing | {"campaign": "two", "hits": 2}
    assert [list(row) for row in report()] == [list(spring)] * 2
    assert report("campaigns") == [spring, two]
    assert report("campaigns", "--campaign", "two") == [two]
    assert report("campaigns", "--campaign", "none") == []
    assert report("campaigns", "--campaign", "a\\'\n\t") == []
    assert len(report("campaigns", "--limit", "1")) == 1


def test_rates_are_percent_in_tables_and_fractions_elsewhere(
    data: Path, report: Any, capsys: Capture
) -> None:
    heliograph("report", "--data", data)
    told = capsys.readouterr()
    spring, two = told.out.splitlines()[2:]
    assert re.split("  +", spring.strip()) == [
        "spring", "4", "3", "5", "3", "1", "66.7% (20.8% to 93.9%)", "66.7%", "–", "1", "33.3%",
    ]  # fmt: skip
    assert two.split() == ["two", "0", "0", "2", "0", "0", "–", "–", "–", "0", "–"]
    assert "Neither it nor the apparent one bounds the truth" in told.err
    rows = list(csv.DictReader(io.StringIO(report(format="csv"))))
    assert float(rows[0]["open_rate"]) == pytest.approx(2 / 3)
    assert rows[1]["open_rate"] == ""


def test_those_without_a_send_are_mentioned(data: Path, capsys: Capture) -> None:
    heliograph("report", "--data", data)
    assert "not counted: 2 recipients without a recorded send, with 3 hits" in (
        capsys.readouterr().err
    )
    heliograph("report", "unrecorded", "--data", data, "--format", "json")
    assert json.loads(capsys.readouterr().out) == [
        {"campaign": "spring", "recipients": 1, "hits": 1, "opens": 1, "clicks": 0},
        {"campaign": "two", "recipients": 1, "hits": 2, "opens": 0, "clicks": 0},
    ]


def test_a_campaign_that_is_not_there_is_told_from_one_of_which_there_is_nothing(
    data: Path, capsys: Capture
) -> None:
    told = []
    for name in "sprnig", "two":
        assert heliograph("report", "links", "--campaign", name, "--data", data) == 0
        told.append("there is no campaign 'sprnig'" in capsys.readouterr().err)
    assert told == [True, False]


def test_hours_in_a_half_hour_zone(report: Any) -> None:
    """10:20 and 12:35 UTC are 15:50 and 18:05 in Kolkata; 18:45 the day after is 00:15."""
    rows = report("timeline", "--campaign", "spring", "--tz", "Asia/Kolkata")
    assert [(row["hour"], row["open_hits"], row["recipients"], row["clicks"]) for row in rows] == [
        ("2026-03-01T15:00:00+05:30", 1, 1, 0),
        ("2026-03-01T16:00:00+05:30", 0, 0, 2),  # 16:40 and 16:41
        ("2026-03-01T17:00:00+05:30", 1, 1, 0),  # d at 17:00
        ("2026-03-01T18:00:00+05:30", 1, 1, 0),
        ("2026-03-03T00:00:00+05:30", 0, 0, 0),
    ]
    assert [(row["unknown"], row["scanned"], row["prefetched"]) for row in rows] == [
        (0, 0, 0), (0, 1, 0), (0, 0, 0), (0, 0, 0), (1, 0, 0),
    ]  # fmt: skip
    days = report("timeline", "--by", "day", "--campaign", "spring", "--tz", "Asia/Kolkata")
    assert [(row["day"], row["open_hits"], row["recipients"]) for row in days] == [
        ("2026-03-01", 3, 2), ("2026-03-03", 0, 0),
    ]  # fmt: skip
    utc = report("timeline", "--by", "day", "--campaign", "spring")
    assert [(row["day"], row["open_hits"]) for row in utc] == [("2026-03-01", 3), ("2026-03-02", 0)]


@pytest.mark.parametrize(
    ("zone", "hours"),
    [
        ("Europe/Berlin", ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00"]),
        ("Australia/Lord_Howe", ["2026-10-25T11:00:00+11:00", "2026-10-25T12:00:00+11:00"]),
        ("Asia/Kathmandu", ["2026-10-25T06:00:00+05:45", "2026-10-25T07:00:00+05:45"]),
        ("America/St_Johns", ["2026-10-24T22:00:00-02:30", "2026-10-24T23:00:00-02:30"]),
    ],
)
def test_the_hour_that_comes_twice(report: Any, zone: str, hours: list[str]) -> None:
    rows = report("timeline", "--campaign", "two", "--tz", zone)
    assert [(row["hour"], row["unknown"]) for row in rows] == [(hour, 1) for hour in hours]


def test_who_and_with_what(report: Any) -> None:
    assert report("recipients", "--tz", "Asia/Kolkata") == [
        {
            "campaign": "spring", "recipient": "a", "opens": 2, "clicks": 0,
            "first_open": "2026-03-01T15:50:00+05:30", "last_open": "2026-03-01T18:05:00+05:30",
        }
    ]  # fmt: skip
    assert report("recipients", "--never") == [
        {"campaign": "spring", "recipient": "b", "sends": 1, "clicks": 2, "loaded": 1},
        {"campaign": "spring", "recipient": "c", "sends": 1, "clicks": 0, "loaded": 0},
    ]
    assert report("links") == [
        {"campaign": "spring", "link": "https://shop.example/1", "clicks": 2, "recipients": 1}
    ]
    assert report("delays", "--campaign", "spring") == [
        {"campaign": "spring", "hour": 0, "first_opens": 1, "opened_by_then": 1}
    ]
    assert {tuple(row.values())[1:] for row in report("clients")} == {
        ("Thunderbird", "Linux", "human", 3, 2),
        ("", "", "unknown", 1, 1),
        ("", "", "scanner", 1, 1),
        ("", "", "unknown", 2, 1),
    }


def test_text_of_strangers_is_harmless(data: Path, capsys: Capture) -> None:
    def ask(format: str) -> str:
        sql = "SELECT campaign, user_agent FROM events"
        assert heliograph("sql", sql, "--data", data, "--format", format) == 0
        return capsys.readouterr().out

    shown = ask("table")
    assert "\x1b" not in shown
    assert '\\x1b[31m=HYPERLINK("http://evil")[bold]' in shown, "no markup is obeyed"
    rows = list(csv.reader(io.StringIO(ask("csv"))))
    agents = {row[1] for row in rows}
    assert "'" + FORMULA in agents
    assert not any(agent.startswith("=") for agent in agents)


def test_sql_in_every_format(data: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    def ask(sql: str, format: str) -> bytes:
        assert heliograph("sql", sql, "--data", data, "--format", format) == 0
        return capfdbinary.readouterr().out

    sql = (
        "SELECT 18446744073709551615 AS big, NULL AS nothing, 0.1 + 0.2 AS f, [1, 2] AS l,"
        " 'a\"\nü' AS s, toDate('2026-03-01') AS d, 1 = 1 AS b"
    )
    assert ask(sql, "json") == (
        b'[\n{"big":18446744073709551615,"nothing":null,"f":0.30000000000000004,"l":[1,2],'
        b'"s":"a\\"\\n\xc3\xbc","d":"2026-03-01","b":1}\n]\n'
    )
    assert ask(sql, "csv").decode().splitlines()[1] == (
        '18446744073709551615,,0.30000000000000004,"[1,2]","a""'
    )
    assert ask("SELECT 1 AS a WHERE 0", "json") == b"[]\n"
    assert ask("SELECT 1 AS a WHERE 0", "csv") == b"a\n"
    assert b"18446744073709551615" in ask(sql, "table")
    assert ask("SELECT number FROM numbers(3)", "TSV") == b"0\n1\n2\n"
    assert ask("SELECT 1 AS a FORMAT CSVWithNames", "table") == b'"a"\n1\n'
    parquet = ask("SELECT * FROM events", "Parquet")
    assert (parquet[:4], parquet[-4:]) == (b"PAR1", b"PAR1")
    count = json.loads(ask("SELECT count() AS n FROM events", "json"))
    assert count == [{"n": len(list(events()))}]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELEC 1", "heliograph: "),
        ("SELECT nope FROM events", "Unknown expression"),
        ("DROP TABLE heliograph.events", "Only SELECT"),
        ("INSERT INTO heliograph.events SELECT * FROM heliograph.events", "Only SELECT"),
        ("SELECT 1; DROP TABLE heliograph.events", "heliograph: "),
        ("SELECT file('/etc/hostname')", "not offered"),
        ("SELECT * FROM file('/etc/hostname')", "not offered"),
        ("SELECT 1 INTO OUTFILE '/tmp/x'", "heliograph: "),
        ("SELECT * FROM system.users", "No access"),
        ("SELECT 1 FORMAT Nonsense", "Nonsense"),
    ],
)
def test_a_stopped_store_has_the_same_gate(
    data: Path, capfd: Capture, sql: str, message: str
) -> None:
    assert heliograph("sql", sql, "--data", data) == 1
    errors = capfd.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
    assert "version 2" not in errors


def test_audit_of_a_stopped_store(data: Path, capsys: Capture) -> None:
    assert heliograph("audit", "--data", data, "--format", "json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    total = len(list(events()))
    assert (row["taken"], row["stored"], row["missing"], row["repeated"]) == (total, total, 0, 0)
