"""`make measure`: the figures of the README, in one run on one machine.

Opens go through the whole line as a user runs it, embedded and through Kafka; the parts that run
ahead of the edge (shipper, consumer) are also measured alone, on a journal of made-up events. CPU
is user + system of the process named. Kafka is left out, with the reason, where it can't run.
"""

import argparse
import json
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

import tests.kafka_broker
from collector.journal import Journal
from loadtest.processes import ask, child, command, cpu, running, until
from loadtest.traffic import Agents
from schemas import event
from schemas.journal.directory import journal_id, read_position
from tests.engine import Engine

Row = tuple[str, str, str]
COUNT = "SELECT count() FROM heliograph.events WHERE kind = '{}'"
broker_in = contextmanager(tests.kafka_broker.running)


@contextmanager
def engine_in(path: Path) -> Iterator[Engine]:
    """The ClickHouse engine in a process of its own, behind HTTP."""
    engine = Engine(path)
    try:
        yield engine
    finally:
        engine.stop()


def rate(events: float, seconds: float) -> str:
    """Events per second in words."""
    return f"{events / seconds:,.0f} events/s"


def each(seconds: float, events: float) -> str:
    """CPU seconds per million events in words."""
    return f"{seconds / events * 1e6:.1f}"


def drive(
    what: str, data: Path, port: str, sql: str, pids: Mapping[str, int], count: int
) -> list[Row]:
    """Open `count` fresh pixels, 32 at a time, and wait until all of them are counted."""
    people = "recipient\n" + "".join(f"reader-{n}\n" for n in range(count))
    made = command("mint", "--campaign", "spring-2026", "--data", data, "-", text=people)
    paths = "\n".join(re.findall(r"/o/[\w-]+\.gif(?=,)", made))
    until(lambda: int(ask(sql, COUNT.format("sent"))) >= count)
    earlier = int(ask(sql, COUNT.format("open")))
    before = {name: cpu(pid) for name, pid in pids.items()}
    argv = [sys.executable, "-m", "loadtest.client", "127.0.0.1", port, "32"]
    client = subprocess.run(argv, input=paths, capture_output=True, text=True, check=True)
    seconds, answered = map(float, client.stdout.split())
    late = until(lambda: int(ask(sql, COUNT.format("open"))) == earlier + answered)
    rows = [
        (what, rate(answered, seconds), ""),
        ("  counted after the last answer", f"{late:.1f} s", ""),
    ]
    used = {name: cpu(pid) - before[name] for name, pid in pids.items()}
    rows += [(f"  {name}", "", each(used[name], answered)) for name in pids]
    return [*rows, ("  in all", "", each(sum(used.values()), answered))]


def embedded_line(home: Path, opens: int, _: int) -> list[Row]:
    """Opens against `heliograph up`."""
    data = home / "line"
    words = ("up", "--data", data, "--port", 0, "--health-port", 0)
    with running(home / "up.log", *words, ready="Ctrl-C") as up:
        told = json.loads((data / "up.json").read_text())
        pids = {
            "edge": child(up.pid, "collector.worker"),
            "consumer and store": child(up.pid, "consumer.embedded"),
        }
        port = told["url"].rpartition(":")[2]
        return drive("whole line, embedded: answered", data, port, told["sql"], pids, opens)


def fill(data: Path, count: int) -> str:
    """A sealed journal of made-up opens; its id."""
    chance, agents = random.Random(2), Agents()
    root = data / "journal"
    root.mkdir(parents=True, exist_ok=True)
    now = int(time.time() * 1000)
    journal = Journal(root, journal_id(now, os.urandom(8)), time.time)
    for at in range(0, count, 64):
        journal.append(
            [_open(now + n, count, chance, agents) for n in range(at, min(at + 64, count))]
        )
    journal.close()
    return journal.id


def _open(ts: int, people: int, chance: random.Random, agents: Agents) -> bytes:
    headers = agents.draw(chance)
    return event.event(
        ts - 3_600_000,
        "open",
        campaign=f"campaign-{chance.randrange(20)}",
        send="spring",
        recipient=f"reader-{chance.randrange(people)}",
        sent_at=ts // 1000 - 7200,
        method="GET",
        address=".".join(str(chance.randrange(1, 255)) for _ in range(4)),
        user_agent=headers["User-Agent"],
        accept_language=headers.get("Accept-Language", ""),
        key_id="0a1b2c",
    )


def embedded_consumer(home: Path, _: int, events: int) -> list[Row]:
    """A full journal into an empty embedded store, by the command that takes it in."""
    data = home / "embedded"
    fill(data, events)
    before, began = os.times(), time.perf_counter()
    out = command("sql", "--data", data, "--format", "json", "SELECT count() AS n FROM events")
    seconds, after = time.perf_counter() - began, os.times()
    if json.loads(out)[0]["n"] != events:
        raise RuntimeError("not everything was counted")
    user = after.children_user - before.children_user
    used = user + after.children_system - before.children_system
    stored = sum(file.stat().st_size for file in (data / "store" / "store").rglob("*.bin"))
    return [
        ("a full journal into the embedded store", rate(events, seconds), each(used, events)),
        ("  bytes an event at rest", f"{stored / events:.1f}", ""),
    ]


def kafka_line(home: Path, opens: int, events: int) -> list[Row]:
    """A full journal, and then opens, through a real Kafka into the engine behind HTTP."""
    data = home / "kafka"
    command("key", "new", "--data", data)
    name = fill(data, events)
    with broker_in(home / "broker") as broker, engine_in(home / "engine") as engine:
        command("migrate", "--clickhouse", engine.url)
        kafka = ("--kafka", broker.bootstrap, "--health-port", 0)
        collect = ("collect", *kafka, "--data", data, "--port", 0)
        began = time.perf_counter()
        with running(home / "collect.log", *collect, ready="http") as edge:
            shipper = child(edge.pid, "collector.shipper")
            until(lambda: read_position(data / "journal" / name) > events)
            seconds = time.perf_counter() - began
            rows = [
                ("  a full journal into Kafka", rate(events, seconds), each(cpu(shipper), events))
            ]
            began, store = time.perf_counter(), cpu(engine.pid)
            consume = ("consume", *kafka, "--clickhouse", engine.url)
            with running(home / "consume.log", *consume) as consumer:
                until(lambda: int(ask(engine.url, COUNT.format("open"))) == events)
                seconds = time.perf_counter() - began
                used = cpu(consumer.pid)
                rows.append(
                    ("  and from there into ClickHouse", rate(events, seconds), each(used, events))
                )
                rows.append(("    its engine", "", each(cpu(engine.pid) - store, events)))
                pids = {
                    "edge": child(edge.pid, "collector.worker"),
                    "shipper": shipper,
                    "consumer": consumer.pid,
                    "ClickHouse engine": engine.pid,
                }
                found = re.search(r"http://127\.0\.0\.1:(\d+)", (home / "collect.log").read_text())
                port = found[1] if found else ""
                line = drive(
                    "whole line through Kafka: answered", data, port, engine.url, pids, opens
                )
    return [*line, ("the parts alone, their start included", "", ""), *rows]


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
    steps: tuple[Callable[[Path, int, int], list[Row]], ...]
    steps = (embedded_line, kafka_line, embedded_consumer)
    with tempfile.TemporaryDirectory() as folder:
        for step in steps:
            try:
                rows = step(Path(folder), args.opens, args.events)
            except pytest.skip.Exception as reason:
                rows = [(f"{step.__name__} left out: {reason}", "", "")]
            for row in rows:
                table.add_row(*row)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
