"""A real Apache Kafka for the tests: one KRaft node from its Maven artifacts, on loopback.

`kafka_broker` is shared by the whole session, so a test may only add topics of its own to it;
`own_kafka_broker` belongs to one test, which may kill, suspend and restart it.
"""

import base64
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.ports import free_port
from tests.services import missing

TEMPLATES = Path(__file__).parent / "kafka"
CACHE = Path(__file__).parents[1] / ".cache" / "kafka"
START_SECONDS = 120
STOP_SECONDS = 60
FETCH_SECONDS = 300


def tail(path: Path, lines: int = 30) -> str:
    """The last lines of a log, or a word on its absence."""
    if not path.exists():
        return "(no log)"
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


@dataclass
class Broker:
    """One broker: its data and its ports stay the same over kill9() and start()."""

    home: Path
    libs: Path
    port: int = field(default_factory=free_port)
    controller_port: int = field(default_factory=free_port)
    extra: dict[str, str] = field(default_factory=dict)  # settings beside the template's
    process: subprocess.Popen[bytes] | None = None
    guard: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """What a client connects to."""
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """Everything the broker has printed, over all its starts."""
        return self.home / "broker.log"

    @property
    def pid(self) -> int:
        """The running broker's process id; raises when it is down."""
        if self.process is None or self.process.poll() is not None:
            raise RuntimeError(f"the broker is not running:\n{tail(self.log)}")
        return self.process.pid

    def start(self) -> None:
        """Start on the same data and ports, and return once it answers a metadata request."""
        if self.process is not None:
            raise RuntimeError("the broker is already started")
        deadline = time.monotonic() + START_SECONDS
        if not (self.home / "server.properties").exists():
            self._format()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._java(
                    "-Xms256m",
                    "-Xmx512m",
                    f"-Dlog4j2.configurationFile={TEMPLATES / 'log4j2.yaml'}",
                    main=("kafka.Kafka", str(self.home / "server.properties")),
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.home,
                start_new_session=True,
            )
        self._watch_over()
        try:
            self._await_answer(deadline)
        except BaseException:
            self.kill9()
            raise

    def stop(self) -> None:
        """End it in an orderly way; a broker that is down stays down."""
        self._end(signal.SIGTERM)

    def kill9(self) -> None:
        """End it as a power cut of its process would."""
        self._end(signal.SIGKILL)

    def suspend(self) -> None:
        """Make it hang: connections stay open and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after suspend()."""
        os.kill(self.pid, signal.SIGCONT)

    def _java(self, *options: str, main: tuple[str, ...]) -> list[str]:
        return ["java", *options, "-cp", f"{self.libs}/*", *main]

    def _format(self) -> None:
        """Write the settings and give the data directory its cluster id."""
        self.home.mkdir(parents=True, exist_ok=True)
        template = Template((TEMPLATES / "server.properties").read_text())
        draft = self.home / "server.properties.new"
        settings = template.substitute(
            port=self.port, controller_port=self.controller_port, data=self.home / "data"
        )
        extra = "".join(f"{name}={value}\n" for name, value in self.extra.items())
        draft.write_text(settings + extra)
        # The leading zero keeps the id from starting with a dash, which would read as an option.
        cluster = base64.urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
        done = subprocess.run(
            self._java(
                main=(
                    "kafka.tools.StorageTool",
                    *("format", "--standalone", "-t", cluster, "-c", str(draft)),
                )
            ),
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
        )
        if done.returncode:
            raise RuntimeError(f"kafka storage format failed:\n{done.stdout}\n{done.stderr}")
        draft.rename(self.home / "server.properties")

    def _watch_over(self) -> None:
        """Let the broker die with this process even when that is killed: its pipe then ends."""
        self.guard = subprocess.Popen(
            ["sh", "-c", 'read _; kill -9 "$0"', str(self.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def _await_answer(self, deadline: float) -> None:
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                raise RuntimeError(f"the broker ended while starting:\n{tail(self.log)}")
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
                if admin.list_topics(timeout=5).brokers:
                    return
            except (OSError, KafkaException):
                time.sleep(0.1)
        raise TimeoutError(f"no answer from the broker in {START_SECONDS} s:\n{tail(self.log)}")

    def _end(self, how: signal.Signals) -> None:
        process, guard = self.process, self.guard
        self.process = self.guard = None
        if process is None:
            return
        # The guard goes first: it must never see the pid of a process that came later.
        if guard is not None and guard.stdin is not None:
            guard.kill()
            guard.wait()
            guard.stdin.close()
        if process.poll() is None:
            process.send_signal(how)
            process.send_signal(signal.SIGCONT)  # a suspended process cannot end in order
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise TimeoutError(
                f"the broker did not stop in {STOP_SECONDS} s:\n{tail(self.log)}"
            ) from None


def fetch_libs() -> Path:
    """The folder of Kafka's jars, fetched with Maven once and kept in the cache."""
    libs = CACHE / "libs"
    pom = (TEMPLATES / "pom.xml").read_text()
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test runs share the cache
        if (libs / "pom.xml").exists() and (libs / "pom.xml").read_text() == pom:
            return libs
        if shutil.which("mvn") is None:
            missing("Apache Kafka needs Maven to be fetched (Debian: apt-get install maven)")
        fresh = CACHE / "libs.new"
        for old in (fresh, libs):
            shutil.rmtree(old, ignore_errors=True)
        _run_maven(fresh)
        (fresh / "pom.xml").write_text(pom)
        fresh.rename(libs)
    return libs


def _run_maven(into: Path) -> None:
    command = ["mvn", "-q", "-B", "-f", str(TEMPLATES / "pom.xml"), "dependency:copy-dependencies"]
    try:
        done = subprocess.run(
            [*command, "-DincludeScope=runtime", f"-DoutputDirectory={into}"],
            capture_output=True,
            text=True,
            timeout=FETCH_SECONDS,
        )
    except subprocess.TimeoutExpired:
        missing(f"Apache Kafka could not be fetched with Maven in {FETCH_SECONDS} s")
    if done.returncode:
        missing(f"Apache Kafka could not be fetched with Maven:\n{done.stdout[-2000:]}")


def running(home: Path, extra: dict[str, str] | None = None) -> Iterator[Broker]:
    """A started broker, for a fixture to hand out with `yield from`."""
    if shutil.which("java") is None:
        missing("Apache Kafka needs Java 17 (Debian: apt-get install default-jre-headless)")
    broker = Broker(home, fetch_libs(), extra=extra or {})
    broker.start()
    try:
        yield broker
    finally:
        # The data is thrown away, so an orderly shutdown would only cost time.
        broker.kill9()
        shutil.rmtree(broker.home / "data", ignore_errors=True)


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """The session's broker: make topics of your own, never stop it."""
    yield from running(tmp_path_factory.mktemp("kafka"))


@pytest.fixture
def own_kafka_broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker of the test's own, to be killed, suspended and restarted at will."""
    yield from running(tmp_path / "kafka")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever asks for a broker bears the marker, so `-m "not kafka"` can be relied upon."""
    for item in items:
        if {"kafka_broker", "own_kafka_broker"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("kafka")
