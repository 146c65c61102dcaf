"""How a consumer process is told to stop: by a signal, or by the end of its parent."""

import asyncio
import os
import signal
import threading
from typing import Final

_STDIN: Final = 0
#: So long after it was told to stop the process ends, whatever still hangs, in seconds. Being
#: killed at any moment is safe.
_LAST: Final = 9.5


def stop_requests(*, watch_stdin: bool = True) -> asyncio.Event:
    """An event that is set on SIGTERM, SIGINT, or when standard input ends (the parent is gone)."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        if not stop.is_set():
            stop.set()
            last = threading.Timer(_LAST, os._exit, [1])
            last.daemon = True
            last.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)

    def readable() -> None:
        if not os.read(_STDIN, 4096):
            loop.remove_reader(_STDIN)
            end()

    if watch_stdin:
        loop.add_reader(_STDIN, readable)
    return stop
