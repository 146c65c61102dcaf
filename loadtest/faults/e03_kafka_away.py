"""Kafka is killed, and stays away.

The edge goes on as if nothing were: 99.99 % answered, p99 at most three times what it was, memory
at most 64 MiB more. Afterwards the journals are shipped in no longer than Kafka was away.
"""

import time

from loadtest.faults.proc import memory, state
from loadtest.faults.trial import Trial


def run(trial: Trial) -> None:
    """One outage."""
    line = trial.line()
    load, away = line.load(), trial.size("3 seconds")
    began = time.monotonic()
    time.sleep(min(away / 3, 30))
    before, gone = memory(line.edge.pids("")), time.monotonic()
    base = load.p99(began, gone)
    broker = trial.site.broker
    pid = broker.pid
    broker.kill9()
    trial.fault(state(pid) == "", "the death of Kafka")
    most = 0
    while (passed := time.monotonic() - gone) < away:
        time.sleep(1)
        most = max(most, memory(line.edge.pids("")))
        if int(passed) % 30 == 0:
            trial.say(f"Kafka away for {passed:.0f} of {away} s, {line.stored():,} opens counted")
    p99 = load.p99(gone, time.monotonic())
    said = "Kafka" in line.edge.ask("/readyz")[1] or away <= 5  # it says so after 5 s
    trial.hold(said, "readiness did not mention Kafka")
    broker.start()
    trial.recovered(line.caught_up(10 * away + 60), at_most=away)
    trial.same_p99(base, p99)
    grown = (most - before) / 2**20
    trial.hold(grown <= 64, f"the edge grew by {grown:.0f} MiB")
    trial.row.notes.append(f"memory {grown:+.0f} MiB, p99 {base * 1000:.1f} to {p99 * 1000:.1f} ms")
    trial.settle(line, answered=0.9999)
