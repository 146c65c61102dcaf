"""The store: what reports cost on 10 and 100 million events, side by side, and an event at rest.

The events are made by `loadtest.generate`, and large campaigns counted ahead as a consumer does it.
Each question is what the command line asks, on a connection of its own process to a warm store;
the first run, on cold caches of the engine (the page cache is warm), is told apart. Tallies are as
old as they come: a consumer counts again what has new events after ten minutes, all of it in some
four. What both sizes are compared in is asked of both in turns. Then all again while a writer in
the same process (as in `heliograph up`) inserts the events of the last day once more, a day later,
a batch a second. Times are medians with their range.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain
from os import urandom
from pathlib import Path
from statistics import median
from subprocess import PIPE
from typing import Any, Final

import chdb

from consumer import tallies
from consumer.batch import Batch, Block
from consumer.store import open_embedded, rows
from consumer.verdicts import Verdicts
from consumer.writer import Writer
from heliograph.access import Answer, canned
from heliograph.campaigns import rates
from loadtest.bench import look
from loadtest.bench.figures import Figure, middle
from loadtest.generate import Generator, Plan
from schemas.files import write_whole

SECTION: Final = "Store"
_RUNS: Final = 9
#: Pairs of what both sizes are compared in, of each of so many starts.
_MANY: Final = 15
_STARTS: Final = 5
#: How much slower a campaign of the same size may be in the large store.
_SLOWER: Final = 1.1
#: Seconds: how old the tallies are.
_AGE: Final = 900
#: Rows of the first page that `heliograph report` asks for.
_PAGE: Final = 100
#: Events a second that are inserted while questions are asked.
_RATE: Final = 5000
_TYPICAL: Final = """
SELECT campaign FROM events GROUP BY campaign
ORDER BY abs(toInt64(count()) - %s), campaign LIMIT 1
"""
_LARGEST: Final = "SELECT campaign FROM events GROUP BY campaign ORDER BY count() DESC LIMIT 1"
_DAY: Final = """
SELECT hour, sum(open_hits), sum(clicks) FROM activity
WHERE hour > (SELECT toStartOfHour(max(ts)) FROM events) - toIntervalDay(1)
GROUP BY hour ORDER BY hour
"""
_AT_REST: Final = """
SELECT sum(bytes_on_disk) / sum(rows) FROM system.parts
WHERE active AND database = 'heliograph' AND table = 'events'
"""
_LAST_DAY: Final = """
SELECT '{journal}' AS journal, row_number() OVER (ORDER BY ts, journal, seq) AS seq,
    toUnixTimestamp64Milli(ts) + 86400000 * {days} AS ts, kind, campaign, send, recipient,
    message_id, toUnixTimestamp(sent_at) AS sent_at, link, method, address, user_agent,
    accept_language, referer, prefetch, key_id
