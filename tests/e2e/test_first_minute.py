"""A new user's first minute, and what an impatient one does in it."""

import contextlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from collector.settings import CollectorSettings
from tests.e2e.line import HELIOGRAPH, Lines, environment, hits, rows, run, wait_for

#: Far more than it takes, and less than a wait for some deadline of ours would.
COUNTED_SECONDS = 25.0
DRAIN_SECONDS = 30.0


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def shell(command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A printed line, run as it is by someone who typed `heliograph` before."""
    path = f"{HELIOGRAPH.parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["sh", "-c", command],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        env=environment(PATH=path),
    )


def test_the_printed_lines_lead_to_a_rate(lines: Lines, tmp_path: Path) -> None:
    data = tmp_path / "my data"  # a blank must survive being copied to a shell
    up = lines.up("--workers", 2, name="my data")
    assert len(up.pids("collector.worker")) == 2
    assert f'src="{up.url}/o/' in up.pixel_html
    (image,) = re.findall(r'src="([^"]*)"', up.pixel_html)
    assert f"'{image}'" in up.curl
    assert re.search(r"-A '[^']*Thunderbird/", up.curl)
    assert mode(data / "keys.json") == mode(data / "api.key") == 0o600

    wait_for(lambda: "demo" in shell(up.report, tmp_path).stdout)
    before = shell(f"{up.report} --format json", tmp_path)
    (demo,) = json.loads(before.stdout)
    assert (demo["campaign"], demo["sends"], demo["hits"], demo["open_rate"]) == ("demo", 1, 0, 0)

    up.open()
    began = time.monotonic()
    wait_for(lambda: up.hits() == 1)
    took = time.monotonic() - began
    print(f"counted after {took:.2f} s, one report included")
    assert took < COUNTED_SECONDS
    assert "100.0%" in shell(up.report, tmp_path).stdout
    (event,) = rows("sql", "SELECT * FROM events WHERE kind = 'open'", "--data", data)
    assert "Thunderbird" in event["user_agent"]
    age = rows("sql", "SELECT dateDiff('second', sent_at, ts) AS age FROM events "
               "WHERE kind = 'open'", "--data", data)[0]["age"]  # fmt: skip
    assert 3590 <= int(age) <= 4000


def test_the_command_is_one_that_the_shell_finds(lines: Lines, tmp_path: Path) -> None:
    """`make up` runs .venv/bin/heliograph, which is on nobody's PATH."""
    up = lines.up(PATH="/usr/bin:/bin")
    wait_for(lambda: "demo" in subprocess.run(
        ["sh", "-c", up.report], capture_output=True, text=True, cwd=tmp_path,
        env=environment(PATH="/usr/bin:/bin")).stdout)  # fmt: skip


def test_ctrl_c_ends_it_and_up_goes_on(lines: Lines, tmp_path: Path) -> None:
    up = lines.up()
    for _ in range(3):
        up.open()
    up.interrupt()  # at once: nothing has been counted yet
    code, took = up.end()
    print(f"drained in {took:.2f} s")
    assert (code, took < DRAIN_SECONDS) == (0, True)
    assert "stopped" in up.said
    assert "Traceback" not in up.said

    again = lines.up("--workers", 2)
    assert again.hits() == 3
    assert again.curl != up.curl  # another port, and the same send
    again.open()
    wait_for(lambda: again.hits() == 4)
    (demo,) = rows("report", "campaigns", "--data", tmp_path / "data")
    assert (demo["sends"], demo["recipients"], demo["unique_opens"]) == (1, 1, 1)
    code, took = again.stop(signal.SIGTERM)
    print(f"drained in {took:.2f} s")
    assert (code, took < DRAIN_SECONDS) == (0, True)
    assert hits(tmp_path / "data") == 4


def test_idle_connections_do_not_hold_the_end_up(lines: Lines) -> None:
    up = lines.up()
    kept = socket.create_connection(("127.0.0.1", up.port))
    half = socket.create_connection(("127.0.0.1", up.port))
    half.sendall(b"GET /o/x.gif HTTP/1.1\r\nHo")
    with kept, half:
        code, took = up.stop()
    assert (code, took < DRAIN_SECONDS) == (0, True)


def test_two_cannot_run_on_one_directory(lines: Lines, tmp_path: Path) -> None:
    up = lines.up()
    second = run("up", "--data", tmp_path / "data", "--port", 0, "--health-port", 0)
    assert second.returncode == 1
    assert f"already runs on {tmp_path / 'data'} (pid {up.process.pid})" in second.stderr
    assert len(second.stderr.splitlines()) == 1
    collect = run("collect", "--kafka", "127.0.0.1:1", "--data", tmp_path / "data", "--port", 0)
    assert collect.returncode == 1
    assert "already runs" in collect.stderr
    up.open()
    wait_for(lambda: up.hits() == 1)


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for option in ("--port", "--health-port", "--sql-port"):
            words = {"--port": 0, "--health-port": 0} | {option: port}
            given = [word for pair in words.items() for word in pair]
            done = run("up", "--data", tmp_path / "data", *given)
            assert done.returncode == 2
            assert done.stderr.startswith("heliograph: "), done.stderr
            assert f"port {port}: Address already in use" in done.stderr
            assert len(done.stderr.splitlines()) == 1


def test_a_second_line_finds_a_health_port(lines: Lines, tmp_path: Path) -> None:
    """Nobody named one, so it need not be the usual one; where it is, is said."""
    usual = CollectorSettings().health_port
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # somebody has it already: as well
            held.enter_context(socket.create_server(("127.0.0.1", usual)))
        up = lines.start("up", "up", "--data", tmp_path / "data", "--port", 0)
        up.told("(Ctrl-C stops it)")
        health = up.told(r"health, metrics +(\S+)")
        assert not health.endswith(f":{usual}")
        with urllib.request.urlopen(f"{health}/readyz", timeout=30) as answer:
            assert answer.status == 200
        assert up.stop()[0] == 0


def test_data_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "format").write_text("2\n")
    for command in (["up", "--port", 0], ["report"], ["sql", "SELECT 1"], ["key", "new"],
                    ["collect", "--kafka", "127.0.0.1:1"]):  # fmt: skip
        done = run(*command, "--data", data)
        assert done.returncode == 1, command
        assert "format 2" in done.stderr
        assert "upgrade" in done.stderr
    assert [path.name for path in data.iterdir()] == ["format"]


