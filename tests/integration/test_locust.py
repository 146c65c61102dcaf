"""loadtest/ runs as its README says, and notices wrong answers."""

import asyncio
import csv
import json
import os
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.integration.deployment import ROOT

LOADTEST = ROOT / "loadtest"
PIXEL = bytes.fromhex(
    "47494638396101000100800000ffffff00000021f90401000000002c00000000010001000002024401003b"
)


@dataclass
class Edge:
    """A stand-in for the collector that counts what is opened, and by whom."""

    answer: bytes = PIXEL
    port: int = 0
    tokens: Counter[str] = field(default_factory=Counter)
    agents: Counter[str] = field(default_factory=Counter)

    async def pixel(self, request: web.Request) -> web.Response:
        self.tokens[request.match_info["token"]] += 1
        self.agents[request.headers["User-Agent"]] += 1
        return web.Response(body=self.answer, content_type="image/gif")


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    stand_in = Edge()
    app = web.Application()
    app.router.add_get("/px/o/{token}.gif", stand_in.pixel)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    stand_in.port = runner.addresses[0][1]
    yield stand_in
    await runner.cleanup()


def write_minted(path: Path, origin: str, column: str = "pixel_url") -> Path:
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["recipient", column, "pixel_html"])
        for number in range(50):
            url = f"{origin}/px/o/t{number}.gif"
            rows.writerow([f"r{number}", url, f'<img src="{url}" alt="">'])
    return path


async def locust(urls: Path, *options: str) -> tuple[int | None, list[dict[str, Any]], str]:
    """Run the scenario; its exit code, its statistics and what it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "locust", "-f", LOADTEST / "locustfile.py", "--headless"),
        *("--users", "4", "--spawn-rate", "4", "--json", *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"HELIOGRAPH_LOADTEST_URLS": str(urls)},
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode, json.loads(out or "[]"), err.decode()


async def test_minted_pixels_are_opened_without_a_failure(edge: Edge, tmp_path: Path) -> None:
    urls = write_minted(tmp_path / "minted.csv", f"http://127.0.0.1:{edge.port}")
    code, stats, said = await locust(urls, "--run-time", "3s")
    assert code == 0, said
    (entry,) = stats
    assert (entry["method"], entry["name"]) == ("GET", "open")
    assert entry["num_requests"] > 100
    assert entry["num_failures"] == 0
    # Those in flight at the end are answered, and not counted by locust.
    assert 0 <= edge.tokens.total() - entry["num_requests"] <= 4
    assert edge.tokens.keys() == {f"t{number}" for number in range(50)}


async def test_agents_come_by_their_weights(edge: Edge, tmp_path: Path) -> None:
    # The host of the file does not exist: --host takes its place.
    urls = write_minted(tmp_path / "minted.csv", "https://px.example.org")
    code, _, said = await locust(
        urls, "--run-time", "2s", "--host", f"http://127.0.0.1:{edge.port}"
    )
    assert code == 0, said
    with (LOADTEST / "agents.csv").open(newline="") as file:
        weights = {row["user_agent"]: float(row["weight"]) for row in csv.DictReader(file)}
    assert edge.agents.keys() <= weights.keys()
    heaviest = max(weights, key=lambda agent: weights[agent])
    share = edge.agents[heaviest] / edge.agents.total()
    assert share == pytest.approx(weights[heaviest] / sum(weights.values()), abs=0.15)


async def test_a_wrong_answer_is_a_failure(edge: Edge, tmp_path: Path) -> None:
    edge.answer = PIXEL[:-2] + b"\x3b"
    urls = write_minted(tmp_path / "minted.csv", f"http://127.0.0.1:{edge.port}")
    code, stats, _ = await locust(urls, "--run-time", "1s")
    assert code == 1
    (entry,) = stats
    assert entry["num_failures"] == entry["num_requests"] > 0


async def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    urls = write_minted(tmp_path / "other.csv", "http://127.0.0.1:1", column="url")
    code, stats, said = await locust(urls, "--run-time", "1s")
    assert code != 0
    assert stats == []
    assert "has no column pixel_url" in said


def test_the_readme_names_what_is_there() -> None:
    text = (LOADTEST / "README.md").read_text()
    assert re.findall(r"loadtest/\S+\.py", text) == ["loadtest/locustfile.py"]
    assert "synthesised" in text
