"""The edge is told to end (SIGTERM) under load, over and over; then its workers, one by one.

It ends within 10 s with what it has answered recorded. While workers are restarted in turn no
connection is refused.
"""

import os
import signal

from loadtest.faults.line import Edge
from loadtest.faults.trial import Trial
from loadtest.processes import until


def run(trial: Trial) -> None:
    """Restart all, then in turn."""
    line = trial.line()
    whole, times = line.load(), trial.size("15 restarts")
    for number in range(1, times + 1):
        trial.sleep(0.5, 1.5)
        code, took = line.edge.stop()
        trial.fault(code == 0, "an orderly end")
        trial.recovered(took, at_most=10)
        line.edge.start()
        trial.hold(whole.answers_within(10), "no answers after a restart")
        trial.say(f"{number} of {times} restarts, this one in {took:.1f} s")
    whole.stop()
    rolling, rounds = line.load(), trial.size("15 rounds")
    for number in range(1, rounds + 1):
        for worker in line.edge.pids("collector.worker"):
            os.kill(worker, signal.SIGTERM)
            until(lambda gone=worker: _replaced(line.edge, gone), 60)
        trial.say(f"{number} of {rounds} rounds through the workers")
    told = line.edge.running.said.count("ended with code 0: restarting")
    trial.row.faults += told
    trial.hold(told == 2 * rounds, f"{told} of {2 * rounds} workers were restarted")
    rolling.stop()
    refused, sent, got = (int(rolling.told[key]) for key in ("refused", "sent", "answered"))
    trial.hold(refused == 0, f"{refused} connections refused while workers were restarted in turn")
    trial.hold(
        got >= 0.999 * sent, f"{got} of {sent} answered while workers were restarted in turn"
    )
    trial.settle(line, answered=0.5, held=0.0)  # nobody answers between end and start


def _replaced(edge: Edge, worker: int) -> bool:
    """Whether another one is there in place of a worker, and all are ready."""
    workers = edge.pids("collector.worker")
    return worker not in workers and len(workers) == 2 and edge.ready()
