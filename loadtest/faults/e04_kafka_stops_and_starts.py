"""Kafka hangs (SIGSTOP), and is then killed and started over and over.

The edge is unaffected, and both sides find their way back each time.
"""

import time

from loadtest.faults.proc import state
from loadtest.faults.trial import Trial


def run(trial: Trial) -> None:
    """Hang once, then go up and down."""
    line, broker = trial.line(), trial.site.broker
    line.load()
    time.sleep(1)
    broker.suspend()
    time.sleep(trial.size("4 seconds") / 2)
    trial.fault(state(broker.pid) == "T", "the suspension")
    time.sleep(trial.size("4 seconds") / 2)
    trial.hold(state(broker.pid) == "T", "Kafka was not suspended all the time")
    broker.resume()
    rounds = trial.size("4 rounds")
    for number in range(1, rounds + 1):
        time.sleep(trial.size("4 pause"))
        pid = broker.pid
        broker.kill9()
        trial.fault(state(pid) == "", "the death of Kafka")
        time.sleep(trial.size("4 pause"))
        broker.start()
        trial.say(f"{number} of {rounds} times up and down")
    trial.recovered(line.caught_up(300), at_most=60)
    trial.settle(line, answered=0.9999)
