"""Freshness: from a pixel's answer at its client to the moment when a query counts its open.

Opens are counted in the order of their answers (one worker, one journal), so the n-th answer is
counted when a query first finds n more than before. A query is sent every 20 ms.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

_POLL: Final = 0.02
_PATIENCE: Final = 60.0


@dataclass
class Watch:
    """Asks for the count until told to stop; (time of the answer, count) of each change."""

    count: Callable[[], int]
    seen: list[tuple[float, int]] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Watch":
        self.seen.append((time.monotonic(), self.count()))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def _run(self) -> None:
        while not self._over.wait(_POLL):
            count = self.count()
            if count > self.seen[-1][1]:
                self.seen.append((time.monotonic(), count))

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def wait_for(self, more: int) -> None:
        """Until so many more are counted; raises TimeoutError."""
        deadline = time.monotonic() + _PATIENCE
        while self.seen[-1][1] < self.seen[0][1] + more:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{more} opens were answered, not all are counted")
            time.sleep(_POLL)


def delays(answered: list[float], seen: list[tuple[float, int]]) -> list[float]:
    """Seconds from each answer until it was counted, sorted."""
    found, at, base = [], 1, seen[0][1]
    for number, moment in enumerate(sorted(answered), 1):
        while seen[at][1] < base + number:
            at += 1
        found.append(max(0.0, seen[at][0] - moment))
    return sorted(found)
