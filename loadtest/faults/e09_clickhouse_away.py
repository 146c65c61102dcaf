"""ClickHouse is killed and stays away, and is then killed in the middle of inserts.

The consumer waits, says that it is not ready, and takes no longer to catch up than ClickHouse was
away. An insert that was cut off is in the table once, whether the engine had done it or not.
"""

import time

from loadtest.faults.gate import Gate
from loadtest.faults.line import Line
from loadtest.faults.proc import state
from loadtest.faults.trial import Trial
from loadtest.processes import until


def run(trial: Trial) -> None:
    """A long outage, and some short ones."""
    gate = trial.keep(Gate(trial.site.engine.port))
    line = trial.line(consume={"--clickhouse": gate.url})
    line.load()
    time.sleep(2)
    away, kills = trial.size("9 seconds"), trial.size("9 kills")
    trial.fault(_kill(trial), "the death of ClickHouse")
    time.sleep(away)
    trial.hold(line.consumer.ask("/readyz")[0] == 503, "the consumer said that it was ready")
    trial.site.engine.start()
    trial.recovered(line.caught_up(10 * away + 60), at_most=away)
    tries, hits = 0, 0
    while hits < kills and tries < 5 * kills:
        tries += 1
        hits += _kill_in_insert(trial, line, gate)
        trial.say(f"{hits} of {kills} kills in the middle of an insert")
    trial.row.faults += hits
    trial.hold(hits == kills, f"only {hits} kills were in the middle of an insert")
    trial.settle(line)


def _kill(trial: Trial) -> bool:
    pid = trial.site.engine.pid
    trial.site.engine.kill9()
    return state(pid) == ""


def _kill_in_insert(trial: Trial, line: Line, gate: Gate) -> bool:
    """Kill it when it has just got an insert; whether it died before it could answer."""
    seen, lost, deadline = gate.seen, gate.lost, time.monotonic() + 30
    while gate.seen == seen and time.monotonic() < deadline:
        time.sleep(0.0005)
    trial.sleep(0.0, 0.01)
    dead = _kill(trial)
    time.sleep(0.1)
    cut = dead and gate.lost > lost
    trial.site.engine.start()
    until(line.consumer.ready, 60)
    return cut
