"""The shipper as a process, journals for it, and what then is in the topic."""

import asyncio
import contextlib
import os
import random
import re
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from collector.journal import Journal
from collector.settings import CollectorSettings
from schemas import event
from schemas.journal import directory
from schemas.kafka import MAX_RECORD
from schemas.settings import encode
from tests.collecting import ROOT, settings
from tests.kafka_broker import Broker

Seqs = dict[str, list[int]]


def config(data: Path, broker: Broker, name: str, **more: Any) -> CollectorSettings:
    return CollectorSettings(
        data=data, kafka=(broker.bootstrap,), topic=name, topic_partitions=2, **more
    )


def bodies(count: int) -> list[bytes]:
    one = event.event(int(time.time() * 1000), "open", campaign="c", send="c", recipient="r" * 40,
                      key_id="abcdef", user_agent="u" * 100)  # fmt: skip
    return [one] * count


class Writer:
    """Journals as the workers write them."""

    def __init__(self, wanted: CollectorSettings) -> None:
        self._settings = wanted
        self.live: list[Journal] = []
        self.expected: dict[str, int] = {}

    def start(self) -> Journal:
        made = Journal(
            self._settings.journal,
            directory.journal_id(time.time_ns() // 1_000_000, os.urandom(8)),
            time.time,
            segment_bytes=1 << 20,
        )
        self.live.append(made)
        return made

    def write(self, made: Journal, groups: int, size: int) -> None:
        for _ in range(groups):
            assert made.append(bodies(size))
        self.expected[made.id] = made.next_seq - 1

    def close(self) -> None:
        for made in self.live:
            made.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "journal").mkdir()
    settings(tmp_path)  # makes keys
    return tmp_path


class Process:
    """The shipper as its own process."""

    def __init__(self, wanted: CollectorSettings) -> None:
        self._health = socket.create_server(("127.0.0.1", 0))
        self._line = encode(wanted)
        self._log = (wanted.data / "shipper.log").open("ab")
        self.process = self.start()

    def start(self) -> "subprocess.Popen[bytes]":
        number = self._health.fileno()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "collector.shipper", str(number)],
            stdin=subprocess.PIPE,
            stderr=self._log,
            pass_fds=[number],
            cwd=ROOT,
        )
        assert self.process.stdin
        self.process.stdin.write(self._line)
        self.process.stdin.flush()
        return self.process

    async def ask(self, path: str) -> str:
        url = f"http://127.0.0.1:{self._health.getsockname()[1]}{path}"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return await answer.text()

    async def told(self, path: str, text: str) -> str:
        """What a page says once a text is in it."""
        async with asyncio.timeout(60):
            while text not in (said := await self.ask(path)):
                await asyncio.sleep(0.1)
        return said

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdin:
            with contextlib.suppress(OSError):
                self.process.stdin.close()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
        self.kill()
        self._health.close()
        self._log.close()


@contextlib.contextmanager
def shipping(wanted: CollectorSettings) -> Iterator[Process]:
    process = Process(wanted)
    try:
        yield process
    finally:
        process.close()


async def read_topic(broker: Broker, name: str) -> list[ConsumerRecord]:
    """Every record of a topic, those of a partition in order."""
    async with AIOKafkaConsumer(
        bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest"
    ) as consumer:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
        await admin.start()
        described = await admin.describe_topics([name])
        await admin.close()
        partitions = [TopicPartition(name, p["partition"]) for p in described[0]["partitions"]]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found: list[ConsumerRecord] = []
        async with asyncio.timeout(60):
            while any([await consumer.position(p) < ends[p] for p in partitions]):
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    found += records
        return found


def checked(records: list[ConsumerRecord]) -> Seqs:
    """The seqs of each journal as they stand in the topic; every record is what it says it is."""
    seqs: Seqs = defaultdict(list)
    homes: dict[str, int] = {}
    for record in records:
        journal = record.key.decode()
        assert homes.setdefault(journal, record.partition) == record.partition
        assert len(record.value) <= MAX_RECORD
        headers = dict(record.headers)
        first, count = int(headers["first_seq"]), int(headers["count"])
        here = [int(seq) for seq in re.findall(rb'^{"journal":"%b","seq":(\d+),' % record.key,
                                               record.value, re.MULTILINE)]  # fmt: skip
        assert here == list(range(first, first + count))
        assert record.value.count(b"\n") == count
        seqs[journal] += here
    return seqs


def in_order(seqs: list[int]) -> bool:
    """Whether each seq first comes after the one before it, repetitions aside."""
    return list(dict.fromkeys(seqs)) == sorted(set(seqs))


async def shipped(writer: Writer, wanted: CollectorSettings, seconds: float = 60.0) -> None:
    """Wait until every position stands behind everything written."""
    async with asyncio.timeout(seconds):
        while any(
            directory.read_position(wanted.journal / name) <= last
            for name, last in writer.expected.items()
        ):
            await asyncio.sleep(0.05)


@pytest.fixture
def name() -> str:
    return f"events-{random.getrandbits(48):x}"
