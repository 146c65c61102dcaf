"""Fixtures every test may ask for."""

import faulthandler
import sys
from collections.abc import Iterator

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key
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


_dead: list[object] = []


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object, error: object) -> None:
    """One of the processes that share the tests has ended: with an error if it died."""
    if error:
        _dead.append(node)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """What it was to run has not run, so no second chance of those that failed makes up for it."""
    if _dead:
        session.exitstatus = pytest.ExitCode.INTERNAL_ERROR


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """pytest ends no test that hangs once it has failed: what it leaves may hang too."""
    seconds = float(item.config.getini("faulthandler_timeout"))
    out = item.config.stash[fault_handler_stderr_fd_key]
    faulthandler.dump_traceback_later(seconds, exit=True, file=out)
    yield


def pytest_unconfigure(config: pytest.Config) -> None:
    """A thread that a failed test has left would keep this process, and CI, for ever. (Of those
    that share the tests the first one sees to the others.)
    """
    if not hasattr(config, "workerinput"):
        faulthandler.dump_traceback_later(60, exit=True, file=sys.__stderr__)
