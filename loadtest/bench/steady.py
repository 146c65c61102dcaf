"""A steady rate: from the first progress that is seen to the last, without the start."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from loadtest.processes import cpu

_SECONDS: Final = 300.0
#: Where two reads never agree so often, commits are too small to matter.
_READS: Final = 30


@dataclass(frozen=True)
class Rate:
    """Events per second, and the CPU seconds each process took for a million of them."""

    events: float
    cpu: Mapping[str, float]


def steady(
    done: Callable[[], int], wanted: int, pids: Mapping[str, int], every: float = 0.01
) -> Rate:
    """Watch something until it is done; what is done at once counts from the beginning.

    It is looked at `every` so many seconds, which is work too where a process is asked. Raises
    TimeoutError if it does not come to its end.
    """
    deadline = time.monotonic() + _SECONDS
    began, before = _now(pids)
    first = begun(done, deadline, every)
    if first < wanted:
        began, before = _now(pids)
    else:
        first = 0
    while done() < wanted:
        _tick(deadline, every)
    seconds, count = time.perf_counter() - began, wanted - first
    used = {name: (cpu(pid) - before[name]) / count * 1e6 for name, pid in pids.items()}
    return Rate(count / seconds, used)


def begun(done: Callable[[], int], deadline: float, every: float = 0.01) -> int:
    """What is done when the first commit is whole: of several journals, it comes in steps."""
    while not (last := done()):
        _tick(deadline, every)
    for _ in range(_READS):
        _tick(deadline, every)
        if (now := done()) == last:
            break
        last = now
    return last


def _now(pids: Mapping[str, int]) -> tuple[float, dict[str, float]]:
    return time.perf_counter(), {name: cpu(pid) for name, pid in pids.items()}


def _tick(deadline: float, every: float) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError("it did not come to an end")
    time.sleep(every)
