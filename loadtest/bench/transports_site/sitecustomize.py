"""Gives a worker of the edge transports instead of sockets: see ../transports.py."""

import asyncio
import os
import sys


class _Server:
    """In the listener's place: the hot path's connections are protocols of a loop's transports."""

    def __init__(self, sock, hot) -> None:
        loop = asyncio.get_running_loop()
        if os.environ["TRANSPORTS"] == "aiofastnet":
            from aiofastnet import create_server

            made = create_server(loop, hot, sock=sock, backlog=1024)
        else:
            made = loop.create_server(hot, sock=sock, backlog=1024)
        self._starting = loop.create_task(made)

    def close(self) -> None:
        self._starting.result().close()


if any("collector.worker" in word for word in sys.orig_argv):
    import collector.listener

    collector.listener.Listener = _Server
