"""Bounces, receipts, segments, comparisons and the inactive, by the command line."""

import csv
import io
import json
import time
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from collector.journal import Journal
from consumer.embedded import store_path
from consumer.migrate import migrate
from consumer.retention import Retention
from consumer.settings import ConsumerSettings
from consumer.store import open_embedded
from heliograph import data_dir
from heliograph.cli import main
from schemas import event
from schemas.journal.directory import journal_id
from tests.migrated import migrated
from tests.store import HUMAN
from tests.unit.mint_kit import heliograph

Capture = pytest.CaptureFixture[str]
APPLE, SCANNER = "Mozilla/5.0", "curl/8.5.0"
SAMPLES = Path(__file__).parents[1] / "data" / "receipts"
NOW = int(time.time())
DAY = 86400


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    assert heliograph("key", "new", "--data", path) == 0
    migrated(path / "store")
    return path


def happen(data: Path, bodies: Iterable[bytes]) -> None:
    data_dir.prepare(data)
    (data / "journal").mkdir(exist_ok=True)
    name = journal_id(time.time_ns() // 1_000_000, time.time_ns().to_bytes(8, "big"))
    journal = Journal(data / "journal", name, lambda: 1.0)
    assert journal.append(list(bodies))
    journal.close()


def happened(
    kind: Any, recipient: str, days: float = 1, agent: str = HUMAN, send: str = "s", **more: Any
) -> bytes:
    """An event of so many days ago."""
    at = NOW - int(days * DAY)
    more = {"sent_at": at if kind == "sent" else at - 3600, "key_id": "abcdef"} | more
    if kind in ("open", "click"):
        more |= {"method": "GET", "user_agent": agent}
    return event.event(at * 1000, kind, campaign=send, send=send, recipient=recipient, **more)


def ask(capsys: Capture, data: Path, *argv: object) -> Any:
    capsys.readouterr()
    assert heliograph(*argv, "--data", data, "--format", "json") == 0
    return json.loads(capsys.readouterr().out)


def mint(data: Path, tmp_path: Path, rows: str, *argv: object) -> list[dict[str, str]]:
    (tmp_path / "list.csv").write_text(rows)
    out = tmp_path / "minted.csv"
    where = ("--data", data, "--public-url", "https://px.example.org", "-o", out)
    assert heliograph("mint", tmp_path / "list.csv", *argv, *where) == 0
    return list(csv.DictReader(io.StringIO(out.read_text())))


def test_bounces_of_hashed_recipients(data: Path, tmp_path: Path, capsys: Capture) -> None:
    people = "email\na@x.org\nb@x.org\nc@x.org\n"
    mint(data, tmp_path, people, "--campaign", "c", "--hash-recipients")
    (tmp_path / "bounced.csv").write_text("code,email\n550,b@x.org\n550,nobody@x.org\n")
    for _ in range(2):
        assert heliograph("bounces", tmp_path / "bounced.csv", "--campaign", "c", "--data", data,
                          "--hash-recipients") == 0  # fmt: skip
    (row,) = ask(capsys, data, "report")
    assert (row["sends"], row["recipients"], row["delivered"]) == (3, 3, 2)
    assert heliograph("bounces", "--campaign", "c", "--data", data) == 2


def test_segments_and_mails_without_a_pixel(data: Path, tmp_path: Path, capsys: Capture) -> None:
    people = "id,domain\na,gmail.com\nb,gmail.com\nc,strict.example\nd,plain.example\n"
    rows = mint(data, tmp_path, people.rsplit("d,", 1)[0], "--campaign", "c",
                "--segment-column", "domain")  # fmt: skip
    assert all(row["pixel_html"].startswith("<img") for row in rows)
    (row,) = mint(data, tmp_path, "id,domain\nd,plain.example\n", "--campaign", "c",
                  "--segment-column", "domain", "--no-pixel")  # fmt: skip
    assert (row["pixel_url"], row["pixel_html"]) == ("", "")
    happen(data, [happened("open", "a", 0, send="c", sent_at=NOW - DAY)])
    found = {row["segment"]: row for row in ask(capsys, data, "report", "segments")}
    assert [found[name]["hits"] for name in ("gmail.com", "strict.example")] == [1, 0]
    assert {name: bool(row["flag"]) for name, row in found.items()} == {
        "gmail.com": False, "strict.example": True, "plain.example": False,
    }  # fmt: skip
    assert (found["plain.example"]["sends"], found["plain.example"]["recipients"]) == (1, 0)
    assert found["gmail.com"]["open_rate"] == 0.5


def test_receipts_find_their_send(
    data: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = ["199509192301.23456@example.org", "ORIGINAL123@mail.example.org", "twice@x", "twice@x"]
    rows = [f"r{n}, <{name}> " for n, name in enumerate(ids)]
    mint(data, tmp_path, "\n".join(["id,mid", *rows, ""]), "--campaign", "c",
         "--message-id-column", "mid")  # fmt: skip
    twice = (
        (SAMPLES / "outlook-read.eml")
        .read_bytes()
        .replace(b"ORIGINAL123@mail.example.org", b"twice@x")
    )
    names = ("rfc8098", "outlook-deleted", "cyrus-rejected")
    for raw in [twice, *((SAMPLES / f"{name}.eml").read_bytes() for name in names)]:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(raw)))
        assert heliograph("receipts", "--data", data) == 0
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"Subject: no\n\nreceipt")))
    assert heliograph("receipts", "--data", data) == 1
    assert "this is no read receipt" in capsys.readouterr().err
    found = {(r["recipient"], r["disposition"]) for r in ask(capsys, data, "report", "receipts")}
    assert found == {("r0", "displayed"), ("r1", "deleted"), ("", "deleted"), ("", "displayed")}
    (campaign,) = ask(capsys, data, "report")
    assert (campaign["sends"], campaign["hits"], campaign["open_rate"]) == (4, 0, 0)


