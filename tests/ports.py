"""Ports for servers that cannot be told to take port 0."""

import secrets
import socket


def free_port() -> int:
    """A free loopback port below the ephemeral range.

    While a server is down its port must not be given to a client's outgoing connection: a
    reconnecting client could even connect to itself.
    """
    for _ in range(100):
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port between 20000 and 32000")
