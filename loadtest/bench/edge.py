"""The edge beside others: what a request costs, how long it takes, what a connection weighs.

All servers get the same requests from the same client on the other core, in turns within each of
five rounds. CPU is user and system time of the process that serves; Kafka's is not counted. A
turn counts only if every answered request was recorded. Ratios are those within a round, and of
them the median.

(a) 32 keep-alive connections, as fast as they are answered (wrk). (b) The same, but each request
ends its connection. (c) 1,000 keep-alive connections that together ask 10,000 times a second,
evenly spaced, each about once in 0.1 s. The aiohttp route answers less than half of these, from
full queues, which is cheaper than what comes alone: it is also asked at a rate that it keeps.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import pytest

import tests.kafka_broker
from heliograph.compiled import is_compiled
from loadtest.bench import drive, servers
from loadtest.bench.drive import Turn, WrongError
from loadtest.bench.figures import Figure, left_out, middle
from loadtest.bench.idle import memory_each
from loadtest.bench.servers import LeftOut, Server
from loadtest.bench.workload import Workload

SECTION: Final = "edge"
CONNECTIONS: Final = 10_000
_NGINX: Final = "nginx"
_OURS: Final = "heliograph"
_PLAIN: Final = "heliograph, not compiled"
_GO: Final = "Go, franz-go"
_ROUTE: Final = "aiohttp, aiokafka"
_PACE: Final = 10_000.0
_ROUTES_PACE: Final = 2_500.0
_OVER: Final = "handed-over"
_QUIET: Final = 0.1  # of the core may be others'
_STRICTEST: Final = 1.25
_KEEP_ALIVE: Final = 700_000  # more than nginx answers in a turn
_CLOSING: Final = 150_000

Drive = Callable[[Server], Turn]


class Effort(NamedTuple):
    """How much is measured."""

    rounds: int
    seconds: float
    requests: float  # of the usual number
    connections: int


_FULL: Final = Effort(5, 3.0, 1.0, CONNECTIONS)
_QUICK: Final = Effort(1, 1.0, 0.15, 100)


class Traffic(NamedTuple):
    """A kind of traffic, and what is wanted of us with it, as a multiple of nginx's CPU."""

    what: str
    drive: Drive
    goal: float | None = None
    bar: float | None = None
    servers: tuple[str, ...] = ()  # not all


def figures(home: Path, quick: bool) -> Iterator[Figure]:
    """All figures of the section; `quick` leaves out what needs Kafka."""
    if shutil.which("wrk") is None:
        raise LeftOut("wrk is not installed (Debian: apt-get install wrk)")
    if servers.CLIENT_CORE == servers.SERVER_CORE:
        raise LeftOut("the servers and the client need a core each")
    effort = _QUICK if quick else _FULL
    with ExitStack() as stack:
        stack.enter_context(servers.core(servers.CLIENT_CORE))
        share = effort.requests
        work = Workload.make(home, int(_KEEP_ALIVE * share), int(_CLOSING * share))
        running, missing = _start(stack, home, work, quick)
        yield from missing
        ours, all_turns = {s.name: s for s in running}, {}
        traffics = _traffics(work, effort)
        if not quick:
            _rounds(running, traffics[0], 1)  # does not count: virtual machines warm up
        for traffic in traffics:
            chosen = [s for s in running if s.name in traffic.servers or not traffic.servers]
            all_turns[traffic.what] = turns = _rounds(chosen, traffic, effort.rounds)
            yield from _costs(traffic, turns)
        yield from _latency(ours, all_turns[traffics[0].what], work, effort)
    yield from _weights(home, work, effort.connections)


