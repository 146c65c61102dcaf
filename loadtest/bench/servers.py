"""The servers that are compared, each on the core `SERVER_CORE`, all else on `CLIENT_CORE`."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from loadtest.processes import child, cpu, until
from schemas.journal import directory, reader
from tests import collecting
from tests.ports import free_port

SERVER_CORE, *_others = sorted(os.sched_getaffinity(0))
CLIENT_CORE: Final = (_others or [SERVER_CORE])[0]
CONNECTIONS: Final = 16_000  # what nginx is told to expect
TRUSTED: Final = "127.0.0.1/32"
_ROOT: Final = Path(__file__).parents[2]
PARTITIONS: Final = 6
_NGINX: Final = """
{user}
daemon off;
worker_processes 1;
worker_rlimit_nofile {connections};
pid nginx.pid;
error_log error.log warn;
events {{ multi_accept on; worker_connections {connections}; }}
http {{
    set_real_ip_from {trusted};
    real_ip_header X-Forwarded-For;
    log_format hit escape=json '{{"ts":$msec,"uri":"$uri","address":"$remote_addr",'
        '"user_agent":"$http_user_agent","referer":"$http_referer",'
        '"accept_language":"$http_accept_language"}}';
    keepalive_requests 1000000000;
    access_log access.log hit{buffer};
    server {{
        listen 127.0.0.1:{port} backlog=4096 deferred;
        location /o/ {{
            empty_gif;
            add_header Cache-Control "no-cache, no-store, must-revalidate, max-age=0";
            add_header Pragma no-cache;
            add_header Expires 0;
        }}
    }}
}}
"""


class LeftOut(Exception):
    """Something that is compared can't run here; the message says why."""


class Server(NamedTuple):
    """A running server: what it is called, where it answers, which process serves.

    `recorded` tells how many events it has recorded since it was last asked, in `topic` if it
    produces them.
    """

    name: str
    port: int
    pid: int
    recorded: Callable[[], int]
    topic: str = ""

    def cpu(self) -> float:
        """Seconds of user and system time that the process and its threads have used, exactly."""
        return cpu(self.pid)

    def ticks(self) -> tuple[int, int]:
        """User and system time in ticks of 10 ms: good for their shares."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]), int(fields[12])

    def memory(self) -> int:
        """Resident bytes."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", text)
        return int(found[1]) * 1024 if found else 0


