"""A worker of the edge: `python -m collector.worker NAME LISTEN_FD HEALTH_FD`, started by the
supervisor. One process, one event loop, one journal of its own.
"""

import asyncio
import contextlib
import gc
import os
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

import uvloop
from aiohttp import web
from prometheus_client import CollectorRegistry

from collector import http1, ring
from collector.app import Edge, make_app
from collector.beacon import Beacon
from collector.bound import Bound
from collector.client import TrustedProxies
from collector.group_commit import GroupCommit
from collector.health import State, serve_child
from collector.hot_path import HotPath
from collector.journal import Journal, Loss
from collector.keys import Keys
from collector.listener import Listener
from collector.metrics import EdgeMetrics, JournalMetrics, OptoutMetrics
from collector.opting import Keeper, OptoutLines
from collector.optout_page import Page
from collector.optouts import Optouts
from collector.plain import Plain
from collector.receipts import Receipts
from collector.sends import Sends
from collector.settings import CollectorSettings
from schemas.child import end_of_service, read_settings, start_logging
from schemas.journal.directory import journal_id
from schemas.optout import FILE, READ

_KEYS_SECONDS: Final = 2.0
_OPTOUTS_SECONDS: Final = 1.0
#: How long the index of what is much and new is waited for.
_INDEX_SECONDS: Final = 300.0
_SWEEP_SECONDS: Final = 5.0
KEEPALIVE_SECONDS: Final = 75.0
#: How long connections may ask on while draining, each answer being their last.
_GRACE_SECONDS: Final = 0.5
_TROUBLE: Final[dict[Loss, str]] = {
    "cap": "the journal is at its cap: events are lost",
    "full": "the disk is full: events are lost",
    "io": "the disk fails: events are lost",
    "closed": "the journal is closed",
}


