"""The file of opt-outs: sealed, only added to, and read whatever happened to it."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from collector import optout_compact, optout_index, optouts
from collector.optouts import Optouts, append
from schemas.optout import Entry, Sealer

SECRET = bytes(range(32))
NAMES = st.text(min_size=1, max_size=80).filter(lambda name: len(name.encode()) <= 255)


def known(path: Path, secret: bytes = SECRET) -> Optouts:
    found = Optouts(path, secret)
    found.refresh()
    return found


def out_of(found: Optouts) -> set[str]:
    """Who has opted out; nobody else is found, nor counted."""
    names = {*"abcdx", "last", *(f"r{number}" for number in range(3000))}
    known = set(filter(found.recipients.has, names))
    assert len(known) == found.recipients.count
    return known


def put(path: Path, *names: str, out: bool = True) -> None:
    some = Optouts(path, SECRET)
    some.append(some.seal(names, out, 1_790_000_000_000))


def test_what_a_sync_has_failed_for_is_not_sure_until_the_machine_starts_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though everybody can read it: a later sync of the same pages works and says nothing."""
    path = tmp_path / "optouts"
    assert known(path).is_sure()
    put(path, "a")
    assert known(path).is_sure()

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match=r"\[Errno 5\]"):
            put(path, "b")
        assert not known(path).is_sure()
    assert out_of(known(path)) == {"a", "b"}
    assert not known(path).is_sure()
    monkeypatch.setattr(optouts, "_boot", lambda: b"another")
    assert known(path).is_sure()


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
    assert out_of(reader) == set()
    held = reader.recipients
    put(path, "a", "b", "c")
    put(path, "b", out=False)
    assert reader.step()
    assert out_of(reader) == {"a", "c"}
    assert not reader.step()
    put(path, "b")
    reader.refresh()
    assert held is reader.recipients
    assert out_of(reader) == out_of(known(path)) == {"a", "b", "c"}
    assert reader.changes(["a", "d", "d"], True) == ["d"]
    assert reader.changes(["a", "d"], False) == ["a"]
    assert b"a" not in {line.strip() for line in path.read_bytes().splitlines()}


def test_a_line_cut_by_a_kill_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "optouts"
    put(path, "a", "b")
    whole = path.read_bytes()
    for cut in range(2, len(whole) // 2):
        path.write_bytes(whole[: len(whole) - cut])
        assert out_of(known(path)) == {"a"}
        put(path, "c")
        found = known(path)
        assert out_of(found) == {"a", "c"}
        assert found.damaged == 1


def test_a_line_that_is_being_written_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "optouts"
    put(path, "a")
    line = path.read_bytes()
    reader = Optouts(path, SECRET)
    for at in range(len(line)):
        path.write_bytes(line[:at])
        reader.refresh()
        assert out_of(reader) == set()
    path.write_bytes(line)
    reader.refresh()
    assert (out_of(reader), reader.damaged) == ({"a"}, 0)


@settings(deadline=None)
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
    assert out_of(found) == {*(f"r{number}" for number in range(len(junk))), "last"}
    assert found.damaged == sum(
        bool(line) for piece in junk for line in (piece + b"\n").splitlines()
    )


def test_junk_without_a_line_end_does_not_hold_up(tmp_path: Path) -> None:
    path = tmp_path / "optouts"
    path.write_bytes(b"A" * 50_000)
    put(path, "a")
    assert out_of(known(path)) == {"a"}


def test_another_file_in_its_place_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "optouts"
    put(path, *(f"r{number}" for number in range(2000)))
    reader = known(path)
    put(tmp_path / "backup", "r1", "x")
    os.replace(tmp_path / "backup", path)
    reader.refresh()
    assert out_of(reader) == {"r1", "x"}
    path.write_bytes(b"")
    reader.refresh()
    assert out_of(reader) == set()


def test_a_lost_file_is_said_and_nothing_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "optouts"
    put(path, "a")
    reader = known(path)
    path.unlink()
    assert not reader.step()
    assert "cannot be read" in reader.trouble
    assert out_of(reader) == {"a"}
    put(path, "b")
    reader.refresh()
    assert (out_of(reader), reader.trouble) == ({"b"}, "")


def test_the_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "optouts"
    put(path, "a")
    monkeypatch.setattr(optouts, "MAX_BYTES", path.stat().st_size + 10)
    with pytest.raises(OSError, match="is full"):
        append(path, path.read_bytes())
    assert out_of(known(path)) == {"a"}


@settings(max_examples=25, deadline=None)  # the disk may be slow
@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=30),
            st.sampled_from(["", "index", "read", "index, read"]),
        ),
        max_size=6,
    )
)
def test_with_an_index_or_without_the_same(
    tmp_path_factory: pytest.TempPathFactory, turns: list[tuple[list[tuple[int, bool]], str]]
) -> None:
    """Whenever it is made, for those who ran before and for those who start later."""
    path, sealer = tmp_path_factory.mktemp("index") / "optouts", Sealer(SECRET)
    reader, last = known(path), dict[str, bool]()
    path.touch()
    for entries, does in turns:
        lines = [sealer.seal(Entry(f"r{who}", out, 1)) for who, out in entries]
        append(path, b"".join(lines))
        last |= {f"r{who}": out for who, out in entries}
        if "index" in does:
            optout_compact.compact(path, sealer)
        if "read" in does:
            reader.refresh()
    reader.refresh()
    wanted = {name for name, out in last.items() if out}
    assert out_of(reader) == out_of(known(path)) == wanted


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is long, and a chunk, are a thousandth of what they are."""
    monkeypatch.setattr(optouts, "LONG", 16 << 10)
    monkeypatch.setattr(optouts, "_LAST_BYTES", 1 << 10)
    monkeypatch.setattr(optout_index, "CHUNK", 1 << 10)


@pytest.mark.usefixtures("small")
def test_much_is_read_beside_what_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By no step much, by an index when it is there; and a single entry holds at once meanwhile."""
    path, work, each = tmp_path / "optouts", [0], [0]
    monkeypatch.setattr(Sealer, "open", counting(Sealer.open, work, 64))
    monkeypatch.setattr(
        optout_index,
        "AESGCM",
        lambda key: SimpleNamespace(
            encrypt=AESGCM(key).encrypt, decrypt=counting(AESGCM(key).decrypt, work, 1 << 10)
        ),
    )
    put(path, "a", "b")
    reader, many = known(path), {f"r{number}" for number in range(2900)}

    def steps() -> None:
        more = True
        while more:
            work[0] = 0
            more = reader.step(60.0)
            each.append(work[0])

    for turn, how in enumerate(("another file", "much more of it")):
        before = out_of(reader)
        if turn == 0:
            put(tmp_path / "other", *many)
            os.replace(tmp_path / "other", path)
        else:
            put(path, *many, out=False)
        steps()
        assert out_of(reader) - many <= before
        assert "not known before their index" in reader.trouble, how
        put(path, "x", out=not turn)
        steps()
        assert reader.recipients.has("x") != bool(turn), how
        assert reader.recipients.has("r0") == bool(turn), how
        optout_compact.compact(path, Sealer(SECRET))
        steps()
        assert out_of(reader) == (set() if turn else {*many, "x"})
        assert reader.trouble == ""
    assert sum(each) > 100_000
    assert max(each) < 2 * optouts.STEP_BYTES


