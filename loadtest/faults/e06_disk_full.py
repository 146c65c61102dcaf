"""The journals' disk, a small tmpfs, fills while Kafka is away.

The pixel is answered all the same; what does not fit is counted, exactly, and readiness says so
within 10 s. Once Kafka is back, what has been shipped makes room, and nothing more is lost: without
a restart.
"""

import subprocess
import time

from loadtest.faults.line import LONG_SEGMENTS
from loadtest.faults.trial import Trial
from loadtest.processes import until
from tests.services import require

_LOST = "heliograph_events_lost_total"
#: From the start of Kafka, which takes its time.
_RECOVERY_SECONDS = 60


def run(trial: Trial) -> None:
    """Fill it, and let Kafka come back."""
    disk = trial.home / "edge"
    disk.mkdir()
    size = f"size={trial.size('6 mebibytes')}m"
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", disk], capture_output=True)
    require(made.returncode == 0, "a small disk can be mounted by root only")
    trial.keep(_Mounted(str(disk)))
    line = trial.line(**LONG_SEGMENTS)
    load, broker = line.load(), trial.site.broker
    broker.kill9()
    until(lambda: line.edge.metric(_LOST) > 0, 300)
    told = until(lambda: not line.edge.ready(), 120)
    trial.hold(told <= 10 * trial.patience, f"readiness said so after {told:.1f} s")
    trial.hold("disk is full" in line.edge.ask("/readyz")[1], "readiness did not say why")
    for _ in range(10):
        trial.hold(load.answers_within(2.0 * trial.patience), "no answers on a full disk")
        time.sleep(0.3)
    trial.fault(line.edge.metric(_LOST) > 0, "a loss")
    broker.start()
    trial.recovered(until(line.edge.ready, 120), at_most=_RECOVERY_SECONDS)
    lost = line.edge.metric(_LOST)
    time.sleep(3)
    trial.hold(line.edge.ready() and line.edge.metric(_LOST) == lost, "lost after the recovery")
    trial.row.notes.append(f"{lost:,.0f} counted as lost")
    trial.settle(line, answered=0.9999, lost=lambda: line.edge.metric(_LOST))


class _Mounted:
    def __init__(self, place: str) -> None:
        self._place = place

    def close(self) -> None:
        subprocess.run(["umount", "-l", self._place], check=True)
