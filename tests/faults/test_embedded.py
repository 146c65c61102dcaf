"""One machine under kill -9: what was appended to a journal is in the store once."""

import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.embedded import journal_root, take_in
from consumer.settings import ConsumerSettings
from schemas.journal.directory import end_seq, journals, read_position
from schemas.journal.reader import Reader
from tests.collecting import wait_for
from tests.faults.load import Expected, assert_once
from tests.faults.processes import ROOT, Embedded

pytestmark = pytest.mark.kill


class Worker:
    """A process that appends to journals, and says what it has appended."""

    def __init__(self, root: Path) -> None:
        self.appended: Expected = {}
        command = [sys.executable, "-m", "tests.faults.journal_main", str(root)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.endswith(b"\n"):
                journal, last = line.split()
                self.appended[journal.decode()] = int(last)

    def stop(self, *, kill: bool = False) -> None:
        if kill:
            self._process.kill()
        elif self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        self._process.wait(60)
        self._reading.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


def on_disk(root: Path) -> Expected:
    """What the journals hold, read to their end: the last seq of each, all from 1 on."""
    found: Expected = {}
    for journal in journals(root):
        frames = Reader(journal, 1, lambda *_: None).read(1 << 40)
        assert [f.first_seq for f in frames] == [1, *(f.next_seq for f in frames[:-1])]
        if frames:
            found[journal.name] = frames[-1].next_seq - 1
    return found


def taken(root: Path) -> int:
    return sum(read_position(journal) for journal in journals(root))


@pytest.fixture
def settings(tmp_path: Path) -> ConsumerSettings:
    journal_root(tmp_path).mkdir()
    return ConsumerSettings(data=tmp_path, batch_seconds=0.05)


@pytest.fixture
def consumer(settings: ConsumerSettings, tmp_path: Path) -> Iterator[Embedded]:
    made = Embedded(tmp_path / "consumer.log", settings)
    yield made
    made.close()


def appended_by(workers: list[Worker]) -> Expected:
    return {name: last for worker in workers for name, last in worker.appended.items()}


def test_twelve_kills_of_the_consumer(consumer: Embedded, settings: ConsumerSettings) -> None:
    root = journal_root(settings.data)
    workers = [Worker(root) for _ in range(2)]
    chance = random.Random(12)
    positions = set()
    for turn in range(12):
        consumer.start()
        if turn % 6:  # some are killed while they start, most while they write
            wait_for(lambda: taken(root) not in positions)
        time.sleep(chance.uniform(0, 0.3))
        consumer.kill9()
        positions.add(taken(root))
    consumer.start()
    consumer.await_ready()
    for worker in workers:
        worker.stop()
    appended = appended_by(workers)
    assert on_disk(root) == appended
    wait_for(lambda: taken(root) >= sum(appended.values()) + len(appended), 120)
    assert consumer.terminate() == 0
    ends = {name: read_position(root / name) - 1 for name in appended}
    assert ends == appended, consumer.log.read_text()[-2000:]
    assert len(positions) > 8  # it was at work when it was killed
    with take_in(settings) as client:
        assert_once(client, appended)
        stages = client.query("SELECT count() FROM system.tables WHERE name LIKE 'stage_%'")
        assert stages.result_rows[0][0] == 0
    print(f"{sum(appended.values())} events in {len(appended)} journals over 12 kills")


def test_everything_killed_at_once(consumer: Embedded, settings: ConsumerSettings) -> None:
    """Writers and consumer together, three times; then a command takes in what is left."""
    root = journal_root(settings.data)
    appended: Expected = {}
    for _ in range(3):
        workers = [Worker(root) for _ in range(2)]
        consumer.start()
        time.sleep(2.0)
        for worker in workers:
            worker._process.kill()
        consumer.kill9()
        for worker in workers:
            worker.stop(kill=True)
        appended |= appended_by(workers)
    whole = on_disk(root)
    assert all(whole[name] >= last for name, last in appended.items())
    with take_in(settings) as client:
        assert_once(client, whole)
    assert all(read_position(path) == end_seq(path) for path in journals(root))
