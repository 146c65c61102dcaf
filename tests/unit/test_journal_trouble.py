"""The journal on a disk that is full or fails."""

import errno
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from collector.journal import Journal
from schemas.journal import directory
from schemas.journal.reader import Reader
from tests.unit.test_journal_writer import BODY, Clock, clock, make, own, root

__all__ = ["clock", "root"]


@contextmanager
def small_files() -> Iterator[None]:
    """No file may grow beyond 2,000 bytes: writes are cut short, then fail, as on a full disk.

    Only around the writes of a test: pytest's own output may go to a file.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_short_write_is_cut_off(root: Path, clock: Clock) -> None:
    journal = make(root, clock)
    assert journal.append([BODY] * 4)
    size = directory.used_bytes(root)
    with small_files():
        assert not journal.append([BODY] * 10)  # the kernel takes some of it
    assert directory.used_bytes(root) == size
    assert (journal.lost["full"], journal.trouble) == (10, "full")
    assert journal.append([BODY])
    assert own(root) == [1, 2, 3, 4, 15]
    journal.close()


def test_a_failing_write_is_counted_and_recovered_from(
    root: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = make(root, clock)
    journal.append([BODY])
    write = os.write
    for code, loss in ((errno.EIO, "io"), (errno.ENOSPC, "full"), (errno.EDQUOT, "full")):

        def fail(fd: int, data: bytes, code: int = code) -> int:
            write(fd, data[: len(data) // 2])  # something of it may be there all the same
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "write", fail)
        assert not journal.append([BODY] * 2)
        assert journal.trouble == loss
        journal.maintain()
        assert journal.trouble == loss
        monkeypatch.setattr(os, "write", write)
        journal.maintain()
        assert journal.trouble is None
        assert journal.append([BODY])
    assert own(root) == [1, 4, 7, 10]
    assert journal.lost == {"cap": 0, "full": 4, "io": 2, "closed": 0}
    journal.close()


def test_a_tail_that_cannot_be_cut_is_left_behind(
    root: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = make(root, clock)
    journal.append([BODY])
    write, truncate = os.write, os.ftruncate

    def fail(fd: int, data: bytes) -> int:
        write(fd, data[:30])
        raise OSError(errno.EIO, "")

    def refuse(fd: int, size: int) -> None:
        raise OSError(errno.EIO, "")

    monkeypatch.setattr(os, "write", fail)
    monkeypatch.setattr(os, "ftruncate", refuse)
    assert not journal.append([BODY])
    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(os, "ftruncate", truncate)
    assert journal.append([BODY])
    journal.close()
    damage: list[int] = []
    reader = Reader(journal.path, 1, lambda _, size, kept: damage.append(size))
    found = [f.first_seq for f in reader.read(1 << 20)]
    assert (found, damage) == ([1, 3], [30])


def test_a_failed_sync_leaves_the_segment(
    root: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = make(root, clock)
    journal.append([BODY])

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fail)
        with pytest.raises(OSError, match=r"\[Errno 5\]"):
            journal.sync()
    assert journal.trouble == "io"
    assert journal.append([BODY])
    assert [first for first, _ in directory.segments(journal.path)] == [1, 2]
    journal.sync()
    journal.maintain()
    assert journal.trouble is None
    journal.close()
    assert own(root) == [1, 2]


def test_a_failed_sync_takes_no_segment_from_an_append(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs in a thread of its own, at any moment of one: here, before the segment is taken."""
    beside: list[Callable[[], None]] = []

    def clock() -> float:
        while beside:
            with pytest.raises(OSError, match=r"\[Errno 5\]"):
                beside.pop()()
        return 1.0

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "")

    journal = Journal(root, directory.journal_id(1, bytes(8)), clock)
    assert journal.append([BODY])
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fail)
        beside.append(journal.sync)
        assert journal.append([BODY])
        assert journal.append([BODY])
    assert [first for first, _ in directory.segments(journal.path)] == [1, 3]
    journal.close()
    assert own(root) == [1, 2, 3]


