"""The store: what reports cost on 10 and 100 million events, side by side, and an event at rest.

The events are made by `loadtest.generate`. Each query is the text that the command line sends, on
a connection of its own process to a warm store; the first run, on cold caches of the engine (the
page cache is warm), is told apart. Times are medians with their range.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, Final

import chdb

from consumer.store import open_embedded, rows
from loadtest.bench.figures import Figure, middle
from loadtest.generate import Generator, Plan
from schemas.files import write_whole

SECTION: Final = "Store"
_RUNS: Final = 9
_TYPICAL: Final = """
SELECT campaign FROM events GROUP BY campaign
ORDER BY abs(toInt64(count()) - {size:Int64}), campaign LIMIT 1
"""
_LARGEST: Final = "SELECT campaign FROM events GROUP BY campaign ORDER BY count() DESC LIMIT 1"
_DAY: Final = """
SELECT hour, sum(opens), sum(clicks) FROM activity
WHERE hour > (SELECT toStartOfHour(max(ts)) FROM events) - toIntervalDay(1)
GROUP BY hour ORDER BY hour
"""
_AT_REST: Final = """
SELECT sum(bytes_on_disk) / sum(rows) FROM system.parts
WHERE active AND database = 'heliograph' AND table = 'events'
"""
#: What is asked, in the order of the table: its goal in milliseconds at 100 million events.
_QUESTIONS: Final = (
    ("one campaign's rate", "campaign", "typical", 50),
    ("one campaign's hourly line", "timeline_hour", "typical", 50),
    ("the largest campaign's rate", "campaign", "largest", 50),
    ("the largest campaign's hourly line", "timeline_hour", "largest", 50),
    ("first 20 campaigns by opens, exact uniques", "campaigns", "", 250),
    ("24 h over all campaigns", "", "", 100),
)


def figures(home: Path, quick: bool) -> Iterator[Figure]:
    """The section; `quick` makes stores of seconds, which say nothing about speed."""
    small, large = (50_000, 200_000) if quick else (10_000_000, 100_000_000)
    campaigns = 100 if quick else 10_000
    found = {count: _child(home / str(count), count, campaigns) for count in (small, large)}
    for count, told in found.items():
        yield Figure(f"made inside ClickHouse: {count:,} events", f"{told['rate']:,.0f} events/s")
        rest = told["at rest"]
        yield Figure(f"at rest, {count:,} events", f"{rest:.1f} bytes/event", goal="<= 25",
                     met=rest <= 25)  # fmt: skip
    for what, _, _, goal in _QUESTIONS:
        for count in (small, large):
            times = found[count][what]
            value, spread = middle(times[1:], "ms")
            beside = f"{median(times[1:]) / median(found[small][what][1:]):.2f}x {small:,}"
            bar = count == 100_000_000
            yield Figure(
                f"{what}, {count:,} events",
                value,
                f"{spread}; first {times[0]:.0f}",
                beside if count == large else "",
                f"<= {goal} ms" if bar else "",
                median(times[1:]) <= goal if bar else None,
            )


def _child(home: Path, events: int, campaigns: int) -> dict[str, Any]:
    """Make and ask one store in a process of its own: chDB opens one path in a process."""
    home.mkdir(parents=True)
    argv = [sys.executable, "-m", "loadtest.bench.store", str(home), str(events), str(campaigns)]
    subprocess.run(argv, check=True, stdout=sys.stderr)
    return dict(json.loads((home / "told.json").read_text()))


def _make(home: Path, events: int, campaigns: int) -> dict[str, Any]:
    client = open_embedded(home / "store")
    began = time.perf_counter()
    Generator(client, "heliograph", Plan(events, campaigns), lambda text: print(text)).run()
    rate = events / (time.perf_counter() - began)
    while rows(client, "SELECT count() FROM system.merges")[0][0]:
        time.sleep(0.2)
    told = {"rate": rate, "at rest": rows(client, _AT_REST)[0][0]}
    client.close()
    return told


def _ask(home: Path, events: int) -> dict[str, list[float]]:
    connection = chdb.connect(str(home / "store"))
    connection.query("USE heliograph")
    # The same size in stores of both sizes, or the comparison is one of campaigns.
    size = 10_000 if events >= 10_000_000 else events // 100
    typical = connection.query(_TYPICAL, "TSVRaw", params={"size": str(size)})
    named = {"": "", "typical": str(typical).strip()}
    named["largest"] = str(connection.query(_LARGEST, "TSVRaw")).strip()
    folder = Path(__file__).parents[2] / "schemas" / "queries"
    told = {}
    for what, name, whose, _ in _QUESTIONS:
        text = (folder / f"{name}.sql").read_text("utf-8") if name else _DAY
        limit = "20" if what.startswith("first") else "1000"
        params = {"campaign": named[whose], "limit": limit, "tz": "UTC"} if name else {}
        told[what] = [_time(lambda: connection.query(text, "JSON", params=params))  # noqa: B023
                      for _ in range(_RUNS + 1)]  # fmt: skip
    connection.close()
    return told


def _time(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def main() -> None:
    """Entry point of the child."""
    home, events, campaigns = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    told = _make(home, events, campaigns) | _ask(home, events)
    write_whole(home / "told.json", json.dumps(told).encode())


if __name__ == "__main__":
    main()
