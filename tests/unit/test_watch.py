"""The watch over workers that hang."""

import asyncio
import subprocess
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from collector.watch import Watch

#: No process has it.
NOBODY = 1 << 23


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen(["sleep", "60"])
    yield started
    started.kill()
    started.wait()


class Workers:
    """A worker and another child, and what they answer."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.registry = CollectorRegistry()
        self.pids = {"worker-0": process.pid, "consumer": NOBODY}
        self.answering: set[str] = set()
        self.watch = Watch({"worker-0"}, lambda: self.pids, self._ask, self.registry)

    async def _ask(self) -> set[str]:
        return self.answering

    def look(self, times: int, *answering: str) -> float | None:
        """Have it look; how many it has killed."""
        self.answering = set(answering)
        for _ in range(times):
            asyncio.run(self.watch.look())
        return self.registry.get_sample_value("heliograph_workers_hung_total")


def test_one_that_answers_no_more_is_killed(process: subprocess.Popen[bytes]) -> None:
    workers = Workers(process)
    assert workers.look(9) == 0, "it has not answered yet: it may have much to read"
    assert workers.look(1, "worker-0") == 0
    assert workers.look(2) == 0
    assert workers.look(1, "worker-0") == 0
    assert workers.look(2) == 0
    assert process.poll() is None
    assert workers.look(1) == 1
    assert process.wait(10) == -9


def test_one_that_never_answers_is_killed_after_minutes(process: subprocess.Popen[bytes]) -> None:
    workers = Workers(process)
    assert workers.look(149) == 0
    assert workers.look(1) == 1
    assert process.wait(10) == -9


def test_its_successor_has_a_time_of_its_own(process: subprocess.Popen[bytes]) -> None:
    workers = Workers(process)
    workers.look(1, "worker-0")
    workers.pids["worker-0"], old = NOBODY, process.pid
    assert workers.look(3) == 0
    workers.pids["worker-0"] = old
    assert workers.look(3) == 0
