"""A line of an experiment's own: edges, a consumer, a topic, a database."""

import contextlib
import http.client
import re
import secrets
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from collector.mint import Mint, SendRequest
from loadtest.bench import backlog
from loadtest.faults.load import Load
from loadtest.faults.site import Site
from loadtest.processes import ask, until
from schemas import keyring
from schemas.journal.directory import journals
from tests import collecting
from tests.e2e.line import Line as Process
from tests.ports import free_port

TOKENS: Final = 500
PARTITIONS: Final = 3
#: So that one follows another often: what goes wrong there would else be seen once in many hours.
SHORT_SEGMENTS: Final = {"HELIOGRAPH_JOURNAL_SEGMENT_BYTES": str(1 << 20)}
LONG_SEGMENTS: Final = {"HELIOGRAPH_JOURNAL_SEGMENT_BYTES": str(64 << 20)}


class Quick(Process):
    """A command whose death Kafka finds out after 3 s instead of 10."""

    program = (
        sys.executable,
        "-c",
        "import sys; from consumer import kafka_source; kafka_source.SESSION_MS = 3_000; "
        "from heliograph.cli import main; sys.exit(main())",
    )


class Service:
    """A command of heliograph on a port that stays the same over its restarts."""

    kind: type[Process] = Process

    def __init__(self, log: Path, *words: object, **env: str) -> None:
        self.name = log.stem
        self._log, self._words, self._env = log, words, env
        self.health_port = free_port()
        self.process: Process | None = None

    def start(self, *, wait: bool = True) -> None:
        """Start it; returns when it is ready, or at once."""
        words = (*self._words, "--health-port", self.health_port)
        self.process = self.kind(self._log, *words, **self._env)
        if wait:
            self.await_ready()

    def await_ready(self) -> None:
        """Wait until it says so."""
        until(lambda: self.ready() or not self.alive, 60)
        if not self.alive:
            raise RuntimeError(self.running.said[-2000:])

    @property
    def alive(self) -> bool:
        """Whether its first process runs."""
        return self.process is not None and self.process.process.poll() is None

    @property
    def code(self) -> int | None:
        """What it has ended with, if it has."""
        return self.running.process.poll()

    @property
    def running(self) -> Process:
        """The process; it must have been started."""
        assert self.process is not None
        return self.process

    def stop(self) -> tuple[int, float]:
        """SIGTERM; its exit code, and how long it took."""
        return self.running.stop(signal.SIGTERM)

    def close(self) -> None:
        """Kill all that still runs of it."""
        if self.process is not None:
            self.process.kill9()

    def ask(self, path: str, seconds: float = 5.0) -> tuple[int, str]:
        """Status and text of a health page; (0, reason) while nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.health_port, timeout=seconds)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error)
        finally:
            connection.close()

    def ready(self) -> bool:
        """Whether /readyz says so."""
        return self.ask("/readyz")[0] == 200

    def metric(self, name: str) -> float:
        """A metric, summed over processes and labels; 0 while nobody answers."""
        found = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", self.ask("/metrics")[1], re.MULTILINE)
        return sum(map(float, found))


class Edge(Service):
    """`heliograph collect` on a data directory."""

    def __init__(self, data: Path, site: Site, topic: str, *more: object, **env: str) -> None:
        collecting.settings(data)  # makes the keys
        self.data, self.port = data, free_port()
        words = (
            "collect", "--kafka", site.broker.bootstrap, "--topic", topic, "--data", data,
            "--port", self.port, *more,
        )  # fmt: skip
        super().__init__(data.with_suffix(".log"), *words, **env)

    def pids(self, module: str = "collector.") -> list[int]:
        """Its children that run a module."""
        return self.running.pids(module)


class Line:
    """An edge and a consumer, started."""

    def __init__(
        self, home: Path, site: Site, rate: float, keep: Callable[[Any], Any], *, quick: bool
    ) -> None:
        """`keep` is told of all that has to be closed; `quick`: it has no database of its own, and
        a consumer whose death is soon found out.
        """
        self.home, self.site, self.rate, self._keep, self._quick = home, site, rate, keep, quick
        self.campaign = self.topic = f"faults-{secrets.token_hex(4)}"
        self.loads: list[Load] = []
        self.edges: list[Edge] = []
        self.others = 0  # rows that the table shall have beside the loads' opens

    def start(self, workers: int = 2, consume: dict[str, str] | None = None, **env: str) -> "Line":
        """Start an edge with so many workers and `env`, and a consumer with options and `env`."""
        env = SHORT_SEGMENTS | env
        self.site.make_topic(self.topic, PARTITIONS, **{"max.message.bytes": str(4 << 20)})
        self.edge = self.add_edge(self.home / "edge", workers, **env)
        self.edge.start(wait=False)
        self.database = self.site.database(shared=self._quick)
        self.consumer = self.make_consumer(consume or {}, **env)
        self.consumer.start()
        self.edge.await_ready()
        return self

    def add_edge(self, data: Path, workers: int = 2, **env: str) -> Edge:
        """An edge of this line; not started."""
        edge: Edge = self._keep(Edge(data, self.site, self.topic, "--workers", workers, **env))
        self.edges.append(edge)
        return edge

    def make_consumer(self, options: dict[str, str], **env: str) -> Service:
        """A consumer of this line, with options beside the usual ones; not started."""
        given = {
            "--kafka": self.site.broker.bootstrap, "--topic": self.topic, "--group": self.topic,
            "--clickhouse": self.site.engine.url, "--database": self.database,
            "--batch-seconds": "0.5", **options,
        }  # fmt: skip
        words = ("consume", *(word for pair in given.items() for word in pair))
        consumer: Service = self._keep(Service(self.home / "consume.log", *words, **env))
        consumer.kind = Quick if self._quick else Process
        return consumer

    def load(self, edge: Edge | None = None, rate: float = 0.0, most: int = 500) -> Load:
        """A load on an edge, over so many connections; answered when this returns."""
        edge = edge or self.edge
        paths = self._paths(edge)
        first = TOKENS * 1_000_000 * len(self.loads)
        made: Load = self._keep(Load(self.home, edge.port, paths, rate or self.rate, first, most))
        self.loads.append(made)
        until(lambda: made.answered() > 0, 60)
        return made

    def fill(self, events: int) -> None:
        """Have the edge ship journals full of others' events."""
        before = set(journals(self.edge.data / "journal"))
        backlog.fill(self.edge.data, events, 2)
        self.others += events
        self._filled = [j for j in journals(self.edge.data / "journal") if j not in before]

    def filled_journals(self) -> list[Path]:
        """These journals."""
        return self._filled

    def filled(self) -> int:
        """How many rows the table has of these."""
        names = tuple(journal.name for journal in self._filled)
        sql = f"SELECT count() FROM {self.database}.events WHERE journal IN {names}"
        return int(ask(self.site.engine.url, sql))

    def _paths(self, edge: Edge) -> list[str]:
        mint = Mint(keyring.load(edge.data / "keys.json"), "", time.time)
        sends = [SendRequest(campaign=self.campaign, recipient=f"r{n}") for n in range(TOKENS)]
        return [urlsplit(mint.send(send).pixel_url).path for send in sends]

    def stored(self) -> int:
        """Opens in the table."""
        ours = f"kind = 'open' AND campaign = '{self.campaign}'"
        sql = f"SELECT count() FROM {self.database}.events WHERE {ours}"
        return int(ask(self.site.engine.url, sql))

    def caught_up(self, seconds: float, lost: int = 0) -> float:
        """Wait until the table has as many opens as have been answered, but for those `lost`; how
        long it took.
        """
        wanted = sum(load.answered() for load in self.loads) - lost

        def there() -> bool:
            with contextlib.suppress(OSError):
                return self.stored() >= wanted
            return False

        return until(there, seconds)

    def settled(self) -> None:
        """Wait until nothing moves any more: what comes late must be seen."""
        quiet, count = 0, -1
        while quiet < 3:
            time.sleep(0.25)
            now = self.stored()
            moving = now != count or self.consumer.metric("heliograph_consumer_lag_records")
            quiet, count = 0 if moving else quiet + 1, now
