"""`heliograph migrate`: ClickHouse's tables, made or brought up to date."""

from argparse import ArgumentParser, Namespace

from consumer.settings import ConsumerSettings
from heliograph import options
from heliograph.access import HttpStore
from heliograph.errors import UsageError
from heliograph.settings import read


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    options.add(parser, ConsumerSettings, only=frozenset(("clickhouse", "database", "cluster")))


def run(args: Namespace) -> int:
    """Apply what is pending."""
    settings = read(ConsumerSettings, args)
    if not settings.clickhouse:
        raise UsageError("name ClickHouse: --clickhouse URL (`up` migrates its own store)")
    from consumer.migrate import migrate
    from consumer.store import connect, dictionary_access

    greet(settings.clickhouse)
    access = dictionary_access(settings)
    done = migrate(connect(settings), settings.database, settings.cluster, access)
    for name in done:
        print(f"applied {name}")
    if not done:
        print("nothing to do")
    return 0


def greet(url: str) -> None:
    """Raise UsageError or Failure, in fewer words than the driver's, unless ClickHouse answers."""
    for _ in HttpStore(url, "system", server=True).query("SELECT 1", {}, "TSV").chunks:
        pass
