"""Processes of the real command line: started, read, killed, and never left behind."""

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.migrated import migrated

HELIOGRAPH = Path(sys.executable).with_name("heliograph")
#: Every process of a line bears it in its environment, also when its parent is gone.
_MARK = "TEST_LINE"
Environment = dict[str, str]


def environment(**more: str) -> Environment:
    """This environment without settings of Heliograph, and with what is given."""
    clean = {key: text for key, text in os.environ.items() if not key.startswith("HELIOGRAPH_")}
    return clean | more


def wait_for(condition: Callable[[], object], seconds: float = 60.0, what: str = "") -> float:
    """Wait until a condition holds; how long it took. Fails after `seconds`."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds} s: {what or condition}"
        time.sleep(0.02)
    return time.monotonic() - began


def run(*words: object, text: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """One command of heliograph, whatever it ends with."""
    return subprocess.run(
        [HELIOGRAPH, *map(str, words)],
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(**env),
    )


def ask(*words: object, **env: str) -> str:
    """What a command prints; fails unless it ends with 0."""
    done = run(*words, **env)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


def rows(*words: object, **env: str) -> list[dict[str, Any]]:
    """The rows that a `report` or `sql` answers."""
    found: list[dict[str, Any]] = json.loads(ask(*words, "--format", "json", **env))
    return found


class Line:
    """A running `heliograph up`, `collect` or `consume`, in a process group of its own."""

    program: tuple[object, ...] = (HELIOGRAPH,)

    def __init__(self, log: Path, *words: object, **env: str) -> None:
        """Start it; what it says, now and earlier, is in `log`."""
        self._token = secrets.token_hex(16)
        self._began = log.stat().st_size if log.exists() else 0
        self.log = log
        with log.open("ab") as said:
            self.process = subprocess.Popen(
                [*map(str, (*self.program, *words))],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
                env=environment(**env) | {_MARK: self._token},
            )

    @property
    def said(self) -> str:
        """What it has printed since it was started, errors too."""
        return self.log.read_bytes()[self._began :].decode()

    def told(self, pattern: str, seconds: float = 90.0) -> str:
        """Wait for a line like `pattern`; its first group."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.said, re.MULTILINE)):
            assert self.process.poll() is None, f"ended with {self.process.poll()}:\n{self.said}"
            assert time.monotonic() < deadline, f"no {pattern!r} in {seconds} s:\n{self.said}"
            time.sleep(0.02)
        return found[1]

    def pids(self, command: str = "") -> list[int]:
        """Its processes that run a command, of all generations; orphans too, zombies not."""
        mark = f"{_MARK}={self._token}".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    words = (entry / "cmdline").read_bytes().decode().replace("\0", " ")
                    if command in words:
                        found.append(int(entry.name))
        return sorted(found)

    def kill9(self, command: str = "") -> int:
        """Kill -9 what runs a command, all at once; how many there were."""
        found = self.pids(command)
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.process.pid in found:
            self.process.wait(60)
        wait_for(lambda: not set(found) & set(self.pids()), 60, "killed processes gone")
        return len(found)

    def interrupt(self) -> None:
        """Ctrl-C: a terminal sends SIGINT to the whole foreground group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self, seconds: float = 60.0) -> tuple[int, float]:
        """Wait for its end and that of its children: exit code, and how long it took."""
        began = time.monotonic()
        code = self.process.wait(seconds)
        took = time.monotonic() - began
        assert self.pids() == [], "children outlive it"
        return code, took

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Signal it alone, and wait."""
        self.process.send_signal(number)
        return self.end()


class Up(Line):
    """A running `heliograph up`, once it has said that it is up."""

    def __init__(self, data: Path, *words: object, port: int = 0, **env: str) -> None:
        self.data = data
        data.parent.mkdir(parents=True, exist_ok=True)
        given = ("up", "--data", data, "--port", port, "--health-port", 0, *words)
        began = time.monotonic()
        super().__init__(data.with_name(f"{data.name}.log"), *given, **env)
        try:
            self.told("(Ctrl-C stops it)")
            self.took = time.monotonic() - began
            self.url = self.told(r"pixels and links +(\S+)")
            self.sql = self.told(r"SQL, read-only +(\S+)")
            self.health = self.told(r"health, metrics +(\S+)")
            self.pixel_html = self.told(r"^ *(<img .*>)$")
            self.curl = self.told(r"^ *(curl .*)$")
            self.report = self.told(r"^ *(\S*heliograph report campaigns.*)$")
        except BaseException:
            self.kill9()
            raise
        self.port = int(re.findall(r":(\d+)/", self.curl)[0])

    def open(self) -> None:
        """Run the printed curl line as it is."""
        subprocess.run(["sh", "-c", self.curl], check=True, timeout=60)

    def hits(self) -> int:
        """What `report campaigns` says of the demo."""
        return hits(self.data)


def hits(data: Path, campaign: str = "demo") -> int:
    """The hits of a campaign by `report campaigns`, whether `up` runs or not."""
    found = rows("report", "campaigns", "--data", data, "--campaign", campaign)
    return int(found[0]["hits"]) if found else 0


class Lines:
    """Starts lines, and sees that none outlives its test."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._all: list[Line] = []

    def up(self, *words: object, name: str = "data", **more: Any) -> Up:
        """`heliograph up` on a directory under the test's own."""
        if not (data := self.home / name).exists():
            migrated(data / "store")
        return self._keep(Up(data, *words, **more))

    def start(self, log: str, *words: object, **env: str) -> Line:
        """Any command that stays."""
        return self._keep(Line(self.home / f"{log}.log", *words, **env))

    def _keep(self, line: Any) -> Any:
        self._all.append(line)
        return line

    def close(self) -> None:
        """End all that still runs; fails where an ended one left something behind."""
        ended = [line for line in self._all if line.process.poll() is not None]
        left = {line.log.name: found for line in ended if (found := line.pids())}
        for line in self._all:
            line.kill9()
        assert not left, f"processes without a parent: {left}"
