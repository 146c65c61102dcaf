"""The file of opt-outs: sealed, only added to, and read whatever happened to it."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import optouts
from collector.optouts import Optouts, append
from schemas.optout import Entry, Sealer

SECRET = bytes(range(32))
NAMES = st.text(min_size=1, max_size=80).filter(lambda name: len(name.encode()) <= 255)


def known(path: Path, secret: bytes = SECRET) -> Optouts:
    found = Optouts(path, secret)
    found.refresh()
    return found


def put(path: Path, *names: str, out: bool = True) -> None:
    some = Optouts(path, SECRET)
    some.append(some.seal(names, out, 1_790_000_000_000))


@given(NAMES, st.booleans(), st.integers(0, (1 << 48) - 1))
def test_an_entry_comes_back(name: str, out: bool, at: int) -> None:
    sealer = Sealer(SECRET)
    line = sealer.seal(Entry(name, out, at))
    assert sealer.open(line) == (name, out, at)
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert len(name) < 4 or name.encode() not in line
    with pytest.raises(ValueError, match="no entry of this ring"):
        Sealer(bytes(32)).open(line)


@given(st.binary(max_size=200))
def test_anything_else_is_no_entry(line: bytes) -> None:
    with pytest.raises(ValueError, match="no entry of this ring"):
        Sealer(SECRET).open(line)


@pytest.mark.parametrize("name", ["", "x" * 256])
def test_a_name_must_fit(name: str) -> None:
    with pytest.raises(ValueError, match="1 to 255 bytes"):
        Sealer(SECRET).seal(Entry(name, True, 1))


def test_the_last_entry_holds(tmp_path: Path) -> None:
    path = tmp_path / "optouts"
    reader = known(path)
    assert reader.recipients == set()
    held = reader.recipients
    put(path, "a", "b", "c")
    put(path, "b", out=False)
    assert reader.step()
    assert held == {"a", "c"}
    assert not reader.step()
    put(path, "b")
    reader.refresh()
    assert held is reader.recipients
    assert held == known(path).recipients == {"a", "b", "c"}
    assert reader.changes(["a", "d", "d"], True) == ["d"]
    assert reader.changes(["a", "d"], False) == ["a"]
    assert b"a" not in {line.strip() for line in path.read_bytes().splitlines()}


def test_a_line_cut_by_a_kill_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "optouts"
    put(path, "a", "b")
    whole = path.read_bytes()
    for cut in range(2, len(whole) // 2):
        path.write_bytes(whole[: len(whole) - cut])
        assert known(path).recipients == {"a"}
        put(path, "c")
        found = known(path)
        assert found.recipients == {"a", "c"}
        assert found.damaged == 1


def test_a_line_that_is_being_written_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "optouts"
    put(path, "a")
    line = path.read_bytes()
    reader = Optouts(path, SECRET)
    for at in range(len(line)):
        path.write_bytes(line[:at])
        reader.refresh()
        assert reader.recipients == set()
    path.write_bytes(line)
    reader.refresh()
    assert (reader.recipients, reader.damaged) == ({"a"}, 0)


@given(st.lists(st.binary(max_size=90), max_size=6))
def test_junk_between_lines_is_counted(
    tmp_path_factory: pytest.TempPathFactory, junk: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("junk") / "optouts"
    for number, piece in enumerate(junk):
        put(path, f"r{number}")
        with path.open("ab") as file:
            file.write(piece + b"\n")
    put(path, "last")
    found = known(path)
    assert found.recipients == {*(f"r{number}" for number in range(len(junk))), "last"}
    assert found.damaged == sum(
        bool(line) for piece in junk for line in (piece + b"\n").splitlines()
    )


def test_junk_without_a_line_end_does_not_hold_up(tmp_path: Path) -> None:
    path = tmp_path / "optouts"
    path.write_bytes(b"A" * 50_000)
    put(path, "a")
    assert known(path).recipients == {"a"}


def test_another_file_in_its_place_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "optouts"
    put(path, *(f"r{number}" for number in range(2000)))
    reader = known(path)
    put(tmp_path / "backup", "r1", "x")
    os.replace(tmp_path / "backup", path)
    reader.step()
    assert reader.recipients == {"r1", "x"}
    path.write_bytes(b"")
    reader.step()
    assert reader.recipients == set()


def test_a_lost_file_is_said_and_nothing_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "optouts"
    put(path, "a")
    reader = known(path)
    path.unlink()
    assert not reader.step()
    assert "cannot be read" in reader.trouble
    assert reader.recipients == {"a"}
    put(path, "b")
    reader.refresh()
    assert (reader.recipients, reader.trouble) == ({"b"}, "")


def test_the_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "optouts"
    put(path, "a")
    monkeypatch.setattr(optouts, "MAX_BYTES", path.stat().st_size + 10)
    with pytest.raises(OSError, match="is full"):
        append(path, path.read_bytes())
    assert known(path).recipients == {"a"}
