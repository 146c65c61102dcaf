"""The watch over workers that run, but hang: nothing else would end one.

Each is asked whether it is alive; one that has answered once and then does not, time after time,
is killed, and the supervisor starts another. One that has never answered is given minutes, for to
start may take long. A machine that was suspended counts as one time.
"""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Set
from typing import Final

from prometheus_client import CollectorRegistry

from collector.metrics import hung_workers

log = logging.getLogger(__name__)

#: An answer is waited for as long as `health` says, 2 s; so a worker may hang for 10 to 12 s.
_TIMES: Final = 3
#: Of one that has never answered: five minutes, or ten.
_TIMES_AT_START: Final = 150
_PAUSE_SECONDS: Final = 2.0


class Watch:
    """Over processes of some names."""

    def __init__(
        self,
        names: Set[str],
        pids: Callable[[], Mapping[str, int]],
        ask: Callable[[], Awaitable[Set[str]]],
        registry: CollectorRegistry,
    ) -> None:
        """`pids` gives what runs now, by name, and `ask` the names of those that answer, after
        some seconds at most.
        """
        self._names = names
        self._pids = pids
        self._ask = ask
        self._killed = hung_workers(registry)
        self._left: dict[int, int] = {}  # times that each process may still miss

    async def run(self, pause: float = _PAUSE_SECONDS) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(pause)
            await self.look()

    async def look(self) -> None:
        """Ask once, and kill who has not answered too often."""
        before = {pid: name for name, pid in self._pids().items() if name in self._names}
        alive = await self._ask()
        still = set(self._pids().values())
        left, self._left = self._left, {}
        for pid, name in before.items():
            if name in alive:
                self._left[pid] = _TIMES
            elif pid in still:
                self._left[pid] = left.get(pid, _TIMES_AT_START) - 1
                if self._left[pid] == 0:
                    log.error("%s hangs, and is killed", name)
                    self._killed.inc()
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
