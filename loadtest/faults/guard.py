"""Ends what experiments have started, when `make faults` is killed and cannot do it itself.

`python -m loadtest.faults.guard TOKEN` waits for the end of its stdin, which is its parent's, and
then kills every process that bears the token in its environment.
"""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

#: No name of Heliograph's own: those are taken out of environments.
_MARK: Final = "FAULTS_RUN"
_ROUNDS: Final = 20


def watch_over() -> None:
    """Have all that this process starts from now on end with it, however it ends."""
    token = secrets.token_hex(8)
    subprocess.Popen(
        [sys.executable, "-m", "loadtest.faults.guard", token],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    os.environ[_MARK] = token


def bearing(token: str) -> list[int]:
    """The processes that bear a token; zombies not."""
    mark, found = f"{_MARK}={token}".encode(), []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def main() -> None:
    """Entry point of the guard."""
    sys.stdin.buffer.read()
    for _ in range(_ROUNDS):  # what is being started meanwhile is found in the next one
        for pid in bearing(sys.argv[1]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


if __name__ == "__main__":
    main()
