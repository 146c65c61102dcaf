"""The shipper is killed while it ships journals again, under load.

It goes on at the last position that Kafka has acknowledged. What it ships twice is in the table
once.
"""

import os
import signal

from loadtest.faults.line import Line
from loadtest.faults.trial import Trial
from loadtest.processes import until
from schemas.journal.directory import end_seq, read_position
from tests.e2e.line import ask as command


def run(trial: Trial) -> None:
    """Ask for it again, and kill in the middle, over and over."""
    events, kills = trial.size("2 events"), trial.size("2 kills")
    line = trial.line()
    line.fill(events)
    until(lambda: line.filled() == events, 120)
    line.load()
    tries = 0
    while trial.row.faults < kills and tries < 3 * kills:
        tries += 1
        _again(line)
        trial.sleep(0.0, 0.15)
        (victim,) = line.edge.pids("collector.shipper")
        os.kill(victim, signal.SIGKILL)
        trial.row.faults += _behind(line)  # or it had done already
        until(lambda gone=victim: _replaced(line, gone), 60)
        trial.say(f"{trial.row.faults} of {kills} kills in the middle")
    trial.hold(trial.row.faults == kills, f"only {trial.row.faults} kills were in the middle")
    told = line.edge.running.said.count("shipper ended with signal 9")
    trial.hold(told == tries, f"{told} of {tries} shippers died by SIGKILL")
    trial.settle(line)
    there = line.filled()
    trial.hold(there == events, f"{there} of {events} events that were shipped again are there")


def _again(line: Line) -> None:
    """`heliograph reship`; returns when it is being obeyed."""
    command("reship", "--data", line.edge.data)
    asked = line.edge.data / "journal" / "reship"
    until(lambda: not asked.exists(), 60)


def _behind(line: Line) -> bool:
    """Whether a journal that is shipped again was not shipped to its end. (Live ones never are.)"""
    return any(read_position(journal) < end_seq(journal) for journal in line.filled_journals())


def _replaced(line: Line, victim: int) -> bool:
    """Whether another shipper runs, and all is ready."""
    found = line.edge.pids("collector.shipper")
    return len(found) == 1 and victim not in found and line.edge.ready()
