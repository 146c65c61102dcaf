"""Connections that are sockets until they need more; nobody sees a difference."""

import asyncio
import contextlib
import errno
import os
import re
import resource
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from collector.listener import Listener
from collector.pixel import PIXEL
from collector.worker import Worker
from tests.collecting import collecting, events, mint, settings

HEAD = b"GET %s HTTP/1.1\r\nHost: px\r\n\r\n"
LAST = b"GET %s HTTP/1.1\r\nHost: px\r\nConnection: close\r\n\r\n"


class Edge:
    """A worker behind a listener, in this process."""

    def __init__(self, data: Path, **more: Any) -> None:
        self.worker = Worker(settings(data, **more))
        self.path = mint(data, "").pixel_url.encode()
        self.sock = socket.create_server(("127.0.0.1", 0))

    async def start(self) -> None:
        self.runner = self.worker.runner()
        await self.runner.setup()
        assert self.runner.server is not None
        self.hot = self.worker.hot_path(self.runner.server)
        self.listener = Listener(self.sock, self.hot)

    async def stop(self) -> None:
        self.listener.close()
        self.hot.close()
        await self.runner.cleanup()
        await self.worker.commit.close()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.address)

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    @property
    def port(self) -> int:
        return int(self.sock.getsockname()[1])

    def recorded(self) -> int:
        return len(events(self.worker.settings.data))


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    running = Edge(tmp_path / "data")
    await running.start()
    yield running
    await running.stop()


async def pixels(reader: asyncio.StreamReader, count: int) -> None:
    """Read so many answers and check that they are pixels."""
    for _ in range(count):
        async with asyncio.timeout(30):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert (await reader.readexactly(43)).startswith(b"GIF89a")


async def test_a_connection_of_one_request(edge: Edge) -> None:
    for _ in range(3):
        reader, writer = await edge.connect()
        writer.write(LAST % edge.path)
        await pixels(reader, 1)
        assert await reader.read() == b""
        writer.close()
    assert edge.recorded() == 3
    assert not edge.hot.connections


async def test_an_idle_connection_is_closed_whatever_the_clock_says(edge: Edge) -> None:
    """Idle is what asked nothing for so many sweeps: a clock may jump by hours."""
    reader, writer = await edge.connect()
    writer.write(HEAD % edge.path)
    await pixels(reader, 1)
    edge.hot._clock = lambda: time.time() + 7200
    edge.hot.sweep(2)
    writer.write(HEAD % edge.path)  # in the first round
    await pixels(reader, 1)
    for left in (1, 1, 0):
        assert edge.hot.connections
        edge.hot.sweep(2)
        assert len(edge.hot.connections) == left
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()


async def test_a_connection_that_stays(edge: Edge) -> None:
    reader, writer = await edge.connect()
    for _ in range(5):
        writer.write(HEAD % edge.path)
        await pixels(reader, 1)
    writer.write((HEAD * 3 + LAST) % ((edge.path,) * 4))
    await pixels(reader, 4)
    assert await reader.read() == b""
    assert edge.recorded() == 9


async def test_a_first_request_that_is_cut(edge: Edge) -> None:
    reader, writer = await edge.connect()
    request = LAST % edge.path
    writer.write(request[:20])
    await asyncio.sleep(0.05)
    writer.write(request[20:])
    await pixels(reader, 1)
    assert edge.recorded() == 1


async def test_a_pixel_and_then_something_else(edge: Edge) -> None:
    reader, writer = await edge.connect()
    writer.write(HEAD % edge.path + b"GET /nothing HTTP/1.1\r\nHost: px\r\n\r\n")
    await pixels(reader, 1)
    async with asyncio.timeout(30):
        assert (await reader.readline()).startswith(b"HTTP/1.1 404 ")
        length = re.search(rb"Content-Length: (\d+)", await reader.readuntil(b"\r\n\r\n"))
        assert length
        await reader.readexactly(int(length[1]))
    writer.write(LAST % edge.path)
    await pixels(reader, 1)
    assert edge.recorded() == 2