def core_busy() -> float:
    """Seconds that the servers' core has been busy, whoever used it."""
    found = re.search(rf"^cpu{SERVER_CORE} (.*)$", Path("/proc/stat").read_text(), re.MULTILINE)
    times = found[1].split() if found else ["0"] * 8
    user, nice, system, _, _, irq, softirq, steal = map(int, times[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


@contextmanager
def core(number: int) -> Iterator[None]:
    """What is started in this block runs on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {number})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _process(argv: list[str | Path], log: Path, **env: str) -> Iterator[int]:
    """A process on the servers' core, ended with SIGTERM; its pid."""
    with log.open("wb") as out, core(SERVER_CORE):
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=os.environ | env
        )
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def nginx(home: Path, *, buffered: bool = False) -> Iterator[Server]:
    """Debian's nginx with `empty_gif` and a line of JSON for each hit."""
    binary = shutil.which("nginx", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin")
    if binary is None:
        raise LeftOut("nginx is not installed (Debian: apt-get install nginx-light)")
    home.mkdir()
    port, log = free_port(), home / "access.log"
    # Started by root, workers would become a user who cannot enter the folder.
    words = {
        "user": "user root;" if os.geteuid() == 0 else "",
        "buffer": " buffer=64k flush=100ms" if buffered else "",
        "port": port,
        "connections": CONNECTIONS,
        "trusted": TRUSTED,
    }
    (home / "nginx.conf").write_text(_NGINX.format(**words))

    at = 0

    def recorded() -> int:
        nonlocal at
        with log.open("rb") as file:
            file.seek(at)
            lines = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
            at = file.tell()
        return lines

    argv = [binary, "-p", home, "-c", "nginx.conf", "-e", home / "error.log"]
    with _process(argv, home / "log") as pid:
        _until_open(port, home / "error.log")
        name = "nginx, log in a 64k buffer" if buffered else "nginx"
        yield Server(name, port, _worker(pid), recorded)


@contextmanager
def heliograph(home: Path, keys: Path, *, compiled: bool = True) -> Iterator[Server]:
    """The edge as `heliograph collect` runs it, with one worker; its journal is not shipped. Not
    compiled, it is a copy of the same sources.
    """
    home.mkdir()
    root = _ROOT if compiled else home / "sources"
    for package in () if compiled else ("collector", "schemas", "heliograph", "tests"):
        shutil.copytree(_ROOT / package, root / package, ignore=shutil.ignore_patterns("*.so"))
    shutil.copy(keys, home / "keys.json")
    wanted = collecting.settings(home, trusted_proxies=(TRUSTED,), journal_max_bytes=32 << 30)
    with core(SERVER_CORE):
        collector = collecting.Collector(wanted, root)
    try:
        (worker,) = collector.children("collector.worker")
        (journal,) = directory.journals(home / "journal")
        journal_reader = reader.Reader(journal, 1)

        def recorded() -> int:
            count = 0
            while frames := journal_reader.read(1 << 24):
                count += sum(frame.events for frame in frames)
            return count

        name = "heliograph" if compiled else "heliograph, not compiled"
        yield Server(name, collector.port, worker, recorded)
    finally:
        collector.stop()


@contextmanager
def go(home: Path, keys: Path, kafka: str) -> Iterator[Server]:
    """The Go service of `loadtest/go`, one thread of which runs at a time."""
    if shutil.which("go") is None:
        raise LeftOut("Go is not installed (Debian: apt-get install golang)")
    home.mkdir()
    binary, topic = home / "edge", _topic(kafka)
    argv = ["go", "build", "-o", str(binary), "."]
    built = subprocess.run(argv, cwd=_ROOT / "loadtest" / "go", capture_output=True, text=True)
    if built.returncode:
        raise LeftOut(f"go build failed: {built.stderr.strip()}")
    options = ["-listen", "127.0.0.1:0", "-kafka", kafka, "-topic", topic, "-keys", str(keys)]
    with _process([binary, *options], home / "log", GOMAXPROCS="1") as pid:
        yield Server("Go, franz-go", _told_port(home / "log"), pid, _produced(kafka, topic), topic)


@contextmanager
def route(home: Path, keys: Path, kafka: str) -> Iterator[Server]:
    """The aiohttp route of `route.py`."""
    home.mkdir()
    topic = _topic(kafka)
    argv = [sys.executable, "-m", "loadtest.bench.route", keys, kafka, topic]
    with _process(argv, home / "log") as pid:
        yield Server(
            "aiohttp, aiokafka", _told_port(home / "log"), pid, _produced(kafka, topic), topic
        )


def _topic(kafka: str) -> str:
    name = f"bench-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(name, PARTITIONS, 1)])[name].result(30)
    return name


def _produced(kafka: str, topic: str) -> Callable[[], int]:
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": topic, "log_level": 0})
    before = 0

    def recorded() -> int:
        nonlocal before
        ends = [
            consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=10, cached=False)[1]
            for n in range(PARTITIONS)
        ]
        before, new = sum(ends), sum(ends) - before
        return new

    return recorded


def _told_port(log: Path) -> int:
    until(lambda: "listening on" in log.read_text(), 30)
    found = re.search(r"listening on \S+:(\d+)", log.read_text())
    if found is None:
        raise RuntimeError(log.read_text())
    return int(found[1])


def _worker(master: int) -> int:
    """nginx's worker, which its master starts after it listens."""
    found: list[int] = []

    def there() -> bool:
        with contextlib.suppress(LookupError):
            found.append(child(master, "worker process"))
        return bool(found)

    until(there, 20)
    return found[0]


def _until_open(port: int, log: Path) -> None:
    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(answers, 20)
    except TimeoutError:
        raise RuntimeError(log.read_text()) from None
