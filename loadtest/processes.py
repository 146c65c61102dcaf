"""Real processes of the line, and what they cost."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

HELIOGRAPH = Path(sys.executable).with_name("heliograph")


def command(*words: object, text: str = "") -> str:
    """What a command of heliograph prints; raises CalledProcessError."""
    argv = [HELIOGRAPH, *map(str, words)]
    return subprocess.run(argv, input=text, capture_output=True, text=True, check=True).stdout


def cpu(pid: int) -> float:
    """Seconds of user and system time a process and its threads have used, to the nanosecond."""
    return time.clock_gettime(~pid << 3 | 2)  # the clock of clock_getcpuclockid(3)


def child(parent: int, words: str) -> int:
    """The child of a process whose command line holds some words."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            above = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if above == parent and words in line:
            return int(entry.name)
    raise LookupError(words)


def until(condition: Callable[[], bool], seconds: float = 300.0) -> float:
    """Wait for something; how long it took, in seconds."""
    began = time.perf_counter()
    while not condition():
        if time.perf_counter() - began > seconds:
            raise TimeoutError("it did not come to an end")
        time.sleep(0.05)
    return time.perf_counter() - began


@contextmanager
def running(log: Path, *words: object, ready: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """A command of heliograph, from the moment it has said `ready`; ended with SIGTERM."""
    with log.open("wb") as out:
        process = subprocess.Popen(  # out of reach of the terminal's Ctrl-C: it ends last
            [HELIOGRAPH, *map(str, words)], stdout=out, stderr=out, start_new_session=True
        )
    try:
        until(lambda: ready in log.read_text() or process.poll() is not None, 60)
        if process.poll() is not None:
            raise RuntimeError(log.read_text())
        yield process
    finally:
        process.terminate()
        process.wait(30)


def ask(url: str, sql: str) -> str:
    """The answer of a ClickHouse HTTP port."""
    with urlopen(url, data=sql.encode(), timeout=60) as answer:
        return str(answer.read().decode()).strip()