def test_a_full_disk_where_no_segment_can_be_made(
    root: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = make(root, clock)
    opened = os.open

    def fail(*arguments: object, **more: object) -> int:
        raise OSError(errno.ENOSPC, "")

    monkeypatch.setattr(os, "open", fail)
    assert not journal.append([BODY])
    monkeypatch.setattr(os, "open", opened)
    assert journal.append([BODY])
    assert own(root) == [2]
    journal.close()


def test_a_full_disk_at_the_start_is_recovered_from(
    root: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that starts on a full disk answers all the same."""

    def fail(*arguments: object, **more: object) -> int:
        raise OSError(errno.ENOSPC, "")

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", fail)
        journal = make(root, clock)
        assert journal.trouble == "full"
        assert not journal.append([BODY])
        journal.maintain()
        assert journal.trouble == "full"
        assert directory.journals(root) == []
    journal.maintain()
    assert journal.trouble is None
    assert journal.append([BODY])
    assert own(root) == [2]
    assert not directory.is_sealed(journal.path)
    journal.close()


def test_a_probe_s_segment_takes_the_next_event(root: Path, clock: Clock) -> None:
    """After a loss without a segment, a recovery, and a quiet hour: nothing more may be lost."""
    journal = make(root, clock, max_bytes=100)
    assert not journal.append([BODY])
    journal._max_bytes = 1 << 20
    journal.maintain()
    assert journal.trouble is None
    clock.now += 3601
    journal.maintain()
    assert journal.append([BODY] * 20)
    assert own(root) == list(range(2, 22))
    journal.close()


def test_losses_at_the_end_leave_a_trace(root: Path, clock: Clock) -> None:
    journal = make(root, clock, max_bytes=100)
    assert not journal.append([BODY] * 5)
    journal._max_bytes = 1 << 20
    journal.close()
    reader = Reader(journal.path, 1)
    assert reader.read(1 << 20) == []
    assert (reader.finished, reader.next_seq) == (True, 6)


def test_a_disk_with_room_for_a_probe_only_stays_in_trouble(
    root: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readiness must not say that events are taken where the next group will not fit."""
    journal = make(root, clock)
    journal.append([BODY])
    with small_files():
        assert not journal.append([BODY] * 20)
    real = os.statvfs(root)
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((*real[:3], 0, 0, *real[5:])))
    journal.maintain()
    assert journal.trouble == "full"
    assert journal.append([BODY])  # one that fits is kept, and does not end the trouble
    assert journal.trouble == "full"
    monkeypatch.undo()
    journal.maintain()
    assert journal.trouble is None
    journal.close()


def test_a_disk_that_fails_on_makes_no_file_for_each_event(
    root: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = make(root, clock)
    assert journal.append([BODY])
    write = os.write

    def torn(fd: int, data: bytes) -> int:
        write(fd, data[:30])
        raise OSError(errno.EIO, "")

    def refuse(fd: int, size: int) -> None:
        raise OSError(errno.EIO, "")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", torn)
        patched.setattr(os, "ftruncate", refuse)
        for _ in range(20):
            assert not journal.append([BODY])
            journal.maintain()
    assert len(directory.segments(journal.path)) == 2
    journal.maintain()
    assert journal.trouble is None
    assert journal.append([BODY])
    with small_files(), monkeypatch.context() as patched:  # what is cut off now is nothing else
        patched.setattr(os, "write", torn)
        assert not journal.append([BODY])
    journal.close()
    reader = Reader(journal.path, 1, lambda *_: None)
    assert [f.first_seq for f in reader.read(1 << 20) if f.events] == [1, 22]
    assert journal.lost["io"] == 21


def test_a_failing_sync_is_told_until_one_works(
    root: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a word in between, and without a file for each."""
    journal = make(root, clock)

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fail)
        for _ in range(10):
            assert journal.append([BODY])
            with pytest.raises(OSError, match=r"\[Errno 5\]"):
                journal.sync()
            journal.maintain()
            assert journal.trouble == "io"
    journal.sync()
    journal.maintain()
    assert journal.trouble is None
    assert journal.append([BODY])
    assert own(root) == list(range(1, 12))
    assert len(directory.segments(journal.path)) == 3
    journal.close()


def test_a_full_disk_s_segment_is_left(
    root: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or what is shipped of it could not make room, for a live segment stays."""
    journal = make(root, clock)
    assert journal.append([BODY] * 4)
    with small_files():
        assert not journal.append([BODY] * 10)
    real = os.statvfs(root)
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((*real[:3], 0, 0, *real[5:])))
    for _ in range(3):
        journal.maintain()
    assert journal.trouble == "full"
    ((_, old), (_, new)) = directory.segments(journal.path)
    os.utime(old, (1, 1))
    directory.write_position(journal.path, 5)
    directory.make_room(root, clock.now, 86_400.0, 1 << 40)
    assert [path for _, path in directory.segments(journal.path)] == [new]
    monkeypatch.undo()
    journal.maintain()
    assert journal.trouble is None
    journal.close()
