"""Fixtures of the end-to-end tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.line import Lines


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[Lines]:
    """Lines of one test."""
    kept = Lines(tmp_path)
    yield kept
    kept.close()