async def test_one_who_ends_its_side_first_is_answered(edge: Edge) -> None:
    reader, writer = await edge.connect()
    writer.write(HEAD % edge.path)
    writer.write_eof()
    await pixels(reader, 1)
    async with asyncio.timeout(30):
        assert await reader.read() == b""
    assert not edge.hot.connections


async def test_one_who_goes_at_once_does_no_harm(edge: Edge) -> None:
    for linger in (b"\1\0\0\0\0\0\0\0", b"\0" * 8):  # by a reset, and in order
        with socket.create_connection(edge.address) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            sock.sendall(HEAD % edge.path)
    with socket.create_connection(edge.address):
        pass
    reader, writer = await edge.connect()
    writer.write(LAST % edge.path)
    await pixels(reader, 1)
    async with asyncio.timeout(30):
        while edge.hot.connections:
            await asyncio.sleep(0.01)


async def test_what_follows_the_last_request_takes_no_answer_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than is read at once, and what comes while the answer waits for its sync: a socket that
    is closed with bytes unread is reset.
    """
    monkeypatch.setattr(os, "fdatasync", lambda fd: time.sleep(0.2))

    def talk(edge: Edge, behind: bytes) -> bytes:
        with socket.create_connection(edge.address, timeout=10) as sock:
            sock.sendall(LAST % edge.path)
            time.sleep(0.05 if len(behind) < 1000 else 0)
            sock.sendall(behind)
            told = b""
            while data := sock.recv(4096):
                told += data
            return told

    for sync, behind in ("always", b"GET /"), ("interval", b"x" * 200_000):
        edge = Edge(tmp_path / sync, journal_sync=sync)
        await edge.start()
        told = await asyncio.to_thread(talk, edge, behind)
        assert (told.count(b"HTTP/1.1 200"), told.endswith(PIXEL)) == (1, True)
        await edge.stop()


@pytest.mark.parametrize("last", [b"", LAST])
async def test_answers_that_the_kernel_does_not_take_at_once(edge: Edge, last: bytes) -> None:
    edge.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, edge.address)
        count = 60
        asked = HEAD * count % ((edge.path,) * count) + (last and last % edge.path)
        await loop.sock_sendall(sock, asked)
        await asyncio.sleep(0.1)  # the answers are written, and most of them wait
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        reader, writer = await asyncio.open_connection(sock=sock)
        await pixels(reader, count + bool(last))
        if last:
            assert await reader.read() == b""
        writer.close()
    assert edge.recorded() == count + bool(last)


async def test_a_listener_that_rests_answers_and_wakes_again(edge: Edge) -> None:
    reader, writer = await edge.connect()

    async def ask() -> None:
        writer.write(HEAD % edge.path)
        await pixels(reader, 1)

    for _ in range(20):  # until the machine lets it: it rests for 10 ms at least
        edge.listener._taken, edge.listener._counted_at = 200, time.perf_counter() - 0.02
        await ask()
        if edge.listener._rests:
            break
    assert edge.listener._rests
    await ask()
    for _ in range(100):
        await asyncio.sleep(0.02)
        if not edge.listener._rests:
            break
    assert not edge.listener._rests
    await ask()
    writer.close()


async def test_no_descriptors_left_is_a_pause(edge: Edge) -> None:
    real = edge.listener._accept_one

    def full() -> tuple[int, object]:
        edge.listener._accept_one = real
        raise OSError(errno.EMFILE, "Too many open files")

    edge.listener._accept_one = full
    began = time.monotonic()
    reader, writer = await edge.connect()
    writer.write(LAST % edge.path)
    await pixels(reader, 1)
    assert time.monotonic() - began > 0.15


async def test_the_last_descriptors_are_the_journal_s(edge: Edge) -> None:
    """Without one it can neither sync nor begin a segment, and what is answered would be lost."""
    held = [os.dup(0) for _ in range(256)]  # so that the next are one after the other
    edge.listener._most = held[-1] + 3
    talks = []
    for answered in (True, True, False):  # each takes two, for its two ends
        reader, writer = await edge.connect()
        talks.append((reader, writer))
        writer.write(HEAD % edge.path)
        if answered:
            await pixels(reader, 1)
    await asyncio.sleep(0.5)
    assert edge.recorded() == 2
    talks[0][1].close()
    await pixels(talks[2][0], 1)
    for _, writer in talks[1:]:
        writer.close()
    for descriptor in held:
        os.close(descriptor)


async def test_a_fault_of_ours_ends_one_connection_only(edge: Edge) -> None:
    keys = edge.worker.keys
    ((start, (key_id, decrypt)),) = keys.openers.items()
    failed = False

    def faulty(*words: Any) -> bytes:
        nonlocal failed
        if not failed:
            failed = True
            raise RuntimeError("a fault")
        return decrypt(*words)

    keys.openers[start] = key_id, faulty
    first, second = [await edge.connect() for _ in range(2)]
    for _, writer in (first, second):
        writer.write(LAST % edge.path)
    assert await first[0].read() == b""
    await pixels(second[0], 1)


async def test_one_who_is_gone_before_the_sync_takes_no_answer_along(tmp_path: Path) -> None:
    class Transport:
        """As uvloop's: it may not be paused when it is closing."""

        def __init__(self, closing: bool) -> None:
            self.closing = closing
            self.answered = asyncio.Event()

        def get_extra_info(self, _: str) -> tuple[str, int]:
            return "127.0.0.1", 1

        def is_closing(self) -> bool:
            return self.closing

        def pause_reading(self) -> None:
            if self.closing:
                raise RuntimeError("Cannot pause_reading() when closing")

        resume_reading = pause_reading

        def write(self, data: bytes) -> None:
            assert data.endswith(PIXEL)
            self.answered.set()

    edge = Edge(tmp_path / "data", journal_sync="always")
    await edge.start()
    gone, there = Transport(closing=True), Transport(closing=False)
    for transport in (gone, there):
        connection = edge.hot()
        connection.connection_made(transport)  # type: ignore[arg-type]
        connection.data_received(HEAD % edge.path)
        edge.hot.closed(connection)
    async with asyncio.timeout(30):
        await there.answered.wait()
    assert not gone.answered.is_set()
    await edge.stop()
    assert edge.recorded() == 2


