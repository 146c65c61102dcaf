"""The fence: an insert that outlives its client, or comes late, never doubles a batch.

Inserts into the store are made slow by a constraint that sleeps, so that they overlap. Each claim
has its control: without the fence the same steps do double.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from consumer.batch import Batch, Block, Partition
from consumer.errors import Fenced
from consumer.loop import Loop
from consumer.metrics import Metrics
from consumer.migrate import migrate
from consumer.settings import ConsumerSettings
from consumer.source import OnRelease
from consumer.stage import Stage
from consumer.store import TableGone, connect
from consumer.verdicts import Verdicts
from consumer.writer import Writer, writers
from schemas import event
from tests.collecting import wait_for
from tests.engine import Engine, clickhouse_url, client, engine
from tests.faults.load import assert_once, body, new_journal, stored, until
from tests.faults.processes import ROOT
from tests.faults.proxy import Fault, Proxy

__all__ = ["clickhouse_url", "engine"]

PARTITION: Partition = ("t", 3)
EVENTS = 60


@pytest.fixture
def database(clickhouse_url: str) -> Iterator[tuple[str, str]]:
    """The URL of a server, and a migrated database of one's own on it."""
    name = f"fence_{new_journal()}"
    admin = client(clickhouse_url)
    migrate(admin, name)
    yield clickhouse_url, name
    admin.command(f"DROP DATABASE {name} SYNC")


def a_block(journal: str, events: int = EVENTS, first_seq: int = 1) -> Block:
    data = event.block(journal, first_seq, [body(n) for n in range(events)])
    return Block(*PARTITION, first_seq, journal, first_seq, events, data)


def a_batch(*blocks: Block) -> Batch:
    batch = Batch(1_000_000, 1 << 28, 0.05)
    for block in blocks:
        batch.add(block, 0.0)
    return batch


def installed(at: Any, name: str) -> Verdicts:
    verdicts = Verdicts(name)
    verdicts.install(at)
    return verdicts


def a_writer(at: Any, name: str, verdicts: Verdicts | None = None) -> Writer:
    verdicts = verdicts or installed(at, name)
    return Writer(at, name, PARTITION, verdicts, random=os.urandom, clock=time.time)


def both_writers(at: Any, name: str, loader: Any = None) -> tuple[Writer, Writer]:
    how = {"random": os.urandom, "clock": time.time, "loader": loader}
    return writers(at, name, PARTITION, verdicts=Verdicts(name), **how)


def make_slow(at: Any, name: str, seconds: float) -> None:
    """From now on an insert of `EVENTS` events takes so long."""
    each = seconds / EVENTS
    at.command(f"ALTER TABLE {name}.events ADD CONSTRAINT slow CHECK sleepEachRow({each}) = 0")


def inserts(at: Any, name: str) -> int:
    """How many inserts into the events are running in the server."""
    text = f"query_kind = 'Insert' AND startsWith(trimLeft(query), 'INSERT INTO {name}.events')"
    found = at.query(f"SELECT count() FROM system.processes WHERE {text}")
    return int(found.result_rows[0][0])


WRITE_AND_DIE = """
import os, sys, time
from consumer.writer import Writer, writers
from tests.engine import client
from tests.integration.test_fence import a_batch, a_block, a_writer
url, name, journal = sys.argv[1:]
writer = a_writer(client(url), name)
writer.stage.fence()
writer.write(a_batch(a_block(journal)))
"""


def killed_while_inserting(url: str, name: str, journal: str) -> None:
    """A consumer that is killed while the server does its insert."""
    command = [sys.executable, "-c", WRITE_AND_DIE, url, name, journal]
    process = subprocess.Popen(command, cwd=ROOT)
    at = client(url)
    deadline = time.monotonic() + 60
    while not inserts(at, name):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert inserts(at, name) == 1


def written_beside(url: str, name: str, fenced: bool) -> int:
    """The rows of a batch that another writes while an insert of it outlives its client."""
    journal = new_journal()
    at = client(url)
    killed_while_inserting(url, name, journal)
    second = a_writer(at, name)
    if fenced:
        assert second.stage.fence() == 1
    second.write(a_batch(a_block(journal)))
    wait_for(lambda: not inserts(at, name))
    if fenced:
        assert_once(at, {journal: EVENTS}, name)
    return int(stored(at, name)[journal][0])


@pytest.mark.kill
@pytest.mark.parametrize("fenced", [True, False])
def test_an_insert_that_outlives_its_client(database: tuple[str, str], fenced: bool) -> None:
    make_slow(client(database[0]), database[1], 2.5)
    if fenced:
        assert written_beside(*database, fenced) == EVENTS
    else:  # the second may come too late on a busy machine, and finds what it has stored
        assert any(written_beside(*database, fenced) == 2 * EVENTS for _ in range(4))


