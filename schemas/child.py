"""What every child process of the supervisor does: settings from stdin, an end by signal or EOF.

The parent writes one line of settings and keeps the pipe open: when it ends, the parent has died
without a word, and the child drains as it would on SIGTERM.
"""

import asyncio
import logging
import os
import signal
import sys
import threading
from typing import TypeVar

from schemas.settings import Settings, decode

S = TypeVar("S", bound=Settings)


def start_logging() -> None:
    """Log to stderr, one line a record."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s[%(process)d]: %(message)s",
    )


def read_settings(kind: type[S], stdin: int = 0) -> S:
    """The settings line that the parent has written; EOFError if it died before."""
    line = bytearray()
    while not line.endswith(b"\n"):
        part = os.read(stdin, 65_536)
        if not part:
            raise EOFError("the parent process went away before it gave any settings")
        line += part
    return decode(kind, bytes(line))


def end_of_service(stdin: int | None = 0, at_most: float | None = None) -> asyncio.Event:
    """An event that is set on SIGTERM or SIGINT, and when the parent dies (`stdin` ends).

    For a process that may be killed at any moment: `at_most` seconds later it ends by force,
    whatever still hangs.
    """
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def end() -> None:
        if at_most is not None and not ended.is_set():
            last = threading.Timer(at_most, os._exit, [1])
            last.daemon = True
            last.start()
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)

    def readable(stdin: int) -> None:
        if not os.read(stdin, 4096):
            loop.remove_reader(stdin)
            end()

    if stdin is not None:
        loop.add_reader(stdin, readable, stdin)
    return ended
