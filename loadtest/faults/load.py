"""A client process that runs beside an experiment, and what it has been answered so far."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from loadtest.faults.client import RECORD

_WINDOW: Final = 5.0
_END_SECONDS: Final = 20


class Load:
    """Requests at a rate, numbered from `first` on, over `most` connections, until `stop()`."""

    def __init__(
        self, home: Path, port: int, paths: list[str], rate: float, first: int, most: int
    ) -> None:
        self.first, self.rate = first, rate
        self.told: dict[str, float] = {}
        self.log = home / f"answers-{first}.bin"
        self.log.touch()
        listed = home / f"paths-{first}"
        listed.write_text("\n".join(paths))
        words = map(str, (port, listed, self.log, rate, first, most))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "loadtest.faults.client", *words],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def answered(self) -> int:
        """How many answers have been received and logged."""
        return self.log.stat().st_size // RECORD.size

    @property
    def pid(self) -> int:
        """The client's."""
        return self._process.pid

    def stop(self) -> None:
        """Send no more, wait for the last answers, and take in what the client tells."""
        if not self.told:
            out, _ = self._process.communicate(timeout=_END_SECONDS)
            self.told = json.loads(out)

    def kill(self) -> None:
        """End it, whatever it does."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def records(self) -> Iterator[tuple[int, float, float]]:
        """Number, due time and latency of each answer."""
        data = self.log.read_bytes()
        return RECORD.iter_unpack(data[: len(data) // RECORD.size * RECORD.size])

    def p99(self, since: float = 0.0, until: float = float("inf")) -> float:
        """Of the answers that were due in a time; seconds."""
        return _p99([late for _, due, late in self.records() if since <= due < until])

    def worst_p99(self) -> float:
        """The largest p99 of any 5 s; seconds."""
        windows: dict[int, list[float]] = {}
        for _, due, late in self.records():
            windows.setdefault(int(due / _WINDOW), []).append(late)
        return max(map(_p99, windows.values()), default=0.0)

    def answers_within(self, seconds: float) -> bool:
        """Whether answers come: more, within a time."""
        before, until = self.answered(), time.monotonic() + seconds
        while self.answered() <= before:
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        return True


def _p99(waits: list[float]) -> float:
    return sorted(waits)[len(waits) * 99 // 100] if waits else 0.0
