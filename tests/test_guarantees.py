"""docs/guarantees.md names what there is: each experiment, and each test that shows something."""

import re
from pathlib import Path

from loadtest.faults.run import experiments

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "guarantees.md").read_text()


def test_every_experiment_is_named_and_is_there() -> None:
    assert {int(number) for number in re.findall(r"experiment (\d+)", TEXT)} == experiments().keys()


def test_every_test_that_is_named_is_there() -> None:
    paths = re.findall(r"`(tests/[\w/]+\.py)`", TEXT)
    assert len(paths) >= 6
    for path in paths:
        assert re.search(r"^(async )?def test_", (ROOT / path).read_text(), re.MULTILINE), path


def test_every_promise_has_something_that_shows_it() -> None:
    promised, _, _ = TEXT.partition("## What is not promised")
    rows = [row for row in promised.splitlines() if row.startswith("| ") and "shown by" not in row]
    assert len(rows) > 10
    for row in rows:
        assert re.search(r"experiment \d|`tests/", row)
