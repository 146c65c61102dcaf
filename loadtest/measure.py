"""`make measure`: the figures of the README, in one run on one machine.

Opens go through the whole line as a user runs it; the parts that can run ahead of the edge
(shipper, consumer) are also measured alone on a journal of made-up events. CPU is user + system of
the processes named. Kafka is left out, with the reason, where it can't run.
"""

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest
from rich.console import Console
from rich.table import Table

import tests.kafka_broker
from collector.journal import Journal
from loadtest.traffic import Agents
from schemas import event
from schemas.journal.directory import journal_id, read_position
from tests.engine import Engine

BIN = Path(sys.executable).parent
TICKS = os.sysconf("SC_CLK_TCK")
Skipped = pytest.skip.Exception
broker_in = contextmanager(tests.kafka_broker.running)
Row = tuple[str, str, str]


def cpu(pid: int) -> float:
    """Seconds of user and system time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def child(parent: int, words: str) -> int:
    """The child of a process whose command line holds some words."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            above = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if above == parent and words in line:
            return int(entry.name)
    raise LookupError(words)


def until(condition: Callable[[], bool], seconds: float = 300.0) -> float:
    """Wait for something; how long it took."""
    began = time.perf_counter()
    while not condition():
        if time.perf_counter() - began > seconds:
            raise TimeoutError("it did not come to an end")
        time.sleep(0.05)
    return time.perf_counter() - began


@contextmanager
def engine_in(path: Path) -> Iterator[Engine]:
    """The ClickHouse engine in a process of its own, behind HTTP."""
    engine = Engine(path)
    try:
        yield engine
    finally:
        engine.stop()


