"""Reading journals: in order, each frame once, also while they are written or damaged."""

import errno
import fcntl
import itertools
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.journal import Journal
from schemas.journal import directory, frame
from schemas.journal import reader as reader_module
from schemas.journal.directory import journal_id, segments
from schemas.journal.reader import Reader

ID = directory.journal_id(1, bytes(8))


class Damages(list[int]):
    def __call__(self, journal: Path, size: int, kept: Path) -> None:
        assert len(kept.read_bytes()) == size
        self.append(size)


def write(journal: Path, first: int, *counts: int, extra: bytes = b"") -> int:
    """A segment with frames of so many events; the seq after it."""
    journal.mkdir(parents=True, exist_ok=True)
    data, seq = b"", first
    for count in counts:
        data += frame.encode(
            seq, count, b"".join(b'{"seq":%d}\n' % n for n in range(seq, seq + count))
        )
        seq += count
    (journal / directory.segment_name(first)).write_bytes(data + extra)
    return seq


def seqs(reader: Reader, max_bytes: int = 1 << 20) -> list[int]:
    """Every seq that is there to read now."""
    found: list[int] = []
    while frames := reader.read(max_bytes):
        for item in frames:
            found += range(item.first_seq, item.next_seq)
    return found


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal" / ID


@pytest.fixture
def live(journal: Path) -> Iterator[Path]:
    """A journal somebody holds."""
    journal.mkdir(parents=True)
    lock = os.open(journal / directory.LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    yield journal
    os.close(lock)


def test_segments_follow_each_other(journal: Path) -> None:
    write(journal, write(journal, 1, 3, 2), 1, 4)
    reader = Reader(journal, 1, Damages())
    assert seqs(reader, 1) == list(range(1, 11))
    assert reader.finished


@pytest.mark.parametrize("position", range(1, 12))
def test_from_any_position(journal: Path, position: int) -> None:
    """Whole frames are given: the one the position stands in comes again."""
    write(journal, write(journal, 1, 3, 2), 1, 4)
    begin = next((b for b in (1, 4, 6, 7) if b <= position < b + {1: 3, 4: 2, 6: 1, 7: 4}[b]), 11)
    assert seqs(Reader(journal, position, Damages())) == list(range(begin, 11))


def test_a_missing_segment_is_a_gap(journal: Path) -> None:
    write(journal, 1, 2)
    write(journal, 9, 2)
    assert seqs(Reader(journal, 1, Damages())) == [1, 2, 9, 10]
    assert seqs(Reader(journal, 5, Damages())) == [9, 10]


def test_a_repeated_frame_is_given_once(journal: Path) -> None:
    write(journal, 1, 2, extra=frame.encode(1, 2, b"again\n") + frame.encode(3, 1, b"x\n"))
    assert seqs(Reader(journal, 1, Damages())) == [1, 2, 3]


def test_a_torn_tail_waits_while_the_journal_lives(live: Path) -> None:
    damages = Damages()
    torn = frame.encode(3, 1, b"late\n")
    write(live, 1, 2, extra=torn[:20])
    reader = Reader(live, 1, damages)
    assert seqs(reader) == [1, 2]
    assert not reader.finished
    with (live / directory.segment_name(1)).open("ab") as file:
        file.write(torn[20:])
    assert seqs(reader) == [3]
    assert not damages


def test_a_torn_tail_is_cut_once_a_segment_follows(live: Path) -> None:
    """The writer leaves a segment after a failure and never comes back to it."""
    damages = Damages()
    write(live, 1, 2, extra=b"HGF1 torn")
    write(live, 5, 1)
    assert seqs(Reader(live, 1, damages)) == [1, 2, 5]
    assert damages == [len(b"HGF1 torn")]


def test_a_torn_tail_is_cut_once_sealed(journal: Path) -> None:
    damages = Damages()
    write(journal, 1, 2, extra=frame.encode(3, 1, b"gone\n")[:-1])
    reader = Reader(journal, 1, damages)
    assert seqs(reader) == [1, 2]
    assert reader.finished
    assert len(damages) == 1


def test_a_large_hole_does_not_stop_the_reader(journal: Path) -> None:
    """Megabytes of zeros, as a file system may leave them after a power loss."""
    damages = Damages()
    hole = bytes(9 << 20)
    write(journal, 1, 2, extra=hole + frame.encode(3, 1, b"after\n"))
    assert seqs(Reader(journal, 1, damages)) == [1, 2, 3]
    assert sum(damages) == len(hole)


@settings(max_examples=60, deadline=None)
@given(counts=st.lists(st.integers(1, 5), min_size=1, max_size=12), cut=st.integers(0, 10_000))
def test_a_growing_segment_at_every_cut(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], cut: int
) -> None:
    journal = tmp_path_factory.mktemp("growing") / "journal" / ID
    end = write(journal, 1, *counts)
    whole = (journal / directory.segment_name(1)).read_bytes()
    cut = min(cut, len(whole))
    (journal / directory.segment_name(1)).write_bytes(whole[:cut])
    with (journal / directory.LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        damages = Damages()
        reader = Reader(journal, 1, damages)
        first = seqs(reader)
        (journal / directory.segment_name(1)).write_bytes(whole)
        assert first + seqs(reader) == list(range(1, end))
        assert not damages


@pytest.mark.parametrize("rotated", range(12))
@pytest.mark.parametrize("appended", range(12))
def test_what_is_written_between_two_steps_of_the_reader_is_read(
    live: Path, monkeypatch: pytest.MonkeyPatch, appended: int, rotated: int
) -> None:
    """A frame is appended, and a segment begun, before any of the reader's looks at the disk."""
    write(live, 1, 2)
    due = {appended: [lambda: write(live, 1, 2, 3)]}
    due.setdefault(max(appended, rotated), []).append(lambda: write(live, 6, 1))
    looks = itertools.count()

    def first_write(look: Callable[..., Any], *given: Any) -> Any:
        for step in due.pop(next(looks), ()):
            step()
        return look(*given)

    for name in ("segments", "is_sealed"):
        found = getattr(reader_module, name)
        monkeypatch.setattr(reader_module, name, partial(first_write, found))
    read = Reader._bytes
    monkeypatch.setattr(Reader, "_bytes", lambda self: first_write(read, self))
    reader = Reader(live, 1, Damages())
    found = list[int]()
    while due:
        found += seqs(reader)
    assert found + seqs(reader) == [1, 2, 3, 4, 5, 6]


def test_an_error_skips_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames before the error are given, those behind it when it is over."""
    made = Journal(tmp_path, journal_id(1, bytes(8)), lambda: 1.0, segment_bytes=100)
    for _ in range(5):
        made.append([b'"n":1}\n'])
    made.close()
    read, reads = os.pread, []

    def fails_third(*given: int) -> bytes:
        reads.append(given)
        if len(reads) in (3, 4):
            raise OSError(errno.EIO, "broken")
        return read(*given)

    monkeypatch.setattr(os, "pread", fails_third)
    reader = Reader(made.path, 1)
    first = reader.read(1 << 20)
    with pytest.raises(OSError, match="broken"):
        reader.read(1 << 20)
    rest = reader.read(1 << 20)
    assert [frame.first_seq for frame in (*first, *rest)] == [1, 2, 3, 4, 5]
    assert first
    assert reader.finished


def test_a_quarantine_that_cannot_be_written_loses_no_frame(tmp_path: Path) -> None:
    root = tmp_path / "journal"
    root.mkdir()
    made = Journal(root, journal_id(1, bytes(8)), lambda: 1.0)
    for _ in range(3):
        made.append([b'"n":1}\n'])
    made.close()
    ((_, segment),) = segments(made.path)
    whole = segment.read_bytes()
    middle = len(whole) // 2
    segment.write_bytes(whole[:middle] + b"\0" + whole[middle + 1 :])
    (tmp_path / "quarantine").write_text("in the way")
    lost: list[int] = []
    reader = Reader(made.path, 1, lambda journal, size, kept: lost.append(size))
    assert [frame.first_seq for frame in reader.read(1 << 20)] == [1, 3]
    assert lost