def test_two_campaigns_are_compared(data: Path, capsys: Capture) -> None:
    """120 of 400 and 80 of 400 read: 0.3 and 0.2. Newcombe's interval, worked out by hand from
    Wilson's [0.257167, 0.346638] and [0.163736, 0.241971]: 0.040031 to 0.159078."""
    bodies = []
    for name, readers in (("a", 120), ("b", 80), ("few", 2)):
        people = [f"r{n}" for n in range(400 if name != "few" else 8)]
        bodies += [happened("sent", who, 3, send=name) for who in people]
        bodies += [happened("open", who, 2, send=name) for who in people[:readers]]
    happen(data, bodies)
    rows = ask(capsys, data, "report", "compare", "a", "b", "few")
    found = {(row["campaign"], row["other"], row["rate"]): row for row in rows}
    assert len(rows) == 9
    row = found["a", "b", "open_rate"]
    assert row["difference_rate"] == pytest.approx(0.1)
    assert row["difference_rate_low"] == pytest.approx(0.040_031, abs=1e-5)
    assert row["difference_rate_high"] == pytest.approx(0.159_078, abs=1e-5)
    assert [found[pair]["says"] for pair in [
        ("a", "b", "open_rate"), ("a", "few", "open_rate"), ("a", "few", "adjusted_rate"),
        ("a", "b", "confirmed_rate"),
    ]] == ["higher", "no clear difference", "too few to say", "no clear difference"]  # fmt: skip
    swapped = ask(capsys, data, "report", "compare", "b", "a")[0]
    assert (swapped["says"], swapped["difference_rate"]) == ("lower", pytest.approx(-0.1))
    assert heliograph("report", "compare", "a", "--data", data) == 2
    assert heliograph("report", "compare", "a", "none", "--data", data) == 1
    assert "there is no campaign 'none'" in capsys.readouterr().err


def test_the_inactive(data: Path, tmp_path: Path, capsys: Capture) -> None:
    """Each has six sends inside the window, but for those whose name says what they lack."""
    bodies = []

    def six(who: str, *days: float) -> None:
        for number, day in enumerate(days or (10, 20, 30, 40, 50, 60)):
            bodies.append(
                happened("sent", who, day, send=f"s{number}", message_id=f" <{who}{number}>\t")
            )

    for who in ("blocked", "reader", "clicker", "unknown-click", "receipt", "deleted", "denied",
                "apple", "scanned", "before", "", "bounced", "cancelled",
                "other-campaign"):  # fmt: skip
        six(who)
    six("new", 1, 2, 3, 4, 5, 6)
    six("five", 10, 20, 30, 40, 50)
    six("old", 10, 20, 30, 40, 50, 190)
    bodies += [
        happened("open", "reader", 5, send="s3"),
        happened("click", "clicker", 5, send="s3"),
        happened("click", "unknown-click", 5, "what is this", send="s3"),
        happened("open", "apple", 5, APPLE, send="s3"),
        happened("open", "scanned", 5, SCANNER, send="s3"),
        happened("open", "before", 185, send="s0"),
        happened("bounced", "bounced", 5, send="s3"),
        happened("cancelled", "cancelled", 5, send="s3"),
        happened("open", "other-campaign", 5, send="elsewhere"),
        event.event(NOW * 1000, "receipt", campaign="", send="", recipient="", key_id="",
                    message_id="receipt2", detail="displayed"),
        event.event(NOW * 1000, "receipt", campaign="", send="", recipient="", key_id="",
                    message_id="deleted2", detail="deleted"),
        event.event(NOW * 1000, "receipt", campaign="", send="", recipient="", key_id="",
                    message_id="denied2", detail="denied"),
    ]  # fmt: skip
    happen(data, bodies)

    def listed(*argv: object) -> dict[str, str]:
        out = tmp_path / "inactive.csv"
        assert heliograph("inactive", "--data", data, "-o", out, *argv) == 0
        return {
            row["recipient"]: row["note"] for row in csv.DictReader(io.StringIO(out.read_text()))
        }

    blocked = "images may be blocked"
    assert listed() == dict.fromkeys(("blocked", "deleted"), blocked)
    more = listed("--include-undecidable")
    assert {name for name, note in more.items() if note != blocked} == {
        "apple", "scanned", "before",
    }  # fmt: skip
    assert set(listed("--min-sends", 5)) == {
        "blocked", "deleted", "bounced", "cancelled", "five", "old",
    }  # fmt: skip
    assert not {"reader", "before"} & listed("--since", "365d").keys()
    capsys.readouterr()
    assert heliograph("inactive", "--data", data) == 0
    counts = [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:]]
    assert counts == ["11", "6", "2", "3"], "a dry run only counts"


def keeping(data: Path, **settings: Any) -> None:
    """As `up` begins with these settings."""
    client = open_embedded(store_path(data))
    migrate(client, "heliograph")
    Retention.of(ConsumerSettings(**settings)).apply(client, "heliograph")
    client.close()


def test_a_window_longer_than_the_retention_is_refused(data: Path, capsys: Capture) -> None:
    happen(data, [happened("sent", "a", 1)])
    keeping(data, retention_days=90)
    assert heliograph("inactive", "--data", data) == 2
    assert "longer than the 90 days that events are kept" in capsys.readouterr().err
    assert heliograph("inactive", "--data", data, "--since", "90d") == 0
    for wrong in ("7d", "x", "-5d", "180"):
        assert main(["inactive", "--data", str(data), f"--since={wrong}"]) == 2
