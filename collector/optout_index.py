"""The index of the opt-outs' file up to a place in it, so that a worker reads only the rest.

    index = head, chunks of: bitmap, then chunks of: records (see opted_out.py)
    head  = "optouts2", place, damaged lines before it, sizes of the bitmap and of the records
            (8 bytes each, big-endian), digest of what the file has before the place (16 bytes)
    chunk = nonce (12 bytes), AES-256-GCM, under a key made of the ring's hash secret and with the
            head and where it begins as associated data, of a MiB at most

A cache: one that is missing, damaged or of another file is not used.
"""

import contextlib
import hashlib
import os
import struct
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import IO, Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from schemas.files import write_whole

_HEAD: Final = struct.Struct(">8sQQQQ16s")
_MAGIC: Final = b"optouts2"
_PLACE: Final = struct.Struct(">BQ")
_NONCE: Final = 12
_TAG: Final = 16
_UNUSABLE: Final = (OSError, InvalidTag, ValueError, struct.error)
#: What is opened at a time: under a millisecond's work.
CHUNK: Final = 1 << 20
#: What the file has before the place tells it from any other: an entry is sealed with its time.
_CHECKED: Final = 4096


class Index(NamedTuple):
    """Who has opted out by the first `at` bytes of a file, in which so many lines were damaged."""

    at: int = 0
    damaged: int = 0
    records: bytes | bytearray = b""
    bits: bytearray = bytearray()


def beside(optouts: Path) -> Path:
    """The index's path."""
    return optouts.with_name(f"{optouts.name}.index")


def made_at(optouts: Path) -> int:
    """The place up to which there is an index of this file; 0 if there is none."""
    try:
        with beside(optouts).open("rb") as file:
            magic, at, *_, check = _HEAD.unpack(file.read(_HEAD.size))
        return int(at) if magic == _MAGIC and _check(optouts, at) == check else 0
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
    steps = loading(optouts, key)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def loading(optouts: Path, key: bytes) -> Generator[bool, None, Index | None]:
    """Load the index, a chunk before each yield (of True); returns it, if it can be used."""
    with contextlib.suppress(*_UNUSABLE), beside(optouts).open("rb") as file:
        head = file.read(_HEAD.size)
        magic, at, damaged, *sizes, check = _HEAD.unpack(head)
        if magic != _MAGIC or _check(optouts, at) != check or _length(sizes) != _size(file):
            return None
        parts = bytearray(), bytearray()  # as long as they are later, they would be zeroed first
        cipher = AESGCM(key)
        for number, start, end in _chunks(sizes):
            nonce, sealed = file.read(_NONCE), file.read(end - start + _TAG)
            parts[number].extend(cipher.decrypt(nonce, sealed, head + _PLACE.pack(number, start)))
            yield True
        return Index(at, damaged, parts[1], parts[0])
    return None


def save(optouts: Path, key: bytes, index: Index) -> None:
    """Put the index in the place of the one before; raises OSError."""
    parts = index.bits, index.records
    sizes = [len(part) for part in parts]
    head = _HEAD.pack(_MAGIC, index.at, index.damaged, *sizes, _check(optouts, index.at))
    cipher, pieces = AESGCM(key), [head]
    for number, start, end in _chunks(sizes):
        nonce, place = os.urandom(_NONCE), _PLACE.pack(number, start)
        pieces += nonce, cipher.encrypt(nonce, parts[number][start:end], head + place)
    write_whole(beside(optouts), b"".join(pieces), mode=0o640)


def _chunks(sizes: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Of each chunk the part's number, and from where to where it is."""
    for number, size in enumerate(sizes):
        for start in range(0, size, CHUNK):
            yield number, start, min(start + CHUNK, size)


def _length(sizes: Sequence[int]) -> int:
    return _HEAD.size + sum(size + -(-size // CHUNK) * (_NONCE + _TAG) for size in sizes)


def _size(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size


def _check(optouts: Path, at: int) -> bytes:
    with optouts.open("rb") as file:
        if at > _size(file):
            return b""
        begin = max(0, at - _CHECKED)
        data = os.pread(file.fileno(), at - begin, begin)
    return hashlib.blake2b(data, digest_size=16).digest()
