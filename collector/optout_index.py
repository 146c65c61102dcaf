"""The index of the opt-outs' file up to a place in it, so that a worker reads only the rest.

    index = head, nonce (12 bytes), AES-256-GCM, under a key made of the ring's hash secret and with
            the head as associated data, of: bitmap, records (see opted_out.py)
    head  = place, damaged lines before it, size of the bitmap (8 bytes each, big-endian), digest of
            what the file has before the place (16 bytes)

A cache: one that is missing, damaged or of another file is not used.
"""

import hashlib
import os
import struct
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from schemas.files import write_whole

_HEAD: Final = struct.Struct(">QQQ16s")
_NONCE: Final = 12
#: What the file has before the place tells it from any other: an entry is sealed with its time.
_CHECKED: Final = 4096


class Index(NamedTuple):
    """Who has opted out by the first `at` bytes of a file, in which so many lines were damaged."""

    at: int = 0
    damaged: int = 0
    records: bytes = b""
    bits: bytes = b""


def beside(optouts: Path) -> Path:
    """The index's path."""
    return optouts.with_name(f"{optouts.name}.index")


def made_at(optouts: Path) -> int:
    """The place up to which there is an index of this file; 0 if there is none."""
    try:
        with beside(optouts).open("rb") as file:
            at, _, _, check = _HEAD.unpack(file.read(_HEAD.size))
        return int(at) if _check(optouts, at) == check else 0
    except (OSError, struct.error):
        return 0


def stamp(optouts: Path) -> tuple[int, int]:
    """Another one each time that it was made; zeros if there is none."""
    try:
        found = beside(optouts).stat()
    except OSError:
        return 0, 0
    return found.st_ino, found.st_mtime_ns


def load(optouts: Path, key: bytes) -> Index | None:
    """The index, if it can be used."""
    try:
        raw = beside(optouts).read_bytes()
        head, start = raw[: _HEAD.size], _HEAD.size + _NONCE
        at, damaged, size, check = _HEAD.unpack(head)
        if _check(optouts, at) != check:
            return None
        text = AESGCM(key).decrypt(raw[_HEAD.size : start], raw[start:], head)
    except (OSError, InvalidTag, ValueError, struct.error):
        return None
    return Index(at, damaged, text[size:], text[:size])


def save(optouts: Path, key: bytes, index: Index) -> None:
    """Put the index in the place of the one before; raises OSError."""
    head = _HEAD.pack(index.at, index.damaged, len(index.bits), _check(optouts, index.at))
    nonce = os.urandom(_NONCE)
    text = AESGCM(key).encrypt(nonce, index.bits + index.records, head)
    write_whole(beside(optouts), head + nonce + text, mode=0o640)


def _check(optouts: Path, at: int) -> bytes:
    with optouts.open("rb") as file:
        begin = max(0, at - _CHECKED)
        data = os.pread(file.fileno(), at - begin, begin)
    if len(data) != at - begin:
        return b""  # it is shorter
    return hashlib.blake2b(data, digest_size=16).digest()
