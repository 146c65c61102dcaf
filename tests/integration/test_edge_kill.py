"""The collector as its processes: what was answered is in a journal, whatever is killed."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from collector import collect
from collector.settings import CollectorSettings
from schemas import keyring
from schemas.journal import directory
from tests.collecting import Collector, alive, collecting, events, mint, settings, wait_for

pytestmark = pytest.mark.kill


class Load:
    """Threads that fetch a pixel with a nonce as user agent and remember what was answered."""

    def __init__(self, collector: Collector, *, keep_alive: bool = True, threads: int = 6) -> None:
        self.answered: set[str] = set()
        self.asked: set[str] = set()
        self.refused = 0
        self._keep_alive = keep_alive
        self._address = ("127.0.0.1", collector.port)
        self._path = mint(collector.data, "").pixel_url
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(threads)]

    def _run(self, number: int) -> None:
        count = 0
        while not self._stop.is_set():
            try:
                with socket.create_connection(self._address, timeout=60) as sock:
                    for _ in range(200 if self._keep_alive else 1):
                        count += 1
                        if not self._ask(sock, f"{number}-{count}") or self._stop.is_set():
                            break
            except ConnectionRefusedError:
                self.refused += 1
                time.sleep(0.01)
            except OSError:
                continue  # killed in the middle: not answered

    def _ask(self, sock: socket.socket, nonce: str) -> bool:
        head = f"GET {self._path} HTTP/1.1\r\nHost: px\r\nUser-Agent: {nonce}\r\n\r\n"
        sock.sendall(head.encode())
        self.asked.add(nonce)
        answer = b""
        while not answer.endswith(b"\x3b"):
            part = sock.recv(4096)
            if not part:
                return False
            answer += part
        assert answer.startswith(b"HTTP/1.1 200 ")
        self.answered.add(nonce)
        return b"Connection: close" not in answer

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def recorded(data: Path) -> list[str]:
    return [event["user_agent"] for event in events(data)]


def check(load: Load, data: Path) -> None:
    """Every answer has its event, no event comes twice."""
    found = recorded(data)
    assert len(found) == len(set(found))
    assert load.answered <= set(found)
    assert len(load.answered) > 200


def test_everything_killed_at_once(tmp_path: Path) -> None:
    wanted = settings(tmp_path / "data", workers=2)
    with collecting(wanted) as collector, Load(collector) as load:
        wait_for(lambda: len(load.answered) > 200)
        for pid in (collector.process.pid, *collector.children()):
            os.kill(pid, signal.SIGKILL)
        collector.process.wait()
    check(load, collector.data)
    with collecting(wanted) as again:  # new journals beside the old ones
        wait_for(again.ready)
        assert len(directory.journals(wanted.journal)) == 4


def test_what_only_waits_in_the_queue_is_answered(tmp_path: Path) -> None:
    """A worker dies with connections waiting that nobody has accepted: its successor does."""
    with collecting(settings(tmp_path / "data", workers=2)) as collector:
        workers = collector.children("collector.worker")
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        with Load(collector, keep_alive=False, threads=30) as load:
            wait_for(lambda: len(load.asked) == 30)
            assert load.answered == set()
            os.kill(workers[0], signal.SIGKILL)
            load._stop.set()  # each asks once
            os.kill(workers[1], signal.SIGCONT)
        assert len(load.answered) == 30
        assert load.refused == 0
    assert set(recorded(collector.data)) == load.answered


def test_a_burst_of_connections_is_spread(tmp_path: Path) -> None:
    """Of 60 that are opened at once and kept alive, no worker gets nearly all."""
    with collecting(settings(tmp_path / "data", workers=2)) as collector:
        kept = [socket.create_connection(("127.0.0.1", collector.port)) for _ in range(60)]
        for connection in kept:
            connection.sendall(b"GET /o/x.gif HTTP/1.1\r\nHost: x\r\n\r\n")
        for connection in kept:
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        page = collector.ask("/metrics")[1]
        for connection in kept:
            connection.close()
    shares = re.findall(r'hits_total\{kind="open",process="\S+",result="malformed"\} (\S+)', page)
    assert sum(map(float, shares)) == 60
    assert min(map(float, shares)) >= 10


def test_orphans_drain(tmp_path: Path) -> None:
    with collecting(settings(tmp_path / "data", workers=2)) as collector:
        children = collector.children()
        assert len(children) == 2
        with Load(collector) as load:
            wait_for(lambda: len(load.answered) > 200)
            collector.process.kill()
            collector.process.wait()
            wait_for(lambda: not any(map(alive, children)))
    check(load, collector.data)
    for journal in directory.journals(collector.data / "journal"):
        assert directory.is_sealed(journal)


def test_a_stalled_request_does_not_hold_up_the_end(tmp_path: Path) -> None:
    wanted = settings(tmp_path / "data", drain_seconds=10)
    with collecting(wanted) as collector, contextlib.ExitStack() as open_connections:
        for start in (b"", b"GET /o/x.gif HTT", b"GET /o/x.gif HTTP/1.1\r\nHost: a\r\n"):
            connection = socket.create_connection(("127.0.0.1", collector.port))
            open_connections.enter_context(connection).sendall(start)
        time.sleep(0.1)
        began = time.monotonic()
        assert collector.stop() == 0
        assert time.monotonic() - began < 9


def test_health_and_metrics_of_all(tmp_path: Path) -> None:
    with collecting(settings(tmp_path / "data", workers=2)) as collector:
        with Load(collector, threads=2) as load:
            wait_for(lambda: len(load.answered) > 50)
        assert collector.ask("/healthz") == (200, "running\n")
        wait_for(lambda: collector.ask("/readyz") == (200, "ok\n"))
        page = collector.ask("/metrics")[1]
        assert page.count("# TYPE heliograph_hits_total counter") == 1
        total = sum(
            float(line.rpartition(" ")[2])
            for line in page.splitlines()
            if line.startswith("heliograph_hits_total") and 'result="recorded"' in line
        )
        assert 'process="worker-0"' in page
        assert 'process="worker-1"' in page
        assert total >= len(load.answered)
        pid = collector.children("collector.worker")[0]
        os.kill(pid, signal.SIGSTOP)
        status, text = collector.ask("/readyz")
        assert (status, text.count("not up")) == (503, 1)
        os.kill(pid, signal.SIGCONT)
        wait_for(collector.ready)


def test_the_cap_is_told_and_left(tmp_path: Path) -> None:
    limits: dict[str, Any] = {"journal_max_bytes": 1 << 20, "journal_segment_bytes": 1 << 16}
    wanted = settings(tmp_path / "data", **limits)
    filler = wanted.journal / directory.journal_id(1, bytes(8))
    filler.mkdir(parents=True)
    (filler / directory.segment_name(1)).write_bytes(bytes(1 << 20))
    with collecting(
        wanted.__class__(data=wanted.data, port=0, health_port=0, **limits)
    ) as collector:
        with Load(collector, threads=1) as load:
            wait_for(lambda: len(load.answered) > 10)  # answered all the same
        told = (503, "worker-0: the journal is at its cap: events are lost\n")
        wait_for(lambda: collector.ask("/readyz") == told)
        (filler / directory.segment_name(1)).unlink()
        wait_for(collector.ready)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return settings(tmp_path / "data").data


def test_it_does_not_start_without_keys(data: Path) -> None:
    (data / "keys.json").unlink()
    with pytest.raises(collect.StartError, match=r"no key file at .*`heliograph up`"):
        asyncio.run(collect.serve(settings_of(data)))


def test_it_does_not_start_on_the_journal_of_another_ring(data: Path) -> None:
    collect.check(settings_of(data))
    collect.check(settings_of(data))
    content = keyring.create(lambda n: b"o" * n, 1)
    keyring.write(data / "keys.json", content, replace=True)
    with pytest.raises(collect.StartError, match=r"belongs to the key ring [0-9a-f]{16}"):
        asyncio.run(collect.serve(settings_of(data)))


def test_it_does_not_start_on_a_port_that_is_taken(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wanted = settings_of(data, port=taken.getsockname()[1])
        with pytest.raises(collect.StartError, match=r"cannot listen on 127\.0\.0\.1 port"):
            asyncio.run(collect.serve(wanted))


def settings_of(data: Path, **more: Any) -> CollectorSettings:
    """Settings for a directory as it is, no keys made."""
    return CollectorSettings(data=data, **{"port": 0, "health_port": 0, **more})
