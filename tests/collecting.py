"""A real collector for the tests: the supervisor and its children in processes of their own."""

import contextlib
import http.client
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from collector.mint import Mint, Minted, SendRequest
from collector.settings import CollectorSettings
from schemas import keyring
from schemas.journal import directory, reader
from schemas.settings import decode, encode

API_KEY = "k" * 40
ROOT = Path(__file__).parents[1]


def settings(data: Path, **more: Any) -> CollectorSettings:
    """Settings of a collector on free ports, its keys made."""
    data.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        content = keyring.create(secrets.token_bytes, int(time.time()))
        keyring.write(data / "keys.json", content, replace=False)
    (data / "api.key").write_text(API_KEY + "\n")
    return CollectorSettings(data=data, port=0, health_port=0, **more)


def mint(data: Path, public_url: str, recipient: str = "r1", **more: Any) -> Minted:
    """A send under the keys of a data directory."""
    ring = keyring.load(data / "keys.json")
    request = SendRequest(campaign="c1", recipient=recipient, **more)
    return Mint(ring, public_url, time.time).send(request)


def events(data: Path) -> list[dict[str, Any]]:
    """Every event of every journal, in order; fails on damage."""
    found = []
    for journal in directory.journals(data / "journal"):
        whole = reader.Reader(journal, 1, _no_damage)
        while frames := whole.read(1 << 24):
            for frame in frames:
                lines = [msgspec.json.decode(line) for line in frame.block.splitlines()]
                assert [line["seq"] for line in lines] == list(
                    range(frame.first_seq, frame.next_seq)
                )
                found += lines
    return found


def _no_damage(journal: Path, size: int, kept: Path) -> None:
    raise AssertionError(f"{size} damaged bytes in {journal}: {kept}")


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> float:
    """Wait until a condition holds; how long it took. Fails after `seconds`."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds} s: {condition}"
        time.sleep(0.01)
    return time.monotonic() - began


class Collector:
    """A running `collect.serve`, from the sources in `root`."""

    def __init__(self, wanted: CollectorSettings, root: Path = ROOT) -> None:
        self.data = wanted.data
        self.log = wanted.data / "collector.log"
        self._log = self.log.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.collecting"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=root,
            text=True,
        )
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(encode(wanted).decode())
        self.process.stdin.close()
        told = self.process.stdout.readline()
        found = re.search(r"at (http\S+) \(port (\d+)\), health at (http\S+)", told)
        assert found, f"{told!r}\n{self.log.read_text()}"
        self.url, self.port, self.health = found[1], int(found[2]), found[3]

    def children(self, module: str = "collector.") -> list[int]:
        """Process ids of the children that run a module."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                command = (entry / "cmdline").read_bytes().decode()
                if parent == self.process.pid and module in command:
                    found.append(int(entry.name))
        return sorted(found)

    def ask(self, path: str) -> tuple[int, str]:
        """Status and text of a path on the health port."""
        connection = http.client.HTTPConnection(self.health.partition("//")[2], timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def ready(self) -> bool:
        """Whether /readyz says so."""
        return self.ask("/readyz")[0] == 200

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it; its exit code."""
        self.process.send_signal(number)
        try:
            return self.process.wait(60)
        finally:
            self._close()

    def _close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        self._log.close()


@contextlib.contextmanager
def collecting(wanted: CollectorSettings) -> Iterator[Collector]:
    """A collector for the length of a block; its children are gone afterwards."""
    collector = Collector(wanted)
    try:
        yield collector
    finally:
        children = collector.children()
        if collector.process.poll() is None:
            collector.stop()
        for pid in children:  # they drain by themselves when the supervisor was killed
            wait_for(lambda pid=pid: not alive(pid))


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def main() -> None:
    """The supervisor's process: settings on stdin, then like `heliograph collect`."""
    import asyncio

    from collector import collect
    from schemas.child import start_logging

    start_logging()
    wanted = decode(CollectorSettings, sys.stdin.buffer.readline())
    os.close(0)
    sys.exit(asyncio.run(collect.serve(wanted)))


if __name__ == "__main__":
    main()
