"""Connections beyond what the edge may open, idle ones, slow heads, and heads without an end.

Where descriptors run out nobody spins, and who is connected is answered as fast as before. All is
well within 5 s of the attack's end. A head that does not end costs little.

The slow heads are slowhttptest's. It does neither of the others: it always sends on, and bounds
what a head grows by.
"""

import csv
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Final

from loadtest.faults.line import Edge, Line
from loadtest.faults.proc import memory
from loadtest.faults.trial import Trial
from loadtest.processes import until
from tests.e2e.line import HELIOGRAPH
from tests.e2e.line import Line as Process
from tests.services import missing

_CONNECTIONS: Final = 1000
_SLOW: Final = 200
_DESCRIPTORS: Final = 256
_ENDLESS: Final = 200
_HEAD: Final = b"GET / HTTP/1.1\r\nHost: a\r\n"
_PIXEL: Final = b"GET /o/idle.gif HTTP/1.1\r\nHost: a\r\n\r\n"
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class _Limited(Process):
    """Hard too: the edge would raise a soft limit as far as it may."""

    program = ("/bin/sh", "-c", f'ulimit -n {_DESCRIPTORS}; exec "$0" "$@"', HELIOGRAPH)


def run(trial: Trial) -> None:
    """Each attack in turn, under load."""
    line = trial.line(workers=1)
    load, seconds = line.load(), trial.size("14 seconds")
    began = time.monotonic()
    time.sleep(3)
    base = load.p99(began)
    (worker,) = line.edge.pids("collector.worker")

    each = _endless_heads(trial, line.edge, worker)
    since = time.monotonic()
    idle = _attack(line.edge, _CONNECTIONS // 2, _HEAD + b"\r\n")  # aiohttp's
    idle += _attack(line.edge, _CONNECTIONS // 2, _PIXEL)  # the hot path's
    most = _slow_heads(line.home, line.edge, seconds)
    least = _SLOW * (0.95 if trial.patience == 1 else 0.5)
    trial.fault(most >= least, f"slowhttptest's {_SLOW} heads at once, but {most},")
    left = sum(map(_waits, idle))
    trial.fault(left == _CONNECTIONS, f"{_CONNECTIONS} idle connections, but {left},")
    trial.same_p99(base, load.p99(since))
    _end(idle)
    load.stop()
    share = load.told["answered"] / (load.told["sent"] + load.told["full"])
    trial.hold(share >= 0.99, f"{share:.3%} answered beside idle connections and slow heads")
    _without_descriptors(trial, line, base, f"{each:.0f} KiB an endless head")
    trial.settle(line, answered=0.5, held=0.5)


def _slow_heads(home: Path, edge: Edge, seconds: int) -> int:
    """Heads of which a line comes each second; how many there were at once."""
    tool = shutil.which("slowhttptest")
    if tool is None:
        missing("slow heads are made by slowhttptest (Debian: apt-get install slowhttptest)")
    words = {"-c": _SLOW, "-r": _SLOW, "-i": 1, "-l": seconds, "-o": home / "slow"}
    url = f"http://127.0.0.1:{edge.port}/"
    argv = [tool, "-H", "-g", "-u", url, *(str(word) for pair in words.items() for word in pair)]
    ends = time.monotonic() + seconds
    subprocess.run(argv, stdout=subprocess.DEVNULL, timeout=seconds + 30, check=False)
    time.sleep(max(0.0, ends - time.monotonic()))  # it ends with the last head that is refused
    with (home / "slow.csv").open() as told:
        return max(int(row["Connected"]) for row in csv.DictReader(told))


def _endless_heads(trial: Trial, edge: Edge, worker: int) -> float:
    """KiB that one costs."""
    endless = _attack(edge, _ENDLESS, _HEAD)
    before = memory([worker])
    for sock in endless:
        sock.sendall(b"X: " + b"a" * 7000 + b"\r\n" + b"X: " + b"a" * 7000 + b"\r\n")
        sock.sendall(b"X: " + b"a" * 7000 + b"\r\nX: " + b"a" * 7000)
    time.sleep(1)
    each = (memory([worker]) - before) / _ENDLESS / 1024
    # What the load takes meanwhile is in it too: of 200 heads a noisy machine says up to 64 KiB.
    most = 64 if trial.patience == 1 else 96
    trial.hold(each <= most, f"an endless head costs {each:.0f} KiB")
    _end(endless)
    return each


def _without_descriptors(trial: Trial, line: Line, base: float, note: str) -> None:
    """More connections than an edge has descriptors for."""
    seconds = trial.size("14 seconds")
    limited = _limited(line)
    load = line.load(limited, most=_DESCRIPTORS // 3)  # it alone could keep them all
    (worker,) = limited.pids("collector.worker")
    idle = _attack(limited, _CONNECTIONS, b"GET")
    until(lambda: "no connection can be accepted" in limited.running.said, 60)
    trial.fault(True)
    since, cpu = time.monotonic(), _cpu(worker)
    time.sleep(seconds)
    busy = (_cpu(worker) - cpu) / (time.monotonic() - since)
    trial.row.notes.append(f"{note}, {busy:.0%} CPU without descriptors")
    trial.hold(busy < 0.3, f"{busy:.0%} CPU without descriptors")
    trial.same_p99(base, load.p99(since))
    trial.hold(limited.ready(), "not ready for want of descriptors")
    _end(idle)
    trial.recovered(until(lambda: _answers(limited), 60), at_most=5)
    load.stop()
    idle = _attack(limited, _CONNECTIONS, b"GET")
    cpu = _cpu(worker)
    time.sleep(2)
    trial.hold(_cpu(worker) - cpu < 0.4, "the worker spins when nothing is asked")
    _end(idle)


def _attack(edge: Edge, count: int, begins: bytes) -> list[socket.socket]:
    made = []
    for _ in range(count):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", edge.port))
        made.append(sock)
    time.sleep(0.5)
    for sock in made:
        try:
            sock.setblocking(True)
            sock.settimeout(0.05)
            sock.send(begins)
        except OSError:  # it waits in the queue
            continue
    return made


def _waits(sock: socket.socket) -> bool:
    """Whether a connection has been answered, and is still open."""
    answered = False
    sock.settimeout(0)
    try:
        while sock.recv(4096):
            answered = True
    except OSError as error:
        return answered and isinstance(error, BlockingIOError)
    return False


def _end(all_of: list[socket.socket]) -> None:
    for sock in all_of:
        sock.close()


def _limited(line: Line) -> Edge:
    """An edge that may open few descriptors, started."""
    edge = line.add_edge(line.home / "limited", 1)
    edge.kind = _Limited
    edge.start()
    return edge


def _answers(edge: Edge) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", edge.port), timeout=1) as sock:
            sock.sendall(_HEAD + b"\r\n")
            return sock.recv(100).startswith(b"HTTP/1.1 404")
    except OSError:
        return False


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
