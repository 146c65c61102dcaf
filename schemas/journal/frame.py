"""Frames: how a block of events stands in a segment, and how whole frames are found again."""

import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

MAGIC: Final = b"HGF1"
#: A block is no longer than this, so that it fits into one Kafka record.
MAX_BLOCK: Final = 512 * 1024
_HEAD: Final = struct.Struct("<4sIQII")
_COVERED: Final = struct.Struct("<QII")
#: crc32 of nothing is 0: without a seed, a tail of zeros would be a run of empty frames.
_SEED: Final = 0x48474631
HEAD_BYTES: Final = _HEAD.size


class Frame(NamedTuple):
    """A whole frame: `events` events from `first_seq` on, ending at byte `end` of its segment."""

    first_seq: int
    events: int
    block: bytes
    end: int

    @property
    def next_seq(self) -> int:
        """The seq after the last one of this frame."""
        return self.first_seq + self.events


class Damage(NamedTuple):
    """Bytes that are no frame, with whole frames or the end of a sealed segment behind them."""

    start: int
    data: bytes


def encode(first_seq: int, count: int, block: bytes) -> bytes:
    """The bytes of a frame."""
    covered = _COVERED.pack(first_seq, count, len(block))
    crc = zlib.crc32(block, zlib.crc32(covered, _SEED))
    return _HEAD.pack(MAGIC, crc, first_seq, count, len(block)) + block


def decode(data: bytes, at: int) -> Frame | None:
    """The frame at a byte of the data, or None if no whole one stands there."""
    if len(data) - at < HEAD_BYTES:
        return None
    magic, crc, first_seq, count, length = _HEAD.unpack_from(data, at)
    end = at + HEAD_BYTES + length
    if magic != MAGIC or length > MAX_BLOCK or end > len(data):
        return None
    block = data[at + HEAD_BYTES : end]
    covered = _COVERED.pack(first_seq, count, length)
    if crc != zlib.crc32(block, zlib.crc32(covered, _SEED)):
        return None
    return Frame(first_seq, count, block, end)


def scan(data: bytes, *, complete: bool) -> Iterator[Frame | Damage]:
    """Frames and damage in order, `end` and `start` counted from the data's first byte.

    `complete` says that nothing more will follow the data: a broken tail then is damage.
    Otherwise a broken tail is left alone, unless a whole frame stands behind it.
    """
    at = 0
    while at < len(data):
        frame = decode(data, at)
        if frame is not None:
            yield frame
            at = frame.end
            continue
        next_at = _next_frame(data, at)
        if next_at is None:
            if complete:
                yield Damage(at, data[at:])
            return
        yield Damage(at, data[at:next_at])
        at = next_at


def _next_frame(data: bytes, broken: int) -> int | None:
    at = data.find(MAGIC, broken + 1)
    while at >= 0:
        if decode(data, at) is not None:
            return at
        at = data.find(MAGIC, at + 1)
    return None


def frames_backwards(data: bytes) -> Iterator[Frame]:
    """The whole frames of data that may begin in the middle of one, the last first."""
    at = data.rfind(MAGIC)
    while at >= 0:
        frame = decode(data, at)
        if frame is not None:
            yield frame
        at = data.rfind(MAGIC, 0, at)