FROM events AS e
WHERE e.ts >= (SELECT max(ts) FROM events) - toIntervalDay(1)
ORDER BY seq
"""
#: What is asked, in the order of the table: its goal in milliseconds at 100 million events, if any.
_QUESTIONS: Final = (
    ("one campaign's rate", "campaigns", "typical", 50),
    ("one campaign's hourly line", "timeline_hour", "typical", 50),
    ("the largest campaign's rate", "campaigns", "largest", 50),
    ("the largest campaign's hourly line", "timeline_hour", "largest", 50),
    ("the largest campaign's rate, no tally", "untallied", "largest", 0),
    (f"first {_PAGE} campaigns by opens, exact uniques", "campaigns", "", 250),
    ("24 h over all campaigns", "", "", 100),
)


def figures(home: Path, quick: bool) -> Iterator[Figure]:
    """The section; `quick` makes stores of seconds, which say nothing about speed."""
    small, large = (30_000, 60_000) if quick else (10_000_000, 100_000_000)
    campaigns = 100 if quick else 10_000
    homes = {count: home / str(count) for count in (small, large)}
    found = {count: _child("make", homes[count], count, campaigns) for count in homes}
    compared = _compared(homes, 1 if quick else _MANY)
    for count in homes:
        found[count] |= _child("ask", homes[count], count, campaigns)
    for count, told in found.items():
        yield Figure(f"made inside ClickHouse: {count:,} events", f"{told['rate']:,.0f} events/s")
        yield Figure(f"large campaigns counted ahead, one thread: {count:,} events", told["ahead"])
        rest = told["at rest"]
        yield Figure(f"at rest, {count:,} events", f"{rest:.1f} bytes/event", goal="<= 25",
                     met=rest <= 25)  # fmt: skip
    for what, _, whose, goal in _QUESTIONS:
        few = found[small][what]
        of = f"in {small:,}" + (", of a smaller campaign" if whose == "largest" else "")
        for count in (small, large):
            held = goal if count == 100_000_000 else 0
            beside = f"{_ratio(found[count][what], few):.2f}x {of}" if count == large else ""
            yield _figure(f"{what}, {count:,} events", found[count][what], held, beside)
    for what, ratios in compared.items():
        name = f"{what}, of the same size: {large:,} events beside {small:,}"
        value, spread = middle(ratios, "x", 2)
        yield Figure(name, value, spread, "in turns", f"<= {_SLOWER}x",
                     None if quick else median(ratios) <= _SLOWER)  # fmt: skip
    for what, _, _, _ in _QUESTIONS:
        for count in (small, large):
            kept, times, idle = (found[count][key] for key in ("kept", f"{what} +", what))
            name = f"{what}, {count:,} events, {kept:,.0f} inserted /s"
            beside = f"{_ratio(times, idle):.2f}x idle"
            yield _figure(name, times, 0, beside, kept >= 0.98 * _RATE)
    for what in found[small]["look"]:
        for count in (small, large):
            held = look.GOAL if count == 100_000_000 else 0
            yield _figure(f"{what}, {count:,} events", found[count]["look"][what], held, "")


def _ratio(times: list[float], beside: list[float]) -> float:
    return median(times[1:]) / median(beside[1:])


def _figure(what: str, times: list[float], goal: int, beside: str, valid: bool = True) -> Figure:
    """A row that is judged where there is a goal, and missed where it is not `valid`."""
    value, spread = middle(times[1:], "ms")
    return Figure(
        what,
        value,
        f"{spread}; first {times[0]:.0f}",
        beside,
        f"<= {goal} ms" if goal else "",
        median(times[1:]) <= goal if goal and valid else None if valid else False,
    )


def _argv(step: str, home: Path, events: int, campaigns: int) -> list[str]:
    """A process of its own: chDB opens one path in a process."""
    words = map(str, (step, home, events, campaigns))
    return [sys.executable, "-m", "loadtest.bench.store", *words]


def _child(step: str, home: Path, events: int, campaigns: int) -> dict[str, Any]:
    """Make one store, or ask it."""
    home.mkdir(parents=True, exist_ok=True)
    subprocess.run(_argv(step, home, events, campaigns), check=True, stdout=sys.stderr)
    return dict(json.loads((home / f"{step}.json").read_text()))


def _compared(homes: Mapping[int, Path], runs: int) -> dict[str, list[float]]:
    """How many times as long the second store takes for a question as the first, asked in turns, of
    fresh processes a few times: two differ by some percent for as long as they run.
    """
    typical = [what for what, _, whose, _ in _QUESTIONS if whose == "typical"]
    ratios: dict[str, list[float]] = {what: [] for what in typical}
    for _ in range(_STARTS):
        with ExitStack() as stack:
            askers = [
                stack.enter_context(subprocess.Popen(argv, text=True, stdin=PIPE, stdout=PIPE))
                for argv in (_argv("turns", home, events, 0) for events, home in homes.items())
            ]
            for run in range(1 + runs):
                for what in typical:
                    small, large = (_asked(asker, what) for asker in askers)
                    if run:  # the first is on cold caches
                        ratios[what].append(large / small)
    return ratios


def _asked(asker: "subprocess.Popen[str]", what: str) -> float:
    assert asker.stdin is not None
    assert asker.stdout is not None
    print(what, file=asker.stdin, flush=True)
    return float(asker.stdout.readline())


def _answer_in_turns(home: Path, events: int) -> None:
    """Answer each question that is read with the milliseconds it took."""
    store = _Store(home)
    named = store.typical(events)
    questions = {what: _question(store, name, named) for what, name, _, _ in _QUESTIONS}
    for line in sys.stdin:
        print(_times(questions[line.strip()], 0)[0], flush=True)
    store.connection.close()


def _make(home: Path, events: int, campaigns: int) -> dict[str, Any]:
    client = open_embedded(home / "store")
    began = time.perf_counter()
    Generator(client, "heliograph", Plan(events, campaigns), lambda text: print(text)).run()
    rate = events / (time.perf_counter() - began)
    while rows(client, "SELECT count() FROM system.merges")[0][0]:
        time.sleep(0.2)
    began = time.perf_counter()
    until = tallies.settled(client, "heliograph", time.time()) - _AGE
    large = tallies.stale(client, "heliograph", until)
    for together in large:
        tallies.count(client, "heliograph", together, until)
    ahead = f"{time.perf_counter() - began:.1f} s for {sum(map(len, large)):,} campaigns"
    told = {"rate": rate, "at rest": rows(client, _AT_REST)[0][0], "ahead": ahead}
    client.close()
    return told


class _Store:
    """The engine as the command line's store."""

    def __init__(self, home: Path) -> None:
        self.connection = chdb.connect(str(home / "store"))
        self.connection.query("USE heliograph")

    def query(self, sql: str, params: Mapping[str, object], format: str) -> Answer:
        values = {name: str(value) for name, value in params.items()}
        return Answer(format, iter([self.connection.query(sql, format, params=values).bytes()]))

    def one(self, sql: str) -> str:
        return str(self.connection.query(sql, "TSVRaw")).strip()

    def typical(self, events: int) -> str:
        """A campaign, of the same size in stores of both sizes: else campaigns are compared."""
        return self.one(_TYPICAL % (10_000 if events >= 10_000_000 else events // 100))


class _Inserts:
    """Inserts until it is stopped."""

    def __init__(self, home: Path) -> None:
        self._client = open_embedded(home / "store")
        verdicts = Verdicts("heliograph")
        verdicts.install(self._client)
        self._writer = Writer(
            self._client, "heliograph", ("bench", 0), verdicts, random=urandom, clock=time.time
        )
        self._store = _Store(home)
        self._batches = self._made()
        self._first = next(self._batches)  # the drawing of a day is not timed
        self.stop = threading.Event()

    def _made(self) -> Iterator[Batch]:
        for days in range(1, 1000):
            journal = urandom(14).hex()
            sql = _LAST_DAY.format(journal=journal, days=days)
            lines = b"".join(self._store.query(sql, {}, "JSONEachRow").chunks).splitlines(True)
            for at in range(0, len(lines), _RATE):
                part = lines[at : at + _RATE]
                batch = Batch(_RATE, 64 << 20, 1.0)
                data = b"".join(part)
                batch.add(Block("bench", 0, at, journal, at + 1, len(part), data), 0.0)
                yield batch

    def run(self) -> float:
        """The rate that was kept, in events a second."""
        began, written = time.perf_counter(), 0
        for batch in chain([self._first], self._batches):
            written += self._writer.write(batch).events
            if self.stop.wait(max(0.0, began + written / _RATE - time.perf_counter())):
                break
        kept = written / max(time.perf_counter() - began, written / _RATE)
        self._client.close()
        self._store.connection.close()
        return kept


def _ask(home: Path, events: int) -> dict[str, Any]:
    store = _Store(home)
    named = {"": "", "largest": store.one(_LARGEST), "typical": store.typical(events)}
    told: dict[str, Any] = {}
    runs = _RUNS if events >= 10_000_000 else 1
    for what, name, whose, _ in _QUESTIONS:
        told[what] = _times(_question(store, name, named[whose]), runs)
    inserts = _Inserts(home)
    with ThreadPoolExecutor(1) as pool:
        kept = pool.submit(inserts.run)
        try:
            for what, name, whose, _ in _QUESTIONS:
                told[f"{what} +"] = _times(_question(store, name, named[whose]), runs)
        finally:
            inserts.stop.set()
        told["kept"] = kept.result()
    store.connection.close()
    return told


def _question(store: _Store, name: str, campaign: str) -> Callable[[], object]:
    if name == "campaigns":
        return lambda: rates(store, campaign, _PAGE)
    if name == "untallied":
        asked = {"campaigns": f"['{campaign}']"}
        return lambda: store.query(canned("campaigns"), asked, "JSON")
    params = {"campaign": campaign, "limit": 1000, "tz": "UTC"} if name else {}
    return lambda: store.query(canned(name) if name else _DAY, params, "JSON")


def _times(work: Callable[[], object], runs: int) -> list[float]:
    """Milliseconds: of the first run, and of the others."""
    found = []
    for _ in range(1 + runs):
        began = time.perf_counter()
        work()
        found.append((time.perf_counter() - began) * 1000)
    return found


def main() -> None:
    """Entry point of the child."""
    step, home, events, campaigns = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:])
    if step == "turns":
        _answer_in_turns(home, events)
        return
    if step == "make":
        told = _make(home, events, campaigns)
    else:
        told = _ask(home, events)
        told["look"] = look.measured(home / "store", 400_000 if events >= 10_000_000 else 10_000)
    write_whole(home / f"{step}.json", json.dumps(told).encode())


if __name__ == "__main__":
    main()
