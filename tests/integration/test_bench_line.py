"""The line's section of `make bench`: it measures what it says, and so does freshness."""

from pathlib import Path

import pytest

from loadtest.bench import line
from loadtest.bench.fresh import delays


@pytest.mark.kafka
def test_a_quick_run_measures_every_part(tmp_path: Path) -> None:
    found = {figure.what: figure for figure in line.figures(tmp_path, quick=True)}
    assert not [what for what, figure in found.items() if "left out" in figure.measured]
    rates = [figure for figure in found.values() if "events/s" in figure.measured]
    assert len(rates) == 4
    assert all(float(each.measured.split()[0].replace(",", "")) > 0 for each in rates)
    assert sum("p99" in what for what in found) == 2
    shares = [figure.beside for figure in found.values() if "of the line" in figure.beside]
    assert len(shares) >= 4


def test_a_delay_counts_from_the_answer_to_the_first_sight() -> None:
    seen = [(0.0, 7), (1.0, 9), (2.5, 10)]
    assert delays([0.5, 0.2, 0.9], seen) == [0.5, 0.8, 1.6]
