"""A long time under load, with Kafka away for a tenth of it.

Neither memory nor descriptors of the edge grow: medians of the last third against the one before.
The client's connections do not count: it keeps those that it had to open while answers were slow.
"""

import time
from statistics import median

from loadtest.faults.line import LONG_SEGMENTS
from loadtest.faults.proc import descriptors, memory, state
from loadtest.faults.sizes import Form
from loadtest.faults.trial import Trial


def run(trial: Trial) -> None:
    """Watch, with one outage in each tenth of the time at least."""
    line, broker = trial.line(**LONG_SEGMENTS), trial.site.broker
    load = line.load(rate=trial.size("16 rate"))
    seconds, period = trial.size("16 seconds"), trial.size("16 period")
    began = time.monotonic()
    samples: list[tuple[float, int, int]] = []
    outages, down = 0, 0.0
    while (now := time.monotonic() - began) < seconds:
        pids = line.edge.pids("")
        own = descriptors(pids) - descriptors([load.pid])
        samples.append((now / seconds, memory(pids), own))
        if not down and now > (outages + 0.5) * period:
            pid = broker.pid
            broker.suspend() if trial.form is Form.CI else broker.kill9()
            time.sleep(0.1)
            trial.fault(state(pid) in ("", "T"), "the absence of Kafka")
            outages, down = outages + 1, now
        if down and now > down + period / 10:
            trial.site.mend()
            down = 0.0
            trial.say(f"{now:.0f} of {seconds} s, {outages} outages of Kafka")
        time.sleep(min(1.0, seconds / 60))
    trial.site.mend()
    trial.recovered(line.caught_up(300), at_most=period / 10 + 10)
    for what, column, unit, most in ("memory", 1, 2**20, 2), ("descriptors", 2, 1, 8):
        before, last = (
            median(each[column] for each in samples if third / 3 <= each[0] < (third + 1) / 3)
            for third in (1, 2)
        )
        grown = (last - before) / unit
        trial.hold(grown <= most * trial.patience, f"{what} grew by {grown:.1f}")
        trial.row.notes.append(f"{what} {grown:+.1f} from {before / unit:.0f}")
    trial.settle(line, answered=0.9999)
