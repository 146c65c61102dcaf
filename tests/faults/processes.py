"""Consumers as processes that can be killed at any moment."""

import contextlib
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from consumer.settings import ConsumerSettings
from schemas.settings import encode
from tests.ports import free_port

ROOT = Path(__file__).parents[2]


class Process:
    """A child that gets its settings as a line on stdin and lives no longer than this process."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self.health = ""

    def command(self) -> tuple[list[str], list[int], ConsumerSettings]:
        """Command, descriptors to inherit, settings."""
        raise NotImplementedError

    def start(self) -> None:
        command, descriptors, settings = self.command()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stderr=log,
                pass_fds=descriptors,
            )
        assert self.process.stdin is not None
        self.process.stdin.write(encode(settings))
        self.process.stdin.flush()

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill9(self) -> None:
        assert self.process is not None
        self.process.kill()
        self._reap()

    def terminate(self, seconds: float = 40.0) -> int:
        """SIGTERM; the exit code, or TimeoutExpired."""
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(seconds)
        finally:
            self.process.kill()
            self._reap()

    def _reap(self) -> None:
        assert self.process is not None
        self.process.wait()
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()

    def close(self) -> None:
        if self.alive:
            self.kill9()

    def ask(self, path: str) -> tuple[int, str]:
        """Status and text of a health page; (0, reason) while it does not listen."""
        try:
            with urllib.request.urlopen(self.health + path, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def ready(self) -> bool:
        """Whether source and store have answered; one that has died never will be."""
        assert self.alive, self.log.read_text()[-2000:]
        return self.ask("/readyz")[0] == 200

    def await_ready(self, seconds: float = 60.0) -> None:
        """Wait until source and store have answered."""
        deadline = time.monotonic() + seconds
        while (answer := self.ask("/readyz"))[0] != 200:
            assert self.alive, self.log.read_text()[-2000:]
            assert time.monotonic() < deadline, answer
            time.sleep(0.01)

    def metric(self, name: str) -> float:
        """A metric's value; 0 while it does not listen."""
        found = re.search(rf"^{name} (\S+)$", self.ask("/metrics")[1], re.MULTILINE)
        return float(found[1]) if found else 0.0


class Remote(Process):
    """`heliograph consume`."""

    def __init__(self, log: Path, settings: ConsumerSettings) -> None:
        super().__init__(log)
        self.port = free_port()
        self.health = f"http://127.0.0.1:{self.port}"
        self._settings = settings

    def command(self) -> tuple[list[str], list[int], ConsumerSettings]:
        given = {name: getattr(self._settings, name) for name in self._settings.__struct_fields__}
        settings = ConsumerSettings(**{**given, "health_port": self.port})
        return ["-m", "tests.faults.consume_main"], [], settings


class Embedded(Process):
    """The consumer of `heliograph up`."""

    def __init__(self, log: Path, settings: ConsumerSettings) -> None:
        super().__init__(log)
        self._sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        self._settings = settings
        self.sql, self.health = (
            f"http://127.0.0.1:{each.getsockname()[1]}" for each in self._sockets
        )

    def command(self) -> tuple[list[str], list[int], ConsumerSettings]:
        sql, health = (each.fileno() for each in self._sockets)
        command = ["-m", "consumer.embedded", "--sql-fd", str(sql), "--health-fd", str(health)]
        return command, [sql, health], self._settings

    def close(self) -> None:
        super().close()
        for each in self._sockets:
            each.close()
