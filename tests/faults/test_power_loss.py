"""A power loss at any moment loses at most the published window, and nothing is read twice."""

import asyncio
import os
import shutil
import tempfile
import time
from pathlib import Path
from random import Random

import pytest

from collector.group_commit import GroupCommit, Sync
from collector.journal import Journal
from schemas.journal import directory
from schemas.journal import frame as frames
from schemas.journal.reader import Reader
from tests.faults.crash import Op, fates, recording, replay

INTERVAL = 0.03
#: Of a machine with much else to do.
SLACK = 0.5
SEED = int(os.environ.get("HELIOGRAPH_SEED", "7"))
ID = directory.journal_id(1, bytes(8))


def body(number: int) -> bytes:
    return b'"n":%d,"pad":"%b"}\n' % (number, b"x" * (number % 60))


def served(root: Path, sync: Sync, groups: int = 16) -> list[Op]:
    """What a worker does to its disk while it answers, and notes up to which seq it `answered`."""

    async def serve() -> None:
        journal = Journal(root / "data" / "journal", ID, time.time, segment_bytes=1500)
        commit = GroupCommit(journal, sync, INTERVAL)
        running = asyncio.create_task(commit.run())

        def syncs() -> int:
            return sum(op.kind == "sync" for op in recorder.ops)

        for turn in range(groups):
            before = syncs()
            stored = [commit.record(body(journal.next_seq + n)) for n in range(1 + turn % 4)]
            assert await stored[-1]
            recorder.note("answered", journal.next_seq - 1)
            directory.write_position(journal.path, max(1, journal.next_seq - 9))
            await asyncio.sleep(INTERVAL / 8)
            while turn % 4 == 3 and syncs() == before:  # however slow the disk is
                await asyncio.sleep(INTERVAL / 8)
        running.cancel()  # and no close: the power goes

    with recording(root) as recorder:
        asyncio.run(serve())
    return list(recorder.ops)  # a sync may still be on its way


def promised(ops: list[Op], sync: Sync) -> int:
    """Up to which seq nothing may be lost: what was answered before the last whole sync began."""
    (home,) = {op.at for op in ops if op.kind == "name" and op.names[1] == ID} or {-1}
    began = at = 0
    in_round = False
    for op in ops:
        if op.kind == "sync":
            began = began if in_round else op.since
            in_round = op.node != home  # a round ends with the directory
            at = at if in_round else began
    known = ops if sync == "always" else ops[:at]
    return max((op.at for op in known if op.kind == "answered"), default=0)


def check(root: Path, safe: int, written: dict[int, bytes]) -> None:
    """A crashed machine's journals, read and gone on with."""
    journals = root / "data" / "journal"
    found: list[int] = []
    for each in directory.journals(journals):
        reader = Reader(each, 1, lambda *_: None)
        for frame in reader.read(1 << 24):
            assert frame.block == b"".join(
                written[n] for n in range(frame.first_seq, frame.next_seq)
            )
            found += range(frame.first_seq, frame.next_seq)
        assert reader.finished
        assert directory.read_position(each) <= max(1, len(written))
    assert len(found) == len(set(found))
    assert set(range(1, safe + 1)) <= set(found), f"{safe} were safe, there are {found}"
    again = Journal(journals, directory.journal_id(2, bytes(8)), time.time)
    assert again.append([body(1)])
    again.close()
    assert directory.end_seq(again.path) == 2


def crash_everywhere(ops: list[Op], sync: Sync) -> int:
    """How many crashed disks were right. They are made in memory, for they are many."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as home:
        return _crash_everywhere(Path(home), ops, sync)


def _crash_everywhere(home: Path, ops: list[Op], sync: Sync) -> int:
    written = {}
    for op in ops:
        if op.kind == "write" and (frame := frames.decode(op.data, 0)) and frame.events:
            lines = frame.block.splitlines(keepends=True)
            written.update(zip(range(frame.first_seq, frame.next_seq), lines, strict=True))
    random, tried = Random(SEED), 0
    safe = [promised(ops[:end], sync) for end in range(len(ops) + 1)]
    for end, last in enumerate(ops, 1):
        if last.kind == "answered":
            continue
        for fate in fates(ops[:end], random):
            tried += 1
            disk = home / f"{tried}"
            replay(ops[:end], fate, disk, random)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(os, "fsync", lambda _: None)  # this disk is thrown away
                patch.setattr(os, "fdatasync", lambda _: None)
                check(disk, safe[end], written)
            shutil.rmtree(disk)
    return tried


@pytest.mark.parametrize("sync", ["interval", "always"])
def test_at_every_operation(tmp_path: Path, sync: Sync) -> None:
    """Lost is at most what was answered since the last sync began; nothing with `always`."""
    (tmp_path / "worker").mkdir()
    ops = served(tmp_path / "worker", sync)
    assert sum(op.kind == "sync" for op in ops) >= 4
    assert crash_everywhere(ops, sync) > 500


def test_the_window_is_as_long_as_published(tmp_path: Path) -> None:
    """What was answered longer ago than the interval is safe: in one run of five at least, for the
    machine may stand still in any of them.
    """
    assert any(window(tmp_path / f"{turn}") < INTERVAL + SLACK for turn in range(5))


def window(home: Path) -> float:
    """The longest time in a run that an answer was not safe, in seconds."""
    home.mkdir()
    ops = served(home, "interval")
    waits = []
    for end, op in enumerate(ops):
        safe = promised(ops[:end], "interval")
        waits += [op.when - o.when for o in ops[:end] if o.kind == "answered" and o.at > safe]
    return max(waits)


def test_a_missing_sync_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is strict enough: without the directory's sync a segment's name may be lost."""
    (tmp_path / "worker").mkdir()
    ops = served(tmp_path / "worker", "interval", 12)
    (home,) = {op.at for op in ops if op.kind == "name" and op.names[1] == ID}
    forgetful = [
        op._replace(since=0) if op.kind == "sync" and op.node == home else op for op in ops
    ]
    with pytest.raises(AssertionError, match="were safe"):
        crash_everywhere(forgetful, "always")
