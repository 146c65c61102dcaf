"""One turn of one server: a client on the other core, the CPU used, and what was recorded."""

import json
import math
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

from loadtest.bench.servers import CLIENT_CORE, Server, core, core_busy
from loadtest.bench.workload import read

_SCRIPT: Final = Path(__file__).with_name("wrk.lua")
_PIXEL_BYTES: Final = 43
_SETTLE_SECONDS: Final = 5.0
_FLUSH_SECONDS: Final = 0.15  # longer than nginx keeps a line in its buffer


class Turn(NamedTuple):
    """What a turn showed, times in microseconds."""

    cpu: float  # per answered request
    rate: float
    busy: float  # the share of the core in use
    kernel: float  # the share of the CPU that was system time
    others: float  # the share of the core that was used by others
    p50: float = 0.0
    p99: float = 0.0
    late: float = 0.0  # how late the client sent, p99


class WrongError(Exception):
    """A server did not answer or record what it should have."""


def wrk(server: Server, file: Path, connections: int, seconds: float) -> Turn:
    """As many requests as the server answers."""
    length = probe(server, file)
    words = [
        "-t1",
        f"-c{connections}",
        f"-d{math.ceil(seconds)}s",
        "--timeout",
        "10s",
        "-s",
        _SCRIPT,
    ]
    url = f"http://127.0.0.1:{server.port}"
    argv = [shutil.which("wrk") or "wrk", *words, url, "--", file]
    return _turn(server, argv, connections, length)


def paced(server: Server, file: Path, connections: int, rate: float, seconds: float) -> Turn:
    """Requests at a rate."""
    length = probe(server, file)
    words = map(str, (server.port, file, connections, rate, seconds))
    return _turn(server, [sys.executable, "-m", "loadtest.bench.paced", *words], 0, length)


def probe(server: Server, file: Path) -> int:
    """Look at one answer and see it recorded; the answer's bytes. Raises WrongError."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as sock:
        sock.sendall(read(file, 1)[0])
        answer, body = b"", b""
        while len(body) < _PIXEL_BYTES and (more := sock.recv(4096)):
            answer += more
            body = answer.partition(b"\r\n\r\n")[2]
    good = answer.startswith(b"HTTP/1.1 200 ") and b"no-cache, no-store" in answer
    if not good or not body.startswith(b"GIF89a") or len(body) != _PIXEL_BYTES:
        raise WrongError(f"{server.name} answers {answer!r}")
    if _recorded(server, 1) < 1:
        raise WrongError(f"{server.name} does not record what it answers")
    return len(answer)


def _turn(server: Server, argv: list[Any], under_way: int, length: int) -> Turn:
    """Run a client; WrongError unless all it was answered is recorded, and no more than that but
    for what was under way when it stopped, and all answers are as long as the one looked at.
    """
    before, ticks, busy = server.cpu(), server.ticks(), core_busy()
    with core(CLIENT_CORE):
        done = subprocess.run(argv, capture_output=True, text=True)
    used, busy = server.cpu() - before, core_busy() - busy
    user, system = (now - then for now, then in zip(server.ticks(), ticks, strict=True))
    if done.returncode:
        raise WrongError(f"{server.name}: {(done.stderr or done.stdout).strip()[-500:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    answered = told["answered"]
    if not answered or told["refused"] or told.get("broken"):
        raise WrongError(f"{server.name}: {told}")
    if abs(told["bytes"] / answered - length) > 1:
        raise WrongError(f"{server.name}: answers of other lengths than {length} bytes: {told}")
    recorded = _recorded(server, answered)
    if not 0 <= recorded - answered <= under_way:
        raise WrongError(f"{server.name}: {answered} answered, {recorded} recorded")
    latency = (told.get(key, 0.0) * 1e6 for key in ("p50", "p99", "late_p99"))
    seconds = told["seconds"]
    kernel = system / max(user + system, 1)
    shares = used / seconds, kernel, max(busy - used, 0) / seconds
    return Turn(used / answered * 1e6, answered / seconds, *shares, *latency)


def _recorded(server: Server, answered: int) -> int:
    """The events recorded, a moment after they are as many as were answered, or time is up."""
    count, until = 0, time.monotonic() + _SETTLE_SECONDS
    while count < answered and time.monotonic() < until:
        count += server.recorded()
        time.sleep(_FLUSH_SECONDS)
    return count + server.recorded()
