"""How busy this machine is, and the processes of a line on it (on Linux)."""

import os
from pathlib import Path

from loadtest.processes import cpu

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")


def children(parent: int) -> list[int]:
    """The processes that a process has started."""
    found = []
    for entry in _PROC.glob("[0-9]*"):
        try:
            above = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if above == parent:
            found.append(int(entry.name))
    return found


def _cores() -> tuple[float, float]:
    """Seconds that all cores together have worked, and seconds that have passed for them."""
    try:
        first = (_PROC / "stat").read_text().split("\n", 1)[0]
    except OSError:
        return 0.0, 0.0
    ticks = [int(text) for text in first.split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / _TICKS, sum(ticks) / _TICKS


class Meter:
    """From now on. `parent` is the process whose children serve, 0 where they are elsewhere."""

    def __init__(self, parent: int) -> None:
        self._children = {pid: cpu(pid) for pid in children(parent)} if parent else {}
        self._cores = _cores()

    def read(self, seconds: float) -> tuple[float, float]:
        """After some seconds: the share of the cores that was busy, and what the busiest child
        used of a core."""
        worked, passed = (new - old for new, old in zip(_cores(), self._cores, strict=True))
        used = [
            cpu(pid) - old for pid, old in self._children.items() if (_PROC / str(pid)).exists()
        ]
        return worked / max(passed, 1e-9), max(used, default=0.0) / max(seconds, 1e-9)
