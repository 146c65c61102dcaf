"""From frames to Kafka records: blocks one behind another, never a line touched."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from schemas.journal.frame import Frame
from schemas.kafka import COUNT, FIRST_SEQ, MAX_RECORD

_TS: Final = re.compile(rb'"ts":(\d+)')
_HEAD_OF_LINE: Final = 128


@dataclass(frozen=True, slots=True)
class Record:
    """A run of events without a gap: `count` lines from `first_seq` on, the first of `ts_ms`."""

    first_seq: int
    count: int
    ts_ms: int
    value: bytes

    @property
    def next_seq(self) -> int:
        """The seq after the last one."""
        return self.first_seq + self.count

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        """The record's headers."""
        return [(FIRST_SEQ, b"%d" % self.first_seq), (COUNT, b"%d" % self.count)]


def coalesce(frames: Iterable[Frame], limit: int = MAX_RECORD) -> Iterator[Record]:
    """Records of up to `limit` bytes; a gap between frames begins a new one."""
    run: list[Frame] = []
    size = 0
    for frame in frames:
        if run and (size + len(frame.block) > limit or frame.first_seq != run[-1].next_seq):
            yield _record(run)
            run, size = [], 0
        run.append(frame)
        size += len(frame.block)
    if run:
        yield _record(run)


def _record(run: list[Frame]) -> Record:
    first = run[0].first_seq
    found = _TS.search(run[0].block, 0, _HEAD_OF_LINE)
    value = b"".join(frame.block for frame in run)
    return Record(first, run[-1].next_seq - first, int(found[1]) if found else 0, value)
