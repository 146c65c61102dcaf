"""Many open connections that ask once, wait, and ask again."""

import resource
import socket
import time
from pathlib import Path

from loadtest.bench.servers import LeftOut, Server
from loadtest.bench.workload import read

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_SPARE = 500  # descriptors and ports for all else


def memory_each(server: Server, file: Path, count: int, *, plain: bool = True) -> float:
    """Resident bytes of the server for each of `count` open connections, all of which are
    answered at their beginning and again after a while; not `plain`, with a query behind the path.
    Raises LeftOut, ConnectionError.
    """
    _allow(count)
    requests = read(file, 2 * count)
    if not plain:
        requests = [request.replace(b".gif ", b".gif?a ", 1) for request in requests]
    with socket.create_connection(("127.0.0.1", server.port)) as warm:
        for request in requests[:2000]:
            _ask(warm, request)
    time.sleep(1)
    before = server.memory()
    connections: list[socket.socket] = []
    try:
        for request in requests[:count]:
            connections.append(socket.create_connection(("127.0.0.1", server.port), timeout=10))
            _ask(connections[-1], request)
        time.sleep(1)
        used = server.memory() - before
        for connection, request in zip(connections, requests[count:], strict=True):
            _ask(connection, request)
        used = max(used, server.memory() - before)
    finally:
        for connection in connections:
            connection.close()
    return used / count


def _allow(count: int) -> None:
    """Raise the limit of descriptors, here and for what is started from here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count + _SPARE:
        raise LeftOut(f"{count:,} connections need as many descriptors, the limit is {hard:,}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + _SPARE), hard))
    low, high = map(int, _RANGE.read_text().split())
    if high - low < count + _SPARE:
        raise LeftOut(f"{count:,} connections need as many ports, there are {high - low:,}")


def _ask(connection: socket.socket, request: bytes) -> None:
    connection.sendall(request)
    answer = connection.recv(4096)
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise ConnectionError(f"answered {answer!r}")
