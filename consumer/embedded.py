"""The one-machine mode: this process holds the store (chDB) and counts the journals beside it.

`python -m consumer.embedded --sql-fd N --health-fd M` is the child of `heliograph up`: settings
come as one line on standard input, and its end means that the parent is gone. `take_in` is for
commands that ask the store while no such child runs.
"""

import argparse
import asyncio
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import random
from typing import Final

import chdb
import uvloop
from clickhouse_connect.driver.client import Client

from consumer import revise, tallies
from consumer.batch import Batch
from consumer.dead_letter import Caution
from consumer.errors import Misfit, StoreTrouble
from consumer.health import health_app, listen
from consumer.journal_source import JournalSource
from consumer.loop import Loop
from consumer.metrics import Metrics
from consumer.migrate import migrate
from consumer.orders import Orders, add_orders
from consumer.retention import Retention
from consumer.settings import ConsumerSettings
from consumer.sql.front import sql_app
from consumer.store import open_embedded, patiently
from consumer.verdicts import Verdicts
from consumer.writer import writers
from schemas.child import end_of_service, read_settings, start_logging
from schemas.files import write_whole
from schemas.journal.directory import make_room

_log: Final = logging.getLogger(__name__)
#: How long a store that another process holds is waited for, in seconds.
PATIENCE: Final = 20.0
DRAIN_SECONDS: Final = 8.0
_HOUSEKEEPING: Final = 5.0


def journal_root(data: Path) -> Path:
    """Where the journals of a data directory are."""
    return data / "journal"


def owner_path(data: Path) -> Path:
    """Where the secret is that lifts the SQL port's bounds: who can read it owns the store."""
    return data / "sql.key"


def store_path(data: Path) -> Path:
    """Where the store of a data directory is."""
    return data / "store"


def _open(settings: ConsumerSettings) -> tuple[Client, Client]:
    """Two clients of the store, for each does one thing at a time."""
    client = patiently(partial(open_embedded, store_path(settings.data)), PATIENCE)
    migrate(client, settings.database)
    return client, open_embedded(store_path(settings.data))


def _loop(
    client: Client,
    loader: Client,
    settings: ConsumerSettings,
    metrics: Metrics,
    verdicts: Verdicts,
    retention: Retention,
) -> Loop:
    def damaged(journal: Path, size: int, kept: Path) -> None:
        metrics.damaged.inc(size)
        _log.warning("journal %s: %d bytes are no frame, kept in %s", journal.name, size, kept)

    open_writers = partial(
        writers,
        client,
        settings.database,
        verdicts=verdicts,
        random=os.urandom,
        clock=time.time,
        retention=retention,
        loader=loader,
        caution=Caution(),
    )
    new_batch = partial(Batch, settings.batch_rows, settings.batch_bytes, settings.batch_seconds)
    source = JournalSource(journal_root(settings.data), damaged, metrics.source_in_trouble)
    return Loop(source, open_writers, new_batch, metrics)


@contextmanager
def take_in(settings: ConsumerSettings) -> Iterator[Client]:
    """The store of a data directory on which `up` does not run, with all its journals counted.

    It keeps what the last `up` was told to. Raises StoreTrouble if another process holds the store
    for longer than `PATIENCE`.
    """
    client, loader = _open(settings)
    try:
        kept = Retention.stored(client, settings.database)
        line = _loop(client, loader, settings, Metrics(), Verdicts.of(settings), kept)
        asyncio.run(line.catch_up())
        yield client
    finally:
        loader.close()
        client.close()


async def _housekeeping(settings: ConsumerSettings) -> None:
    while True:
        await asyncio.sleep(_HOUSEKEEPING)
        root, keep = journal_root(settings.data), settings.journal_keep_hours * 3600
        try:
            await asyncio.to_thread(make_room, root, time.time(), keep, settings.journal_max_bytes)
        except OSError as error:
            _log.warning("old journal segments could not be deleted: %s", error)


async def _serve(settings: ConsumerSettings, sql: socket.socket, health: socket.socket) -> None:
    metrics = Metrics()
    stop = end_of_service(at_most=9.5)
    health_site = await listen(health_app(metrics), health)
    client, loader = await asyncio.to_thread(_open, settings)
    kept = Retention.of(settings)
    await asyncio.to_thread(kept.apply, client, settings.database)
    connect = partial(chdb.connect, os.path.realpath(store_path(settings.data)))
    owner = os.urandom(16).hex()
    write_whole(owner_path(settings.data), owner.encode(), mode=0o600)
    reader = sql_app(connect, read_only=True, database=settings.database, owner=owner)
    reopen = partial(open_embedded, store_path(settings.data))
    verdicts = Verdicts.of(settings)
    add_orders(reader, Orders(reopen, settings, verdicts), owner)
    sql_site = await listen(reader, sql)
    chores = [
        asyncio.create_task(_housekeeping(settings)),
        asyncio.create_task(tallies.keep(reopen, settings.database, random)),
        asyncio.create_task(
            revise.keep(reopen, settings.database, verdicts, random, metrics.revised)
        ),
    ]
    try:
        await _loop(client, loader, settings, metrics, verdicts, kept).run(stop, DRAIN_SECONDS)
    finally:
        for chore in chores:
            chore.cancel()
        await asyncio.wait(chores)  # if one has failed, what follows is done all the same
        await sql_site.cleanup()
        await health_site.cleanup()
        loader.close()
        client.close()


def main() -> int:
    """Entry point of the child process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sql-fd", type=int, required=True)
    parser.add_argument("--health-fd", type=int, required=True)
    args = parser.parse_args()
    start_logging()
    settings = read_settings(ConsumerSettings)
    try:
        uvloop.run(
            _serve(
                settings, socket.socket(fileno=args.sql_fd), socket.socket(fileno=args.health_fd)
            )
        )
    except (Misfit, StoreTrouble) as error:
        _log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    os._exit(code)  # a query that a reader has left running must not hold up the end
