"""Ports for servers that cannot be told to take port 0."""

import os
import random
import socket
from collections.abc import Iterator
from itertools import cycle, islice

_FIRST, _SHARE = 20_000, 1_500


def _ports() -> Iterator[int]:
    """The ports that this process of xdist has to itself, in any order: one is free until its
    server is up, and must not be found again meanwhile, here or by another process.
    """
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
    first = _FIRST + number * _SHARE
    return cycle(random.SystemRandom().sample(range(first, first + _SHARE), _SHARE))


_next = _ports()


def free_port() -> int:
    """A free loopback port below the ephemeral range.

    While a server is down its port must not be given to a client's outgoing connection: a
    reconnecting client could even connect to itself.
    """
    for port in islice(_next, 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port between 20000 and 32000")
