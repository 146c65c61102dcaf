"""The collector as a whole: sockets, workers, shipper, health, under one supervisor."""

import asyncio
import contextlib
import resource
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry

from collector import health, optout_compact, ring
from collector.settings import CollectorSettings, host_port
from collector.supervisor import Child, Supervisor, bind_shared
from collector.watch import Watch
from schemas import keyring
from schemas.keyring import KeyFileError
from schemas.settings import encode

_POLL_SECONDS: Final = 0.05


class StartError(Exception):
    """The collector cannot start here; the message says why and what to do."""


@dataclass(frozen=True)
class Running:
    """A collector that is up: where it answers, what its URLs begin with, where its health is."""

    port: int
    public_url: str
    health_url: str


def announce(running: Running) -> None:
    """Print where the collector answers."""
    print(f"collecting at {running.public_url} (port {running.port}), health at "
          f"{running.health_url}", flush=True)  # fmt: skip


def check(settings: CollectorSettings) -> None:
    """Raise StartError unless there is a key file and the journal is of its ring."""
    try:
        ring.claim(settings.journal, keyring.load(settings.key_file).ring_id)
    except (KeyFileError, ring.RingError, OSError) as error:
        raise StartError(str(error)) from None


async def serve(
    settings: CollectorSettings,
    *,
    extra: Sequence[Child] = (),
    on_ready: Callable[[Running], None] = announce,
) -> int:
    """Collect until SIGTERM or SIGINT; 0 after an orderly drain, 1 if a child had to be killed.

    Ships to Kafka where `settings.kafka` names brokers. `extra` children run under the same
    supervisor. `on_ready` is called once, when everything is ready. Raises StartError.
    """
    check(settings)
    await optout_compact.begin(settings)
    _allow_many_connections()
    with contextlib.ExitStack() as sockets:
        listen = partial(_listen, sockets)
        public = listen(settings.host, settings.port, settings.workers)
        (health_socket,) = listen(settings.health_host, settings.health_port)
        port = public[0].getsockname()[1]
        settings = msgspec.structs.replace(settings, public_url=settings.url(port))
        workers = _workers(settings, public, listen)
        children = [*workers, *_shipper(settings, listen), *extra]
        supervisor = Supervisor(children, settings.drain_seconds)
        ports = {child.name: child.health_port for child in children if child.health_port}
        own = CollectorRegistry()
        panel = health.Panel(ports, lambda: supervisor.draining, own)
        watch = _watch(workers, supervisor, own)
        health_url = "http://" + host_port(*health_socket.getsockname()[:2])
        running = Running(port, settings.public_url, health_url)
        runner = await health.serve(health_socket, panel.state, panel.metrics)
        waiting = asyncio.create_task(_when_ready(panel, lambda: on_ready(running)))
        waiting.add_done_callback(lambda task: _end_on(task, supervisor))
        chores = [asyncio.create_task(c) for c in (optout_compact.keep(settings), watch.run())]
        try:
            code = await supervisor.run()
            if waiting.done():
                waiting.result()  # raises what kept it from being announced
            return code
        finally:
            for task in (waiting, *chores):
                task.cancel()
            await runner.cleanup()


def _listen(
    sockets: contextlib.ExitStack, host: str, port: int, count: int = 1
) -> list[socket.socket]:
    """Sockets that listen until the stack is closed. Raises StartError."""
    try:
        found = bind_shared(host, port, count)
    except OSError as error:
        raise StartError(error.strerror) from None
    return [sockets.enter_context(sock) for sock in found]


def _watch(workers: Sequence[Child], supervisor: Supervisor, own: CollectorRegistry) -> Watch:
    ports = {child.name: child.health_port for child in workers}
    return Watch(ports.keys(), supervisor.pids, partial(health.alive, ports), own)


def _workers(
    settings: CollectorSettings,
    public: list[socket.socket],
    listen: Callable[[str, int], list[socket.socket]],
) -> list[Child]:
    line = encode(settings)
    children = []
    for number, listener in enumerate(public):
        name, (own,) = f"worker-{number}", listen("127.0.0.1", 0)
        argv = ("collector.worker", name, str(listener.fileno()), str(own.fileno()))
        children.append(_child(name, argv, line, listener, own, order=0))
    return children


def _shipper(
    settings: CollectorSettings, listen: Callable[[str, int], list[socket.socket]]
) -> list[Child]:
    """Drained after the workers, so that what they wrote last is shipped too."""
    if not settings.kafka:
        return []
    (own,) = listen("127.0.0.1", 0)
    argv = ("collector.shipper", str(own.fileno()))
    return [_child("shipper", argv, encode(settings), own, order=1)]


def _child(
    name: str, module: tuple[str, ...], settings: bytes, *sockets: socket.socket, order: int
) -> Child:
    own_port = sockets[-1].getsockname()[1]
    argv = (sys.executable, "-m", *module)
    return Child(name, argv, settings, sockets, order=order, health_port=own_port)


async def _when_ready(panel: health.Panel, then: Callable[[], None]) -> None:
    while (await panel.state()).reasons:  # noqa: ASYNC110 - other processes tell no event
        await asyncio.sleep(_POLL_SECONDS)
    then()


def _end_on(waiting: asyncio.Task[None], supervisor: Supervisor) -> None:
    if not waiting.cancelled() and waiting.exception():
        supervisor.stop()


def _allow_many_connections() -> None:
    """A connection is a descriptor; the soft limit of most systems is 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