def _start(
    stack: ExitStack, home: Path, work: Workload, quick: bool
) -> tuple[list[Server], list[Figure]]:
    """The servers that can run here, and rows for those that can't."""
    running = [
        stack.enter_context(servers.nginx(home / "nginx")),
        stack.enter_context(servers.nginx(home / "nginx-64k", buffered=True)),
        stack.enter_context(servers.heliograph(home / "heliograph", work.keys)),
    ]
    if is_compiled():
        plain = servers.heliograph(home / "heliograph-plain", work.keys, compiled=False)
        running.append(stack.enter_context(plain))
    names = "Go service and aiohttp route"
    if quick:
        return running, [left_out(names, "a quick run")]
    try:
        kafka = stack.enter_context(_broker(home / "kafka")).bootstrap
    except pytest.skip.Exception as reason:
        return running, [left_out(names, str(reason))]
    running.append(stack.enter_context(servers.route(home / "route", work.keys, kafka)))
    try:
        running.append(stack.enter_context(servers.go(home / "go", work.keys, kafka)))
    except LeftOut as reason:
        return running, [left_out("Go service", str(reason))]
    return running, []


_broker = contextmanager(tests.kafka_broker.running)


def _traffics(work: Workload, effort: Effort) -> list[Traffic]:
    seconds, many = effort.seconds, effort.connections // 10
    return [
        Traffic(
            "(a) 32 keep-alive connections",
            lambda s: drive.wrk(s, work.keep_alive, 32, seconds),
            _STRICTEST,
            1.9,
        ),
        Traffic(
            "(b) a new connection each",
            lambda s: drive.wrk(s, work.closing, 32, seconds),
            1.5,
            2.0,
        ),
        Traffic(
            f"(c) {many:,} connections, mostly idle",
            lambda s: drive.paced(s, work.keep_alive, many, _PACE, seconds),
            1.5,
            2.0,
        ),
        Traffic(
            f"(c), but {_ROUTES_PACE:,.0f} a second",
            lambda s: drive.paced(s, work.keep_alive, many, _ROUTES_PACE, seconds),
            servers=(_NGINX, _OURS, _ROUTE),
        ),
        Traffic(
            "(a), but every user agent unique",
            lambda s: drive.wrk(s, work.unique_agents, 32, seconds / 2),
            servers=(_NGINX, _OURS),
        ),
    ]


Turns = dict[str, "list[Turn] | str"]


def _rounds(running: Sequence[Server], traffic: Traffic, rounds: int) -> Turns:
    """The turns of each server, or what went wrong with it."""
    turns: dict[str, list[Turn]] = {server.name: [] for server in running}
    wrong: dict[str, str] = {}
    for _ in range(rounds):
        for server in running:
            if server.name in wrong:
                continue
            try:
                turns[server.name].append(traffic.drive(server))
            except WrongError as error:
                wrong[server.name] = str(error)
    return {**turns, **wrong}


def _costs(traffic: Traffic, turns: Turns) -> Iterator[Figure]:
    """CPU a request of each server, and ours beside the others'."""
    for name, seen in turns.items():
        what = f"{traffic.what}: {name}"
        if isinstance(seen, str):
            yield Figure(what, f"failed: {seen}", met=False)
            continue
        measured, spread = middle([turn.cpu for turn in seen], "us CPU")
        rate, _ = middle([turn.rate for turn in seen], "/s", 0)
        busy, _ = middle([100 * turn.busy for turn in seen], "% of a core", 0)
        kernel, _ = middle([100 * turn.kernel for turn in seen], "% of it kernel", 0)
        yield Figure(what, measured, spread, f"{rate}, {busy}, {kernel}{_disturbed(seen)}")
    yield from _compared(traffic, turns, _NGINX, traffic.goal, traffic.bar)
    if traffic.goal is not None:
        yield from _compared(traffic, turns, _GO, 0.5, 2 / 3)
    sixth = 1 / 6 if traffic.goal else None
    yield from _compared(traffic, turns, _ROUTE, sixth, sixth)
    wanted = 0.8 if traffic.goal == _STRICTEST else None
    yield from _compared(traffic, turns, _PLAIN, wanted, wanted)


def _disturbed(turns: Sequence[Turn]) -> str:
    """A word on other processes on the servers' core: then the figures are worth little."""
    most = max(turn.others for turn in turns)
    return f", DISTURBED: others took up to {100 * most:.0f} %" if most > _QUIET else ""


