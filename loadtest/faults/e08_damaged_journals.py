"""Journals that were not shipped yet are damaged: cut, flipped, zeroed, copied, and one is removed.

The edge starts, and exactly the whole frames are counted; the rest is set aside. Each byte and bit
has its turn in tests/faults/test_journal_damage.py.
"""

import itertools
import re
import shutil
import time
from pathlib import Path
from typing import NamedTuple

from loadtest.faults.trial import Trial
from schemas.journal import directory

#: A frame begins a file, or stands behind the last line of another.
_BEGINS = re.compile(rb"(?:\A|(?<=}\n))HGF1")
_HEAD_BYTES = 24
_ASIDE = "heliograph_quarantined_bytes_total"


def run(trial: Trial) -> None:
    """Damage what Kafka has not seen."""
    # One worker: kept connections may all be of one, whose journal then has all the segments.
    line = trial.line(workers=1, HELIOGRAPH_JOURNAL_SEGMENT_BYTES="65536")
    trial.site.broker.kill9()
    load = line.load(rate=2000)
    time.sleep(trial.size("8 seconds"))
    load.stop()
    line.edge.stop()
    root = line.edge.data / "journal"
    frames = _frames(root)
    events = sum(each.events for each in frames)
    trial.hold(load.told["answered"] <= events <= load.told["sent"], f"{events} events in journals")
    for journal in directory.journals(root):
        segments = [path for _, path in directory.segments(journal)][-5:]
        trial.hold(len(segments) == 5, f"only {len(segments)} segments")
        trial.fault(_damage(segments), "the damage")
    gone = _damaged(frames)
    trial.site.broker.start()
    line.edge.start()
    trial.row.notes.append(f"{gone} of {events} events in damaged frames")
    line.caught_up(60, gone)
    trial.hold(line.edge.metric(_ASIDE) > 0, "nothing was set aside")
    trial.settle(line, lost=lambda: gone)


def _damage(segments: list[Path]) -> bool:
    """Each in its way; whether they are other bytes now."""
    removed, zeroed, flipped, copied, cut = segments
    shutil.copy(copied, copied.with_name(directory.segment_name(int(removed.stem) + 1)))
    removed.unlink()
    whole = [path.read_bytes() for path in (zeroed, flipped, cut)]
    middle = len(whole[0]) // 2
    zeroed.write_bytes(whole[0][:middle] + bytes(2000) + whole[0][middle + 2000 :])
    middle = len(whole[1]) // 2
    flipped.write_bytes(whole[1][:middle] + bytes([whole[1][middle] ^ 1]) + whole[1][middle + 1 :])
    cut.write_bytes(whole[2][:-3])
    return whole != [path.read_bytes() for path in (zeroed, flipped, cut)] and not removed.exists()


class _Frame(NamedTuple):
    path: Path
    at: int
    data: bytes

    @property
    def events(self) -> int:
        return self.data.count(b"}\n", _HEAD_BYTES)


def _frames(root: Path) -> list[_Frame]:
    """All frames of files that nothing has happened to. Without the journal's own reader: what it
    overlooks must not be missing here.
    """
    found = []
    for path in root.glob("*/*.seg"):
        data = path.read_bytes()
        begins = [match.start() for match in _BEGINS.finditer(data)]
        for at, end in itertools.pairwise([*begins, len(data)]):
            found.append(_Frame(path, at, data[at:end]))
    return found


def _damaged(frames: list[_Frame]) -> int:
    """How many events are in frames that do not stand any more where they stood."""
    now = {path: path.read_bytes() for path in {each.path for each in frames} if path.exists()}
    return sum(
        each.events
        for each in frames
        if now.get(each.path, b"")[each.at : each.at + len(each.data)] != each.data
    )
