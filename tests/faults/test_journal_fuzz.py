"""The journal's reader against files that anything may have happened to."""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from schemas.journal import directory, frame
from schemas.journal.reader import Reader

ID = directory.journal_id(1, bytes(8))
#: What is done to one segment: at which of its bytes, over how many, and what stands there then.
RUBBISH = st.sampled_from([b"", b"\0", b"\xff", frame.MAGIC, b"HGF", b"\n"]) | st.binary(
    max_size=40
)
DAMAGE = st.tuples(
    st.integers(0, 400), st.sampled_from([0, 0, 1, 2, 7, 30, 1000]), RUBBISH, st.integers(1, 9)
)


def segment(first: int, sizes: list[int]) -> tuple[bytes, dict[int, bytes]]:
    """A segment's bytes, and its frames by their first seq."""
    frames = {}
    for size in sizes:
        block = b"".join(b'{"seq":%d}\n' % n for n in range(first, first + size))
        frames[first] = frame.encode(first, size, block)
        first += size
    return b"".join(frames.values()), frames


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 4), DAMAGE), max_size=3),
    st.none() | st.tuples(st.integers(0, 3), st.integers(1, 99)),
    st.integers(1, 300),
)
@example([[1, 1], [1]], [(0, (0, 1000, b"HGF1", 9))], None, 1)
def test_exactly_the_intact_frames_are_read(
    shape: list[list[int]],
    damages: list[tuple[int, tuple[int, int, bytes, int]]],
    copied: tuple[int, int] | None,
    at_a_time: int,
) -> None:
    """Each once, in order; and what was set aside is all that is none."""
    files: dict[int, bytes] = {}
    whole: dict[int, bytes] = {}
    first = 1
    for sizes in shape:
        files[first], frames = segment(first, sizes)
        whole |= frames
        first += sum(sizes)
    names = list(files)
    if copied is not None and copied[0] < len(names) and copied[1] not in files:
        files[copied[1]] = files[names[copied[0]]]
        names.append(copied[1])
    for number, (at, size, rubbish, times) in damages:
        if number < len(names):
            data = files[names[number]]
            files[names[number]] = data[:at] + rubbish * times + data[at + size :]
    intact = [seq for seq, data in whole.items() if any(data in file for file in files.values())]
    with tempfile.TemporaryDirectory() as home:
        journal = Path(home) / "journal" / ID
        journal.mkdir(parents=True)
        for name, data in files.items():
            (journal / directory.segment_name(name)).write_bytes(data)
        kept: list[int] = []
        reader = Reader(journal, 1, lambda _, size, path: kept.append(path.stat().st_size))
        found = []
        while read := reader.read(at_a_time):
            found += read
        assert reader.finished
        assert [one.first_seq for one in found] == intact
        assert all(whole[f.first_seq].endswith(f.block) for f in found)
        good = sum(data.count(one) * len(one) for data in files.values() for one in whole.values())
        assert sum(kept) == sum(map(len, files.values())) - good
