"""Frames: exactly the intact ones are read, whatever happened to the bytes around them."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from schemas.journal import frame
from schemas.journal.frame import Damage, Frame

BLOCKS = st.lists(st.binary(max_size=60), min_size=1, max_size=6)


def encoded(blocks: list[bytes], first: int = 1) -> list[bytes]:
    return [frame.encode(first + i, 1, block) for i, block in enumerate(blocks)]


def scanned(data: bytes, *, complete: bool = True) -> tuple[list[bytes], list[Damage]]:
    items = list(frame.scan(data, complete=complete))
    blocks = [item.block for item in items if isinstance(item, Frame)]
    return blocks, [item for item in items if isinstance(item, Damage)]


@given(BLOCKS)
def test_what_was_written_is_read(blocks: list[bytes]) -> None:
    assert scanned(b"".join(encoded(blocks))) == (blocks, [])


@given(BLOCKS)
def test_cut_at_every_byte(blocks: list[bytes]) -> None:
    frames = encoded(blocks)
    ends = list(itertools.accumulate(map(len, frames)))
    data = b"".join(frames)
    for cut in range(len(data) + 1):
        whole = sum(end <= cut for end in ends)
        start = ends[whole - 1] if whole else 0
        torn = [Damage(start, data[start:cut])] if cut > start else []
        assert scanned(data[:cut]) == (blocks[:whole], torn)
        assert scanned(data[:cut], complete=False) == (blocks[:whole], [])


@given(BLOCKS, st.data())
def test_a_flipped_bit_costs_its_frame_only(blocks: list[bytes], data: st.DataObject) -> None:
    frames = encoded(blocks)
    ends = list(itertools.accumulate(map(len, frames)))
    raw = bytearray(b"".join(frames))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    hit = next(i for i, end in enumerate(ends) if at < end)
    found, damage = scanned(bytes(raw))
    assert found == blocks[:hit] + blocks[hit + 1 :]
    start, end = ends[hit] - len(frames[hit]), ends[hit]
    assert [(d.start, d.data) for d in damage] == [(start, bytes(raw[start:end]))]


@given(BLOCKS, st.integers(1, 200), st.booleans())
def test_zeros_are_no_frames(blocks: list[bytes], zeros: int, complete: bool) -> None:
    data = b"".join(encoded(blocks))
    damage = [Damage(len(data), bytes(zeros))] if complete else []
    assert scanned(data + bytes(zeros), complete=complete) == (blocks, damage)


@given(BLOCKS, st.binary(min_size=1, max_size=80), st.integers(0, 6))
def test_garbage_in_between_is_set_aside(blocks: list[bytes], garbage: bytes, where: int) -> None:
    frames = encoded(blocks)
    where = min(where, len(frames))
    data = b"".join((*frames[:where], garbage, *frames[where:]))
    found, damage = scanned(data)
    assert found == blocks
    assert b"".join(item.data for item in damage) == garbage


@given(BLOCKS)
def test_a_frame_in_a_frame_is_content(blocks: list[bytes]) -> None:
    inner = b"".join(encoded(blocks))
    assert scanned(frame.encode(1, 1, inner)) == ([inner], [])


@given(BLOCKS, st.integers(0, 400))
def test_the_last_frame_is_found_from_anywhere_before_it(blocks: list[bytes], skip: int) -> None:
    frames = encoded(blocks)
    data = b"".join(frames)
    found = next(frame.frames_backwards(data[min(skip, len(data) - len(frames[-1])) :]), None)
    assert found
    assert (found.block, found.first_seq) == (blocks[-1], len(blocks))
    torn = next(frame.frames_backwards(data[:-1]), None)
    assert (torn.block if torn else None) == (blocks[-2] if len(blocks) > 1 else None)


def test_a_length_without_bounds_is_no_frame() -> None:
    data = bytearray(frame.encode(1, 1, b"x"))
    data[20:24] = (frame.MAX_BLOCK + 1).to_bytes(4, "little")
    assert frame.decode(bytes(data) + bytes(frame.MAX_BLOCK + 1), 0) is None
