"""The command itself: help, versions, mistakes, and how it starts and ends."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from heliograph import cli, data_dir
from heliograph.compiled import is_compiled
from heliograph.errors import Failure, harmless, one_line
from tests.unit.mint_kit import heliograph

Capture = pytest.CaptureFixture[str]
HEAVY = ("aiohttp", "aiokafka", "chdb", "clickhouse_connect", "uvloop", "prometheus_client", "rich")


def run(*argv: object, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "heliograph.cli", *map(str, argv)],
        capture_output=True, text=True, timeout=60, **more,  # type: ignore[call-overload]
    )  # fmt: skip


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_explains_itself(command: str, capsys: Capture) -> None:
    assert heliograph(command, "--help") == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: heliograph {command}")
    if command not in ("key", "sends", "optout"):
        assert "HELIOGRAPH_" in text


def test_the_command_lists_its_commands(capsys: Capture) -> None:
    assert heliograph("--help") == 0
    text = capsys.readouterr().out
    for command, words in cli.COMMANDS.items():
        assert command in text
        assert words.split()[0] in text
    assert heliograph("--version") == 0
    edge = "compiled" if is_compiled() else "uncompiled"
    assert capsys.readouterr().out == f"heliograph {version('heliograph')}, the edge {edge}\n"


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        ([], 2, "required: COMMAND"),
        (["fly"], 2, "invalid choice: 'fly'"),
        (["report", "--wat"], 2, "unrecognized arguments: --wat"),
        (["report", "clouds"], 2, "invalid choice: 'clouds'"),
        (["report", "--data", "{tmp}/no"], 2, "nothing is in"),
        (["report", "--tz", "Mars/Base"], 2, "'Mars/Base' is no time zone"),
        (["report", "--tz", "../../etc/passwd"], 2, "is no time zone"),
        (["report", "links", "--never"], 2, "--never is for"),
        (["report", "--clickhouse", "nonsense"], 2, "is no http or https URL"),
        (["report", "--clickhouse", "http://127.0.0.1:1"], 1, "127.0.0.1:1 does not answer"),
        (["sql", "", "--data", "{tmp}"], 2, "there is no SQL"),
        (["mint", "--campaign", "c", "--data", "{tmp}"], 2, "name a file"),
        (["mint", "{tmp}/no.csv", "--campaign", "c", "--data", "{tmp}"], 2, "no key file"),
        (["up", "--port", "many", "--data", "{tmp}/d"], 2, "--port 'many'"),
        (["up", "--workers", "0", "--data", "{tmp}/d"], 2, "--workers '0'"),
        (["collect", "--data", "{tmp}/d"], 2, "--kafka HOST:PORT"),
        (["collect", "--kafka", "here", "--data", "{tmp}/d"], 2, "'here' is not HOST:PORT"),
        (["collect", "--kafka", "a:1", "--data", "{tmp}/d"], 2, "no key file at"),
        (["consume"], 2, "name both"),
        (["migrate"], 2, "name ClickHouse"),
        (["migrate", "--clickhouse", "x"], 2, "is no http or https URL"),
        (["migrate", "--clickhouse", "http://127.0.0.1:1"], 1, "127.0.0.1:1 does not answer"),
        (["audit", "--clickhouse", "http://127.0.0.1:1"], 1, "127.0.0.1:1 does not answer"),
        (["report", "--limit", "0"], 2, "--limit 0 is less than 1"),
        (["report", "--by", "day"], 2, "--by is for `report timeline`"),
        (
            ["sends", "cancel", "--campaign", "c", "--remote", "http://127.0.0.1:1"],
            2,
            "name a FILE of recipients, or the store that knows the sends: --clickhouse",
        ),
        (["up", "--data", __file__], 2, "test_cli.py is not a directory"),
        (["report", "--data", __file__], 2, "test_cli.py is not a directory"),
        (["up", "--journal-sync", "often"], 2, "not one of interval, always, never"),
        (["reship", "--data", "{tmp}"], 2, "there is no journal"),
        (["watch", "--data", "{tmp}"], 2, "nothing is in"),
    ],
)
def test_a_mistake_is_one_line(
    argv: list[str], code: int, message: str, tmp_path: Path, capfd: Capture
) -> None:
    assert heliograph(*(word.replace("{tmp}", str(tmp_path)) for word in argv)) == code
    errors = capfd.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1, errors


def test_the_path_of_an_error_is_named_without_its_number(tmp_path: Path, capfd: Capture) -> None:
    (tmp_path / "format").mkdir()
    assert heliograph("key", "list", "--data", tmp_path) == 1
    assert capfd.readouterr().err == f"heliograph: {tmp_path}/format: Is a directory\n"


def test_only_a_health_port_nobody_named_may_be_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    monkeypatch.setattr(
        "heliograph.up.run", lambda *_, any_health_port: told.append(any_health_port)
    )
    heliograph("up", "--data", tmp_path)
    heliograph("up", "--data", tmp_path, "--health-port", "8081")
    monkeypatch.setenv("HELIOGRAPH_HEALTH_PORT", "8081")
    heliograph("up", "--data", tmp_path)
    assert told == [True, False, False]


def test_starting_imports_nothing_heavy() -> None:
    program = (
        "import sys; from heliograph.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print(*sys.modules)"
    )
    for argv in (["--version"], ["key", "--help"], ["mint", "--help"], ["report", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *argv],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        loaded = {name.partition(".")[0] for name in done.stdout.split()}
        assert not loaded & set(HEAVY), argv


def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path) -> None:
    heliograph("key", "new", "--data", tmp_path)
    (tmp_path / "r.csv").write_text("id\n" + "".join(f"{i}\n" for i in range(20_000)))
    line = f"{sys.executable} -m heliograph.cli mint {tmp_path}/r.csv --campaign c"
    done = subprocess.run(
        ["bash", "-c", f"{line} --data {tmp_path} | head -1; echo ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "141"
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_what_is_missing_of_the_extras_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> None:
    monkeypatch.setitem(sys.modules, "consumer.embedded", None)
    (tmp_path / "journal").mkdir()

    def missing(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'chdb'", name="chdb")

    monkeypatch.setattr("heliograph.access.running_sql", missing)
    assert heliograph("report", "--data", tmp_path) == 2
    assert "this needs chdb: pip install 'heliograph[edge,store]'" in capsys.readouterr().err


def test_a_bug_of_ours_shows_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heliograph.data_dir.check_format", lambda data: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        heliograph("key", "list")


def test_data_of_a_newer_version_is_refused_by_every_command(
    tmp_path: Path, capfd: Capture
) -> None:
    (tmp_path / "format").write_text("2\n")
    (tmp_path / "journal").mkdir()
    for argv in (
        ["up"], ["report"], ["sql", "SELECT 1"], ["key", "new"], ["reship"], ["watch"],
        ["collect", "--kafka", "a:1"], ["mint", "x.csv", "--campaign", "c"],
        ["sends", "cancel", "--campaign", "c"],
    ):  # fmt: skip
        assert heliograph(*argv, "--data", tmp_path) in (1, 2)
        errors = capfd.readouterr().err
        assert "has format 2, and this version knows 1" in errors, argv
    assert sorted(path.name for path in tmp_path.iterdir()) == ["format", "journal"]


def test_what_goes_to_kafka_is_never_counted_here(tmp_path: Path, capfd: Capture) -> None:
    """Counting would move the positions, and the shipper would skip what was counted."""
    heliograph("key", "new", "--data", tmp_path)
    (tmp_path / "r.csv").write_text("id\n1\n")
    heliograph("mint", tmp_path / "r.csv", "--campaign", "c", "--data", tmp_path)
    descriptor = data_dir.lock(tmp_path, "collect")
    for running in (True, False):
        capfd.readouterr()
        for argv in (["report"], ["sql", "SELECT 1"], ["audit"]):
            assert heliograph(*argv, "--data", tmp_path) == 2
            assert "is shipped to Kafka by `collect`" in capfd.readouterr().err
        assert heliograph("mint", tmp_path / "r.csv", "--campaign", "c", "--data", tmp_path) == 0
        if running:
            assert heliograph("up", "--data", tmp_path, "--port", "0") == 1
            assert "`heliograph collect` already runs" in capfd.readouterr().err
            os.close(descriptor)
    assert not (tmp_path / "store").exists()


def test_older_data_is_brought_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[Path] = []
    monkeypatch.setattr(data_dir, "FORMAT", 3)
    monkeypatch.setattr(data_dir, "MIGRATIONS", {1: steps.append, 2: steps.append})
    (tmp_path / "format").write_text("1\n")
    data_dir.prepare(tmp_path)
    data_dir.prepare(tmp_path)
    assert steps == [tmp_path, tmp_path]
    assert (tmp_path / "format").read_text() == "3\n"
    (tmp_path / "format").write_text("x\n")
    with pytest.raises(Failure, match="holds no number"):
        data_dir.check_format(tmp_path)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ä 🌷", "plain ä 🌷"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\u202eabc\u2066", "\\u202eabc\\u2066"),
        ("\ud800\x9b", "\\ud800\\x9b"),
    ],
)
def test_text_of_strangers_is_harmless(text: str, shown: str) -> None:
    assert harmless(text) == shown
    assert "\x1b" not in one_line(f"a\n\n{text}")


def test_asking_again_is_left_to_whoever_moves_the_positions(
    tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "journal").mkdir()
    assert heliograph("reship", "--data", tmp_path, "--since", "2026-03-01") == 0
    assert (tmp_path / "journal" / "reship").read_text() == "1772323200\n"
    assert heliograph("reship", "--data", tmp_path) == 0
    assert (tmp_path / "journal" / "reship").read_text() == "0\n"
    assert heliograph("reship", "--data", tmp_path, "--since", "monday") == 2
    assert "'monday' is not ISO 8601" in capsys.readouterr().err
