"""`heliograph up`: the whole line on one machine, from the first minute to kill -9."""

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from heliograph import Minter
from schemas import keyring
from schemas.consent import Mode
from tests.unit.mint_kit import heliograph

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.kill


class Up:
    """One `heliograph up` in a process group of its own."""

    def __init__(self, data: Path, *argv: object) -> None:
        self.data = data
        command = [sys.executable, "-m", "heliograph.cli", "up", "--data", str(data)]
        command += ["--port", "0", "--health-port", "0", *map(str, argv)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(iter(self.process.stdout.readline, ""))

    @property
    def text(self) -> str:
        return "".join(self.lines)

    def ready(self) -> "Up":
        until(lambda: "Ctrl-C stops it." in self.text or self.process.poll() is not None, 90)
        assert self.process.poll() is None, self.text
        return self

    @property
    def told(self) -> dict[str, Any]:
        return dict(json.loads((self.data / "up.json").read_text()))

    def stop(self, number: signal.Signals = signal.SIGINT) -> float:
        """End it in order; how many seconds that took."""
        started = time.monotonic()
        self.process.send_signal(number)
        assert self.process.wait(60) == 0, self.text
        self._reader.join(5)
        return time.monotonic() - started

    def descendants(self) -> list[int]:
        found = [self.process.pid]
        for pid in found:
            with contextlib.suppress(FileNotFoundError):
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
                found += map(int, children.split())
        return found

    def kill_everything(self) -> None:
        for pid in self.descendants():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(60)


def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        if found := condition():
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


def fetch(url: str, agent: str = "Thunderbird/140.4.0") -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": agent})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return bytes(answer.read())


def ask(capfd: pytest.CaptureFixture[str], *argv: object) -> Any:
    capfd.readouterr()
    assert heliograph(*argv, "--format", "json") == 0, capfd.readouterr().err
    return json.loads(capfd.readouterr().out)


def rate(capfd: pytest.CaptureFixture[str], data: Path, campaign: str) -> Any:
    rows = ask(capfd, "report", "campaigns", "--campaign", campaign, "--data", data)
    return rows[0] if rows else None


@pytest.fixture
def starting() -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(*argv: Any) -> Up:
        started.append(Up(*argv))
        return started[-1].ready()

    yield start
    for up in started:
        if up.process.poll() is None:
            up.kill_everything()


def test_the_first_minute(
    starting: Callable[..., Up], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    up = starting(data, "--workers", 2)
    assert (data / "keys.json").stat().st_mode & 0o777 == 0o600
    assert (data / "api.key").stat().st_mode & 0o777 == 0o600
    assert "made the key file" in up.text
    for name in ("url", "sql", "health"):
        assert up.told[name] in up.text
    pixel = re.search(r'<img src="([^"]+)" width="1" height="1" alt=""', up.text)
    curl = re.search(r"curl -s -o /dev/null -A '(Mozilla/5\.0 [^']+)' '([^']+)'", up.text)
    show = re.search(r"(report campaigns --data .+)", up.text)
    assert pixel
    assert curl
    assert show
    assert pixel[1] == curl[2]

    before = until(lambda: rate(capfd, data, "demo"))
    assert (before["sends"], before["recipients"], before["open_rate"]) == (1, 1, 0)
    fetch(curl[2], curl[1])
    until(lambda: rate(capfd, data, "demo")["open_rate"] == 1)
    assert heliograph(*shlex.split(show[1])) == 0
    assert "100.0%" in capfd.readouterr().out
    (client,) = ask(capfd, "report", "clients", "--data", data)
    assert (client["client"], client["class"]) == ("Thunderbird", "human")
    (delay,) = ask(capfd, "report", "delays", "--data", data)
    assert delay["hour"] == 1, "its send is dated an hour back"

    assert heliograph("up", "--data", data) == 1
    assert f"already runs on {data} (pid {up.process.pid})" in capfd.readouterr().err
    assert heliograph("collect", "--kafka", "127.0.0.1:1", "--data", data) == 1
    assert "`heliograph up` already runs" in capfd.readouterr().err

    assert up.stop() < 30
    assert "stopping" in up.text
    assert up.lines[-1] == "stopped; `heliograph up` goes on from here\n"
    assert "Traceback" not in up.text
    assert not (data / "up.json").exists()
    assert rate(capfd, data, "demo")["hits"] == 1, "without `up`, from the store itself"

    again = starting(data)
    assert "made the key" not in again.text
    assert pixel[1].rpartition("/")[2] in again.text, "the demo is recorded once"
    assert rate(capfd, data, "demo")["sends"] == 1
    fetch(re.search(r"'(http://127[^']+)'", again.text)[1])  # type: ignore[index]
    until(lambda: rate(capfd, data, "demo")["hits"] == 2)
    assert again.stop(signal.SIGTERM) < 30


def test_minting_watching_and_taking_back_while_it_runs(
    starting: Callable[..., Up], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    up = starting(data, "--consent", "pseudonymous")
    source, out = tmp_path / "r.csv", tmp_path / "out.csv"
    source.write_text("id,shop\na,https://shop.example/\nb,\nc,\n")
    base = ("mint", source, "--campaign", "spring", "-o", out, "--link", "shop", "--data", data)
    assert heliograph(*base) == 0
    assert "is this machine" in capfd.readouterr().err
    rows = [line.split(",") for line in out.read_text().splitlines()[1:]]
    assert all(row[2].startswith(f"{up.told['url']}/o/") for row in rows), "the port that was free"
    token = rows[0][2].rpartition("/")[2].removesuffix(".gif")
    sealed, _ = keyring.load(data / "keys.json").unseal("open", token)
    assert sealed.mode == Mode.PSEUDONYMOUS, "no more than `up` keeps"
    until(lambda: (rate(capfd, data, "spring") or {}).get("sends") == 3)

    watching = subprocess.Popen(
        [sys.executable, "-m", "heliograph.cli", "watch", "--data", str(data), "--format", "json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    seen: list[dict[str, Any]] = []
    assert watching.stdout is not None
    threading.Thread(
        target=lambda: seen.extend(map(json.loads, iter(watching.stdout.readline, ""))),  # type: ignore[union-attr]
        daemon=True,
    ).start()

    def has_begun() -> bool:  # what is there before is not news
        fetch(rows[1][2])
        return bool(seen)

    until(has_begun)
    for _ in range(3):
        fetch(rows[0][2])
    with contextlib.suppress(OSError):  # 302 to a host that is none
        fetch(rows[0][5])
    until(lambda: seen[-1]["kind"] == "click")
    time.sleep(1.5)
    told = [event["kind"] for event in seen if event["recipient"] == "a"]
    assert told == ["open"] * 3 + ["click"]
    assert len({(event["journal"], event["seq"]) for event in seen}) == len(seen), "none twice"
    assert {event["recipient"] for event in seen} == {"a", "b"}
    watching.send_signal(signal.SIGINT)
    assert watching.wait(60) == 130
    assert watching.stderr is not None
    assert watching.stderr.read() == ""

    remote = ("--remote", up.told["url"], "--api-key-file", data / "api.key", "--data", "/nowhere")
    assert heliograph("mint", source, "--campaign", "far", "-o", out, *remote) == 0
    assert [line.split(",")[2] for line in out.read_text().splitlines()[1:]] != []
    with Minter(remote=up.told["url"], api_key=(data / "api.key").read_text().strip()) as minter:
        assert minter.mint("far", "d").pixel_url.startswith(up.told["url"])
    until(lambda: (rate(capfd, data, "far") or {}).get("sends") == 4)

    source.write_text("id\nb\nnever-recorded\n")
    assert heliograph("sends", "cancel", "--campaign", "spring", source, "--data", data) == 0
    assert heliograph("sends", "cancel", "--campaign", "far", source, *remote) == 0
    until(lambda: rate(capfd, data, "spring")["recipients"] == 2)
    until(lambda: rate(capfd, data, "far")["recipients"] == 3)
    assert rate(capfd, data, "spring")["open_rate"] == 0.5
    assert heliograph("sends", "cancel", "--campaign", "far", "--data", data) == 0
    assert "3 taken back" in capfd.readouterr().err
    until(lambda: rate(capfd, data, "far") is None)
    assert heliograph("audit", "--data", data) == 0


def test_kill_9_of_everything_loses_and_doubles_nothing(
    starting: Callable[..., Up], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    answered = 0
    for _ in range(3):
        up = starting(data, "--workers", 2)
        url = up.told["url"] + "/o/" + up.text.split("/o/")[1].split('"')[0]
        for _ in range(40):
            fetch(url)
            answered += 1
        up.kill_everything()
        assert (data / "up.json").exists()
    up = starting(data)
    until(lambda: (rate(capfd, data, "demo") or {"hits": 0})["hits"] >= answered)
    assert rate(capfd, data, "demo")["hits"] == answered
    up.stop()
    assert rate(capfd, data, "demo")["hits"] == answered
    assert heliograph("audit", "--data", data) == 0


def test_only_up_is_killed_and_its_children_end_by_themselves(
    starting: Callable[..., Up], tmp_path: Path
) -> None:
    up = starting(tmp_path / "data")
    port = up.told["url"].rpartition(":")[2]
    children = up.descendants()[1:]
    assert len(children) >= 2
    up.process.kill()
    up.process.wait(60)
    again = starting(tmp_path / "data", "--port", port)  # at once: it waits for the port
    assert again.told["url"].endswith(f":{port}")
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
    assert again.stop() < 30


def test_a_taken_port_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        argv = ("up", "--data", tmp_path / "data", "--health-port", "0")
        assert heliograph(*argv, "--port", port) == 2
        assert f"cannot listen on 127.0.0.1 port {port}" in capfd.readouterr().err
        assert heliograph(*argv, "--port", "0", "--sql-port", port) == 2
        assert f"port {port}" in capfd.readouterr().err
    assert not (tmp_path / "data" / "up.json").exists()


def test_rules_that_cannot_be_used_end_it_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.toml").write_text("[[rule")
    monkeypatch.setenv("HELIOGRAPH_RULES", str(tmp_path))
    assert heliograph("up", "--data", tmp_path / "data", "--port", "0") == 1
    assert "HELIOGRAPH_RULES: mine.toml: " in capfd.readouterr().err
    assert not (tmp_path / "data").exists()
