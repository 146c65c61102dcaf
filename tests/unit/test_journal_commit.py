"""Group commit: one write a tick, and no answer before the events are where they should be."""

import asyncio
import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from collector.group_commit import GroupCommit
from collector.journal import Journal
from schemas.journal import directory, frame

BODY = b'"n":1}\n'


def fail(fd: int) -> None:
    """A sync on a disk that fails."""
    raise OSError(errno.EIO, "")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path, directory.journal_id(1, bytes(8)), lambda: 1.0)


async def test_one_tick_is_one_write(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    writes = []
    write = os.write

    def count(fd: int, data: bytes) -> int:
        if found := frame.decode(data, 0):
            writes.append(found.events)
        return write(fd, data)

    monkeypatch.setattr(os, "write", count)
    commit = GroupCommit(journal, "never", 1.0)
    futures = [commit.record(BODY) for _ in range(5)]
    assert await futures[0]
    assert all(future is futures[0] for future in futures)
    assert await commit.record(BODY)
    assert writes == [5, 1]
    await commit.close()
    assert directory.end_seq(journal.path) == 7


async def test_always_answers_after_the_sync(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    fdatasync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append(fd) or fdatasync(fd))
    commit = GroupCommit(journal, "always", 1.0)
    assert await commit.record(BODY)
    assert synced
    await commit.close()


async def test_always_says_when_the_sync_failed(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = GroupCommit(journal, "always", 1.0)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fail)
        assert not await commit.record(BODY)
    assert commit.sync_failures == 1
    assert await commit.record(BODY)
    await commit.close()


async def test_always_says_so_to_all_that_a_failing_sync_covered(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also to who is written while it runs, and whose own sync then finds nothing to do."""
    commit = GroupCommit(journal, "always", 1.0)
    runs, goes_on = threading.Event(), threading.Event()

    def fail_late(fd: int) -> None:
        runs.set()
        goes_on.wait(10)
        fail(fd)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fail_late)
        first = commit.record(BODY)
        while not runs.is_set():
            await asyncio.sleep(0.001)
        second = commit.record(BODY)
        await asyncio.sleep(0.01)
        patched.setattr(os, "fdatasync", lambda fd: None)
        goes_on.set()
        assert not await first
        assert not await second
    assert await commit.record(BODY)
    await commit.close()


async def test_always_says_so_where_a_failing_sync_covered_the_beginning(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a group of several blocks, between two of which an earlier one's sync fails."""

    class Bodies(list[bytes]):
        def __getitem__(self, at: Any) -> Any:
            if journal.next_seq == 3 and journal.unsure_below == 1:
                with monkeypatch.context() as patched:
                    patched.setattr(os, "fdatasync", fail)
                    with pytest.raises(OSError, match=r"\[Errno 5\]"):
                        journal.sync()
            return super().__getitem__(at)

    commit = GroupCommit(journal, "always", 1.0)
    group = commit.write(Bodies([b'"n":"%b"}\n' % (b"x" * 200_000)] * 4))
    assert group is not None
    assert not await group
    assert (journal.unsure_below, journal.next_seq) == (3, 5)
    assert await commit.record(BODY)
    await commit.close()


async def test_one_who_gives_up_does_not_harm_the_others(journal: Journal) -> None:
    commit = GroupCommit(journal, "never", 1.0)

    async def hit() -> bool:
        return await asyncio.shield(commit.record(BODY))

    first, second = asyncio.create_task(hit()), asyncio.create_task(hit())
    await asyncio.sleep(0)
    first.cancel()
    assert await second
    assert directory.end_seq(journal.path) == 3
    await commit.close()


async def test_what_is_queued_is_written_at_the_end(journal: Journal) -> None:
    commit = GroupCommit(journal, "interval", 0.01)
    running = asyncio.create_task(commit.run())
    stored = commit.record(BODY)
    await commit.close()
    running.cancel()
    assert stored.result()
    assert directory.end_seq(journal.path) == 2
    assert directory.is_sealed(journal.path)


async def test_much_does_not_wait_for_its_interval(journal: Journal) -> None:
    """All of ten seconds at once would keep the worker from its core for a tenth of one."""
    commit = GroupCommit(journal, "interval", 60.0)
    running = asyncio.create_task(commit.run())
    assert await commit.record(BODY)
    await asyncio.sleep(0.2)
    assert journal.pending_bytes > 0
    commit.write([BODY] * (2 * (1 << 20) // len(BODY)))
    async with asyncio.timeout(30):
        while journal.pending_bytes:
            await asyncio.sleep(0.01)
    running.cancel()
    await commit.close()
