"""Fixtures every test may ask for."""

import pytest

from heliograph.compiled import stale

pytest_plugins = ["tests.kafka_broker"]


def pytest_configure() -> None:
    """What is tested is what is written."""
    if older := stale():
        raise pytest.UsageError(f"compiled before these changed, `make install`: {older}")
