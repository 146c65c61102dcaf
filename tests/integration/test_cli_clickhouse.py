"""The commands against ClickHouse's HTTP interface: migrate, report, sql, audit."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import clickhouse_connect
import pytest

from tests.engine import Engine
from tests.unit.mint_kit import heliograph

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    engine = Engine(tmp_path_factory.mktemp("engine"))
    try:
        assert heliograph("migrate", "--clickhouse", engine.url) == 0
        parts = urlsplit(engine.url)
        client = clickhouse_connect.get_client(host=parts.hostname or "", port=parts.port or 0)
        for seq, kind, recipient in ((1, "sent", "a"), (2, "sent", "b"), (3, "open", "a")):
            client.command(
                "INSERT INTO heliograph.events"
                " (journal, seq, ts, kind, campaign, send, recipient, sent_at, class) VALUES"
                f" ('{'0' * 28}', {seq}, '2026-03-01 09:0{seq}:00', '{kind}', 'spring', 'spring',"
                f" '{recipient}', '2026-03-01 09:00:00', '{'human' if kind == 'open' else ''}')"
            )
        client.close()
        yield engine.url
    finally:
        engine.kill9()


def test_migrating_again_does_nothing(url: str, capsys: Capture) -> None:
    assert heliograph("migrate", "--clickhouse", url) == 0
    assert capsys.readouterr().out == "nothing to do\n"


def test_reports_and_sql(url: str, capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIOGRAPH_CLICKHOUSE", url)
    assert heliograph("report", "--format", "json") == 0
    (row,) = json.loads(capfd.readouterr().out)
    assert (row["recipients"], row["unique_opens"], row["open_rate"]) == (2, 1, 0.5)
    assert heliograph("report", "timeline", "--tz", "Asia/Kolkata", "--format", "csv") == 0
    assert "spring,2026-03-01T14:00:00+05:30,1,0,0,0,0,1" in capfd.readouterr().out
    assert heliograph("sql", "SELECT count() FROM events", "--format", "TSV") == 0
    assert capfd.readouterr().out == "3\n"


@pytest.mark.parametrize(
    "sql",
    ["DROP TABLE events", "INSERT INTO events (seq) VALUES (1)", "TRUNCATE TABLE events",
     "CREATE TABLE t (a Int8) ENGINE = Memory"],
)  # fmt: skip
def test_nothing_can_be_changed(url: str, sql: str, capfd: Capture) -> None:
    assert heliograph("sql", sql, "--clickhouse", url) == 1
    errors = capfd.readouterr().err
    assert "readonly" in errors.lower()
    assert errors.count("\n") == 1
    assert (
        heliograph("sql", "SELECT count() FROM events", "--clickhouse", url, "--format", "TSV") == 0
    )
    assert capfd.readouterr().out == "3\n"


def test_audit_from_the_store_alone(url: str, capsys: Capture) -> None:
    assert heliograph("audit", "--clickhouse", url, "--format", "json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["stored"], row["missing"], row["repeated"]) == (3, 0, 0)


def test_a_person_is_erased(url: str, tmp_path: Path, capfd: Capture) -> None:
    """From the store there, and from the journals here; and is opted out here."""
    parts = urlsplit(url)
    client = clickhouse_connect.get_client(host=parts.hostname or "", port=parts.port or 0)
    columns = "(journal, seq, ts, kind, campaign, recipient)"
    client.command(f"INSERT INTO heliograph.events {columns} SELECT '{'1' * 28}', number + 1, "
                   "now64(3), 'open', 'gone', 'of gone' FROM numbers(3)")  # fmt: skip
    heliograph("key", "new", "--data", tmp_path)
    argv = ("of gone", "--data", tmp_path, "--clickhouse", url)
    capfd.readouterr()
    assert heliograph("erase", *argv, "--dry-run") == 0
    assert json.loads(capfd.readouterr().out)["events"] == 3
    assert heliograph("erase", *argv) == 0
    assert json.loads(capfd.readouterr().out)["events"] == 3
    assert client.query("SELECT count() FROM heliograph.events WHERE recipient = 'of gone'"
                        ).result_rows == [(0,)]  # fmt: skip
    client.close()
    assert heliograph("export", *argv) == 0
    told = json.loads(capfd.readouterr().out)
    assert (told["events"], len(told["erasures"])) == ([], 1)
    assert told["opted_out_since"]


def test_all_of_a_send_is_taken_back(url: str, tmp_path: Path, capsys: Capture) -> None:
    """What was recorded is read from the store; the events go to a journal here."""
    from tests.unit.mint_kit import recorded

    heliograph("key", "new", "--data", tmp_path)
    argv = ("sends", "cancel", "--campaign", "spring", "--data", tmp_path, "--clickhouse", url)
    assert heliograph(*argv) == 0
    assert "2 taken back" in capsys.readouterr().err
    events = recorded(tmp_path)
    assert [(e["kind"], e["recipient"], e["sent_at"]) for e in events] == [
        ("cancelled", "a", 1_772_355_600), ("cancelled", "b", 1_772_355_600),
    ]  # fmt: skip
    assert heliograph(*argv, "--send", "other") == 0
    assert "0 taken back" in capsys.readouterr().err
