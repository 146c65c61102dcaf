"""Readers who open minted pixels. See README.md for the command."""

import os
import random
from pathlib import Path

from locust import FastHttpUser, constant, task

from loadtest.traffic import Agents, read_pixels

URLS = "HELIOGRAPH_LOADTEST_URLS"
PIXEL = bytes.fromhex(
    "47494638396101000100800000ffffff00000021f90401000000002c00000000010001000002024401003b"
)

if URLS not in os.environ:
    raise SystemExit(f"{URLS} must name a file that heliograph mint wrote")
try:
    PIXELS = read_pixels(Path(os.environ[URLS]))
except (OSError, ValueError) as error:
    raise SystemExit(f"{URLS}: {error}") from None
AGENTS = Agents()


class Reader(FastHttpUser):
    """Opens one random mail after another, each time with another mail program."""

    host = PIXELS.origin  # --host puts another one in its place
    wait_time = constant(0)
    chance = random.Random()

    @task
    def open_mail(self) -> None:
        """Fetch a pixel and compare it byte by byte."""
        with self.client.get(
            self.chance.choice(PIXELS.paths),
            name="open",
            headers=AGENTS.draw(self.chance),
            catch_response=True,
        ) as response:
            if response.status_code != 200:
                response.failure(f"status {response.status_code}")
            elif response.content != PIXEL:
                response.failure(f"{len(response.content or b'')} bytes that are not the pixel")
