"""The load scenario against the real edge: every pixel that locust saw answered is a row."""

import csv
import json
import subprocess
import sys
from pathlib import Path

from loadtest import traffic
from tests.e2e.line import Lines, ask, environment, rows, run

ROOT = Path(__file__).parents[2]
USERS = 8


def locust(urls: Path, seconds: int) -> int:
    """Run the scenario; how many requests were answered, none of them wrongly."""
    done = subprocess.run(
        [*(sys.executable, "-m", "locust", "-f", ROOT / "loadtest/locustfile.py", "--headless"),
         *("--users", str(USERS), "--spawn-rate", str(USERS), "--run-time", f"{seconds}s"),
         "--json"],
        capture_output=True, text=True, timeout=60,
        env=environment(HELIOGRAPH_LOADTEST_URLS=str(urls)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (entry,) = json.loads(done.stdout)
    assert entry["num_failures"] == 0
    return int(entry["num_requests"])


def test_every_answered_pixel_is_a_row(lines: Lines, tmp_path: Path) -> None:
    data, where = tmp_path / "data", ("--data", tmp_path / "data")
    up = lines.up("--workers", 2)
    listed, urls = tmp_path / "list.csv", tmp_path / "minted.csv"
    listed.write_text("id\n" + "".join(f"r{n}\n" for n in range(500)))
    ask("mint", "--campaign", "load", listed, "-o", urls, *where)
    answered = locust(urls, 5)
    assert up.stop()[0] == 0

    (count,) = rows("sql", "SELECT count() AS n, uniqExact(journal, seq) AS unique, "
                    "uniqExact(journal) AS journals FROM events "
                    "WHERE campaign = 'load' AND kind = 'open'", *where)  # fmt: skip
    print(f"{answered} answered, {count['n']} stored, by {count['journals']} workers")
    # Those in flight when locust stops are answered, and not counted by it.
    assert answered <= int(count["n"]) <= answered + USERS
    assert (count["unique"], count["journals"]) == (count["n"], 2)
    (load,) = rows("report", "campaigns", "--campaign", "load", *where)
    assert (load["sends"], load["hits"]) == (500, count["n"])
    assert load["open_rate"] <= 1
    agents = rows("report", "clients", "--campaign", "load", *where)
    with traffic.AGENTS.open(newline="") as file:
        known = {row["user_agent"] for row in csv.DictReader(file)}
    assert agents
    seen = rows("sql", "SELECT DISTINCT user_agent FROM events WHERE kind = 'open'", *where)
    assert {row["user_agent"] for row in seen} <= known
    assert run("audit", "--data", data).returncode == 0
