"""The load tests against the real line: what must end well does, and what must not does not."""

import asyncio
import os
import re
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from loadtest.scenarios import PIXEL, SCENARIOS
from tests.e2e.line import Lines, ask, environment, rows
from tests.engine import Engine
from tests.kafka_broker import Broker
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
LOCUST = ("-m", "locust", "-f", ROOT / "loadtest" / "locustfile.py")


async def start(*words: object, **more: str) -> asyncio.subprocess.Process:
    """A Python program, in a process group of its own."""
    return await asyncio.create_subprocess_exec(
        sys.executable, *map(str, words), cwd=ROOT, env=environment(**more), start_new_session=True,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip


async def said(process: asyncio.subprocess.Process) -> tuple[int, str]:
    """Its exit code and all that it printed."""
    async with asyncio.timeout(240):
        out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


async def load(*words: object) -> tuple[int, str]:
    """`python -m loadtest`, as `make load` runs it."""
    return await said(await start("-m", "loadtest", *words))


def numbers(text: str, line: str) -> list[int]:
    """The numbers of a line of the verdict."""
    (found,) = re.findall(rf"^  {line} +(.*)$", text, re.MULTILINE)
    return [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*(?= )", found)]


async def test_each_scenario_ends_well(lines: Lines) -> None:
    up = lines.up("--workers", 2)
    given = ("--data", up.data, "--rate", 100, "--seconds", 2)
    ends = await asyncio.gather(*(load("--scenario", name, *given) for name in SCENARIOS))
    for name, (code, text) in zip(SCENARIOS, ends, strict=True):
        # All at once on a small machine: being late is no fault of theirs.
        assert code in (0, 3), text
        assert f"that runs on {up.data}" in text
        planned, answered, wrong, none = numbers(text, "requests")
        assert (planned, wrong, none) == (200, 0, 0), text
        kinds = SCENARIOS[name].mix
        stored, lost, doubled, extra = numbers(text, "reconcile")[:4]
        assert (lost, doubled, extra) == (0, 0, 0)
        if "bad" not in kinds:
            assert stored == answered
        elif list(kinds) == ["bad"]:
            assert stored == 0
        else:  # one in a hundred of them, so there may be none
            assert 0.9 * answered < stored <= answered
    sql = "SELECT kind, uniqExact(campaign) AS campaigns, uniqExact(user_agent) AS agents FROM events GROUP BY kind"  # noqa: E501
    seen = {row["kind"]: row for row in rows("sql", sql, "--data", up.data)}
    assert seen["click"]["campaigns"] >= 3
    assert seen["open"]["campaigns"] >= 3
    assert seen["open"]["agents"] > 5


@dataclass
class Front:
    """A stand-in before the edge that does not always do what it should to a pixel."""

    edge: str
    fault: str
    seen: Counter[str] = field(default_factory=Counter)

    async def pixel(self, request: web.Request) -> web.StreamResponse:
        self.seen["all"] += 1
        spoil = self.seen["all"] % 10 == 0
        self.seen["spoilt"] += spoil
        if not (spoil and self.fault == "forgets"):
            await self.forward(request)
        if spoil and self.fault == "repeats":
            await self.forward(request)
        if spoil and self.fault == "hangs up" and request.transport:
            request.transport.close()
        body = PIXEL[:-1] if spoil and self.fault == "cuts" else PIXEL
        return web.Response(body=body, content_type="image/gif")

    async def forward(self, request: web.Request) -> web.Response:
        kept = {name: request.headers.get(name, "") for name in ("Authorization", "Content-Type")}
        async with self.session.request(
            request.method, self.edge + request.path, data=await request.read(), headers=kept,
            allow_redirects=False,
        ) as answer:  # fmt: skip
            headers = {n: v for n, v in answer.headers.items() if n in ("Location", "Content-Type")}
            return web.Response(status=answer.status, body=await answer.read(), headers=headers)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Its URL, while it serves."""
        app = web.Application(client_max_size=1 << 30)
        app.router.add_get("/o/{token}", self.pixel)
        app.router.add_route("*", "/{rest:.*}", self.forward)
        async with aiohttp.ClientSession(auto_decompress=False) as self.session:
            runner = web.AppRunner(app)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            try:
                yield f"http://127.0.0.1:{runner.addresses[0][1]}"
            finally:
                await runner.cleanup()


FAULTS = {
    "forgets": "{} answered, and no row, e.g. open of reader-",
    "repeats": "{} rows that nobody asked for, e.g. open of reader-",
    "cuts": "{} answers were wrong: 42 bytes that are not the pixel",
    "hangs up": "{} requests had no answer: HTTPConnectionClosed",
}


async def test_what_must_not_end_well_does_not(lines: Lines) -> None:
    up = lines.up()
    fronts = [Front(up.url, fault) for fault in FAULTS]

    async def through(front: Front) -> tuple[int, str]:
        async with front.serving() as url:
            given = ("--host", url, "--rate", 100, "--seconds", 2)
            return await load("--data", up.data, *given)

    ends = await asyncio.gather(*map(through, fronts))
    for front, (code, text) in zip(fronts, ends, strict=True):
        assert code == 1, text
        spoilt = front.seen["spoilt"]
        assert spoilt > 10
        told = re.search("wrong      " + FAULTS[front.fault].format(r"(\d+)"), text)
        assert told, text
        # A row too many may come after the last that was asked for: nobody waits for it.
        fewest = 1 if front.fault == "repeats" else spoilt
        assert fewest <= int(told[1]) <= spoilt, text
        assert "NOT OK" in text
        if front.fault == "hangs up":  # each is a row, and the verdict knows that it may be
            assert numbers(text, "reconcile")[1:5] == [0, 0, 0, spoilt]


async def test_one_master_and_two_workers_know_it_all(lines: Lines) -> None:
    up = lines.up()
    port = free_port()
    given = ("--scenario", "steady", "--rate", 150, "--seconds", 3, "--data", up.data, "--alone")
    master = await start(
        *LOCUST, "--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port,
        "--expect-workers", 2, "--headless", "--only-summary", "--users", 8, "--spawn-rate", 8,
        *given,
    )  # fmt: skip
    workers = [
        await start(*LOCUST, "--worker", "--master-host", "127.0.0.1", "--master-port", port)
        for _ in range(2)
    ]
    (code, text), *others = await asyncio.gather(*(said(one) for one in (master, *workers)))
    assert code in (0, 3), text
    assert "from 2 workers" in text
    planned, answered, wrong, none = numbers(text, "requests")
    assert (planned, answered, wrong, none) == (450, 450, 0, 0)
    stored, lost, doubled, extra = numbers(text, "reconcile")[:4]
    assert (lost, doubled, extra) == (0, 0, 0)
    assert 0.9 * answered < stored <= answered  # but for the broken links, if there were any
    assert [code for code, _ in others] == [0, 0], others


async def test_ctrl_c_gives_a_verdict_and_ends_the_line_that_was_started(tmp_path: Path) -> None:
    given = ("-m", "loadtest", "--rate", 100, "--seconds", 60)
    process = await start(*given, HELIOGRAPH_DATA=str(tmp_path / "none"))
    assert process.stdout
    text = ""
    while "/s on average" not in text:
        async with asyncio.timeout(120):
            text += (await process.stdout.readline()).decode()
        assert not process.stdout.at_eof(), text
    await asyncio.sleep(1.5)
    os.killpg(process.pid, signal.SIGINT)
    code, rest = await said(process)
    assert code in (0, 3), rest
    assert "interrupted after" in rest
    assert "no `make up` runs" in text
    (port,) = re.findall(r"at http://127\.0\.0\.1:(\d+)", text)
    with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", int(port))):
        pytest.fail("the line that was started for the run is still there")
    assert not (tmp_path / "none").exists()


async def test_what_cannot_be_run_says_why(tmp_path: Path) -> None:
    ends = await asyncio.gather(
        load("--clickhouse", "http://127.0.0.1:1", "--data", tmp_path),
        load("--host", "http://127.0.0.1:1", "--data", tmp_path),
        said(await start(*LOCUST, "--headless", "--data", tmp_path / "none")),
        load("--host", "http://127.0.0.1:1", "--rate", 0),
        load("--data", tmp_path / "none"),
    )
    assert [code for code, _ in ends] == [2] * 5, ends
    for (_, text), words in zip(
        ends,
        (
            "name the edge",
            "nothing is in",
            "no `heliograph up`",
            "less than one request",
            "no `make up` runs on",
        ),
        strict=True,
    ):
        assert words in text
        assert "Traceback" not in text


async def test_a_line_through_kafka(lines: Lines, kafka_broker: Broker, tmp_path: Path) -> None:
    engine = await asyncio.to_thread(Engine, tmp_path / "engine")  # it ends with its input
    data, store = tmp_path / "data", ("--clickhouse", engine.url)
    kafka = ("--kafka", kafka_broker.bootstrap, "--topic", "load", "--health-port", 0)
    ask("migrate", *store)
    ask("key", "new", "--data", data)
    collect = lines.start("collect", "collect", *kafka, "--data", data, "--port", 0)
    lines.start("consume", "consume", *kafka, *store)
    edge = await asyncio.to_thread(collect.told, r"collecting at (\S+)")
    given = ("--rate", 200, "--seconds", 2, "--host", edge, *store, "--data", data)
    code, text = await load("--scenario", "clicks", *given)
    assert code in (0, 3), text
    assert numbers(text, "reconcile")[:4] == [400, 0, 0, 0], text
    engine.stop()