def _compared(
    traffic: Traffic, turns: Turns, other: str, goal: float | None, bar: float | None
) -> Iterator[Figure]:
    mine, theirs = turns.get(_OURS), turns.get(other)
    if not isinstance(mine, list) or not isinstance(theirs, list):
        return
    ratios = sorted(m.cpu / t.cpu for m, t in zip(mine, theirs, strict=True))
    measured, spread = middle(ratios, "x", 2 if goal is None or goal > 1 else 3)
    what, ratio = f"{traffic.what}: {_OURS} / {other}", ratios[len(ratios) // 2]
    if goal is None or bar is None:
        yield Figure(what, measured, spread)
        return
    wanted = f"<= {goal:.2f}x" + (f" (bar {bar:.2f}x)" if bar != goal else "")
    yield Figure(what, measured, spread, "", wanted, ratio <= goal, ratio <= bar)


def _latency(
    servers: Mapping[str, Server], most: Turns, work: Workload, effort: Effort
) -> Iterator[Figure]:
    """p99 at half of each one's maximum, and of both at half of ours, counted from when a request
    was to be sent; 256 connections, so that one is free whenever a request is due.
    """
    halves = {}
    for name in (_NGINX, _OURS):
        seen = most[name]
        if isinstance(seen, str):
            return
        halves[name] = median(turn.rate for turn in seen) / 2

    def drive_at(rate: float) -> Drive:
        return lambda s: drive.paced(s, work.keep_alive, 256, rate, 2 * effort.seconds)

    slow, fast = halves[_OURS], halves[_NGINX]
    pairs = [(_OURS, slow), (_NGINX, fast), (_NGINX, slow)]
    turns: dict[tuple[str, float], list[Turn]] = {pair: [] for pair in pairs}
    try:
        for _ in range(effort.rounds):
            for name, rate in pairs:
                turns[name, rate].append(drive_at(rate)(servers[name]))
    except WrongError as error:
        yield Figure("p99 at half of the maximum", f"failed: {error}", met=False)
        return
    for (name, rate), seen in turns.items():
        measured, spread = middle([turn.p99 for turn in seen], "us", 0)
        p50, _ = middle([turn.p50 for turn in seen], "us", 0)
        late, _ = middle([turn.late for turn in seen], "us", 0)
        beside = f"p50 {p50}, client late {late} (p99){_disturbed(seen)}"
        yield Figure(f"p99 at {rate:,.0f} /s: {name}", measured, spread, beside)
    ours = turns[_OURS, slow]
    for what, rate, wanted in (
        ("each at half of its own most", fast, 1.5), ("both at half of ours", slow, None)
    ):  # fmt: skip
        ratios = [m.p99 / t.p99 for m, t in zip(ours, turns[_NGINX, rate], strict=True)]
        measured, spread = middle(ratios, "x", 2)
        goal = f"<= {wanted:.2f}x" if wanted else ""
        met = median(ratios) <= wanted if wanted else None
        yield Figure(f"p99, {what}: {_OURS} / {_NGINX}", measured, spread, "", goal, met)


def _weights(home: Path, work: Workload, count: int) -> Iterator[Figure]:
    """Memory of an open connection, with fresh servers."""
    weights = {}
    try:
        with servers.nginx(home / "nginx-idle") as server:
            weights[_NGINX] = memory_each(server, work.keep_alive, count) / 1024
        for name in (_OURS, _OVER):
            with servers.heliograph(home / f"{name}-idle", work.keys) as server:
                each = memory_each(server, work.keep_alive, count, plain=name == _OURS)
                weights[name] = each / 1024
    except LeftOut as reason:
        yield left_out(f"{count:,} open connections", str(reason))
        return
    mine = weights[_OURS]
    yield Figure(
        f"{count:,} open connections, all answered again",
        f"{mine:.1f} KiB each",
        "",
        f"nginx {weights[_NGINX]:.1f} KiB; handed over to aiohttp {weights[_OVER]:.1f} KiB",
        "<= 10 KiB",
        mine <= 10,
    )
