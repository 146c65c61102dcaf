"""`make bench`: what it compares does the same job, and what it measures can be wrong."""

import asyncio
import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from heliograph.compiled import is_compiled
from loadtest.bench import __main__ as bench
from loadtest.bench import drive, edge, servers, table
from loadtest.bench.figures import Figure
from loadtest.bench.paced import Paced
from loadtest.bench.route import PIXEL
from loadtest.bench.workload import Workload, read
from tests import collecting
from tests.kafka_broker import Broker
from tests.services import require

SAME = ("Content-Type", "Content-Length", "Cache-Control", "Pragma", "Expires")


@pytest.fixture
def work(tmp_path: Path) -> Workload:
    return Workload.make(tmp_path, 50, 10)


def ask(port: int, request: bytes) -> tuple[dict[str, str], bytes]:
    """Headers and body of an answer with status 200."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        sock.sendall(request)
        answer = b""
        while len(answer.partition(b"\r\n\r\n")[2]) < len(PIXEL):
            answer += sock.recv(4096)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    return dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:]), body


@pytest.mark.nginx
def test_a_quick_run_measures_every_kind_of_traffic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "_QUICK", edge.Effort(1, 0.5, 0.03, 100))
    require(shutil.which("wrk"), "wrk is not installed (Debian: apt-get install wrk)")
    found = list(edge.figures(tmp_path, quick=True))
    assert not [figure for figure in found if "failed" in figure.measured]
    names = [figure.what for figure in found]
    for kind in ("(a) 32", "(b)", "(c)", "(a), but", "p99"):
        assert sum(name.startswith(kind) for name in names) >= 3, names
    assert len([f for f in found if f.goal]) == 5 + is_compiled()


@pytest.mark.nginx
def test_a_turn_whose_events_are_missing_is_no_figure(
    tmp_path: Path, work: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    with servers.nginx(tmp_path / "nginx") as nginx:
        forgets = nginx._replace(recorded=iter([1, 0, 48, 0, 0, 0, 0]).__next__)
        with monkeypatch.context() as hasty:
            hasty.setattr(drive, "_SETTLE_SECONDS", 0.2)
            with pytest.raises(drive.WrongError, match="50 answered, 48 recorded"):
                drive.paced(forgets, work.keep_alive, 2, 500, 0.1)
        assert drive.paced(nginx, work.keep_alive, 2, 500, 0.1).cpu > 0


@pytest.mark.kafka
def test_all_that_is_compared_does_the_same_job(
    kafka_broker: Broker, tmp_path: Path, work: Workload
) -> None:
    require(shutil.which("go"), "Go is not installed")
    kafka = kafka_broker.bootstrap
    good = read(work.keep_alive, 2)
    forged = good[1].replace(b".gif", b"A.gif")
    with servers.heliograph(tmp_path / "ours", work.keys) as ours:
        wanted = [ask(ours.port, request) for request in (good[0], forged)]
        (event,) = collecting.events(tmp_path / "ours")
    for name in ("go", "route"):
        with getattr(servers, name)(tmp_path / name, work.keys, kafka) as server:
            for request, (headers, body) in zip((good[0], forged), wanted, strict=True):
                theirs = ask(server.port, request)
                assert theirs[1] == body
                assert {n: theirs[0][n] for n in SAME} == {n: headers[n] for n in SAME}
            collecting.wait_for(lambda server=server: server.recorded() == 1)
            (produced,) = records(kafka, server.topic)
            own = ("journal", "seq", "ts")
            assert produced | {n: event[n] for n in own} == event, name


def records(kafka: str, topic: str) -> list[dict[str, Any]]:
    """Everything in a topic."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "g", "log_level": 0})
    consumer.assign([TopicPartition(topic, n, 0) for n in range(servers.PARTITIONS)])
    found = [*consumer.consume(1, timeout=60), *consumer.consume(10, timeout=0.5)]
    consumer.close()
    return [json.loads(message.value()) for message in found]


@contextmanager
def stalling(seconds: float) -> Iterator[int]:
    """A server that answers the pixel, but sleeps once after 20 requests; its port."""
    answer = b"HTTP/1.1 200 OK\r\n\r\n" + PIXEL
    asked = 0

    async def serve(incoming: asyncio.StreamReader, outgoing: asyncio.StreamWriter) -> None:
        nonlocal asked
        while await incoming.read(4096):
            asked += 1
            if asked == 20:
                time.sleep(seconds)
            outgoing.write(answer)

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        told.append(server.sockets[0].getsockname()[1])
        started.set()
        await ended.wait()

    told: list[int] = []
    started, loop, ended = threading.Event(), asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    started.wait(30)
    try:
        yield told[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


def test_a_stall_shows_in_every_request_that_was_due_in_it() -> None:
    with stalling(0.3) as port:
        client = Paced(port, 2)
        seconds = client.run([b"GET / HTTP/1.1\r\n\r\n"] * 100, 200.0)
    assert seconds >= 0.49
    waited = sum(latency > 0.02 for latency in client.latencies)
    assert waited >= 50  # 60 were due while it slept; two connections alone would show two


def test_only_what_is_below_the_bar_fails(tmp_path: Path) -> None:
    rows = [
        Figure("good", "1 us", met=True, bar=True),
        Figure("short of the goal", "2 us", "1 to 3", goal="<= 1 | 3", met=False, bar=True),
        Figure("below the bar", "4 us", met=False, bar=False),
        Figure("no goal", "left out: [none]"),
    ]
    assert [figure.failed for figure in rows] == [False, False, True, False]
    assert [table.met(figure) for figure in rows] == ["yes", "not yet", "NO", ""]
    text = table.markdown("a machine", [("edge", rows)])
    assert "| short of the goal | 2 us | 1 to 3 |  | <= 1 \\| 3 | not yet |" in text.splitlines()


def test_a_section_that_breaks_is_a_row_and_fails(tmp_path: Path) -> None:
    (row,) = bench.run("nothing", tmp_path, True)
    assert row.failed
    assert "ModuleNotFoundError" in row.measured


def test_the_command_tells_the_machine_and_writes_markdown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "run", lambda *_: iter([Figure("a figure", "1 us", met=True)]))
    written = tmp_path / "bench.md"
    assert bench.main(["edge", "--markdown", str(written)]) == 0
    assert "a figure" in capsys.readouterr().out
    head, _, *rows, _, note = written.read_text().splitlines()
    assert "synthesised" in note
    assert "Python" in head
    assert "Kafka" in head
    assert rows[2] == "| a figure | 1 us |  |  |  | yes |"
    monkeypatch.setattr(bench, "run", lambda *_: iter([Figure("a figure", "9 us", met=False)]))
    assert bench.main(["edge"]) == 1
