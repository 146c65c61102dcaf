"""The supervisor: starts child processes, restarts what dies, ends them in order.

A child gets its settings as one line on stdin, which stays open: its end tells the child that the
supervisor is gone, also after kill -9.

Sockets are bound by the parent and inherited. Each worker has a listening socket of its own on the
common port (SO_REUSEPORT), which the parent holds too, so that a worker's death closes none: what
waits in its queue is answered once it is back. Measured with two workers, 40 connections in the
queue and one worker killed: all 40 were answered, those of the dead one after its restart; with
sockets of the workers' own 21 were reset. One socket shared by all answers the 40 sooner, but
does not balance: whoever wakes first takes a whole burst, and of two workers under locust's
keep-alive connections one did all the work. tests/integration/test_edge_kill.py holds both.

Children run in process groups of their own: a Ctrl-C in the terminal reaches the supervisor alone,
which then drains them in their order.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

log = logging.getLogger(__name__)

#: A child that lived shorter than this is restarted later each time, up to the longest pause.
_STEADY_SECONDS: Final = 2.0
_LONGEST_PAUSE: Final = 10.0
#: What a later group of children keeps of the drain's time, whatever the earlier ones take.
_RESERVED_SECONDS: Final = 3.0


@dataclass(frozen=True)
class Child:
    """How to start a child: `settings` is the line for its stdin, `sockets` are inherited under
    their numbers here, and those with a lower `order` are drained first. `health_port` is where
    on loopback it tells its health (0: nowhere).
    """

    name: str
    argv: tuple[str, ...]
    settings: bytes
    sockets: tuple[socket.socket, ...] = ()
    order: int = 0
    health_port: int = 0


class Supervisor:
    """Runs children until told to end."""

    def __init__(
        self,
        children: Sequence[Child],
        drain_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.draining = False
        self._clock = clock
        self._children = children
        self._drain_seconds = drain_seconds
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._ending = asyncio.Event()

    def pids(self) -> dict[str, int]:
        """The process ids of the children that run, by name."""
        return {name: process.pid for name, process in self._running.items()}

    def stop(self) -> None:
        """Begin to drain."""
        self._ending.set()

    async def run(self) -> int:
        """Until SIGTERM, SIGINT or `stop()`; then drain. 1 if a child had to be killed, else 0."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        keepers = {
            child.name: asyncio.create_task(self._keep(child), name=child.name)
            for child in self._children
        }
        ending = asyncio.create_task(self._ending.wait())
        try:
            done, _ = await asyncio.wait(
                [ending, *keepers.values()], return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()  # a keeper ends before the drain only by an error of our own
            self.draining = True
            return await self._drain(keepers)
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
            for process in self._running.values():  # only after an error of our own
                process.kill()

    async def _keep(self, child: Child) -> None:
        """Keep one child running until the drain begins."""
        quick_deaths = 0
        while not self._ending.is_set():
            started = self._clock()
            try:
                how = _told(await self._run(child))
            except OSError as error:
                how = f"an error at its start ({error})"
            if self._ending.is_set():
                return
            steady = self._clock() - started >= _STEADY_SECONDS
            quick_deaths = 0 if steady else quick_deaths + 1
            pause = min(0.1 * 2.0**quick_deaths, _LONGEST_PAUSE) if quick_deaths > 1 else 0.0
            log.error("%s ended with %s: restarting in %.1f s", child.name, how, pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), pause or 0.001)

    async def _run(self, child: Child) -> int:
        process = await asyncio.create_subprocess_exec(
            *child.argv,
            stdin=asyncio.subprocess.PIPE,
            pass_fds=[sock.fileno() for sock in child.sockets],
            process_group=0,
        )
        self._running[child.name] = process
        try:
            if process.stdin is not None:
                process.stdin.write(child.settings)
            if self._ending.is_set():  # it was started while the drain began
                self._signal(child.name, signal.SIGTERM)
            return await process.wait()
        finally:
            del self._running[child.name]

    async def _drain(self, keepers: dict[str, asyncio.Task[None]]) -> int:
        """End the children, lower orders first, all within the deadline."""
        deadline = time.monotonic() + self._drain_seconds
        for sock in {sock for child in self._children for sock in child.sockets}:
            sock.close()
        groups = [
            [child.name for child in group]
            for _, group in itertools.groupby(
                sorted(self._children, key=lambda child: child.order), lambda child: child.order
            )
        ]
        killed = False
        for later, names in enumerate(groups, 1 - len(groups)):
            reserved = min(-later * _RESERVED_SECONDS, self._drain_seconds / 2)
            for name in names:
                self._signal(name, signal.SIGTERM)
            waiting = [keepers[name] for name in names]
            await asyncio.wait(waiting, timeout=max(0.0, deadline - reserved - time.monotonic()))
            for name in names:
                if self._signal(name, signal.SIGKILL):
                    log.error("%s did not end in time and was killed", name)
                    killed = True
            await asyncio.wait(waiting)
        return 1 if killed else 0

    def _signal(self, name: str, number: signal.Signals) -> bool:
        process = self._running.get(name)
        if process is None or process.returncode is not None:
            return False
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        return True


def _told(code: int) -> str:
    return f"code {code}" if code >= 0 else f"signal {-code}"


def bind_shared(host: str, port: int, count: int) -> list[socket.socket]:
    """Listening sockets of one port, among which the kernel spreads connections; raises OSError."""
    # Nobody else's may be among them, and sockets that share a port would not tell.
    with bind(host, port) as alone:
        port = alone.getsockname()[1]
    return [bind(host, port, share=True) for _ in range(count)]


def bind(host: str, port: int, *, backlog: int = 1024, share: bool = False) -> socket.socket:
    """A listening socket for children to inherit; raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        text = os.strerror(error.errno or 0)
        raise OSError(error.errno, f"cannot listen on {host} port {port}: {text}") from None
    return sock
