"""A client that keeps to a rate whatever happens to the server, and logs each answer it received.

`python -m loadtest.faults.client PORT PATHS LOG RATE FIRST MOST` asks for the paths of a file in
turn, request n with a user agent that ends in n, until its stdin ends. Of ten requests one comes on
a connection of its own, the others on kept ones; where MOST are open, what finds none free is not
sent. LOG gets a RECORD for each 200 with the pixel, as
soon as it is there. At the end it prints a line of JSON: `Told`.
"""

import errno
import gc
import json
import os
import select
import socket
import struct
import sys
import time
from collections import deque
from pathlib import Path
from typing import Final

#: The request's number, when it was due (monotonic seconds), and how long its answer then took.
RECORD: Final = struct.Struct("<Qdd")
AGENT: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.4.0"
PIXEL_END: Final = bytes.fromhex("02024401003b")
_FRESH_ONE_IN: Final = 10
_PATIENCE: Final = 5.0  # seconds until a request counts as not answered
_BEHIND: Final = 1.0  # seconds; what should have been sent earlier is not sent
_TICK: Final = 0.001


class Asked:
    """A connection, and the request on it."""

    __slots__ = ("due", "fresh", "number", "seen", "sock", "unsent")

    def __init__(self, sock: socket.socket, fresh: bool) -> None:
        self.sock, self.fresh = sock, fresh
        self.number, self.due, self.seen, self.unsent = -1, 0.0, b"", b""


class Client:
    """All connections."""

    def __init__(self, port: int, paths: list[str], log: int, first: int, most: int) -> None:
        self._port, self._paths, self._log, self._next = port, paths, log, first
        self._most = most
        self._poll = select.epoll()
        self._all: dict[int, Asked] = {}
        # Taken in turn: or a few would carry all, and a worker at a time nearly all of the load.
        self._free: deque[Asked] = deque()
        self._records: list[bytes] = []
        self.told = dict.fromkeys(
            ("sent", "answered", "wrong", "refused", "broken", "late", "full", "unsent"), 0
        )

    def run(self, rate: float) -> None:
        """Until stdin ends, and then until all is answered."""
        clock = time.monotonic
        self._poll.register(0, select.EPOLLIN | select.EPOLLHUP)
        began, turns, looked = clock(), 0, clock()
        ended = 0.0
        while not ended or (clock() - ended < _PATIENCE + 1 and self._waiting()):
            now = clock()
            if not ended:
                due = int((now - began) * rate)
                skipped = max(0, due - turns - int(_BEHIND * rate))
                self.told["unsent"] += skipped
                turns += skipped
                for turn in range(turns, due):
                    self._ask(began + turn / rate, turn % _FRESH_ONE_IN == 0)
                turns = due
            if not self._receive():
                ended = clock()
            if now - looked > 0.1:
                looked = now
                self._look(now)
        self._look(clock())

    def _waiting(self) -> bool:
        return any(asked.number >= 0 for asked in self._all.values())

    def _ask(self, due: float, fresh: bool) -> None:
        asked = self._free.popleft() if self._free and not fresh else self._connect(fresh)
        if asked is None:
            return
        number, self._next = self._next, self._next + 1
        asked.number, asked.due = number, due
        path = self._paths[number % len(self._paths)]
        end = "Connection: close\r\n\r\n" if fresh else "\r\n"
        head = f"GET {path} HTTP/1.1\r\nHost: faults\r\nAccept: image/*\r\n"
        asked.unsent = f"{head}User-Agent: {AGENT} (faults) {number}\r\n{end}".encode()
        self.told["sent"] += 1
        if asked.seen != b"connecting":
            self._send(asked)

    def _connect(self, fresh: bool) -> Asked | None:
        if len(self._all) >= self._most:  # none of them was answered
            self.told["full"] += 1
            return None
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = sock.connect_ex(("127.0.0.1", self._port))
        if code not in (0, errno.EINPROGRESS):
            self.told["refused"] += 1
            sock.close()
            return None
        asked = Asked(sock, fresh)
        asked.seen = b"connecting"
        self._all[sock.fileno()] = asked
        self._poll.register(sock.fileno(), select.EPOLLOUT)
        return asked

    def _send(self, asked: Asked) -> None:
        try:
            asked.sock.send(asked.unsent)
        except OSError:
            self._drop(asked, "broken")

    def _receive(self) -> bool:
        """Take what is there; False when stdin has ended."""
        going = True
        for fd, _ in self._poll.poll(_TICK):
            if fd == 0:
                going = bool(os.read(0, 4096))
                if not going:
                    self._poll.unregister(0)
            elif (asked := self._all.get(fd)) is None:
                continue
            elif asked.seen == b"connecting":
                self._connected(asked)
            else:
                self._read(asked)
        return going

    def _connected(self, asked: Asked) -> None:
        if asked.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._drop(asked, "refused")
            return
        asked.seen = b""
        self._poll.modify(asked.sock.fileno(), select.EPOLLIN)
        self._send(asked)

    def _read(self, asked: Asked) -> None:
        try:
            data = asked.sock.recv(8192)
        except OSError:
            data = b""
        asked.seen += data
        if asked.seen.endswith(PIXEL_END):
            self._answered(asked)
        elif not data:
            self._drop(asked, "broken")

    def _answered(self, asked: Asked) -> None:
        good = asked.seen.startswith(b"HTTP/1.1 200 ") and asked.number >= 0
        self.told["answered" if good else "wrong"] += 1
        if good:
            late = time.monotonic() - asked.due
            self._records.append(RECORD.pack(asked.number, asked.due, late))
        last = b"\r\nConnection: close\r\n" in asked.seen
        asked.number, asked.seen = -1, b""
        if last or asked.fresh:
            self._drop(asked, "")
        else:
            self._free.append(asked)

    def _drop(self, asked: Asked, why: str) -> None:
        if asked.number >= 0:
            self.told[why] += 1
        elif asked in self._free:
            self._free.remove(asked)
        self._all.pop(asked.sock.fileno(), None)
        asked.sock.close()

    def _look(self, now: float) -> None:
        """Write the log, and give up what takes too long."""
        os.write(self._log, b"".join(self._records))
        self._records.clear()
        for asked in list(self._all.values()):
            if asked.number >= 0 and now - asked.due > _PATIENCE:
                self._drop(asked, "late")


def main() -> None:
    """Entry point."""
    _, port, paths, log, rate, first, most = sys.argv
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    listed = Path(paths).read_text().split()
    client = Client(int(port), listed, descriptor, int(first), int(most))
    gc.disable()
    began = time.monotonic()
    client.run(float(rate))
    print(json.dumps(client.told | {"seconds": time.monotonic() - began}), flush=True)


if __name__ == "__main__":
    main()
