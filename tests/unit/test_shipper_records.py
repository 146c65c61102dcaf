"""Coalescing: every byte of every frame, in order, in records that are bounded and without gaps."""

from hypothesis import given
from hypothesis import strategies as st

from collector.records import coalesce
from schemas.journal.frame import Frame

FRAMES = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5), st.integers(0, 60)), max_size=30)


def frames_of(shape: list[tuple[int, int, int]]) -> list[Frame]:
    """Frames after gaps of so many seqs, of so many events, of so many bytes."""
    frames, seq = [], 1
    for gap, count, size in shape:
        seq += gap
        frames.append(Frame(seq, count, bytes([seq % 251]) * size, 0))
        seq += count
    return frames


@given(FRAMES, st.integers(1, 120))
def test_nothing_is_lost_and_records_are_bounded(
    shape: list[tuple[int, int, int]], limit: int
) -> None:
    frames = frames_of(shape)
    records = list(coalesce(frames, limit))
    assert b"".join(r.value for r in records) == b"".join(f.block for f in frames)
    named = [seq for r in records for seq in range(r.first_seq, r.next_seq)]
    assert named == [seq for f in frames for seq in range(f.first_seq, f.next_seq)]
    longest = max((len(f.block) for f in frames), default=0)
    assert all(len(r.value) <= max(limit, longest) for r in records)


@given(FRAMES)
def test_without_gaps_and_limits_it_is_one_record(shape: list[tuple[int, int, int]]) -> None:
    frames = frames_of([(0, count, size) for _, count, size in shape])
    assert len(list(coalesce(frames))) == (1 if frames else 0)


def test_the_headers_and_the_time() -> None:
    block = b'{"journal":"0123456789abcdef0123456789ab","seq":7,"ts":1790000000123,"kind":"open"}\n'
    (record,) = coalesce([Frame(7, 1, block, 0), Frame(8, 1, block, 0)])
    assert record.headers == [("first_seq", b"7"), ("count", b"2")]
    assert record.ts_ms == 1790000000123
    (other,) = coalesce([Frame(1, 1, b"no line of ours\n", 0)])
    assert other.ts_ms == 0
