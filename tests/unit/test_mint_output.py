"""`heliograph mint`: where it writes to, and what an end in the middle leaves."""

import contextlib
import fcntl
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.unit.mint_kit import URL, heliograph, recorded
from tests.unit.test_mint_lists import Capture, data, mint, table

__all__ = ["data"]


def test_pipes_and_a_terminal_less_progress(data: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "heliograph.cli", "mint", "-", "--campaign", "c", "--data",
         str(data)],
        input=b"id\n1\n2\n", capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert [row["id"] for row in table(done.stdout)] == ["1", "2"]
    assert b"is this machine" in done.stderr, "the default address is a loopback address"
    assert len(recorded(data)) == 2


@pytest.mark.parametrize("rows", [1, 499, 500, 501])
def test_progress_on_a_terminal(data: Path, rows: int) -> None:
    source, out = data.parent / "in.csv", data.parent / "out"
    source.write_text("id\n" + "".join(f"{n}\n" for n in range(rows)))
    terminal, far_end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "heliograph.cli", "mint", source, "--campaign", "c", "--data", data,
         "-o", out],
        stderr=far_end,
    )  # fmt: skip
    os.close(far_end)
    shown = b""
    with contextlib.suppress(OSError):  # how Linux says that a terminal has hung up
        while part := os.read(terminal, 1 << 16):
            shown += part
    os.close(terminal)
    assert process.wait(60) == 0, shown
    assert b"minting" in shown
    assert f"{rows} minted".encode() in shown
    assert len(table(out.read_bytes())) == rows


def test_pipes_and_links_as_output_stay_what_they_are(data: Path) -> None:
    source, pipe, link = (data.parent / name for name in ("in.csv", "pipe", "link"))
    source.write_text("id\n1\n")
    base = ("mint", source, "--campaign", "c", "--public-url", URL, "--data", data, "-o")
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE)
    assert heliograph(*base, pipe) == 0
    assert len(table(reader.communicate(timeout=60)[0])) == 1
    assert pipe.is_fifo()
    terminal, far_end = pty.openpty()  # a device whose name nobody can take
    assert heliograph(*base, os.ttyname(far_end)) == 0
    assert b",pixel_url,pixel_html" in os.read(terminal, 1 << 16)
    os.close(far_end)
    os.close(terminal)
    target = data / "target"
    target.write_text("old")
    link.symlink_to(target)
    assert heliograph(*base, link) == 0
    assert link.is_symlink()
    assert len(table(target.read_bytes())) == 1


def test_where_it_cannot_write_is_said(
    data: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, why in (("no/x.csv", "No such file or directory"), ("data", "Is a directory")):
        out = data.parent / name
        assert mint(data, "id\n1\n", "-o", out)[0] == 1
        assert f"heliograph: cannot write {out}: {why}\n" in capfd.readouterr().err

    def no_space(file: int) -> None:
        if "/.out." in os.readlink(f"/proc/self/fd/{file}"):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    assert mint(data, "id\n1\n") == (1, b"")
    assert f"cannot write {data.parent / 'out'}: No space left" in capfd.readouterr().err


def test_what_a_killed_run_left_goes_and_nothing_else(data: Path) -> None:
    killed, running, foreign = (data.parent / f".out.{end}" for end in ("1", "2", "swp"))
    for path in (killed, running, foreign):
        path.write_text("x")
    with running.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert mint(data, "id\n1\n")[0] == 0
    assert not killed.exists()
    assert running.exists()
    assert foreign.exists()


def test_an_output_that_cannot_be_completed_leaves_nothing(data: Path, capfd: Capture) -> None:
    (data / "journal").mkdir(exist_ok=True)
    (data / "journal" / "ring").write_text("another ring\n")
    code, out = mint(data, "id\n1\n")
    assert (code, out) == (1, b"")
    assert "belongs to the key ring" in capfd.readouterr().err
    assert sorted(path.name for path in data.parent.iterdir()) == ["data", "in.csv"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_leaves_no_draft(data: Path, number: signal.Signals) -> None:
    out = data.parent / "out.csv"
    process = subprocess.Popen(
        [sys.executable, "-m", "heliograph.cli", "mint", "-", "--campaign", "c", "--data",
         str(data), "-o", str(out)],
        stdin=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(b"id\n" + b"".join(b"%d\n" % n for n in range(20_000)))
    process.stdin.flush()
    deadline = time.monotonic() + 60
    while not list(data.parent.glob(".out.csv.*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list(data.parent.glob(".out.csv.*"))
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (130, 128 + number)
    assert b"Traceback" not in errors
    assert list(data.parent.iterdir()) == [data]
    for event in recorded(data):  # sealed; and running it again changes nothing
        assert event["kind"] == "sent"


def test_memory_does_not_grow_with_the_list(data: Path) -> None:
    """100,000 rows take hardly more than 1,000."""
    program = (
        "import resource, sys; from heliograph.cli import main; code = main(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"
    )
    peaks = []
    for rows in (1_000, 100_000):
        source = data.parent / "big.csv"
        source.write_text("id,note\n" + "".join(f"r{i},{'x' * 40}\n" for i in range(rows)))
        out = data.parent / "big.out"
        done = subprocess.run(
            [sys.executable, "-c", program, "mint", str(source), "--campaign", f"c{rows}",
             "--data", str(data), "-o", str(out)],
            capture_output=True, timeout=300, check=True,
        )  # fmt: skip
        peaks.append(int(done.stdout))
        with out.open() as lines:
            assert sum(1 for _ in lines) == rows + 1
    assert peaks[1] - peaks[0] < 20_000, f"kilobytes: {peaks}"
    assert len(recorded(data)) == 101_000
