"""The SQL port that `up` prints, asked as its users ask it."""

import io
import json
import subprocess
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import clickhouse_connect
import pyarrow.parquet
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from tests.e2e.line import HELIOGRAPH, Lines, Up, environment, rows, run, wait_for

COUNT = "SELECT count() FROM events WHERE kind = 'open'"


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A line with two opens counted; to be asked, and never changed."""
    lines = Lines(tmp_path_factory.mktemp("sql"))
    found: Up = lines.up()
    found.open()
    found.open()
    wait_for(lambda: found.hits() == 2)
    everything = ("sql", "SELECT count() AS n FROM events", "--data", found.data)
    wait_for(lambda: rows(*everything)[0]["n"] == 3)  # and the send
    yield found
    assert found.stop()[0] == 0
    lines.close()


def curl(*words: str) -> tuple[int, str]:
    """Status and body."""
    command = ["curl", "-s", "-m", "60", "-w", "\n%{http_code}", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def test_curl(up: Up) -> None:
    quoted = urllib.parse.quote(COUNT)
    assert curl(f"{up.sql}/?query={quoted}") == (200, "2\n")
    status, body = curl(up.sql, "--data-binary", f"{COUNT} FORMAT JSON")
    assert (status, json.loads(body)["data"]) == (200, [{"count()": 2}])
    asked = "SELECT count() FROM events WHERE kind = {kind:String}"
    assert curl(f"{up.sql}/?param_kind=open", "-d", asked) == (200, "2\n")
    assert curl(f"{up.sql}/ping") == (200, "Ok.\n")


def test_clickhouse_connect(up: Up) -> None:
    parts = urlsplit(up.sql)
    client = clickhouse_connect.get_client(host=parts.hostname, port=parts.port)
    assert client.query(COUNT).result_rows == [(2,)]
    found = client.query("SELECT campaign, hits, open_rate FROM campaigns").result_rows
    assert found == [("demo", 2, 1.0)]
    with pytest.raises(DatabaseError):
        client.insert("events", [["x"]], column_names=["journal"])
    client.close()


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO events (journal) VALUES ('x')",
        "INSERT INTO FUNCTION file('x.csv') SELECT 1",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
        "SELECT 1 INTO OUTFILE 'x.csv'",
        "SELECT 1; DROP TABLE events",
        "DROP TABLE events",
        "ALTER TABLE events DELETE WHERE 1",
        "SET readonly = 0",
        "KILL QUERY WHERE 1",
    ],
)
def test_nothing_but_questions(up: Up, sql: str, tmp_path: Path) -> None:
    status, body = curl(up.sql, "--data-binary", sql)
    assert status >= 400, body
    assert "root:" not in body
    told = run("sql", sql, "--data", up.data)
    assert told.returncode == 1
    assert told.stderr.startswith("heliograph: ")
    assert "Traceback" not in told.stderr
    assert up.hits() == 2
    assert not list(tmp_path.rglob("x.csv"))


def parquet(data: Path) -> pyarrow.Table:
    """What `sql --format Parquet` writes."""
    words = ("sql", "SELECT kind, ts, recipient FROM events ORDER BY kind, ts")
    done = subprocess.run(
        [HELIOGRAPH, *words, "--format", "Parquet", "--data", data],
        capture_output=True,
        check=True,
        env=environment(),
    )
    return pyarrow.parquet.read_table(io.BytesIO(done.stdout))


def test_parquet(up: Up) -> None:
    table = parquet(up.data)
    assert table.column_names == ["kind", "ts", "recipient"]
    assert [str(kind) for kind in table["kind"].to_pylist()] == ["open", "open", "sent"]
    assert table["recipient"].to_pylist() == ["you"] * 3


def test_only_the_owner_asks_without_the_port_s_bounds(up: Up) -> None:
    many = "SELECT number FROM numbers(1500000)"
    answer = run("sql", many, "--format", "CSV", "--data", up.data)
    assert answer.stdout.count("\n") == 1_500_000
    assert (up.data / "sql.key").stat().st_mode & 0o777 == 0o600
    for stranger in ((), ("-H", "X-Heliograph-Owner:"), ("-H", "X-Heliograph-Owner: 00")):
        status, body = curl(up.sql, *stranger, "-d", many)
        assert status == 500
        assert "Limit for result exceeded" in body


def test_parquet_of_a_stopped_line(lines: Lines) -> None:
    other = lines.up()
    other.open()
    other.kill9()  # what the journal holds is taken in first
    assert parquet(other.data)["recipient"].to_pylist() == ["you"] * 2


def test_half_hour_zones(up: Up) -> None:
    (event,) = rows("sql", "SELECT min(ts) AS first FROM events WHERE kind = 'open'", "--data",
                    up.data)  # fmt: skip
    first = datetime.fromisoformat(event["first"]).replace(tzinfo=UTC)
    there = first.astimezone(ZoneInfo("Asia/Kolkata")).replace(minute=0, second=0, microsecond=0)
    found = rows("report", "timeline", "--tz", "Asia/Kolkata", "--data", up.data)
    assert found[0]["hour"] == there.isoformat(timespec="seconds")
    assert sum(int(row["open_hits"]) for row in found) == 2
