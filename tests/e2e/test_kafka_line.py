"""From one machine to Kafka and ClickHouse, and everything killed there."""

import asyncio
import http.client
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.collecting import events
from tests.e2e.line import Line, Lines, Up, ask, hits, rows, run, wait_for
from tests.e2e.readers import Readers
from tests.e2e.test_kill_everything import hits_are_consistent, minted, stored
from tests.engine import Engine
from tests.kafka_broker import Broker
from tests.ports import free_port

pytestmark = pytest.mark.kill


@pytest.fixture
def clickhouse(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path / "engine")
    yield engine
    engine.stop()


class Site:
    """A collector, a consumer, and the addresses that they share."""

    def __init__(self, lines: Lines, broker: Broker, engine: Engine) -> None:
        self.lines, self.kafka, self.url = lines, broker.bootstrap, engine.url
        self.data, self.port = lines.home / "data", free_port()
        self.edge = f"http://127.0.0.1:{self.port}"
        self.store = ("--clickhouse", self.url)

    def collect(self) -> Line:
        """Start a collector; it answers when this returns."""
        found = self.lines.start(
            "collect", "collect", "--kafka", self.kafka, "--data", self.data,
            "--port", self.port, "--health-port", 0, "--workers", 2,
        )  # fmt: skip
        found.told(r"(collecting at)")
        return found

    def consume(self) -> Line:
        """Start a consumer."""
        return self.lines.start(
            "consume", "consume", "--kafka", self.kafka, *self.store, "--health-port", 0
        )

    def post(self, *sends: dict[str, Any]) -> list[dict[str, Any]]:
        """POST /v1/sends."""
        key = (self.data / "api.key").read_text().strip()
        body = "".join(json.dumps(send) + "\n" for send in sends)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("POST", "/v1/sends", body, {"Authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        assert answer.status == 200, text
        return [json.loads(line) for line in text.splitlines()]

    def total(self) -> int:
        """Rows of `events`."""
        return int(rows("sql", "SELECT count() AS n FROM events", *self.store)[0]["n"])


def kill(line: Line, command: str) -> None:
    """Kill one process of a kind, if one runs at the moment."""
    for pid in line.pids(command)[:1]:
        os.kill(pid, signal.SIGKILL)


async def on_one_machine(site: Site) -> Readers:
    """The first days: `up` alone, and some opens."""
    up: Up = await asyncio.to_thread(site.lines.up, port=site.port)
    earlier = Readers(site.port, await asyncio.to_thread(minted, site.data, site.lines.home, 5))
    async with earlier.reading(1):
        await asyncio.sleep(0.3)
    assert (await asyncio.to_thread(up.stop))[0] == 0
    earlier.check(stored("--data", site.data))
    return earlier


async def test_the_way_to_kafka(
    lines: Lines, own_kafka_broker: Broker, clickhouse: Engine, tmp_path: Path
) -> None:
    site = Site(lines, own_kafka_broker, clickhouse)
    earlier = await on_one_machine(site)
    counted_here = hits(site.data, "load")

    assert "applied" in ask("migrate", *site.store)
    assert "nothing to do" in ask("migrate", *site.store)
    collect = await asyncio.to_thread(site.collect)
    consume = site.consume()

    # Its journals have one owner: asking the old store must not take events away from Kafka.
    for question in (("report",), ("sql", "SELECT 1"), ("audit",)):
        done = run(*question, "--data", site.data)
        assert done.returncode != 0, question
        assert "--clickhouse" in done.stderr, done.stderr

    urls = [told["pixel_url"] for told in site.post(
        {"campaign": "load", "recipient": "by-post", "message_id": "m1@example.org"},
        {"campaign": "load", "recipient": "someone@example.org"},
        {"campaign": "load", "recipient": "by-post-too"},
    ) if "pixel_url" in told]  # fmt: skip
    assert len(urls) == 2
    remote = ("--remote", site.edge, "--api-key-file", site.data / "api.key")
    urls += await asyncio.to_thread(minted, site.data, tmp_path, 20, *remote)
    readers = Readers(site.port, urls)
    async with readers.reading(2, pause=0.002):
        began = time.monotonic()
        await asyncio.to_thread(wait_for, lambda: stored(*site.store))
        print(f"counted in ClickHouse {time.monotonic() - began:.1f} s after the first open")
        consume = await havoc(site, own_kafka_broker, collect, consume)
    await asyncio.to_thread(
        wait_for, lambda: readers.answered <= stored(*site.store).keys(), 120, "all is counted"
    )
    print(f"{len(readers.answered)} of {len(readers.sent)} answered")
    readers.check(stored(*site.store))
    assert not earlier.answered & stored(*site.store).keys()  # it went on at its position
    asked = ("report", "campaigns", "--campaign", "load", *site.store)
    await asyncio.to_thread(wait_for, lambda: rows(*asked)[0]["sends"] == 22, 60, "all sends")
    (load,) = rows(*asked)
    assert (load["recipients"], load["delivered"], load["apparent_rate"]) == (22, 22, 1)
    # Two counts beside a consumer that may still take what was asked, but not answered.
    await asyncio.to_thread(wait_for, lambda: hits_are_consistent(*site.store), 60, "as many hits")

    await reship(site, earlier, readers)
    code, took = await asyncio.to_thread(collect.stop)
    print(f"collect drained in {took:.1f} s")
    assert (code, took < 30) == (0, True)
    code, took = await asyncio.to_thread(consume.stop)
    assert (code, took < 30) == (0, True)
    audit = run("audit", *site.store, "--data", site.data)
    assert audit.returncode == 0, audit.stdout + audit.stderr
    assert len(rows("audit", *site.store, "--data", site.data)) >= 4
    # Back on one machine, `up` counts on; what Kafka took stays there.
    up: Up = await asyncio.to_thread(lines.up, port=site.port)
    assert hits(site.data, "load") == counted_here
    assert (await asyncio.to_thread(up.stop))[0] == 0


async def havoc(site: Site, broker: Broker, collect: Line, consume: Line) -> Line:
    """Kill -9 everything but the readers, some of it often; the consumer that runs at the end."""
    chance = random.Random(5)
    for number, victim in enumerate(["shipper", "worker", "consume"] * 2 + ["worker"]):
        await asyncio.sleep(chance.uniform(0.3, 1.2))
        if victim == "consume":
            await asyncio.to_thread(consume.kill9)
            consume = site.consume()
        else:
            await asyncio.to_thread(kill, collect, f"collector.{victim}")
        if number == 4:
            await asyncio.to_thread(broker.kill9)
            await asyncio.sleep(0.5)  # what is read now is on its way to nobody
            await asyncio.to_thread(kill, collect, "collector.shipper")
            await asyncio.to_thread(broker.start)
    assert collect.process.poll() is None
    return consume


async def reship(site: Site, earlier: Readers, readers: Readers) -> None:
    """All that is kept once more: what is stored stays once, what `up` had counted comes along."""
    for _ in range(2):
        ask("reship", "--data", site.data)
        await asyncio.to_thread(
            wait_for, lambda: not (site.data / "journal" / "reship").exists(), 60, "obeyed"
        )
    everything = len(events(site.data))
    await asyncio.to_thread(wait_for, lambda: site.total() >= everything, 90, "history came along")
    await asyncio.sleep(2.5)
    assert site.total() == everything
    found = stored(*site.store)
    readers.check({k: n for k, n in found.items() if k not in earlier.sent})
    earlier.check({k: n for k, n in found.items() if k in earlier.sent})
