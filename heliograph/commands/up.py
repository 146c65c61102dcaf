"""`heliograph up`: the whole line on this machine."""

import logging
from argparse import ArgumentParser, Namespace

import msgspec

from collector.settings import CollectorSettings
from consumer.settings import ConsumerSettings
from heliograph import options
from heliograph.own_rules import check
from heliograph.settings import is_given, read

# What belongs to Kafka and ClickHouse, or is set from the collector's side.
_COUNTING = frozenset(
    (
        "batch_rows",
        "batch_bytes",
        "batch_seconds",
        "retention_days",
        "retention",
        "hygiene",
        "sql_port",
        "database",
    )
)


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    kafka = [name for name in CollectorSettings.__struct_fields__ if "kafka" in name]
    kafka += ["topic", "topic_partitions", "topic_replication", "topic_retention_hours"]
    options.add(parser, CollectorSettings, skip=frozenset(kafka))
    options.add(parser, ConsumerSettings, only=_COUNTING)


def run(args: Namespace) -> int:
    """Run until Ctrl-C."""
    from heliograph import up

    logging.basicConfig(level=logging.WARNING, format="heliograph: %(message)s")
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    collector = msgspec.structs.replace(read(CollectorSettings, args), kafka=())
    anywhere = not is_given("health_port", args)
    consumer = read(ConsumerSettings, args)
    check(consumer.rules)
    return up.run(collector, consumer, any_health_port=anywhere)