OVERLAP_AND_DIE = """
import sys, threading
from tests.engine import client
from tests.integration.test_fence import EVENTS, a_batch, a_block, both_writers
url, name, journal = sys.argv[1:]
first, second = both_writers(client(url), name, loader=client(url))
first.stage.fence()
staged = first.load(a_batch(a_block(journal)))
inserting = threading.Thread(target=first.insert, args=(staged,))
inserting.start()
later = second.load(a_batch(a_block(journal, EVENTS, EVENTS + 1)))
print("loaded", flush=True)
inserting.join()
second.insert(later)
"""


@pytest.mark.kill
def test_a_consumer_killed_between_an_insert_and_an_early_load(database: tuple[str, str]) -> None:
    """One batch is being inserted and the next is loaded: the successor drops both stages."""
    url, name = database
    journal = new_journal()
    at = client(url)
    make_slow(at, name, 2.5)
    command = [sys.executable, "-c", OVERLAP_AND_DIE, url, name, journal]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"loaded\n"
        deadline = time.monotonic() + 60
        while inserts(at, name) != 1:  # other statements may come first
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
    successor = a_writer(at, name)
    assert successor.stage.fence() == 2
    assert inserts(at, name) == 0
    for first_seq in (1, EVENTS + 1):
        successor.write(a_batch(a_block(journal, EVENTS, first_seq)))
    assert_once(at, {journal: 2 * EVENTS}, name)


@pytest.mark.kill
def test_a_fence_that_was_cut_off_is_made_up_for(database: tuple[str, str]) -> None:
    """The second consumer, too, is gone while it waits for the first one's insert: the first
    one's stage has no name any more, and still the third must wait for it.
    """
    url, name = database
    journal = new_journal()
    at = client(url)
    make_slow(at, name, 2.5)
    killed_while_inserting(url, name, journal)
    second = a_writer(client(url), name)
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(second.stage.fence)
        time.sleep(0.3)
        assert not waiting.done() or not inserts(at, name)
        third = a_writer(at, name)
        third.stage.fence()
        third.write(a_batch(a_block(journal)))
        waiting.result()
    while inserts(at, name):
        time.sleep(0.02)
    assert_once(at, {journal: EVENTS}, name)
    with pytest.raises(TableGone):
        second.write(a_batch(a_block(journal)))


def test_what_arrives_after_the_take_over_changes_nothing(database: tuple[str, str]) -> None:
    url, name = database
    journal = new_journal()
    first, second = a_writer(client(url), name), a_writer(client(url), name)
    first.stage.load(a_block(journal).data)
    ranges = first._ranges()
    second.stage.fence()
    with pytest.raises(TableGone):
        first._insert(ranges)
    second.write(a_batch(a_block(journal)))
    for late in (partial(first._insert, ranges), lambda: first.write(a_batch(a_block(journal)))):
        with pytest.raises(TableGone):
            late()
    assert_once(client(url), {journal: EVENTS}, name)


class Blocks:
    """A source of blocks that are given until they are committed; `owned` says who may commit."""

    finite = True

    def __init__(self, blocks: list[Block], owned: Callable[[], bool] = lambda: True) -> None:
        self.left = blocks
        self.rejoined = 0
        self._given = 0
        self._owned = owned

    async def start(self, on_release: OnRelease) -> None:
        return

    async def poll(self, timeout: float) -> dict[Partition, list[Block]]:
        blocks, self._given = self.left[self._given :], len(self.left)
        await asyncio.sleep(0.02)
        return {PARTITION: blocks} if blocks else {}

    async def confirm(self, partition: Partition) -> None:
        if not self._owned():
            raise Fenced("not ours")

    async def commit(self, partition: Partition, blocks: list[Block]) -> None:
        await self.confirm(partition)
        assert self.left[: len(blocks)] == blocks
        del self.left[: len(blocks)]
        self._given -= len(blocks)

    async def rejoin(self) -> None:
        self.rejoined += 1
        self._given = 0

    async def close(self) -> None:
        return


async def run_until_taken(source: Blocks, at: Any, name: str, metrics: Metrics) -> None:
    loop = Loop(
        source, lambda p: both_writers(at, name), lambda: Batch(100_000, 1 << 24, 0.05), metrics
    )
    stop = asyncio.Event()
    running = asyncio.create_task(loop.run(stop, 5.0))
    await until(lambda: not source.left or running.done(), 120)
    stop.set()
    await running


