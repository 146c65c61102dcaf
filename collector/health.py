"""Health and metrics: what each process says of itself, and what the supervisor makes of it.

Every child answers on a loopback socket of its own: /healthz (it runs), /metrics, and /readyz:
503 and a reason a line, or 200, "ok", and a line for whatever is wrong but does not hinder.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

_SECONDS: Final = 2.0  # a child that does not answer within this is not up


@dataclass(frozen=True)
class State:
    """Why a process is not ready (empty: it is), and what else someone should know."""

    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def render(self) -> tuple[int, str]:
        """Status and text of /readyz."""
        lines = (*self.reasons, *self.notes) if self.reasons else ("ok", *self.notes)
        return 503 if self.reasons else 200, "\n".join(lines) + "\n"

    @classmethod
    def parse(cls, status: int, text: str) -> "State":
        """The inverse of `render`."""
        lines = tuple(text.splitlines())
        return cls(notes=lines[1:]) if status == 200 else cls(reasons=lines or (str(status),))


async def serve(
    sock: socket.socket,
    state: Callable[[], Awaitable[State]],
    metrics: Callable[[], Awaitable[bytes]],
) -> web.AppRunner:
    """Answer health requests on a bound socket; `cleanup()` of the runner ends it."""

    async def alive(_: web.Request) -> web.Response:
        return web.Response(text="running\n")

    async def ready(_: web.Request) -> web.Response:
        status, text = (await state()).render()
        return web.Response(status=status, text=text)

    async def measured(_: web.Request) -> web.Response:
        return web.Response(body=await metrics(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/healthz", alive)
    app.router.add_get("/readyz", ready)
    app.router.add_get("/metrics", measured)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.SockSite(runner, sock).start()
    return runner


async def serve_child(
    sock: socket.socket, state: Callable[[], State], registry: CollectorRegistry
) -> web.AppRunner:
    """The health port of one child."""

    async def now() -> State:
        return state()

    async def measured() -> bytes:
        return generate_latest(registry)

    return await serve(sock, now, measured)


class Panel:
    """All children as one: ready when each is, metrics merged with a `process` label."""

    def __init__(
        self, ports: Mapping[str, int], draining: Callable[[], bool], own: CollectorRegistry
    ) -> None:
        """`ports` are the children's health ports on loopback by name, `own` what is measured
        here.
        """
        self._ports = ports
        self._draining = draining
        self._own = own

    async def state(self) -> State:
        """The children's reasons and notes, each with its process's name."""
        if self._draining():
            return State(("draining",))
        reasons: list[str] = []
        notes: list[str] = []
        for name, answer in (await _ask(self._ports, "/readyz")).items():
            told = State.parse(*answer) if answer else State(("not up",))
            reasons += [f"{name}: {reason}" for reason in told.reasons]
            notes += [f"{name}: {note}" for note in told.notes]
        return State(tuple(reasons), tuple(notes))

    async def metrics(self) -> bytes:
        """What all children measure; a child that does not answer is only missing in it."""
        answers = await _ask(self._ports, "/metrics")
        pages = [(name, answer[1]) for name, answer in answers.items() if answer]
        pages.append(("supervisor", generate_latest(self._own).decode()))
        return generate_latest(_Merged(pages))


async def alive(ports: Mapping[str, int]) -> set[str]:
    """Of processes with health ports on loopback those that answer in time."""
    answers = await _ask(ports, "/healthz")
    return {name for name, answer in answers.items() if answer}


async def _ask(ports: Mapping[str, int], path: str) -> dict[str, tuple[int, str] | None]:
    timeout = aiohttp.ClientTimeout(total=_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        asked = (_get(session, port, path) for port in ports.values())
        return dict(zip(ports, await asyncio.gather(*asked), strict=True))


async def _get(session: aiohttp.ClientSession, port: int, path: str) -> tuple[int, str] | None:
    try:
        async with session.get(f"http://127.0.0.1:{port}{path}") as answer:
            return answer.status, await answer.text()
    except (aiohttp.ClientError, TimeoutError):
        return None


class _Merged(Collector):
    """Families of several processes as one family each."""

    def __init__(self, pages: Iterable[tuple[str, str]]) -> None:
        self._pages = pages

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        for process, page in self._pages:
            for family in text_string_to_metric_families(page):
                into = families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                for sample in family.samples:
                    labels = {**sample.labels, "process": process}
                    into.samples.append(sample._replace(labels=labels))
        return families.values()
