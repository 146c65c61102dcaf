"""How a consumer process is told to stop: by a signal, or by the end of its parent."""

import asyncio
import os
import signal

_STDIN = 0


def stop_requests(*, watch_stdin: bool = True) -> asyncio.Event:
    """An event that is set on SIGTERM, SIGINT, or when standard input ends (the parent is gone)."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def readable() -> None:
        if not os.read(_STDIN, 4096):
            loop.remove_reader(_STDIN)
            stop.set()

    if watch_stdin:
        loop.add_reader(_STDIN, readable)
    return stop
