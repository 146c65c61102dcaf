"""Workers of the edge are killed at random times, under load.

The supervisor starts each anew, and the edge is ready again within 2 s, the last time too. What was
answered is in the journal of the dead one. A connection that it had accepted breaks; one that waits
in its queue is answered by its successor. One that hangs is killed, and is back within 15 s.
"""

import os
import signal

from loadtest.faults.line import Edge
from loadtest.faults.trial import Trial
from loadtest.processes import until


def run(trial: Trial) -> None:
    """Kill and wait, over and over."""
    line = trial.line(workers=2)
    load, kills = line.load(), trial.size("1 kills")
    for number in range(1, kills + 1):
        trial.sleep(0.3, 2.5)
        victim = trial.chance.choice(line.edge.pids("collector.worker"))
        os.kill(victim, signal.SIGKILL)
        trial.recovered(until(lambda gone=victim: _back(line.edge, gone), 30), at_most=2.0)
        trial.say(f"{number} of {kills} kills")
    told = line.edge.running.said.count("ended with signal 9")
    for _ in range(told):
        trial.fault(True)
    trial.hold(told == kills, f"{told} of {kills} workers died by SIGKILL")
    load.stop()
    trial.hold(load.told["refused"] == 0, f"{load.told['refused']} connections refused")
    for _ in range(trial.size("1 hangs")):
        _hang(trial, line.edge)
    trial.settle(line)


def _hang(trial: Trial, edge: Edge) -> None:
    trial.sleep(3, 5)  # one that hangs at its start has five minutes: see `collector.watch`
    victim = trial.chance.choice(edge.pids("collector.worker"))
    os.kill(victim, signal.SIGSTOP)
    took = until(lambda: _back(edge, victim), 60)
    trial.hold(took <= 15, f"a worker that hung was back after {took:.1f} s")
    trial.fault(edge.metric("heliograph_workers_hung_total") > 0, "the end of who hangs")
    trial.row.notes.append(f"one that hung was back after {took:.1f} s")


def _back(edge: Edge, victim: int) -> bool:
    """Whether another one is there in place of the victim, and all are ready."""
    workers = edge.pids("collector.worker")
    return victim not in workers and len(workers) == 2 and edge.ready()
