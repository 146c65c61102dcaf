"""A damaged journal: exactly the whole frames are read, the rest is set aside and counted."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from collector.journal import Journal
from collector.track import Track
from schemas.journal import directory, frame
from schemas.journal.reader import Reader

ID = directory.journal_id(1, bytes(8))
FRAMES = 8


@pytest.fixture
def journal() -> Iterator[Path]:
    """A sealed journal of four segments with two frames of one event each, all as long."""
    memory = Path("/dev/shm")  # it is read some thousand times
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as home:
        made = Journal(Path(home) / "journal", ID, lambda: 1.0, segment_bytes=300)
        for n in range(FRAMES):
            assert made.append([b'"n":%d,"pad":"%b"}\n' % (n, b"x" * 20)])
        made.close()
        assert len(directory.segments(made.path)) == 4
        yield made.path


class Damages:
    """What was set aside; each part must be kept as it was."""

    def __init__(self) -> None:
        self.size = 0

    def __call__(self, journal: Path, size: int, kept: Path) -> None:
        assert kept.stat().st_size == size
        self.size += size


def read(journal: Path, position: int = 1) -> tuple[list[int], int]:
    """The first seqs of the frames that a fresh reader gives, and how many bytes were set aside."""
    damages = Damages()
    reader = Reader(journal, position, damages)
    found = [each.first_seq for each in reader.read(1 << 24)]
    assert reader.finished
    return found, damages.size


def last(journal: Path) -> Path:
    return directory.segments(journal)[-1][1]


ALL = list(range(1, FRAMES + 1))


def test_a_tail_cut_at_every_byte(journal: Path) -> None:
    whole = last(journal).read_bytes()
    ends = [item.end for item in frame.scan(whole, complete=True) if isinstance(item, frame.Frame)]
    for size in range(len(whole)):
        last(journal).write_bytes(whole[:size])
        intact = [end for end in ends if end <= size]
        damaged = size - max(intact, default=0)
        assert read(journal) == (ALL[: FRAMES - 2 + len(intact)], damaged), size


def test_every_bit_of_a_frame_flipped(journal: Path) -> None:
    """Also of the last one, also of its length: the next frame is found."""
    for _, segment in directory.segments(journal)[2:3]:
        whole = segment.read_bytes()
        size = len(whole) // 2
        named = int(segment.stem)
        for at in range(8 * len(whole)):
            broken = bytearray(whole)
            broken[at // 8] ^= 1 << at % 8
            segment.write_bytes(broken)
            gone = named + (at >= 8 * size)
            assert read(journal) == ([seq for seq in ALL if seq != gone], size), (segment, at)
        segment.write_bytes(whole)


@pytest.mark.parametrize("fill", [b"\0", b"\xff", frame.MAGIC])
def test_filled_with_something_else(journal: Path, fill: bytes) -> None:
    """Zeros as a file system leaves them, and bytes that look like many frames."""
    for _, segment in directory.segments(journal):
        whole = segment.read_bytes()
        size, named = len(whole) // 2, int(segment.stem)
        for start in range(0, len(whole), 7):
            for end in (start + 1, start + size // 2, len(whole)):
                rubbish = (fill * len(whole))[: len(whole[start:end])]
                segment.write_bytes(whole[:start] + rubbish + whole[end:])
                if segment.read_bytes() == whole:
                    continue
                hit = {named} if start < size else set()
                hit |= {named + 1} if end > size and start + len(rubbish) > size else set()
                found, damaged = read(journal)
                assert set(ALL) - hit <= set(found) <= set(ALL)
                assert damaged == size * (FRAMES - len(found))
        segment.write_bytes(whole)


def test_a_missing_segment_is_a_gap(journal: Path) -> None:
    for seq, segment in directory.segments(journal):
        whole = segment.read_bytes()
        segment.unlink()
        assert read(journal) == ([s for s in ALL if s not in (seq, seq + 1)], 0)
        segment.write_bytes(whole)


NAMES = [2, 4, 6, 8, 9, 99]


@pytest.mark.parametrize("position", [1, 2, 3, 4, 6, 8])
def test_a_copied_segment_hides_nothing(journal: Path, position: int) -> None:
    """Whatever its name is, and wherever the reader begins: names of originals stay theirs."""
    originals = directory.segments(journal)
    wanted = [seq for seq in ALL if seq >= position]
    for _, segment in originals:
        for name in NAMES:
            copy = journal / directory.segment_name(name)
            shutil.copy(segment, copy)
            found, damaged = read(journal, position)
            assert (found, damaged) == (wanted, 0), (segment.name, name)
            copy.unlink()


def test_a_damaged_copy_hides_nothing(journal: Path) -> None:
    """It may be read first, and go on behind what it has lost."""
    for seq, segment in directory.segments(journal):
        whole = segment.read_bytes()
        for at in range(0, len(whole), 3):
            for name in (9, 99):
                copy = journal / directory.segment_name(name)
                copy.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
                assert read(journal) == (ALL, len(whole) // 2), (seq, at, name)
                copy.unlink()


def test_a_copy_does_not_let_go_what_is_not_shipped(journal: Path) -> None:
    """The segment that holds the position stays, though a later one seems to begin before it."""
    directory.write_position(journal, 4)
    shutil.copy(last(journal), journal / directory.segment_name(4))
    for _, segment in directory.segments(journal):
        os.utime(segment, (0, 0))
    directory.expire(journal.parent, 1e9, 1.0)
    assert read(journal, 4) == (ALL[3:], 0)


def test_a_live_segment_is_read_on_beside_a_copy(tmp_path: Path) -> None:
    """Of the same bytes under a later name, which would otherwise be the one that grows."""
    made = Journal(tmp_path / "journal", ID, lambda: 1.0)
    made.append([b'"n":1}\n'])
    damages = Damages()
    reader = Reader(made.path, 1, damages)
    assert [each.first_seq for each in reader.read(1 << 20)] == [1]
    shutil.copy(last(made.path), made.path / directory.segment_name(99))
    for seq in (2, 3):
        made.append([b'"n":2}\n'])
        assert [each.first_seq for each in reader.read(1 << 20)] == [seq]
    assert damages.size == 0
    made.close()


Damage = Callable[[Path], object]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: last(path).write_bytes(b""),
        lambda path: last(path).write_bytes(bytes(1 << 20)),
        lambda path: (path / directory.POSITION).write_bytes(b"\0" * 30),
        lambda path: (path / directory.POSITION).unlink(),
        lambda path: (path / directory.LOCK).unlink(),
        lambda path: (path / "0.seg").write_bytes(b"?"),
        lambda path: (path / "notes.txt").write_bytes(b"?"),
    ],
)
def test_it_starts(journal: Path, damage: Damage) -> None:
    """The next writer, the shipper's look, and what makes room, on whatever is there."""
    damage(journal)
    track = Track(journal, Damages(), 0)
    assert track.fill()
    again = Journal(journal.parent, directory.journal_id(2, bytes(8)), lambda: 1.0)
    assert again.append([b'"n":1}\n'])
    again.close()
    directory.make_room(journal.parent, 2e9, 1.0, 1 << 20)
    assert read(again.path) == ([1], 0)
