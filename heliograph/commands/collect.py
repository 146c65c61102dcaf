"""`heliograph collect`: the edge, shipping to Kafka."""

import asyncio
import os
from argparse import ArgumentParser, Namespace

from collector.settings import CollectorSettings
from heliograph import data_dir, options
from heliograph.errors import UsageError
from heliograph.secrets import warn_of_mode
from heliograph.settings import read


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    options.add(parser, CollectorSettings)


def run(args: Namespace) -> int:
    """Collect until SIGTERM."""
    from collector.collect import serve
    from schemas.child import start_logging

    settings = read(CollectorSettings, args)
    if not settings.kafka:
        raise UsageError("name Kafka's brokers: --kafka HOST:PORT,… (without Kafka: heliograph up)")
    start_logging()
    warn_of_mode(settings.key_file)
    data_dir.prepare(settings.data)
    lock = data_dir.lock(settings.data, "collect")
    try:
        return asyncio.run(serve(settings))
    finally:
        os.close(lock)
