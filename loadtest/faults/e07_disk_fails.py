"""The disk fails: writes with EIO, half of them done, and then syncs.

The pixel is answered all the same. What could not be written is counted, exactly; readiness says so
within 10 s; the segment is left, and what the failed writes left in it is set aside. It recovers
without a restart.
"""

import subprocess
import time
from pathlib import Path

from loadtest.faults.line import LONG_SEGMENTS, Line
from loadtest.faults.trial import Trial
from loadtest.processes import until
from tests.services import require

_LOST = "heliograph_events_lost_total"
_UNSYNCED = "heliograph_journal_sync_failures_total"
_ASIDE = "heliograph_quarantined_bytes_total"


def run(trial: Trial) -> None:
    """Switch it on and off."""
    library, switch = trial.home / "faulty.so", trial.home / "switch"
    source = Path(__file__).with_name("faulty.c")
    built = subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"])
    require(built.returncode == 0, "a C compiler makes the disk fail (Debian: apt-get install gcc)")
    line = trial.line(
        LD_PRELOAD=str(library),
        FAULTY_DIR=str(trial.home / "edge" / "journal"),
        FAULTY_SWITCH=str(switch),
        **LONG_SEGMENTS,
    )
    line.load()
    for how, counter in ("w", _LOST), ("s", _UNSYNCED):
        time.sleep(1)
        before, files = line.edge.metric(counter), _segments(line)
        switch.write_text(how)
        _fails(trial, line)
        trial.fault(line.edge.metric(counter) > before, f"a failure of {how!r}")
        grown = _segments(line) - files
        trial.hold(1 <= grown <= 4, f"{grown} segments begun by 2 workers while {how!r} failed")
        switch.unlink()
        trial.recovered(until(line.edge.ready, 120), at_most=10)
        counted = line.edge.metric(_LOST)
        time.sleep(1)
        trial.hold(line.edge.metric(_LOST) == counted, "events are lost after the recovery")
    trial.hold(line.edge.metric(_ASIDE) > 0, "nothing was set aside")
    trial.settle(line, answered=0.9999, lost=lambda: line.edge.metric(_LOST))


def _fails(trial: Trial, line: Line) -> None:
    """See that readiness says so in time, and goes on to; and that the pixel is answered."""
    told = until(lambda: not line.edge.ready(), 120)
    trial.hold(told <= 10 * trial.patience, f"readiness said so after {told:.1f} s")
    trial.hold("disk fails" in line.edge.ask("/readyz")[1], "readiness did not say why")
    ends = time.monotonic() + trial.size("7 seconds")
    while time.monotonic() < ends:
        trial.hold(not line.edge.ready(), "readiness wavered")
        trial.hold(
            line.loads[0].answers_within(2.0 * trial.patience), "no answers while the disk fails"
        )
        time.sleep(0.2)


def _segments(line: Line) -> int:
    return len(list((line.edge.data / "journal").glob("*/*.seg")))
