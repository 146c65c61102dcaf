"""What a simulated reader opens, and with which mail program."""

import csv
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from urllib.parse import urlsplit

AGENTS = Path(__file__).with_name("agents.csv")


@dataclass(frozen=True)
class Pixels:
    """Minted pixels of one host: its origin, and the paths with their tokens."""

    origin: str
    paths: Sequence[str]


def read_pixels(path: Path) -> Pixels:
    """The `pixel_url` column of a file that `heliograph mint` wrote.

    Raises ValueError when there is none, or when it names several hosts.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if "pixel_url" not in (rows.fieldnames or ()):
            raise ValueError(f"{path} has no column pixel_url: is it an output of heliograph mint?")
        urls = [urlsplit(row["pixel_url"]) for row in rows]
    origins = {f"{url.scheme}://{url.netloc}" for url in urls}
    if len(origins) != 1:
        raise ValueError(f"{path} names {len(origins)} hosts where one is expected")
    return Pixels(origins.pop(), [url.path for url in urls])


class Agents:
    """Draws request headers of mail programs by their weights."""

    def __init__(self, path: Path = AGENTS) -> None:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        self._weights = list(accumulate(float(row["weight"]) for row in rows))
        self._headers = [self._as_headers(row) for row in rows]

    @staticmethod
    def _as_headers(row: dict[str, str]) -> dict[str, str]:
        headers = {"User-Agent": row["user_agent"], "Accept": "image/*,*/*;q=0.8"}
        if row["accept_language"]:
            headers["Accept-Language"] = row["accept_language"]
        return headers

    def draw(self, chance: random.Random) -> dict[str, str]:
        """The headers of one reader."""
        return chance.choices(self._headers, cum_weights=self._weights)[0]