def test_questions_to_a_dead_line_take_in_its_journal(lines: Lines, tmp_path: Path) -> None:
    data = tmp_path / "data"
    up = lines.up("--batch-seconds", 60)  # so that only the journal has the opens
    for _ in range(5):
        up.open()
    assert up.hits() == 0
    assert up.kill9() == 3
    assert (data / "up.json").exists()
    assert hits(data) == 5
    (answer,) = rows("sql", "SELECT count() AS n FROM events WHERE kind = 'open'", "--data", data)
    assert int(answer["n"]) == 5
    again = lines.up()
    assert again.hits() == 5


def test_questions_while_it_starts_wait_for_it(lines: Lines, tmp_path: Path) -> None:
    """The addresses of a killed `up` are still there, and nobody answers at them."""
    first = lines.up()
    first.kill9()
    words = ("up", "--data", tmp_path / "data", "--port", 0, "--health-port", 0)
    second = lines.start("second", *words)
    second.told("(starting)")
    assert hits(tmp_path / "data") == 0
    second.told("(Ctrl-C stops it)")


@pytest.mark.parametrize("question", [("report",), ("sql", "SELECT 1")])
def test_where_nothing_is_the_way_is_shown(tmp_path: Path, question: tuple[str, ...]) -> None:
    done = run(*question, "--data", tmp_path / "nothing")
    assert done.returncode == 2
    assert "run `heliograph up`" in done.stderr
    assert not (tmp_path / "nothing").exists()


def test_settings_come_from_the_environment_too(lines: Lines, tmp_path: Path) -> None:
    env = {"HELIOGRAPH_DATA": str(tmp_path / "here"), "HELIOGRAPH_PORT": "0",
           "HELIOGRAPH_WORKERS": "2", "HELIOGRAPH_HEALTH_PORT": "0",
           "HELIOGRAPH_PUBLIC_URL": "https://example.org/px/"}  # fmt: skip
    up = lines.start("up", "up", **env)
    up.told("(Ctrl-C stops it)")
    assert len(up.pids("collector.worker")) == 2
    assert up.told(r"pixels and links +(\S+)") == "https://example.org/px"
    assert 'src="https://example.org/px/o/' in up.told("^ *(<img .*>)$")
    subprocess.run(["sh", "-c", up.told("^ *(curl .*)$")], check=True)
    wait_for(lambda: [row["hits"] for row in rows("report", **env)] == [1])


def test_what_keeps_it_from_starting_is_said(tmp_path: Path) -> None:
    (tmp_path / "data" / "demo.json").mkdir(parents=True)
    done = run("up", "--data", tmp_path / "data", "--port", 0, "--health-port", 0)
    assert done.returncode == 1
    assert "demo.json" in done.stderr
    assert "Traceback" not in done.stderr


def test_watch_prints_each_open_once(lines: Lines, tmp_path: Path) -> None:
    up = lines.up()
    up.open()
    wait_for(lambda: up.hits() == 1)
    watch = lines.start("watch", "watch", "--data", tmp_path / "data", "--format", "json")

    opens = 1

    def open_once() -> str:
        nonlocal opens
        up.open()
        opens += 1
        return watch.said

    def seen() -> list[tuple[str, str]]:
        told = map(json.loads, watch.said.splitlines())
        return [(event["kind"], str(event["seq"])) for event in told]

    wait_for(open_once)  # it has begun: what was there before is not news
    for _ in range(3):
        open_once()
    wait_for(lambda: up.hits() == opens)
    sql = "SELECT kind, seq FROM events ORDER BY seq"
    stored = [(row["kind"], str(row["seq"])) for row in rows("sql", sql, "--data", up.data)]
    wait_for(lambda: seen()[-1] == stored[-1])
    time.sleep(1.5)
    assert seen() == stored[-len(seen()) :]
    watch.interrupt()
    assert watch.end()[0] == 130
