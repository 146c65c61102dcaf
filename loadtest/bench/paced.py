"""A client that keeps to a rate, whatever the server does, and says how late it was itself.

`python -m loadtest.bench.paced PORT FILE CONNECTIONS RATE SECONDS` sends the requests of a file of
`workload` evenly spaced, each on the connection that has waited longest, and prints a line of
JSON. A request's latency counts from when it was to be sent. It never sleeps: give it a core.
"""

import gc
import json
import select
import socket
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

from loadtest.bench.route import PIXEL
from loadtest.bench.workload import read

_TAIL, _OTHER_TAIL = PIXEL[-8:], b"\x00;"  # ours, and that of nginx
_PATIENCE = 20.0  # seconds after the last request was due


class Paced:
    """The connections, and what was seen on them."""

    def __init__(self, port: int, connections: int) -> None:
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._free: deque[int] = deque()
        self._due_at: dict[int, float] = {}
        self.latencies: list[float] = []
        self.late: list[float] = []
        self.refused = 0
        self.bytes = 0
        for _ in range(connections):
            sock = socket.create_connection(("127.0.0.1", port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
            self._sockets[sock.fileno()] = sock
            self._free.append(sock.fileno())
            self._poll.register(sock.fileno(), select.EPOLLIN)

    def run(self, requests: list[bytes], rate: float) -> float:
        """Send all; the seconds it took."""
        clock, free, due_at, sockets = time.perf_counter, self._free, self._due_at, self._sockets
        began = clock() + 0.01
        give_up = began + len(requests) / rate + _PATIENCE
        sent, total, short = 0, len(requests), began
        while sent < total or due_at:
            now = clock()
            if now > give_up:
                raise TimeoutError(f"{total - len(self.latencies)} requests were not answered")
            due = began + sent / rate
            if due <= now and free and sent < total:
                fd = free.popleft()
                due_at[fd] = due
                self.late.append(now - max(due, short))
                sockets[fd].send(requests[sent])
                sent += 1
            if not free:
                short = clock()  # until now the server had them all
            self._receive()
        return clock() - began

    def _receive(self) -> None:
        for fd, _ in self._poll.poll(0):
            data = self._sockets[fd].recv(4096)
            if not data:
                raise ConnectionError("the server closed a connection")
            if data.endswith((_TAIL, _OTHER_TAIL)):
                self.latencies.append(time.perf_counter() - self._due_at.pop(fd))
                self.refused += not data.startswith(b"HTTP/1.1 200")
                self._free.append(fd)
            self.bytes += len(data)


def _told(client: Paced, seconds: float) -> dict[str, Any]:
    waits, late = sorted(client.latencies), sorted(client.late)
    return {
        "answered": len(waits),
        "bytes": client.bytes,
        "seconds": seconds,
        "refused": client.refused,
        "p50": waits[len(waits) // 2],
        "p99": waits[len(waits) * 99 // 100],
        "worst": waits[-1],
        "late_p99": late[len(late) * 99 // 100],
    }


def main() -> None:
    """Entry point."""
    _, port, file, connections, rate, seconds = sys.argv
    requests = read(Path(file), int(float(rate) * float(seconds)))
    gc.disable()
    client = Paced(int(port), int(connections))
    print(json.dumps(_told(client, client.run(requests, float(rate)))), flush=True)


if __name__ == "__main__":
    main()
