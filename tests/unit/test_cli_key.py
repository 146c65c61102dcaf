"""`heliograph key`: who makes keys, and what can be done with them."""

import re
from pathlib import Path

import pytest

from schemas import keyring
from tests.unit.mint_kit import heliograph

Capture = pytest.CaptureFixture[str]


def key(data: Path, *argv: object) -> int:
    return heliograph("key", *argv, "--data", data)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_new_makes_both_files_and_then_waiting_keys(tmp_path: Path, capsys: Capture) -> None:
    data = tmp_path / "data"
    assert key(data, "new") == 0
    assert (mode(data / "keys.json"), mode(data / "api.key")) == (0o600, 0o600)
    api_key = (data / "api.key").read_text()
    assert len(api_key.strip()) >= 40
    assert key(data, "new") == 0
    assert (data / "api.key").read_text() == api_key
    assert [k.state for k in keyring.read(data / "keys.json").keys] == ["minting", "waiting"]
    assert key(data, "rotate") == 0
    old, new = keyring.read(data / "keys.json").keys
    assert (old.state, new.state) == ("opening", "minting")
    assert key(data, "retire", old.id) == 0
    assert keyring.read(data / "keys.json").keys == (new,)
    assert mode(data / "keys.json") == 0o600
    printed = capsys.readouterr().out
    assert re.search(rf"^{new.id}  minting \d{{4}}-\d\d-\d\d$", printed, re.MULTILINE)
    for secret in (old.secret, new.secret):
        assert secret.hex() not in printed
    assert "secret" not in printed
    assert api_key.strip() not in printed


def test_other_places_by_option(tmp_path: Path) -> None:
    where = ("--keys", tmp_path / "k" / "ring.json", "--api-key-file", tmp_path / "k" / "token")
    assert key(tmp_path, "new", *where) == 0
    assert sorted(path.name for path in (tmp_path / "k").iterdir()) == ["ring.json", "token"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["list"], "no key file at"),
        (["rotate"], "no key file at"),
        (["retire", "abcdef"], "no key file at"),
        (["export"], "no key file at"),
        (["retire"], "required: ID"),
        (["import"], "required: FILE"),
        (["import", "/nonexistent"], "No such file"),
        ([], "required: ACTION"),
        (["burn"], "invalid choice"),
    ],
)
def test_mistakes_are_one_line_and_make_no_key(
    tmp_path: Path, capsys: Capture, argv: list[str], message: str
) -> None:
    assert heliograph("key", *argv, *(["--data", tmp_path] if argv else [])) in (1, 2)
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_ring_is_exported_and_imported_elsewhere(tmp_path: Path, capfd: Capture) -> None:
    one, two, copy = tmp_path / "one", tmp_path / "two", tmp_path / "copy.json"
    key(one, "new")
    assert key(one, "export", copy) == 0
    assert mode(copy) == 0o600
    assert key(one, "export", copy) == 2, "an export overwrites nothing"
    assert key(two, "import", copy) == 0
    assert keyring.read(two / "keys.json") == keyring.read(one / "keys.json")
    assert mode(two / "keys.json") == 0o600
    capfd.readouterr()
    assert key(one, "export") == 0
    assert keyring.parse(capfd.readouterr().out.encode()) == keyring.read(one / "keys.json")

    key(two, "new")
    key(two, "rotate")
    newer = tmp_path / "newer.json"
    key(two, "export", newer)
    assert key(one, "import", newer) == 0, "merged into the ring it knows"
    assert keyring.read(one / "keys.json") == keyring.read(two / "keys.json")
    assert key(one, "import", copy) == 0
    assert keyring.read(one / "keys.json") == keyring.read(two / "keys.json"), "nothing turns back"


def test_another_ring_is_refused_once_there_is_a_journal(tmp_path: Path, capfd: Capture) -> None:
    one, two, copy = tmp_path / "one", tmp_path / "two", tmp_path / "copy.json"
    key(one, "new")
    key(one, "export", copy)
    key(two, "new")
    assert key(two, "import", copy) == 0, "no event was recorded under the old ring"
    key(two, "export", tmp_path / "again.json")

    (one / "r.csv").write_text("id\n1\n")
    assert heliograph("mint", one / "r.csv", "--campaign", "c", "--data", one) == 0
    before = keyring.read(one / "keys.json")
    other = tmp_path / "other"
    key(other, "new")
    key(other, "export", tmp_path / "other.json")
    capfd.readouterr()
    assert key(one, "import", tmp_path / "other.json") == 2
    assert "holds events of another ring" in capfd.readouterr().err
    assert keyring.read(one / "keys.json") == before

    (one / "keys.json").unlink()
    assert key(one, "import", tmp_path / "other.json") == 2, "also when the key file is lost"
    assert key(one, "import", copy) == 0, "the right one is restored"


def test_no_new_key_takes_the_place_of_a_lost_one(tmp_path: Path, capfd: Capture) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy.json"
    key(data, "new")
    key(data, "export", copy)
    ring = keyring.load(copy).ring_id
    (tmp_path / "r.csv").write_text("id\n1\n")
    assert heliograph("mint", tmp_path / "r.csv", "--campaign", "c", "--data", data) == 0
    (data / "keys.json").unlink()
    (data / "api.key").unlink()
    for argv in (["key", "new"], ["up", "--port", "0"]):
        capfd.readouterr()
        assert heliograph(*argv, "--data", data) == 2
        assert (f"the key file of ring {ring} is missing: restore it with `heliograph key import "
                "BACKUP`") in capfd.readouterr().err  # fmt: skip
        assert not (data / "keys.json").exists()
        assert not (data / "api.key").exists()
    assert key(data, "import", copy) == 0
    assert key(data, "new") == 0


def test_an_export_makes_no_directory(tmp_path: Path, capfd: Capture) -> None:
    data = tmp_path / "data"
    key(data, "new")
    capfd.readouterr()
    for name, message in (("no/copy.json", "there is no directory"), ("data", "is a directory"),
                          ("no/", "is a directory")):  # fmt: skip
        assert key(data, "export", f"{tmp_path}/{name}") == 2
        assert message in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == [data]


def test_junk_is_not_imported(tmp_path: Path, capfd: Capture) -> None:
    (tmp_path / "junk").write_text("{}")
    assert key(tmp_path / "data", "import", tmp_path / "junk") == 2
    assert "not a key file" in capfd.readouterr().err
    assert not (tmp_path / "data").exists()
