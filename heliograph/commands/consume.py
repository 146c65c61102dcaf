"""`heliograph consume`: from Kafka into ClickHouse."""

from argparse import ArgumentParser, Namespace

from consumer.settings import ConsumerSettings
from heliograph import options
from heliograph.errors import UsageError
from heliograph.own_rules import check
from heliograph.settings import read


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    options.add(
        parser,
        ConsumerSettings,
        skip=frozenset(("data", "sql_port", "journal_keep_hours", "journal_max_bytes")),
    )


def run(args: Namespace) -> int:
    """Consume until SIGTERM."""
    settings = read(ConsumerSettings, args)
    if not settings.kafka or not settings.clickhouse:
        raise UsageError("name both: --kafka HOST:PORT,… and --clickhouse URL")
    check(settings.rules)
    from consumer.main import serve

    return serve(settings)
