"""Erasing somebody while the line runs and they go on reading."""

import json
import subprocess

from tests.e2e.line import Lines, ask, rows, wait_for


def test_while_up_runs_they_leave_and_stay_away(lines: Lines) -> None:
    up = lines.up()
    pixel = up.curl.split()[-1].strip("'\"")
    reading = ["curl", "-s", "-A", "Qzxwv/5.1 Thunderbird/140.4.0", "-o", "/dev/null", pixel]
    where = ("--data", up.data)
    subprocess.run(reading, check=True, timeout=60)
    wait_for(lambda: len(rows("sql", "SELECT * FROM events", *where)) == 2)
    assert len(json.loads(ask("export", "you", *where))["events"]) == 2
    told = json.loads(ask("erase", "you", "--keep-recording", *where))
    assert (told["events"], told["journal_events"]) == (2, 2)
    for path in (up.data / "journal").rglob("*.seg"):
        assert b'"you"' not in path.read_bytes()
    assert rows("sql", "SELECT * FROM events", *where) == []
    # --keep-recording: what comes from now on is theirs again, and only that, also read once more.
    ask("reship", *where)
    subprocess.run(reading, check=True, timeout=60)
    wait_for(lambda: len(rows("sql", "SELECT * FROM events", *where)) == 1)
    assert len(json.loads(ask("export", "you", *where))["events"]) == 1
    assert sum(row["erased"] for row in json.loads(ask("audit", *where, "--format", "json"))) == 2
    assert up.stop()[0] == 0