async def test_what_is_open_is_closed_at_the_end(edge: Edge) -> None:
    reader, writer = await edge.connect()
    writer.write(HEAD % edge.path)
    await pixels(reader, 1)
    edge.listener.close()
    edge.hot.close()
    async with asyncio.timeout(30):
        assert await reader.read() == b""
    with contextlib.suppress(OSError), socket.create_connection(edge.address, timeout=1) as sock:
        sock.sendall(HEAD % edge.path)
        assert sock.recv(1) == b""


def test_the_table_of_descriptors_need_not_grow(tmp_path: Path) -> None:
    with collecting(settings(tmp_path)) as collector:
        (worker,) = collector.children("collector.worker")
        status = Path(f"/proc/{worker}/status").read_text()
    found = re.search(r"FDSize:\s+(\d+)", status)
    assert found
    assert int(found[1]) >= min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 1 << 16)


async def test_a_half_closed_peer_that_aiohttp_answers(edge: Edge) -> None:
    for _ in range(20):
        reader, writer = await edge.connect()
        writer.write(b"GET /nothing HTTP/1.1\r\nHost: px\r\n\r\n")
        writer.write_eof()
        async with asyncio.timeout(30):
            assert (await reader.read()).startswith(b"HTTP/1.1 404 ")
        writer.close()


async def test_what_follows_waits_for_the_sync_of_what_was_first(tmp_path: Path) -> None:
    edge = Edge(tmp_path / "data", journal_sync="always")
    await edge.start()
    edge.worker.commit._syncer.submit(time.sleep, 0.3)
    reader, writer = await edge.connect()
    writer.write(HEAD % edge.path)
    await asyncio.sleep(0.1)  # it is new, and waits
    writer.write(b"GET /nothing HTTP/1.1\r\nHost: px\r\n\r\n")
    await pixels(reader, 1)
    async with asyncio.timeout(30):
        assert (await reader.readline()).startswith(b"HTTP/1.1 404 ")
    writer.close()
    await edge.stop()


async def test_a_stop_in_the_pause_for_descriptors(edge: Edge) -> None:
    edge.listener._polled.epoll.unregister(edge.listener._fd)  # as the pause does
    edge.listener.close()
