"""`heliograph consume`: from a Kafka topic into ClickHouse."""

import asyncio
import logging
import os
import socket
import time
from functools import partial
from random import random

import uvloop
from clickhouse_connect.driver.client import Client

from consumer import revise, tallies
from consumer.batch import Batch
from consumer.dead_letter import Caution
from consumer.errors import Misfit, StoreTrouble
from consumer.health import health_app, listen
from consumer.kafka_source import KafkaSource
from consumer.loop import Loop
from consumer.metrics import Metrics
from consumer.migrate import pending
from consumer.retention import Retention
from consumer.settings import ConsumerSettings
from consumer.store import connect
from consumer.verdicts import Verdicts
from consumer.writer import writers
from schemas.child import end_of_service, start_logging

_log = logging.getLogger(__name__)


async def _ready_store(
    settings: ConsumerSettings, stop: asyncio.Event, metrics: Metrics
) -> tuple[Client, Client] | None:
    """Two clients of a migrated store, for each does one thing at a time.

    Waits for the server; None if told to stop meanwhile.
    """
    pause = 0.2
    while not stop.is_set():
        try:
            client, loader = [await asyncio.to_thread(connect, settings) for _ in range(2)]
            missing = await asyncio.to_thread(pending, client, settings.database, settings.cluster)
            if missing:
                names = ", ".join(migration.name for migration in missing)
                raise Misfit(f"the store lacks {names}: run `heliograph migrate` first")
            retention = Retention.of(settings)
            await asyncio.to_thread(retention.apply, client, settings.database, settings.cluster)
            metrics.in_trouble("")
            return client, loader
        except StoreTrouble as trouble:
            _log.warning("ClickHouse does not answer, trying again: %s", trouble)
            metrics.in_trouble(str(trouble))
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)
    return None


async def consume(settings: ConsumerSettings, health: socket.socket) -> None:
    """Consume until SIGTERM or SIGINT; raises Misfit where the store cannot be used."""
    metrics = Metrics()
    stop = end_of_service(stdin=None, at_most=9.5)
    site = await listen(health_app(metrics), health)
    try:
        clients = await _ready_store(settings, stop, metrics)
        if clients is None:
            return
        client, loader = clients
        verdicts = Verdicts.of(settings)
        open_writers = partial(
            writers,
            client,
            settings.database,
            verdicts=verdicts,
            random=os.urandom,
            clock=time.time,
            retention=Retention.of(settings),
            cluster=bool(settings.cluster),
            loader=loader,
            caution=Caution(),
        )
        new_batch = partial(
            Batch, settings.batch_rows, settings.batch_bytes, settings.batch_seconds
        )
        source = KafkaSource(settings, metrics.source_in_trouble, metrics.missed.inc)
        metrics.lag.set_function(source.lag)
        reopen = partial(connect, settings)
        chores = [
            asyncio.create_task(tallies.keep(reopen, settings.database, random)),
            asyncio.create_task(
                revise.keep(
                    reopen, settings.database, verdicts, random, metrics.revised, settings.cluster
                )
            ),
        ]
        try:
            await Loop(source, open_writers, new_batch, metrics).run(stop, 8.0)
        finally:
            for chore in chores:
                chore.cancel()
            await asyncio.wait(chores)
    finally:
        await site.cleanup()


def serve(settings: ConsumerSettings) -> int:
    """Run the consumer; the exit code."""
    start_logging()
    if not settings.kafka or not settings.clickhouse:
        _log.error("HELIOGRAPH_KAFKA and HELIOGRAPH_CLICKHOUSE are both needed")
        return 2
    try:
        settings.client_options()
    except OSError as error:
        _log.error("HELIOGRAPH_KAFKA_SSL_…: %s", error)
        return 2
    try:
        health = socket.create_server((settings.health_host, settings.health_port))
    except OSError as error:
        _log.error("health port %s:%s: %s", settings.health_host, settings.health_port, error)
        return 2
    try:
        uvloop.run(consume(settings, health))
    except Misfit as misfit:
        _log.error("%s", misfit)
        return 2
    return 0
