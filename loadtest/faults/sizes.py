"""How large each experiment is in each of its forms."""

from enum import IntEnum
from typing import Final


class Form(IntEnum):
    """Which of the sizes."""

    FULL = 0  # `make faults`, hours in all
    SHORT = 1  # `make faults SHORT=1`, minutes in all
    CI = 2  # tests/faults/test_experiments.py: as little as still shows the fault, in one database


SIZES: Final[dict[str, tuple[float, float, float]]] = {
    # full, short, in CI
    "rate": (2000, 2000, 500),  # requests a second
    # How much slower than promised things may be: CI shares its cores with others.
    "patience": (1, 1, 3),
    "1 kills": (50, 10, 3),
}
