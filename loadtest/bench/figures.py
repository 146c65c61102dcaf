"""A figure: what was measured, beside what, and whether it is good enough."""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple


class Figure(NamedTuple):
    """One row of the table. `met` is None where there is no goal, or nothing could be measured."""

    what: str
    measured: str
    spread: str = ""  # lowest to highest of the runs
    beside: str = ""  # e.g. "1.18x nginx"
    goal: str = ""
    met: bool | None = None
    bar: bool | None = None  # whether a bar below the goal is held; unset, the goal is the bar

    @property
    def failed(self) -> bool:
        """Whether this makes the run fail: below the bar, or below the goal where it is the bar."""
        return not self.bar if self.bar is not None else self.met is False


def left_out(what: str, reason: str) -> Figure:
    """A row that says why there is no figure."""
    return Figure(what, "left out: " + reason)


def middle(values: Sequence[float], unit: str, digits: int = 1) -> tuple[str, str]:
    """The median with its unit, and the range it comes from."""
    low, high = min(values), max(values)
    spread = f"{low:,.{digits}f} to {high:,.{digits}f}" if len(values) > 1 else ""
    return f"{median(values):,.{digits}f} {unit}", spread
