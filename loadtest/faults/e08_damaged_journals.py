"""Journals that were not shipped yet are damaged: cut, flipped, zeroed, copied, and one is removed.

The edge starts, and exactly the whole frames are counted; the rest is set aside. Each byte and bit
has its turn in tests/faults/test_journal_damage.py.
"""

import shutil
import time
from pathlib import Path

from loadtest.faults.trial import Trial
from schemas.journal import directory, frame

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
    before = _events(root)
    for journal in directory.journals(root):
        segments = [path for _, path in directory.segments(journal)][-5:]
        trial.hold(len(segments) == 5, f"only {len(segments)} segments")
        trial.fault(_damage(segments), "the damage")
    gone = len(before - _events(root))
    trial.site.broker.start()
    line.edge.start()
    trial.row.notes.append(f"{gone} of {len(before)} events in damaged frames")
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


def _events(root: Path) -> set[tuple[str, int]]:
    """Of all whole frames, whichever file they are in."""
    found: set[tuple[str, int]] = set()
    for path in root.glob("*/*.seg"):
        for item in frame.scan(path.read_bytes(), complete=True):
            if isinstance(item, frame.Frame):
                seqs = range(item.first_seq, item.next_seq)
                found |= {(path.parent.name, seq) for seq in seqs}
    return found
