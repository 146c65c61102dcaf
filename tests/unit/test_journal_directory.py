"""Positions, and when segments and journals go."""

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.journal import Journal
from schemas.journal import directory, reship
from schemas.journal.reader import Reader

NOW = time.time()
BODY = b'"n":"' + b"x" * 400 + b'"}\n'


def free(monkeypatch: pytest.MonkeyPatch, blocks: int) -> None:
    real = os.statvfs("/")
    told = os.statvfs_result((4096, 4096, 1 << 30, blocks, blocks, *real[5:]))
    monkeypatch.setattr(os, "statvfs", lambda _: told)


@pytest.fixture(autouse=True)
def roomy_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 1 << 29)


def journal(root: Path, number: int, events: int, *, age: float = 0.0) -> Path:
    """A sealed journal of segments with two events each."""
    path = root / directory.journal_id(number, bytes(8))
    made = Journal(root, path.name, lambda: NOW, segment_bytes=600)
    for _ in range(0, events, 2):
        made.append([BODY, BODY])
    made.close()
    for _, segment in directory.segments(path):
        os.utime(segment, (NOW - age, NOW - age))
    return path


@given(st.integers(1, 1 << 62))
def test_a_position_comes_back(tmp_path_factory: pytest.TempPathFactory, seq: int) -> None:
    path = tmp_path_factory.mktemp("position")
    directory.write_position(path, seq)
    assert directory.read_position(path) == seq


@pytest.mark.parametrize("content", [b"", b"7", b"7 00000000\n", b"x y", b"-1 aa"])
def test_a_damaged_position_is_the_beginning(tmp_path: Path, content: bytes) -> None:
    (tmp_path / directory.POSITION).write_bytes(content)
    assert directory.read_position(tmp_path) == 1


def test_shipped_and_old_goes_and_nothing_else(tmp_path: Path) -> None:
    path = journal(tmp_path, 1, 6, age=100.0)
    assert len(directory.segments(path)) == 3
    directory.write_position(path, 6)  # the last segment holds 5 and 6
    assert directory.expire(tmp_path, NOW, 200.0) == 0
    assert directory.expire(tmp_path, NOW, 50.0) == 2
    directory.write_position(path, 7)
    assert directory.expire(tmp_path, NOW, 50.0) == 1
    assert directory.journals(tmp_path) == [path]  # itself young: its position is kept
    assert directory.expire(tmp_path, NOW + 3600, 50.0) == 0
    assert directory.journals(tmp_path) == []


def test_damaged_bytes_go_after_their_journal(tmp_path: Path) -> None:
    """They may hold anybody's address, and nobody else deletes them."""
    root = tmp_path / "journal"
    here, gone = journal(root, 1, 2), root / directory.journal_id(2, bytes(8))
    kept = [directory.quarantined(path / "00000000000000000001.seg", 7) for path in (here, gone)]
    kept[0].parent.mkdir()
    for path in kept:
        path.write_bytes(b"x")
        os.utime(path, (NOW, NOW))
    directory.expire(root, NOW + directory.QUARANTINE_SECONDS - 1, 50.0)
    assert [path.exists() for path in kept] == [True, True]
    directory.expire(root, NOW + directory.QUARANTINE_SECONDS + 1, 50.0)
    assert [path.exists() for path in kept] == [True, False]


def test_what_is_not_shipped_stays(tmp_path: Path) -> None:
    path = journal(tmp_path, 1, 6, age=1e6)
    directory.make_room(tmp_path, NOW, 1e3, 100)
    assert len(directory.segments(path)) == 3


def test_room_is_made_for_the_cap(tmp_path: Path) -> None:
    """Kept segments never make the edge lose events: the oldest go before their time."""
    old, young = journal(tmp_path, 1, 6, age=3600.0), journal(tmp_path, 2, 6, age=10.0)
    for path in (old, young):
        directory.write_position(path, 7)
    used = directory.used_bytes(tmp_path)
    assert directory.make_room(tmp_path, NOW, 86_400.0, 2 * used) == 0
    assert directory.make_room(tmp_path, NOW, 86_400.0, used) == 3
    assert (len(directory.segments(old)), len(directory.segments(young))) == (0, 3)


def test_room_is_made_on_a_disk_that_fills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever fills it: what is shipped goes before its time, what is not stays."""
    old, young = journal(tmp_path, 1, 6, age=3600.0), journal(tmp_path, 2, 6, age=3600.0)
    directory.write_position(old, 7)
    assert directory.make_room(tmp_path, NOW, 86_400.0, 1 << 40) == 0
    free(monkeypatch, 9)
    assert directory.make_room(tmp_path, NOW, 86_400.0, 1 << 40) == 3
    assert (len(directory.segments(old)), len(directory.segments(young))) == (0, 3)


def test_the_end_is_found_in_the_tail(tmp_path: Path) -> None:
    path = journal(tmp_path, 1, 6)
    assert directory.end_seq(path) == 7
    with directory.segments(path)[-1][1].open("ab") as file:
        file.write(b"HGF1 torn")
    assert directory.end_seq(path) == 7
    assert directory.end_seq(tmp_path) == 1


def test_shipping_again_moves_back_only(tmp_path: Path) -> None:
    old, young = journal(tmp_path, 1, 6, age=1000.0), journal(tmp_path, 2, 6, age=10.0)
    directory.write_position(old, 7)
    directory.write_position(young, 1)
    assert not reship.obey(tmp_path)
    reship.request(tmp_path, NOW - 500)
    assert reship.obey(tmp_path)
    assert (directory.read_position(old), directory.read_position(young)) == (7, 1)
    reship.request(tmp_path, 0)
    assert reship.obey(tmp_path)
    assert (directory.read_position(old), directory.read_position(young)) == (1, 1)
    assert not reship.obey(tmp_path)


def test_a_zeroed_tail_does_not_make_unread_events_look_shipped(tmp_path: Path) -> None:
    path = journal(tmp_path, 1, 2)
    ((_, segment),) = directory.segments(path)
    with segment.open("ab") as file:
        file.write(bytes(1_200_000))
    os.utime(segment, (NOW - 1e6, NOW - 1e6))
    assert directory.expire(tmp_path, NOW, 10.0) == 0
    directory.write_position(path, 3)
    assert directory.expire(tmp_path, NOW, 10.0) == 1


def test_a_segment_without_a_frame_goes_only_once_it_is_set_aside(tmp_path: Path) -> None:
    root = tmp_path / "journal"
    root.mkdir()
    path = journal(root, 1, 2)
    ((_, segment),) = directory.segments(path)
    segment.write_bytes(bytes(100))
    os.utime(segment, (NOW - 1e6, NOW - 1e6))
    assert directory.expire(root, NOW, 10.0) == 0
    Reader(path, 1, lambda *_: None).read(1 << 20)
    assert directory.expire(root, NOW, 10.0) == 1


@pytest.mark.parametrize("rolled", [False, True])
def test_a_probe_behind_lost_events_holds_no_segment_back(tmp_path: Path, rolled: bool) -> None:
    made = Journal(tmp_path, directory.journal_id(1, bytes(8)), lambda: NOW, max_bytes=2000)
    assert made.append([BODY] * 2)
    assert not made.append([BODY] * 50)
    made._max_bytes = 1 << 20
    if rolled:
        made._leave()
    made.maintain()
    made.close()
    for _, segment in directory.segments(made.path):
        os.utime(segment, (NOW - 1e6, NOW - 1e6))
    directory.write_position(made.path, 3)
    assert directory.end_seq(made.path) == 3
    assert directory.expire(tmp_path, NOW, 10.0) == 1 + rolled
