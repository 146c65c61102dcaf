"""The key file: who makes it, the life of a key, and what is refused."""

import itertools
import os
from pathlib import Path

import msgspec
import pytest

from schemas import keyring
from schemas.keyring import KeyFile, KeyFileError, Keyring
from schemas.token import Sealed, TokenError

SEALED = Sealed("c", "c", "r", 1)


def states(content: KeyFile) -> list[str]:
    return [key.state for key in content.keys]


def test_a_key_waits_mints_opens_and_is_retired() -> None:
    first = keyring.create(os.urandom, 1)
    added = keyring.add(first, os.urandom, 2)
    assert states(added) == ["minting", "waiting"]
    rotated = keyring.rotate(added)
    assert states(rotated) == ["opening", "minting"]

    old, new = Keyring(first).seal("open", SEALED), Keyring(rotated).seal("open", SEALED)
    assert Keyring(added).unseal("open", new)[0] == SEALED, "accepted before it mints"
    assert Keyring(rotated).unseal("open", old) == (SEALED, first.keys[0].id)
    with pytest.raises(TokenError, match="unknown_key"):
        Keyring(first).unseal("open", new)

    retired = keyring.retire(rotated, first.keys[0].id)
    with pytest.raises(TokenError, match="unknown_key"):
        Keyring(retired).unseal("open", old)
    assert Keyring(retired).unseal("open", new)[0] == SEALED
    names = {Keyring(ring).hash_recipient("A@b.c ") for ring in (first, added, rotated, retired)}
    assert len(names) == 1, "a person stays one person"
    assert len({Keyring(ring).ring_id for ring in (first, added, rotated, retired)}) == 1


def test_refused_changes() -> None:
    content = keyring.create(os.urandom, 1)
    with pytest.raises(KeyFileError, match="no key is waiting"):
        keyring.rotate(content)
    with pytest.raises(KeyFileError, match="is minting: rotate first"):
        keyring.retire(content, content.keys[0].id)
    with pytest.raises(KeyFileError, match="no key abcdef"):
        keyring.retire(content, "abcdef")


def test_merge_keeps_every_key_in_its_later_state() -> None:
    first = keyring.create(os.urandom, 1)
    added = keyring.add(first, os.urandom, 2)
    rotated = keyring.rotate(added)
    for one, two in itertools.permutations((first, added, rotated), 2):
        assert keyring.merge(one, two).keys == max(
            (one, two), key=lambda ring: (len(ring.keys), ring is rotated)
        ).keys  # fmt: skip


def test_merge_of_two_that_went_apart_leaves_one_minting_key() -> None:
    base = keyring.create(os.urandom, 1)
    one = keyring.rotate(keyring.add(base, os.urandom, 2))
    two = keyring.rotate(keyring.add(base, os.urandom, 3))
    for merged in (keyring.merge(one, two), keyring.merge(two, one)):
        ring = Keyring(merged)
        assert sorted(states(merged)) == ["minting", "opening", "opening"]
        assert ring.minting_id == two.keys[1].id
    with pytest.raises(KeyFileError, match="different rings"):
        keyring.merge(one, keyring.create(os.urandom, 1))


def test_the_file_is_private_and_never_replaced_by_accident(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "keys.json"
    content = keyring.create(os.urandom, 1)
    keyring.write(path, content, replace=False)
    assert path.stat().st_mode & 0o777 == 0o600
    assert keyring.read(path) == content
    with pytest.raises(FileExistsError):
        keyring.write(path, keyring.create(os.urandom, 2), replace=False)
    assert keyring.read(path) == content
    assert [entry.name for entry in path.parent.iterdir()] == ["keys.json"]


def test_what_is_no_key_file_is_named_without_its_secrets(tmp_path: Path) -> None:
    content = keyring.create(os.urandom, 1)
    path = tmp_path / "keys.json"
    with pytest.raises(KeyFileError, match="key new"):
        keyring.load(path)
    with pytest.raises(KeyFileError, match="cannot read"):
        keyring.load(tmp_path)
    secret = bytes(content.keys[0].secret)
    damaged = msgspec.structs.replace(content.keys[0], secret=secret[1:] + b"x")
    for data, why in [
        (b"", "not a key file"),
        (b"{}", "not a key file"),
        (b'{"format": "\xff"}', "not a key file"),
        (keyring.render(content)[:-20], "not a key file"),
        (keyring.render(msgspec.structs.replace(content, format=2)), "format 2"),
        (keyring.render(msgspec.structs.replace(content, keys=())), "0 minting keys"),
        (keyring.render(msgspec.structs.replace(content, keys=content.keys * 2)), "2 minting"),
        (keyring.render(msgspec.structs.replace(content, keys=(damaged,))), "damaged"),
    ]:
        path.write_bytes(data)
        with pytest.raises(KeyFileError, match=why) as caught:
            keyring.load(path)
        assert msgspec.json.encode(secret).decode().strip('"')[:20] not in str(caught.value)
