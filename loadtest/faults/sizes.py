"""How large each experiment is in each of its forms."""

from enum import IntEnum
from typing import Final


class Form(IntEnum):
    """Which of the sizes."""

    FULL = 0  # `make faults`, hours in all
    SHORT = 1  # `make faults SHORT=1`, minutes in all
    CI = 2  # tests/faults/test_experiments.py: as little as still shows the fault (see `Line`)


SIZES: Final[dict[str, tuple[float, float, float]]] = {
    # full, short, in CI
    "rate": (2000, 2000, 500),  # requests a second
    # How much slower than promised things may be: CI shares its cores with others.
    "patience": (1, 1, 10),
    "noise": (0.002, 0.002, 0.3),  # seconds: what is below it says nothing
    "1 kills": (50, 10, 2),
    "1 hangs": (2, 1, 0),
    "2 kills": (20, 5, 1),
    "2 events": (400_000, 200_000, 50_000),  # to be shipped again
    "3 seconds": (600, 60, 3),  # without Kafka
    "4 seconds": (120, 15, 2),  # of a Kafka that hangs
    "4 rounds": (20, 4, 0),  # down and up; 3 has one
    "4 pause": (5, 5, 1),  # seconds down, and seconds up
    "5 seconds": (600, 60, 8),  # of answers that are late
    "5 one in": (100, 20, 2),  # produce requests is refused
    "6 mebibytes": (64, 64, 2),  # of disk
    "7 seconds": (60, 15, 3),  # of a disk that fails
    "8 seconds": (20, 10, 3),  # of journals to be damaged
    "9 seconds": (600, 30, 2),  # without ClickHouse
    "9 kills": (10, 4, 1),
    "10 seconds": (600, 40, 3),  # with a slow consumer
    "10 kills": (20, 3, 1),
    "10 early kills": (10, 2, 1),
    "11 events": (7_200_000, 300_000, 10_000),  # an hour's, at 2,000 a second
    "12 records": (20_000, 8_000, 600),  # of 100 events
    "13 jumps": (5, 5, 2),
    "13 idle": (1, 1, 0),  # whether to wait 75 s for an idle connection's end
    "14 seconds": (60, 15, 3),  # of each attack
    "15 restarts": (20, 4, 1),
    "15 rounds": (10, 3, 1),
    "16 rate": (500, 500, 500),
    "16 seconds": (3600, 240, 6),
    "16 period": (600, 60, 10),  # in each of which Kafka is away for a tenth (CI: it hangs)
    "17 seconds": (600, 20, 0),  # of each test
}
