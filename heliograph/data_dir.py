"""The data directory: its format number, whose `up` runs on it, and where that one answers."""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from heliograph.errors import Failure
from schemas.files import make_directory, write_whole

#: Raise it when what is on disk changes, and give MIGRATIONS a step from the number before.
FORMAT: Final = 1
MIGRATIONS: Final[Mapping[int, Callable[[Path], None]]] = {}


class Running(msgspec.Struct, frozen=True):
    """DATA/up.json: the addresses of the `up` that runs on a data directory, as URLs, and the most
    that it keeps of hits (see `Mode.word`).
    """

    pid: int
    url: str
    sql: str
    health: str
    consent: str = "full"


def check_format(data: Path) -> None:
    """Refuse a directory written by a newer version; raises Failure."""
    if (found := _format(data)) > FORMAT:
        raise Failure(
            f"{data} has format {found}, and this version knows {FORMAT}: upgrade heliograph"
        )


def prepare(data: Path) -> None:
    """Make the directory, or bring it to this version's format; raises Failure."""
    make_directory(data, 0o750)
    check_format(data)
    for number in range(_format(data), FORMAT):
        if step := MIGRATIONS.get(number):
            step(data)
    if not (data / "format").exists() or _format(data) < FORMAT:
        write_whole(data / "format", b"%d\n" % FORMAT)


def _format(data: Path) -> int:
    try:
        text = (data / "format").read_text()
    except FileNotFoundError:
        return FORMAT
    if not text.strip().isdigit():
        raise Failure(f"{data / 'format'} holds no number: is this a data directory of heliograph?")
    return int(text)


def lock(data: Path, command: str) -> int:
    """Take the directory for `up` or `collect` until the descriptor is closed; raises Failure.

    Two of them would move the same positions.
    """
    descriptor = os.open(data / "up.lock", os.O_RDWR | os.O_CREAT, 0o640)
    for _ in range(10):  # `owner` may be looking at this very moment
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        time.sleep(0.02)
    else:
        pid, other = _holder(descriptor)
        os.close(descriptor)
        raise Failure(f"`heliograph {other}` already runs on {data} (pid {pid})")
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()} {command}\n".encode(), 0)
    return descriptor


def _holder(descriptor: int) -> tuple[str, str]:
    pid, _, command = os.pread(descriptor, 40, 0).decode("ascii", "replace").strip().partition(" ")
    return pid, command or "up"


def owner(data: Path) -> tuple[str, str]:
    """Which command moved the positions last, and its process id; "" for none, or none now."""
    try:
        descriptor = os.open(data / "up.lock", os.O_RDONLY)
    except FileNotFoundError:
        return "", ""
    try:
        pid, command = _holder(descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return command, pid
    finally:
        os.close(descriptor)
    return command, ""


def is_up(data: Path) -> bool:
    """Whether an `up` runs on the directory."""
    command, pid = owner(data)
    return command == "up" and bool(pid)


def running(data: Path) -> Running | None:
    """Where the `up` of a directory answers; None if none runs or it is just starting."""
    try:
        found = msgspec.json.decode((data / "up.json").read_bytes(), type=Running)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
    # Else it is of one that was killed.
    return found if owner(data) == ("up", str(found.pid)) else None


def announce(data: Path, addresses: Running) -> None:
    """Write DATA/up.json."""
    write_whole(data / "up.json", msgspec.json.format(msgspec.json.encode(addresses)) + b"\n")


def withdraw(data: Path) -> None:
    """Remove DATA/up.json."""
    with contextlib.suppress(FileNotFoundError):
        (data / "up.json").unlink()
