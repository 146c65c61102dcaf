"""The line behind the edge: shipper, consumer, the whole, and how fresh its counts are.

Shipper and consumer are measured on journals that are full, by the rate at which they go on once
they have begun. CPU is user and system time of the process named. The broker has been warmed up
by runs that do not count, and what earlier runs left to write is on the disk. The whole line and
its freshness are measured as a user runs it. Figures are medians of three turns with their range.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple
from urllib.request import urlopen

import pytest

import tests.kafka_broker
from consumer.stage import Stage
from consumer.store import open_embedded
from loadtest.bench import backlog, fresh
from loadtest.bench.figures import Figure, left_out, middle
from loadtest.bench.servers import CLIENT_CORE, SERVER_CORE, core
from loadtest.bench.steady import Rate, steady
from loadtest.processes import HELIOGRAPH, ask, child, command, cpu, running, until
from schemas.journal.directory import journals
from schemas.journal.reader import Reader
from tests.engine import Engine
from tests.kafka_broker import Broker
from tests.ports import free_port

SECTION: Final = "line"
_COUNT: Final = "SELECT count() FROM heliograph.events WHERE kind = '{}'"
_JOURNALS: Final = 4
_BROKER: Final = "(Kafka)"  # its CPU is shown and not counted
_READERS: Final = 64
#: Runs until the broker's code is compiled: on one core it takes twice the CPU before.
_WARMING: Final = 2
broker_in = contextmanager(tests.kafka_broker.running)


class Effort(NamedTuple):
    """How much is measured."""

    runs: int
    events: int  # in the full journals
    consumed: int  # from Kafka, at once
    opens: int  # through the whole line, a third of them in each turn
    rate: int  # opens a second while freshness is measured
    seconds: int


_FULL: Final = Effort(3, 2_000_000, 10_000_000, 1_000_000, 5_000, 20)
_QUICK: Final = Effort(1, 30_000, 30_000, 510, 200, 2)
_TURNS: Final = 3


class Line(NamedTuple):
    """A line that runs: where the edge and the store are, and the processes it consists of."""

    data: Path
    port: str
    sql: str
    pids: Mapping[str, int]


def figures(home: Path, quick: bool) -> Iterator[Figure]:
    """All figures of the section."""
    effort = _QUICK if quick else _FULL
    full = home / "full"
    command("key", "new", "--data", full)
    backlog.fill(full, effort.events, _JOURNALS)
    yield from _embedded(home, full, effort)
    try:
        with broker_in(home / "broker") as broker:
            yield from _through_kafka(home, full, broker, effort)
    except pytest.skip.Exception as reason:
        yield left_out("what goes through Kafka", str(reason))


def _embedded(home: Path, full: Path, effort: Effort) -> Iterator[Figure]:
    rates = []
    for _ in range(effort.runs):
        backlog.rewind(full)
        with _empty_store(full) as process:
            pids = {"it": process.pid}
            rates.append(steady(partial(_taken, full, process), effort.events, pids))
    yield _rate("full journals into the embedded store", rates, goal=500_000, bar=300_000)
    yield _engine_alone(home, full)
    with _up(home) as line:
        yield from _whole("whole line, embedded", line, effort.opens)
        yield from _freshness("embedded", line, effort, (1.0, 2.0))


def _taken(full: Path, process: "subprocess.Popen[bytes]") -> int:
    """How far it is; raises RuntimeError where it has failed."""
    if process.poll():
        raise RuntimeError(f"taking the journals in ended with {process.returncode}")
    return backlog.taken(full)


@contextmanager
def _empty_store(full: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """The command that takes full journals in, into a new store."""
    shutil.rmtree(full / "store", ignore_errors=True)
    words = (HELIOGRAPH, "sql", "--data", full, "SELECT count() FROM events")
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        yield process
        process.wait(60)
        _taken(full, process)
    finally:
        process.kill()
        process.wait()


def _engine_alone(home: Path, full: Path) -> Figure:
    """What the engine takes to parse the lines into a stage, in this process and with no more."""
    client = open_embedded(home / "alone")
    client.command("CREATE DATABASE alone")
    stage = Stage(client, "alone", ("", 0), lambda size: bytes(size))
    frames = Reader(journals(full / "journal")[0], 1).read(64 << 20)
    data, events = b"".join(f.block for f in frames), sum(f.events for f in frames)
    rates = []
    for _ in range(3):
        before = cpu(os.getpid())
        stage.load(data)
        rates.append((cpu(os.getpid()) - before) / events * 1e6)
        stage.clear()
    client.close()
    measured, spread = middle(rates, "CPU s per million", 2)
    return Figure("  of this, the engine's parsing alone", measured, spread)


@contextmanager
def _up(home: Path) -> Iterator[Line]:
    data = home / "line"
    words = ("up", "--data", data, "--port", 0, "--health-port", 0)
    with running(home / "up.log", *words, ready="Ctrl-C") as up:
        told = json.loads((data / "up.json").read_text())
        pids = {
            "edge": child(up.pid, "collector.worker"),
            "consumer and store": child(up.pid, "consumer.embedded"),
        }
        yield Line(data, told["url"].rpartition(":")[2], told["sql"], pids)


def _through_kafka(home: Path, full: Path, broker: Broker, effort: Effort) -> Iterator[Figure]:
    with core(CLIENT_CORE):
        broker.kill9()
        broker.start()  # on a core of its own while the shipper is measured
    runs = range(effort.runs + _WARMING)
    topics = [f"full-{run}" for run in runs]
    rates = [_ship(home, full, broker, effort.events, topic) for topic in topics][_WARMING:]
    yield _rate("full journals into Kafka, a core each, by the clock: the broker's pace", rates)
    what = "full journals into Kafka, events in a CPU second of the shipper"
    yield _judged(what, [1e6 / rate.cpu["shipper"] for rate in rates], "", 1_000_000, 500_000)
    broker.kill9()
    broker.start()
    _fill_topic(home / "long", broker, effort.consumed)
    rates = [_consume(home, broker, effort.consumed, run) for run in range(effort.runs)]
    what = f"from Kafka into ClickHouse, {effort.consumed:,} events"
    yield _rate(what, rates, goal=500_000, bar=300_000)
    with _split(home, broker) as line:
        yield from _whole("whole line, through Kafka", line, effort.opens)
        yield from _freshness("through Kafka", line, effort, (3.0, 3.0))


def _fill_topic(long: Path, broker: Broker, events: int) -> None:
    """Ship what the consumer is to take, more than the other full journals hold."""
    command("key", "new", "--data", long)
    backlog.fill(long, events, _JOURNALS)
    _ship(long, long, broker, events, "long")
    shutil.rmtree(long)


def _ship(home: Path, full: Path, broker: Broker, events: int, topic: str) -> Rate:
    backlog.rewind(full)
    os.sync()
    words = ("--kafka", broker.bootstrap, "--topic", topic, "--health-port", 0)
    with (
        core(SERVER_CORE),
        running(home / "ship.log", "collect", *words, "--data", full, "--port", 0) as edge,
    ):
        until(lambda: _has_child(edge.pid, "collector.shipper"))
        pids = {"shipper": child(edge.pid, "collector.shipper"), "broker": broker.pid}
        return steady(lambda: backlog.taken(full), events, pids)


def _has_child(parent: int, words: str) -> bool:
    try:
        return bool(child(parent, words))
    except LookupError:
        return False


@contextmanager
def engine_in(path: Path) -> Iterator[Engine]:
    """The ClickHouse engine in a process of its own, behind HTTP, with the tables."""
    engine = Engine(path)
    try:
        command("migrate", "--clickhouse", engine.url)
        yield engine
    finally:
        engine.stop()


def _consume(home: Path, broker: Broker, events: int, run: int) -> Rate:
    os.sync()
    port = free_port()
    words = ("--kafka", broker.bootstrap, "--topic", "long", "--group", f"long-{run}")
    with engine_in(home / f"engine-{run}") as engine:
        store = ("--clickhouse", engine.url, "--health-port", port)
        with running(home / "consume.log", "consume", *words, *store) as consumer:
            pids = {"consumer": consumer.pid, "engine": engine.pid}
            return steady(lambda: _consumed(port), events, pids, 0.1)


def _consumed(port: int) -> int:
    try:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            told = answer.read().decode()
    except OSError:  # it does not listen yet
        return 0
    found = re.search(r"^heliograph_consumer_events_total (\S+)", told, re.MULTILINE)
    return int(float(found[1])) if found else 0


@contextmanager
def _split(home: Path, broker: Broker) -> Iterator[Line]:
    """`collect` and `consume`, with Kafka between them."""
    data = home / "split"
    command("key", "new", "--data", data)
    kafka = ("--kafka", broker.bootstrap, "--health-port", 0)
    collect = ("collect", *kafka, "--data", data, "--port", 0)
    with (
        engine_in(home / "engine") as engine,
        running(home / "collect.log", *collect, ready="http") as edge,
        running(home / "consume.log", "consume", *kafka, "--clickhouse", engine.url) as consumer,
    ):
        found = re.search(r"http://127\.0\.0\.1:(\d+)", (home / "collect.log").read_text())
        pids = {
            "edge": child(edge.pid, "collector.worker"),
            "shipper": child(edge.pid, "collector.shipper"),
            "consumer": consumer.pid,
            "ClickHouse engine": engine.pid,
            _BROKER: broker.pid,
        }
        yield Line(data, found[1] if found else "", engine.url, pids)


def _whole(what: str, line: Line, opens: int) -> Iterator[Figure]:
    """Open fresh pixels, 32 at a time, wait until all are counted, and see who took how much."""
    paths = _pixels(line, opens).splitlines()
    turns = [_turn(line, "\n".join(paths[at::_TURNS])) for at in range(_TURNS)]
    for rate, said in (("answered", "answered"), ("counted", "until the last is counted")):
        measured, spread = middle([getattr(turn, rate) for turn in turns], "opens/s", 0)
        yield Figure(f"{what}: {said}", measured, spread)
    total = median(turn.total for turn in turns)
    for name in line.pids:
        used = [turn.cpu[name] for turn in turns]
        share = f"{median(used) / total:.0%} of the line" if name != _BROKER else "not counted"
        yield Figure(f"  {name}", *middle(used, "CPU s per million"), share)
    yield Figure("  in all", *middle([turn.total for turn in turns], "CPU s per million"))


class Turn(NamedTuple):
    """One turn of the whole line: opens a second, and CPU seconds per million of them."""

    answered: float  # from the first request to the last answer
    counted: float  # from the first request until SQL counts all
    cpu: Mapping[str, float]

    @property
    def total(self) -> float:
        """Of all that is ours."""
        return sum(each for name, each in self.cpu.items() if name != _BROKER)


def _turn(line: Line, paths: str) -> Turn:
    counted = int(ask(line.sql, _COUNT.format("open")))
    before = {name: cpu(pid) for name, pid in line.pids.items()}
    began, ended, answered = map(float, _client(line, paths, 32).split())
    until(lambda: int(ask(line.sql, _COUNT.format("open"))) == counted + answered)
    seen = time.monotonic()
    used = {name: (cpu(pid) - before[name]) / answered * 1e6 for name, pid in line.pids.items()}
    return Turn(answered / (ended - began), answered / (seen - began), used)


def _freshness(
    what: str, line: Line, effort: Effort, goals: tuple[float, float]
) -> Iterator[Figure]:
    """At a rate for some seconds: the median and the 99th percentile."""
    paths = _pixels(line, effort.rate * effort.seconds)
    with fresh.Watch(lambda: int(ask(line.sql, _COUNT.format("open")))) as watch:
        answered = list(map(float, _client(line, paths, _READERS, effort.rate).split()))
        watch.wait_for(len(answered))
    waits = fresh.delays(answered, watch.seen)
    rate = len(answered) / (max(answered) - min(answered))
    for name, at, goal in (("p50", 0.5, goals[0]), ("p99", 0.99, goals[1])):
        found = waits[int(len(waits) * at)]
        yield Figure(
            f"answered to counted, {what}, {rate:,.0f} opens/s, {name}",
            f"{found:.2f} s",
            goal=f"<= {goal:g} s",
            met=found <= goal and rate >= 0.98 * effort.rate,
        )


def _pixels(line: Line, count: int) -> str:
    """Paths of as many fresh pixels, a line each, once their sends are counted."""
    before = int(ask(line.sql, _COUNT.format("sent")))
    people = "recipient\n" + "".join(f"reader-{before + n}\n" for n in range(count))
    made = command("mint", "--campaign", "spring-2026", "--data", line.data, "-", text=people)
    until(lambda: int(ask(line.sql, _COUNT.format("sent"))) >= before + count)
    return "\n".join(re.findall(r"/o/[\w-]+\.gif(?=,)", made))


def _client(line: Line, paths: str, connections: int, *rate: int) -> str:
    words = map(str, ("127.0.0.1", line.port, connections, *rate))
    argv = [sys.executable, "-m", "loadtest.client", *words]
    done = subprocess.run(
        argv, input=paths, stdout=subprocess.PIPE, text=True, check=True, timeout=300
    )
    return done.stdout


def _rate(what: str, rates: Sequence[Rate], *, goal: int = 0, bar: int = 0) -> Figure:
    cpus = {name: median(rate.cpu[name] for rate in rates) for name in rates[0].cpu}
    beside = ", ".join(f"{name} {each:.2f}" for name, each in cpus.items())
    return _judged(what, [r.events for r in rates], f"CPU s per million: {beside}", goal, bar)


def _judged(what: str, rates: Sequence[float], beside: str, goal: int, bar: int) -> Figure:
    measured, spread = middle(rates, "events/s", 0)
    if not goal:
        return Figure(what, measured, spread, beside)
    held = median(rates)
    wanted = f">= {goal:,}, bar {bar:,}"
    return Figure(what, measured, spread, beside, wanted, held >= goal, held >= bar)
