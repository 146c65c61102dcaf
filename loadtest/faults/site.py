"""What all experiments share: a Kafka broker and a ClickHouse engine, each a real process."""

import secrets
from contextlib import ExitStack, contextmanager
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic

import tests.kafka_broker
from consumer.migrate import migrate
from tests.engine import Engine, client
from tests.kafka_broker import Broker

_broker = contextmanager(tests.kafka_broker.running)


class Site:
    """Starts both; an experiment may kill and suspend them. Ended by `close()`."""

    def __init__(self, home: Path) -> None:
        """Raises pytest's Skipped where Java or Maven are missing."""
        self._stack = ExitStack()
        self.broker: Broker = self._stack.enter_context(_broker(home / "kafka"))
        self.engine = Engine(home / "engine")
        self._stack.callback(self.engine.stop)
        self._shared = ""

    def database(self, *, shared: bool) -> str:
        """A migrated database of one's own, or the one that all share who want to be quick."""
        if shared and self._shared:
            return self._shared
        name = f"faults_{secrets.token_hex(4)}"
        migrate(client(self.engine.url), name)
        if shared:
            self._shared = name
        return name

    def make_topic(self, name: str, partitions: int, **config: str) -> None:
        """Make a topic."""
        admin = AdminClient({"bootstrap.servers": self.broker.bootstrap})
        admin.create_topics([NewTopic(name, partitions, 1, config=config)])[name].result(30)

    def mend(self) -> None:
        """Start again what an experiment has left dead or suspended."""
        try:
            self.broker.resume()
        except RuntimeError:
            self.broker.kill9()
            self.broker.start()
        if not self.engine.running:
            self.engine.start()

    def close(self) -> None:
        """End both."""
        self._stack.close()
