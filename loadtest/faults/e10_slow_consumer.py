"""The consumer is ten times slower than the load, and is then killed between insert and commit, and
before an insert.

The edge does not notice, and the consumer's metrics show the lag that is worth an alarm. What was
inserted and not committed is read again, and is in the table once.
"""

import time
from functools import partial

from loadtest.faults.gate import Gate
from loadtest.faults.line import Line
from loadtest.faults.proc import state
from loadtest.faults.trial import Trial
from loadtest.processes import until

_DELAY = "heliograph_consumer_delay_seconds"
_LAG = "heliograph_consumer_lag_records"


def run(trial: Trial) -> None:
    """Slow down, then kill."""
    gate = trial.keep(Gate(trial.site.engine.port))
    store = {"--clickhouse": gate.url}
    slow = {"--batch-rows": str(trial.size("rate") // 10)}  # in an insert, of which one a second
    line = trial.line(consume=store | slow)
    load, seconds = line.load(), trial.size("10 seconds")
    began = time.monotonic()
    time.sleep(min(seconds / 3, 30))
    base, slowed = load.p99(began, time.monotonic()), time.monotonic()
    gate.delay = 1.0
    time.sleep(seconds)
    gone = time.monotonic() - slowed
    behind = load.answered() - line.stored()
    trial.fault(behind > 0.5 * gone * load.rate, "the slowness")
    lag = delay = 0.0
    while not (lag > 0 and delay > 0.3 * gone) and time.monotonic() < slowed + 2 * gone + 10:
        lag, delay = line.consumer.metric(_LAG), line.consumer.metric(_DELAY)
        time.sleep(0.1)
    trial.hold(lag > 0 and delay > 0.3 * gone, f"no alarm: {lag:.0f} records, {delay:.0f} s behind")
    trial.same_p99(base, load.p99(slowed, time.monotonic()))
    trial.row.notes.append(f"at most {lag:,.0f} records and {delay:.0f} s behind")
    gate.delay = 0.0
    _restart(line, store)
    trial.recovered(line.caught_up(10 * seconds + 60), at_most=seconds)
    for number in range(1, trial.size("10 kills") + 1):
        trial.fault(_kill(line, gate), "a kill between insert and commit")
        trial.say(f"{number} of {trial.size('10 kills')} kills between insert and commit")
    for _ in range(trial.size("10 early kills")):
        trial.fault(_kill_before(line, gate), "a kill before an insert")
    trial.settle(line, answered=0.9999)


def _restart(line: Line, options: dict[str, str]) -> None:
    line.consumer.stop()
    line.consumer = line.make_consumer(options)
    line.consumer.start()


def _kill_before(line: Line, gate: Gate) -> bool:
    """Kill the consumer when it has sent an insert that nobody has got."""
    gate.stop = True
    before, pid = gate.stopped, line.consumer.running.process.pid
    until(lambda: gate.stopped > before, 60)
    line.consumer.close()
    gate.stop = False
    line.consumer.start()
    return state(pid) == ""


def _kill(line: Line, gate: Gate) -> bool:
    """Kill the consumer when an insert has been answered that it has not heard of."""
    gate.withhold = True
    before, pid = gate.done, line.consumer.running.process.pid
    until(partial(lambda done: gate.done > done, before), 60)
    line.consumer.close()
    gate.withhold = False
    line.consumer.start()
    return state(pid) == ""