def counting(call: Any, work: list[int], each: int) -> Any:
    """A call that adds to the work, in bytes, what it does."""

    def counted(*args: Any) -> Any:
        work[0] += each
        return call(*args)

    return counted


@pytest.mark.usefixtures("small")
def test_an_index_that_never_comes_is_not_waited_for(tmp_path: Path) -> None:
    path, now = tmp_path / "optouts", [0.0]
    put(path, "a")
    reader = Optouts(path, SECRET, lambda: now[0])
    reader.refresh()
    put(path, *(f"r{number}" for number in range(2900)))
    for now[0] in (0.0, 59.9):
        while reader.step(60.0):
            pass
        assert not reader.recipients.has("r0")
    now[0] = 60.0
    reader.refresh()
    assert len(out_of(reader)) == 2901
    assert reader.trouble == ""


def test_an_index_is_of_its_file_and_whole_or_not_used(tmp_path: Path) -> None:
    path, sealer = tmp_path / "optouts", Sealer(SECRET)
    index = optout_index.beside(path)
    names = [f"r{n}" for n in range(2800, 3000)]  # sealed bytes hold shorter ones by chance
    put(path, *names)
    assert not optout_compact.is_behind(path)
    assert optout_compact.is_behind(path, 1000)
    with path.open("ab") as file:
        file.write(b"junk\n")
    optout_compact.compact(path, sealer)
    assert not optout_compact.is_behind(path, 0)
    whole = index.read_bytes()
    assert not any(name.encode() in whole for name in names)
    put(path, "a")
    wanted = {"a", *names}
    found = known(path)
    assert (out_of(found), found.damaged) == (wanted, 1)
    assert optout_index.load(path, Sealer(bytes(32)).index_key) is None
    for at in (0, 7, 8, 20, 39, 40, 60, len(whole) - 1):
        for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x80]) + whole[at + 1 :]):
            index.write_bytes(damaged)
            assert optout_index.load(path, sealer.index_key) is None
            assert out_of(known(path)) == wanted
    # Another file in the place of the one that it is of, as long and longer.
    index.write_bytes(whole)
    size = path.stat().st_size
    path.unlink()
    put(path, *(f"r{number}" for number in range(1000, 1300)))
    assert path.stat().st_size > size
    assert len(out_of(known(path))) == 300
    assert optout_compact.is_behind(path, size)
    path.unlink()
    put(path, "x")
    assert out_of(known(path)) == {"x"}


def test_two_with_one_checksum_are_told_apart(tmp_path: Path) -> None:
    """The bitmap and the records begin with it."""
    path = tmp_path / "optouts"
    one, other = "plumless", "buckeroo"
    assert crc32(one.encode()) == crc32(other.encode())
    put(path, one)
    for found in (known(path), (optout_compact.compact(path, Sealer(SECRET)), known(path))[1]):
        assert found.recipients.has(one)
        assert not found.recipients.has(other)
    put(path, other)
    put(path, one, out=False)
    found = known(path)
    assert (found.recipients.has(one), found.recipients.has(other)) == (False, True)
