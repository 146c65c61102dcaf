"""What a test needs beside Python: said aloud when missing, and a failure where CI demands it."""

import os
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """Skip the test with its reason, or fail it when HELIOGRAPH_REQUIRE_ALL=1."""
    if os.environ.get("HELIOGRAPH_REQUIRE_ALL") == "1":
        pytest.fail(f"required by HELIOGRAPH_REQUIRE_ALL=1: {reason}", pytrace=False)
    pytest.skip(reason)


def require(condition: object, reason: str) -> None:
    """Call `missing` unless the condition holds."""
    if not condition:
        missing(reason)
