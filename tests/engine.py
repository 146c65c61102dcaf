"""Start and kill the ClickHouse engine in a process of its own; or use a real server.

HELIOGRAPH_TEST_CLICKHOUSE=http://host:port names a real server for the tests that kill nothing.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
import pytest

#: ClickHouse keeps freed memory for a while. The C library hands a batch's pages back each time,
#: and to have them anew takes as long as half of the parsing.
_KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(512 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(512 << 20),
    "MALLOC_TOP_PAD_": str(64 << 20),
}


class Engine:
    """One engine process; its port stays the same over restarts.

    `limits` are those of its second, read-only front (consumer.sql.Limits) at `sql_url`.
    """

    def __init__(self, path: Path, **limits: float) -> None:
        self.path = path
        self.port = 0
        self.sql_url = ""
        self._limits = json.dumps(limits)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has been started and not been killed since."""
        return self._process is not None

    def start(self) -> None:
        """Start it on its path; returns when it answers. A dead one is started on its port."""
        assert self._process is None, "it runs already"
        arguments = [str(self.path), str(self.port), self._limits]
        command = [sys.executable, "-m", "tests.engine_main", *arguments]
        root = Path(__file__).parents[1]
        self._process = subprocess.Popen(
            command,
            cwd=root,
            env=os.environ | _KEEP_MEMORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the engine ended with {self._process.wait()}"
        self.port, reader = map(int, line.split())
        self.sql_url = f"http://127.0.0.1:{reader}"

    def kill9(self) -> None:
        """End it as a power switch would (but for the page cache)."""
        assert self._process is not None
        self._process.kill()
        self._reap()

    def stop(self) -> None:
        """Let it finish what runs, and end; nothing when it is dead already."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._reap()

    def restart(self) -> None:
        """Kill it and start it again on the same path and port."""
        self.kill9()
        self.start()

    def _reap(self) -> None:
        assert self._process is not None
        self._process.wait(60)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process = None


def client(url: str, **options: Any) -> Any:
    """A clickhouse-connect client of its own; threads may not share one."""
    parts = urlsplit(url)
    return clickhouse_connect.get_client(
        host=parts.hostname,
        port=parts.port,
        username=parts.username or "default",
        password=parts.password or "",
        secure=parts.scheme == "https",
        autogenerate_session_id=False,
        **options,
    )


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine on an empty path, for tests that kill it."""
    started = Engine(tmp_path / "engine")
    yield started
    started.stop()


@pytest.fixture(scope="module")
def clickhouse_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server where HELIOGRAPH_TEST_CLICKHOUSE names one, else an engine for all tests of a
    file: each works in a database of its own, and kills nothing.
    """
    if named := os.environ.get("HELIOGRAPH_TEST_CLICKHOUSE"):
        yield named
        return
    started = Engine(tmp_path_factory.mktemp("engine"))
    yield started.url
    started.stop()