@pytest.mark.parametrize("fault", ["cut", "stall"])
async def test_an_answer_that_is_lost_after_the_server_has_done_it(
    database: tuple[str, str], fault: Fault
) -> None:
    """Cut off by the network, or never coming: the consumer fences itself and does it again."""
    url, name = database
    journal = new_journal()
    port = urlsplit(url).port
    assert port
    async with Proxy(port, f"INSERT INTO {name}.events".encode()) as proxy:
        settings = ConsumerSettings(clickhouse=proxy.url, clickhouse_timeout=1.0)
        at = await asyncio.to_thread(connect, settings)
        proxy.faults = [fault, fault]
        metrics = Metrics()
        blocks = [a_block(journal, 20, 1 + 20 * n) for n in range(5)]
        await run_until_taken(Blocks(blocks), at, name, metrics)
        assert proxy.done == [fault, fault]
        assert metrics.troubles._value.get() >= 2
    direct = client(url)
    assert_once(direct, {journal: 100}, name)
    left = direct.query(f"SELECT name FROM system.tables WHERE database = '{name}'").result_rows
    assert not [table for (table,) in left if table.startswith("stage_")]


async def test_an_insert_that_runs_longer_than_its_client_waits(database: tuple[str, str]) -> None:
    """The client's patience ends while the server inserts: the fence waits, nothing is doubled."""
    url, name = database
    journal = new_journal()
    make_slow(client(url), name, 2.6)
    parts = urlsplit(url)
    settings = ConsumerSettings(clickhouse=url, clickhouse_timeout=1.0)
    metrics = Metrics()
    assert parts.port
    at = await asyncio.to_thread(connect, settings)
    await run_until_taken(Blocks([a_block(journal)]), at, name, metrics)
    assert metrics.troubles._value.get() >= 1  # the insert, and mostly a fence that waits for it
    direct = client(url)
    assert inserts(direct, name) == 0
    assert_once(direct, {journal: EVENTS}, name)


async def test_a_consumer_that_finds_its_stage_gone_joins_anew(database: tuple[str, str]) -> None:
    url, name = database
    journal = new_journal()
    at = await asyncio.to_thread(client, url)
    source = Blocks([a_block(journal)])
    metrics = Metrics()
    loop = Loop(source, lambda p: both_writers(at, name), lambda: Batch(9, 1 << 24, 0.05), metrics)
    stop = asyncio.Event()
    running = asyncio.create_task(loop.run(stop, 5.0))
    await until(lambda: not source.left)
    another = await asyncio.to_thread(a_writer, client(url), name)
    assert await asyncio.to_thread(another.stage.fence) == 2
    source.left.append(a_block(journal, 5, EVENTS + 1))
    await until(lambda: not source.left)
    assert source.rejoined == 1
    assert metrics.rejoins._value.get() == 1
    stop.set()
    await running
    assert_once(client(url), {journal: EVENTS + 5}, name)


def test_fences_know_their_own_partition(database: tuple[str, str]) -> None:
    """Partition 1 must not fence partition 11, nor one topic another."""
    url, name = database
    at = client(url)
    make = partial(Stage, at, name, random=os.urandom)
    stages = [make(place) for place in (("t", 11), ("u", 1), ("t", 1), ("t", 1))]
    assert stages[-1].fence() == 1
    for stage, alive in zip(stages, (True, True, False, True), strict=True):
        exists = at.query(f"EXISTS TABLE {stage.table}").result_rows[0][0]
        assert bool(exists) is alive


def test_a_drop_that_a_restart_cut_off_holds_nobody_up(tmp_path: Path) -> None:
    """The server keeps such a table for minutes; the fence used to wait for it."""
    server = Engine(tmp_path / "store")
    try:
        database = "fence"
        client(server.url).command(f"CREATE DATABASE {database}")
        stage = Stage(client(server.url), database, PARTITION, os.urandom)
        for _ in range(4):  # three seconds of the select below for each
            stage.load(a_block(new_journal()).data)
        slow = f"SELECT sleepEachRow(0.05) FROM {stage.table} SETTINGS max_threads = 1"
        dropped = f"SELECT count() FROM system.dropped_tables WHERE database = '{database}'"
        runs = "SELECT count() FROM system.processes WHERE startsWith(query, 'SELECT sleepEachRow')"
        gone = f"SELECT count() = 0 FROM system.tables WHERE database = '{database}'"
        for statement, begun in ((slow, runs), (f"DROP TABLE {stage.table} SYNC", gone)):
            at = client(server.url)
            threading.Thread(target=_until_killed, args=(at, statement), daemon=True).start()
            wait_for(lambda sql=begun: client(server.url).command(sql) == 1)
        server.restart()
        assert client(server.url).command(dropped) == 1, "the drop was not cut off"
        began = time.monotonic()
        Stage(client(server.url), database, PARTITION, os.urandom).fence()
        assert time.monotonic() - began < 60
    finally:
        server.stop()


def _until_killed(at: Any, statement: str) -> None:
    with contextlib.suppress(Exception):
        at.command(statement)
