"""The supervisor on children of the simplest kind."""

import asyncio
import contextlib
import copy
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from collector.supervisor import Child, Supervisor, bind
from tests.collecting import ROOT, alive, wait_for

#: Writes its settings to the log, then ends on SIGTERM or at the end of stdin, logging which.
GOOD = """
import os, signal, sys
log = open(sys.argv[1], "a", buffering=1)
name = sys.argv[2]
def end(*_):
    log.write(name + " term\\n"); os._exit(0)
signal.signal(signal.SIGTERM, end)
log.write(name + " " + sys.stdin.readline().strip() + "\\n")
sys.stdin.read()
log.write(name + " eof\\n")
"""
STUBBORN = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.touch()
    return path


def child(log: Path, name: str, code: str = GOOD, order: int = 0) -> Child:
    return Child(name, (sys.executable, "-c", code, str(log), name), b"hello\n", order=order)


@contextlib.asynccontextmanager
async def running(
    *children: Child, drain: float = 5.0
) -> AsyncIterator[tuple[Supervisor, "asyncio.Task[int]"]]:
    supervisor = Supervisor(children, drain)
    task = asyncio.create_task(supervisor.run())
    try:
        yield supervisor, task
    finally:
        supervisor.stop()
        await task


async def until(condition: object, seconds: float = 60.0) -> float:
    assert callable(condition)
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds
        await asyncio.sleep(0.01)
    return time.monotonic() - began


async def test_what_dies_is_started_again(log: Path) -> None:
    async with running(child(log, "a")) as (supervisor, task):
        await until(lambda: log.read_text() == "a hello\n")
        first = supervisor.pids()["a"]
        os.kill(first, signal.SIGKILL)
        await until(lambda: log.read_text() == "a hello\n" * 2)
        assert supervisor.pids()["a"] != first
        supervisor.stop()
        assert await task == 0
        assert supervisor.pids() == {}
    assert log.read_text() == "a hello\na hello\na term\n"


async def test_what_keeps_dying_is_started_more_and_more_rarely(log: Path) -> None:
    code = 'import sys; open(sys.argv[1], "a").write("x"); sys.exit(3)'
    async with running(child(log, "a", code)) as (_, task):
        await asyncio.sleep(3)
        assert not task.done()
        assert len(log.read_text()) <= 5  # at 0, 0, 0.4, 1.2, 2.8 s and the child's own time
        await until(lambda: len(log.read_text()) >= 2)


async def test_what_lived_for_two_seconds_is_started_again_at_once(log: Path) -> None:
    """However often: a worker that is killed every 2 s was once away for 10."""
    seconds = itertools.count(step=2.0)
    supervisor = Supervisor([child(log, "a", "pass")], 5.0, lambda: next(seconds))
    task = asyncio.create_task(supervisor.run())
    began = time.monotonic()
    while next(copy.copy(seconds)) < 40:  # twenty lives
        assert time.monotonic() - began < 60
        await asyncio.sleep(0.01)
    supervisor.stop()
    await task


async def test_a_program_that_is_missing_does_not_end_the_others(log: Path) -> None:
    missing = Child("none", ("/nonexistent/program",), b"\n")
    async with running(missing, child(log, "a")) as (_, task):
        await until(lambda: log.read_text() == "a hello\n")
        assert not task.done()


async def test_children_end_in_their_order(log: Path) -> None:
    children = [child(log, "late", order=1), child(log, "early"), child(log, "also")]
    async with running(*children) as (supervisor, task):
        await until(lambda: log.read_text().count("hello") == 3)
        supervisor.stop()
        assert await task == 0
    assert log.read_text().splitlines()[-1] == "late term"


async def test_a_child_that_does_not_end_is_killed_in_time(log: Path) -> None:
    stubborn, late = child(log, "stubborn", STUBBORN), child(log, "late", order=1)
    async with running(stubborn, late, drain=2.0) as (supervisor, task):
        await until(lambda: "late hello" in log.read_text() and len(supervisor.pids()) == 2)
        await asyncio.sleep(0.3)
        began = time.monotonic()
        supervisor.stop()
        assert await task == 1
        assert time.monotonic() - began < 45
    assert log.read_text().endswith("late term\n")


async def test_a_drain_while_a_child_is_starting(log: Path) -> None:
    async with running(child(log, "a")) as (supervisor, task):
        await asyncio.sleep(0)
        supervisor.stop()
        assert await task == 0
        assert not supervisor.pids()


async def test_sockets_are_inherited_and_given_up_at_the_drain(log: Path) -> None:
    sock = bind("127.0.0.1", 0)
    address = sock.getsockname()
    code = """
import socket, sys
listener = socket.socket(fileno=int(sys.argv[1]))
while True:
    listener.accept()[0].sendall(b"served")
"""
    argv = (sys.executable, "-c", code, str(sock.fileno()))
    with sock:
        async with running(Child("a", argv, b"\n", (sock,))) as (supervisor, task):
            for _ in range(2):
                reader, writer = await asyncio.open_connection(*address)
                assert await asyncio.wait_for(reader.read(10), 60) == b"served"
                writer.close()
                pid = supervisor.pids()["a"]
                os.kill(pid, signal.SIGKILL)
                while alive(pid):  # it may still accept; after that the next waits in the queue
                    await asyncio.sleep(0.01)
            supervisor.stop()
            assert await task == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=1)


def test_children_see_the_end_of_a_killed_supervisor(log: Path) -> None:
    code = (
        "import asyncio; from pathlib import Path\n"
        "from collector.supervisor import Supervisor\n"
        "from tests.integration.test_supervisor import child\n"
        f"log = Path({str(log)!r})\n"
        "asyncio.run(Supervisor([child(log, 'a'), child(log, 'b')], 5.0).run())"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    wait_for(lambda: log.read_text().count("hello") == 2)
    parent.kill()
    parent.wait()
    wait_for(lambda: log.read_text().count("eof") == 2)
    assert not alive(parent.pid)


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1 port {port}"):
            bind("127.0.0.1", port)
