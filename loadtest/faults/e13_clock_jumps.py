"""The clock of edge and consumer jumps by an hour, to and fro (libfaketime).

Identities stay unique, also of journals that begin in the past. Nothing takes a negative time.
Deadlines are kept: batches close, an idle connection is closed after 75 s and no sooner, and both
sides end in time.
"""

import os
import signal
import socket
import time
from pathlib import Path

from loadtest.faults.check import NUMBER
from loadtest.faults.client import PIXEL_END
from loadtest.faults.line import Line
from loadtest.faults.trial import Trial
from loadtest.processes import ask, until
from tests.e2e.line import ask as command
from tests.services import missing

_JUMPS = (3600, -3600, 0, 30, -30)
_IDLE_SECONDS = (70, 90)
_SENDS = 20


def run(trial: Trial) -> None:
    """Jump, see that all goes on, and have a worker begin a journal then."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        missing("the clock is faked by libfaketime (Debian: apt-get install faketime)")
    clock = trial.home / "clock"
    clock.write_text("+0")
    line = trial.line(
        LD_PRELOAD=str(found[0]),
        FAKETIME_TIMESTAMP_FILE=str(clock),
        FAKETIME_CACHE_DURATION="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )
    _record_sends(line)
    load = line.load()
    for jump in _JUMPS[: trial.size("13 jumps")]:
        idle, asked = _idle(line), max(number for number, _, _ in load.records())
        clock.write_text(f"{jump:+d}")
        jumped = time.time() + jump
        time.sleep(6.0 if jump > 0 else 2.0)  # a sweep comes every 5 s
        trial.hold(not _closed(idle, 0.0), "an idle connection was closed at once")
        os.kill(trial.chance.choice(line.edge.pids("collector.worker")), signal.SIGKILL)
        until(line.edge.ready, 60)
        line.caught_up(10 * trial.patience)
        trial.fault(_happened(line, asked, jumped), f"the jump to {jump:+d} s")
        _no_negative(trial, line)
        idle.close()
        trial.say(f"the clock is {jump:+d} s off")
    if trial.size("13 idle"):
        began, idle = time.monotonic(), _idle(line)
        clock.write_text("-3600")
        closed = _closed(idle, _IDLE_SECONDS[1])
        after = time.monotonic() - began
        trial.hold(
            closed and after > _IDLE_SECONDS[0], f"idle connection closed: {closed}, {after:.0f} s"
        )
    trial.settle(line)


def _record_sends(line: Line) -> None:
    """Of the load's mails, as of now: opens in the past are then before their sends."""
    listed = line.home / "recipients.csv"
    listed.write_text("recipient\n" + "".join(f"r{n}\n" for n in range(_SENDS)))
    line.others += _SENDS
    where = ("--data", line.edge.data, "-o", line.home / "minted.csv")
    command("mint", "--campaign", line.campaign, listed, *where)


def _idle(line: Line) -> socket.socket:
    """A connection that has been answered once."""
    sock = socket.create_connection(("127.0.0.1", line.edge.port), timeout=10)
    sock.sendall(b"GET /o/idle.gif HTTP/1.1\r\nHost: x\r\n\r\n")
    while not sock.recv(4096).endswith(PIXEL_END):
        pass
    return sock


def _closed(sock: socket.socket, seconds: float) -> bool:
    """Whether its peer closes it within a time."""
    sock.settimeout(seconds or 0.01)
    try:
        return not sock.recv(1)
    except TimeoutError:
        return False
    except OSError:
        return True


def _happened(line: Line, asked: int, jumped: float) -> bool:
    """Whether events of requests behind the one `asked` last have the time that the clock showed:
    those of before have that time too, after a jump back.
    """
    shown = f"abs(toUnixTimestamp(ts) - {jumped}) < 20 AND toUInt64OrZero({NUMBER}) > {asked}"
    sql = (
        f"SELECT count() FROM {line.database}.events WHERE campaign = '{line.campaign}' AND {shown}"
    )
    return int(ask(line.site.engine.url, sql)) > 0


def _no_negative(trial: Trial, line: Line) -> None:
    for metric in "heliograph_consumer_delay_seconds", "heliograph_consumer_lag_records":
        value = line.consumer.metric(metric)
        trial.hold(value >= 0, f"{metric} is {value}")
    value = line.edge.metric("heliograph_lag_seconds")
    trial.hold(value >= 0, f"heliograph_lag_seconds is {value}")
    of = f"{line.database}.hours_since_send WHERE campaign = '{line.campaign}'"
    least, count = ask(line.site.engine.url, f"SELECT min(hour), count() FROM {of}").split("\t")
    trial.hold(int(least) >= 0 and int(count) > 0, f"{count} delays of {least} hours and more")
