"""The broker answers produce requests 2 s late, and refuses some.

The shipper's memory stays flat, for what waits is in the journals; refused records go again, and
each event is counted once. (Others are answered at once: the mock forgets what is more than 5 MB of
a partition, and a consumer that waits 2 s for each commit falls behind that.)
"""

import copy
import time

from loadtest.faults.line import Line
from loadtest.faults.mock import Mock
from loadtest.faults.proc import memory
from loadtest.faults.sizes import Form
from loadtest.faults.trial import Trial
from loadtest.processes import until

_LATE_MS = 2000
_FAILURES = "heliograph_ship_failures_total"
#: Each journal has a partition of its own, nearly always, and so few events that none waits to be
#: shipped: a record of 900 KB of each is on its way at a time.
_PARTITIONS, _WORKERS = 64, 8


def run(trial: Trial) -> None:
    """Be late for a time, and refuse meanwhile."""
    mock: Mock = trial.keep(Mock())
    site = copy.copy(trial.site)
    site.broker = mock  # type: ignore[assignment]
    site.make_topic = lambda name, *_, **__: mock.make_topic(name, _PARTITIONS)  # type: ignore[method-assign]
    mock.make_topic("heliograph.optouts", 1)  # it can make none on request
    quick = trial.form is Form.CI
    line = Line(trial.home, site, trial.size("rate"), trial.keep, quick=quick)
    line.start(workers=2 if quick else _WORKERS)
    load = line.load()
    until(lambda: line.stored() > 0, 60)
    began = time.monotonic()
    time.sleep(3)
    base, late, seconds = load.p99(began), time.monotonic(), trial.size("5 seconds")
    one_in = trial.size("5 one in")
    sizes, behind, failures = list[int](), 0.0, line.edge.metric(_FAILURES)
    while time.monotonic() - late < seconds:
        mock.refuse(one_in, _LATE_MS)
        time.sleep(0.2)
        sizes.append(memory(line.edge.pids("collector.shipper")))
        behind = max(behind, line.edge.metric("heliograph_lag_seconds"))
    given = mock.given
    trial.fault(behind >= 0.9 * _LATE_MS / 1000, f"lateness (at most {behind:.1f} s)")
    told = line.edge.metric(_FAILURES) - failures
    for _ in range(int(told)):
        trial.fault(True)
    trial.hold(told > 0, f"of {given} produce requests the shipper saw none refused")
    trial.same_p99(base, load.p99(late))
    grown = (max(sizes[len(sizes) // 2 :]) - max(sizes[: len(sizes) // 2 + 1])) / 2**20
    trial.hold(grown <= 8, f"the shipper grew by {grown:.0f} MiB")
    trial.row.notes.append(
        f"{given // one_in} of {given} produce requests refused, of which the shipper saw "
        f"{told:.0f}; its memory {grown:+.1f} MiB"
    )
    trial.recovered(line.caught_up(240), at_most=20)
    trial.settle(line, answered=0.9999)