@contextmanager
def running(log: Path, *words: object, ready: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command of heliograph from the moment it says it is ready; ended with SIGTERM."""
    with log.open("wb") as out:
        process = subprocess.Popen([BIN / "heliograph", *map(str, words)], stdout=out, stderr=out)
    try:
        until(lambda: ready in log.read_text() or process.poll() is not None, 60)
        if process.poll() is not None:
            raise RuntimeError(log.read_text())
        yield process
    finally:
        process.terminate()
        process.wait(30)


def ask(url: str, sql: str) -> str:
    """The answer of a ClickHouse HTTP port."""
    with urlopen(url, data=sql.encode(), timeout=60) as answer:
        return str(answer.read().decode()).strip()


def minted(data: Path, count: int) -> list[str]:
    """Paths of fresh pixels."""
    people = "recipient\n" + "".join(f"reader-{n}\n" for n in range(count))
    made = subprocess.run(
        [BIN / "heliograph", "mint", "--campaign", "spring-2026", "--data", data, "-"],
        input=people, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [
        "/o/" + line.split("/o/", 1)[1].split(".gif")[0] + ".gif" for line in made.splitlines()[1:]
    ]


def whole_line(home: Path, count: int) -> list[Row]:
    """Opens against `heliograph up`, from the first request until all are counted."""
    data = home / "line"
    with running(home / "up.log", "up", "--data", data, "--port", 0, "--health-port", 0,
                 ready="Ctrl-C") as up:  # fmt: skip
        told = json.loads((data / "up.json").read_text())
        paths = minted(data, count)
        counted = "SELECT count() FROM heliograph.events WHERE kind = '{}'"
        until(lambda: ask(told["sql"], counted.format("sent")) == str(count + 1))
        edge, consumer = child(up.pid, "collector.worker"), child(up.pid, "consumer.embedded")
        before = cpu(edge), cpu(consumer)
        port = told["url"].rpartition(":")[2]
        client = subprocess.run(
            [sys.executable, "-m", "loadtest.client", "127.0.0.1", port, "32"],
            input="\n".join(paths), capture_output=True, text=True, check=True,
        )  # fmt: skip
        seconds, answered = client.stdout.split()
        late = until(lambda: ask(told["sql"], counted.format("open")) == answered)
        after = cpu(edge), cpu(consumer)
        million = float(answered) / 1e6
    return [
        ("whole line, embedded: answered and journaled", rate(float(answered), float(seconds)), ""),
        ("  all counted after the last answer", f"{late:.1f} s", ""),
        ("  edge", "", f"{(after[0] - before[0]) / million:.1f}"),
        ("  consumer and store (1 s batches)", "", f"{(after[1] - before[1]) / million:.1f}"),
    ]


def rate(events: float, seconds: float) -> str:
    """Events per second in words."""
    return f"{events / seconds:,.0f} events/s"


def fill(data: Path, count: int) -> str:
    """A sealed journal of made-up opens; its id."""
    chance, agents = random.Random(2), Agents()
    root = data / "journal"
    root.mkdir(parents=True)
    now = int(time.time() * 1000)
    journal = Journal(root, journal_id(now, os.urandom(8)), time.time)
    for at in range(0, count, 64):
        bodies = []
        for n in range(at, min(at + 64, count)):
            headers = agents.draw(chance)
            bodies.append(
                event.event(
                    now - 3_600_000 + n,
                    "open",
                    campaign=f"campaign-{chance.randrange(20)}",
                    send="spring",
                    recipient=f"reader-{chance.randrange(count)}",
                    sent_at=now // 1000 - 7200,
                    method="GET",
                    address=".".join(str(chance.randrange(1, 255)) for _ in range(4)),
                    user_agent=headers["User-Agent"],
                    accept_language=headers.get("Accept-Language", ""),
                    key_id="0a1b2c",
                )
            )
        journal.append(bodies)
    journal.close()
    return journal.id


def embedded_consumer(home: Path, count: int) -> list[Row]:
    """A full journal into an empty embedded store, by the command that takes it in."""
    data = home / "embedded"
    fill(data, count)
    before, began = os.times(), time.perf_counter()
    words = ("sql", "--data", data, "--format", "json", "SELECT count() AS n FROM events")
    out = subprocess.run([BIN / "heliograph", *words], capture_output=True, check=True)
    seconds, after = time.perf_counter() - began, os.times()
    if json.loads(out.stdout)[0]["n"] != count:
        raise RuntimeError("not everything was counted")
    used = (
        after.children_user - before.children_user + after.children_system - before.children_system
    )
    parts = sum(f.stat().st_size for f in (data / "store" / "store").rglob("*.bin"))
    return [
        ("journal into the embedded store", rate(count, seconds), f"{used / count * 1e6:.1f}"),
        ("  bytes an event at rest", f"{parts / count:.1f}", ""),
    ]


def through_kafka(home: Path, count: int) -> list[Row]:
    """A full journal through a real Kafka into the engine behind HTTP."""
    data = home / "kafka"
    subprocess.run(
        [BIN / "heliograph", "key", "new", "--data", data], check=True, capture_output=True
    )
    name = fill(data, count)
    rows = []
    with broker_in(home / "broker") as broker, engine_in(home / "engine") as engine:
        began = time.perf_counter()
        with running(home / "collect.log", "collect", "--kafka", broker.bootstrap, "--data", data,
                     "--port", 0, "--health-port", 0, ready="http") as collect:  # fmt: skip
            shipper = child(collect.pid, "collector.shipper")
            until(lambda: read_position(data / "journal" / name) > count)
            seconds = time.perf_counter() - began
            used = cpu(shipper)
        rows.append(
            (
                "shipper into Kafka (its start included)",
                rate(count, seconds),
                f"{used / count * 1e6:.1f}",
            )
        )
        subprocess.run(
            [BIN / "heliograph", "migrate", "--clickhouse", engine.url],
            check=True,
            capture_output=True,
        )
        store = cpu(engine.pid)
        began = time.perf_counter()
        with running(home / "consume.log", "consume", "--kafka", broker.bootstrap, "--clickhouse",
                     engine.url, "--health-port", 0, ready="") as consume:  # fmt: skip
            until(lambda: ask(engine.url, "SELECT count() FROM heliograph.events") == str(count))
            seconds = time.perf_counter() - began
            used = cpu(consume.pid)
        rows.append(
            (
                "consumer, Kafka into ClickHouse (its start included)",
                rate(count, seconds),
                f"{used / count * 1e6:.1f}",
            )
        )
        rows.append(("  ClickHouse engine", "", f"{(cpu(engine.pid) - store) / count * 1e6:.1f}"))
    return rows


def machine() -> str:
    """What this ran on."""
    told = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":")[1].strip() for line in told if line.startswith("model name")]
    model = models[0] if models else platform.machine()
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} x {model}, Python {platform.python_version()}, load {load:.1f}"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--opens", type=int, default=100_000, help="through the whole line")
    parser.add_argument("--events", type=int, default=1_000_000, help="through the parts alone")
    args = parser.parse_args()
    table = Table("", "rate", "CPU s per million events", title=machine())
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        steps: list[tuple[Callable[[Path, int], list[Row]], int]] = [
            (whole_line, args.opens),
            (embedded_consumer, args.events),
            (through_kafka, args.events),
        ]
        for step, count in steps:
            try:
                rows = step(home, count)
            except Skipped as reason:
                rows = [(f"{step.__name__} left out: {reason}", "", "")]
            for row in rows:
                table.add_row(*row)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
