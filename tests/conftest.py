"""Fixtures every test may ask for."""

import faulthandler
import sys

import pytest
from hypothesis import HealthCheck, settings

from heliograph.compiled import stale

pytest_plugins = ["tests.kafka_broker"]

# How fast an example is says something of the machine alone, and what is refused one day is refused
# every day. To look for more: --hypothesis-profile=exploring
settings.register_profile("exploring", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("any machine", settings.get_profile("exploring"), derandomize=True)
settings.load_profile("any machine")


def pytest_configure() -> None:
    """What is tested is what is written."""
    if older := stale():
        raise pytest.UsageError(f"compiled before these changed, `make install`: {older}")


def pytest_unconfigure() -> None:
    """A thread that a failed test has left would keep this process, and CI, for ever."""
    faulthandler.dump_traceback_later(60, exit=True, file=sys.__stderr__)
