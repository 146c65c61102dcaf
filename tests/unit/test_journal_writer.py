"""Writing a journal: what is reported as written is there; what is lost is counted and a gap."""

import errno
import os
from pathlib import Path

import pytest

from collector.journal import Journal
from schemas.journal import directory
from schemas.journal.reader import Reader

BODY = b'"n":"' + b"x" * 200 + b'"}\n'


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def make(root: Path, clock: Clock, number: int = 1, **more: int) -> Journal:
    return Journal(root, directory.journal_id(number, bytes(8)), clock, **more)


def seqs(root: Path) -> list[tuple[str, int]]:
    found = []
    for journal in directory.journals(root):
        reader = Reader(journal, 1, lambda *damage: pytest.fail(f"damage: {damage}"))
        while frames := reader.read(1 << 20):
            found += [
                (journal.name[:12], n) for f in frames for n in range(f.first_seq, f.next_seq)
            ]
    return found


def own(root: Path) -> list[int]:
    return [seq for _, seq in seqs(root)]


def test_written_is_readable_at_once(root: Path, clock: Clock) -> None:
    journal = make(root, clock)
    assert journal.append([BODY] * 3)
    assert journal.append([BODY])
    assert own(root) == [1, 2, 3, 4]
    assert directory.end_seq(journal.path) == 5
    assert not directory.is_sealed(journal.path)
    journal.close()
    assert directory.is_sealed(journal.path)


def test_a_large_group_is_several_blocks(root: Path, clock: Clock) -> None:
    journal = make(root, clock)
    assert journal.append([BODY] * 5000)
    assert own(root) == list(range(1, 5001))
    journal.close()


def test_segments_roll_by_size_and_by_age(root: Path, clock: Clock) -> None:
    journal = make(root, clock, segment_bytes=1000)
    for _ in range(6):
        journal.append([BODY])
    assert [first for first, _ in directory.segments(journal.path)] == [1, 4]
    clock.now += 3601
    journal.append([BODY])
    assert [first for first, _ in directory.segments(journal.path)] == [1, 4, 7]
    assert own(root) == list(range(1, 8))
    journal.close()


def test_an_old_segment_is_left_without_traffic(root: Path, clock: Clock) -> None:
    journal = make(root, clock)
    journal.append([BODY])
    clock.now += 3601
    journal.maintain()
    journal.append([BODY])
    assert [first for first, _ in directory.segments(journal.path)] == [1, 2]
    journal.close()


def test_the_cap_holds_for_all_journals_and_is_left_by_itself(root: Path, clock: Clock) -> None:
    first = make(root, clock, 1)
    first.append([BODY] * 20)
    second = make(root, clock, 2, max_bytes=first.used + 1000)
    assert second.append([BODY])
    assert not second.append([BODY] * 10)
    assert (second.lost["cap"], second.trouble) == (10, "cap")
    assert directory.used_bytes(root) <= first.used + 1000
    first.close()
    directory.segments(first.path)[0][1].unlink()
    second.maintain()
    assert second.trouble is None
    assert second.append([BODY])
    assert own(root) == [1, 12]  # 2 to 11 are used up: a gap that anyone can see
    second.close()


def test_closed_is_closed(root: Path, clock: Clock) -> None:
    journal = make(root, clock)
    journal.append([BODY])
    journal.close()
    assert not journal.append([BODY])
    assert journal.lost["closed"] == 1
    journal.close()


def test_a_journal_without_events_leaves_nothing(root: Path, clock: Clock) -> None:
    make(root, clock).close()
    assert directory.journals(root) == []


def test_no_journal_is_made_twice(root: Path, clock: Clock) -> None:
    journal = make(root, clock)
    journal.append([BODY])
    with pytest.raises(OSError, match=r"not empty|exists"):
        make(root, clock)
    journal.close()


def test_a_directory_that_may_not_be_written_is_an_error_at_once(
    root: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **more: object) -> int:
        raise PermissionError(errno.EACCES, "")

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(PermissionError):
        make(root, clock)