class Worker:
    """Everything of one worker, from its settings to its end."""

    def __init__(self, settings: CollectorSettings) -> None:
        """Make a journal; raises KeyFileError, RingError, OSError. Call inside the loop."""
        self.draining = False
        self.settings = settings
        self.keys = Keys(settings.key_file)
        ring.claim(settings.journal, self.keys.ring.ring_id)
        journal = Journal(
            settings.journal,
            journal_id(time.time_ns() // 1_000_000, os.urandom(8)),
            time.time,
            segment_bytes=settings.journal_segment_bytes,
            max_bytes=settings.journal_max_bytes,
        )
        self.commit = GroupCommit(journal, settings.journal_sync, settings.journal_sync_ms / 1000)
        self.registry = CollectorRegistry()
        self.registry.register(JournalMetrics(self.commit, self.keys, settings.journal_max_bytes))
        self.metrics = EdgeMetrics(self.registry)
        self.optouts = Optouts(settings.data / FILE, self.keys.ring.content.hash_secret)
        self.registry.register(OptoutMetrics(self.optouts))
        self.beacon = Beacon(
            self.keys, self.commit, time.time, self.metrics, self.optouts.recipients,
            Bound.of(settings), settings.mode,
        )  # fmt: skip
        self.beacon.knows_optouts = False
        while self._step_optouts():
            pass
        self.proxies = TrustedProxies(settings.trusted_proxies)

    def runner(self, **options: Any) -> web.AppRunner:
        """The server of the routes, recording into this worker's journal."""
        edge = Edge(self.beacon, self.proxies)
        sends = Sends(self.settings, self.keys, self.commit, time.time, self.metrics)
        url = self.settings.public_url
        receipts = Receipts(self.settings, self.commit, time.time)
        keeper = Keeper(self.optouts, self.commit, time.time)
        page = Page(self.keys, keeper)
        posts = {
            "/v1/sends": sends.handle, "/v1/receipts": receipts.handle,
            "/v1/optouts": OptoutLines(self.settings, self.keys, keeper).handle,
        }  # fmt: skip
        app = make_app(
            edge, (page.show, page.take), posts, url, self.metrics, lambda: self.draining
        )
        return http1.Runner(app, self.metrics.bad_requests.inc, **options)

    def hot_path(self, hand_over: Callable[[], asyncio.Protocol]) -> HotPath:
        """Plain pixels, recording into the same journal. Call inside the loop."""
        prefix = urlsplit(self.settings.public_url).path.rstrip("/")
        plain = Plain(sorted({"", prefix}))
        return HotPath(plain, self.beacon, self.proxies, self.commit, time.time, hand_over)

    def state(self) -> State:
        """Whether events can be taken."""
        trouble = self.commit.journal.trouble
        reasons = [_TROUBLE[trouble]] if trouble else []
        if not self.beacon.knows_optouts:
            reasons.append("no hit is recorded before the opt-outs are read (from Kafka)")
        notes = [f"key file: {self.keys.trouble}"] if self.keys.trouble else []
        if self.optouts.trouble:
            notes.append(self.optouts.trouble)
        return State(("draining", *reasons) if self.draining else tuple(reasons), tuple(notes))

    async def serve(self, listener: socket.socket, health: socket.socket) -> None:
        """Answer until told to end, then finish what is in flight and seal the journal."""
        ended = end_of_service()
        tasks = [
            asyncio.create_task(self.commit.run()),
            asyncio.create_task(self._watch_keys()),
            asyncio.create_task(self._watch_optouts()),
        ]
        runner = self.runner(
            keepalive_timeout=KEEPALIVE_SECONDS, shutdown_timeout=self.settings.drain_seconds / 2
        )
        await runner.setup()
        assert runner.server is not None
        hot = self.hot_path(runner.server)
        server = Listener(listener, hot)
        tasks.append(asyncio.create_task(_sweep(hot)))
        health_runner = await serve_child(health, self.state, self.registry)
        # What is there now stays: a collection need not look at it, nor come every 700 objects.
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000, 20, 50)
        await ended.wait()
        self.draining = hot.draining = True
        server.close()
        await _until_left(runner, hot)
        hot.close()
        await runner.cleanup()
        for task in tasks:
            task.cancel()
        await self.commit.close()
        await health_runner.cleanup()

    async def _watch_keys(self) -> None:
        while True:
            await asyncio.sleep(_KEYS_SECONDS)
            self.keys.refresh()

    def _step_optouts(self, patience: float = 0.0) -> bool:
        """Read some of the file; whether there may be more. It is all that there is once a topic
        was read into it.
        """
        whole = not self.settings.kafka or (self.settings.data / READ).exists()
        more = self.optouts.step(patience)
        if whole and not more and not self.optouts.trouble:
            self.beacon.knows_optouts = True
        return more

    async def _watch_optouts(self) -> None:
        """A step takes a millisecond: what comes meanwhile is answered between two."""
        while True:
            more = self._step_optouts(_INDEX_SECONDS)
            await asyncio.sleep(0 if more else _OPTOUTS_SECONDS)


async def _sweep(hot: HotPath) -> None:
    while True:
        await asyncio.sleep(_SWEEP_SECONDS)
        hot.sweep(int(KEEPALIVE_SECONDS / _SWEEP_SECONDS))


async def _until_left(runner: web.AppRunner, hot: HotPath) -> None:
    """Wait a moment for the connections to ask what they were about to ask."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_GRACE_SECONDS):
            while hot.connections or (runner.server and runner.server.connections):  # noqa: ASYNC110 - nothing to await
                await asyncio.sleep(0.01)


async def _work(settings: CollectorSettings, listener: int, health: int) -> None:
    worker = Worker(settings)
    await worker.serve(socket.socket(fileno=listener), socket.socket(fileno=health))


def main() -> None:
    """The process."""
    start_logging()
    _, listener, health = sys.argv[1:]
    settings = read_settings(CollectorSettings)
    uvloop.run(_work(settings, int(listener), int(health)))


if __name__ == "__main__":
    main()
