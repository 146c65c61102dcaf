"""A machine's crash, as far as it can be shown: file operations are recorded as they are made, and
replayed up to any of them, with any of those not yet synced lost, cut, zeroed or come all the same.

What POSIX promises is modelled, not what a good file system adds: a file's bytes are safe once an
fsync of it has begun after them and has ended, a name once one of its directory has.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

#: What may become of an operation that was not synced.
FOLDER = b"/"
FATES = ("lost", "whole", "part", "zeros")


class Op(NamedTuple):
    """One operation: on bytes of a file or names of a directory, both known by a number, or a note
    of the test's own. `since`: how many operations there were when a sync began.
    """

    kind: str
    node: int
    at: int = 0
    data: bytes = b""
    names: tuple[str | None, str | None] = (None, None)  # the one that goes, the one that comes
    since: int = 0
    when: float = 0.0


class Recorder:
    """The operations under a root, in the order of their ends. Thread-safe."""

    def __init__(self, root: Path) -> None:
        self.ops: list[Op] = []
        self._root = str(root)
        self._nodes = {self._root: 0}
        self._open: dict[int, tuple[int, bool]] = {}
        self._lock = threading.RLock()
        self._real = {name: getattr(os, name) for name in PATCHED}

    def note(self, kind: str, number: int) -> None:
        """Put something between the operations."""
        with self._lock:
            self.ops.append(Op(kind, -1, number, when=time.monotonic()))

    def _node(self, path: str) -> int:
        return self._nodes.setdefault(path, len(self._nodes))

    def _name(self, path: str, *, gone: str | None = None, what: bytes = b"") -> None:
        """A name that comes, or takes the place of another in the same directory."""
        parent, name = os.path.split(path)
        old = os.path.basename(gone) if gone else None
        node = self._node(path)
        self.ops.append(Op("name", self._nodes[parent], node, what, names=(old, name)))

    def open(self, path: Any, flags: int, *rest: Any, **more: Any) -> int:
        name = os.fspath(path)
        with self._lock:
            new = name.startswith(self._root) and not os.path.exists(name)
            fd: int = self._real["open"](path, flags, *rest, **more)
            if name.startswith(self._root):
                self._open[fd] = self._node(name), bool(flags & os.O_APPEND)
                if new:
                    self._name(name)
        return fd

    def close(self, fd: int) -> None:
        with self._lock:
            self._open.pop(fd, None)
            self._real["close"](fd)

    def write(self, fd: int, data: bytes) -> int:
        with self._lock:
            known = self._open.get(fd)
            at = os.fstat(fd).st_size if known and known[1] else 0
            done: int = self._real["write"](fd, data)
            if known:
                self.ops.append(Op("write", known[0], at, bytes(data[:done])))
        return done

    def pwrite(self, fd: int, data: bytes, at: int) -> int:
        with self._lock:
            done: int = self._real["pwrite"](fd, data, at)
            if fd in self._open:
                self.ops.append(Op("write", self._open[fd][0], at, bytes(data[:done])))
        return done

    def ftruncate(self, fd: int, size: int) -> None:
        with self._lock:
            self._real["ftruncate"](fd, size)
            if fd in self._open:
                self.ops.append(Op("cut", self._open[fd][0], size))

    def fsync(self, fd: int) -> None:
        self._sync("fsync", fd)

    def fdatasync(self, fd: int) -> None:
        self._sync("fdatasync", fd)

    def _sync(self, name: str, fd: int) -> None:
        since = len(self.ops)
        self._real[name](fd)
        with self._lock:
            if fd in self._open:
                node, now = self._open[fd][0], time.monotonic()
                self.ops.append(Op("sync", node, since=since, when=now))

    def mkdir(self, path: Any, *rest: Any, **more: Any) -> None:
        with self._lock:
            self._real["mkdir"](path, *rest, **more)
            if (name := os.fspath(path)).startswith(self._root):
                self._name(name, what=FOLDER)

    def rename(self, old: Any, new: Any, **more: Any) -> None:
        with self._lock:
            self._real["rename"](old, new, **more)
            old, new = os.fspath(old), os.fspath(new)
            for path in [p for p in self._nodes if p == old or p.startswith(f"{old}/")]:
                self._nodes[new + path[len(old) :]] = self._nodes.pop(path)
            self._name(new, gone=old)


PATCHED = ("open", "close", "write", "pwrite", "ftruncate", "fsync", "fdatasync", "mkdir", "rename")


@contextmanager
def recording(root: Path) -> Iterator[Recorder]:
    """Record what is done by `os` under a directory that is there."""
    recorder = Recorder(root)
    with pytest.MonkeyPatch.context() as patch:
        for name in PATCHED:
            patch.setattr(os, name, getattr(recorder, name))
        yield recorder


def pending(ops: list[Op]) -> list[int]:
    """Which operations are not safe yet where these are all there were."""
    safe: dict[int, int] = {}
    for op in ops:
        if op.kind == "sync":
            safe[op.node] = max(safe.get(op.node, 0), op.since)
    changes = ("write", "cut", "name")
    return [n for n, op in enumerate(ops) if op.kind in changes and n >= safe.get(op.node, 0)]


def fates(ops: list[Op], random: Random) -> Iterator[dict[int, str]]:
    """What may become of those: all lost, none, one alone of each, and some at random."""
    waiting = pending(ops)
    yield dict.fromkeys(waiting, "lost")
    yield {}
    for other in ("lost", "whole"):
        for one in waiting[-5:]:
            fate = "part" if other == "whole" else "lost"
            yield {n: fate if n == one else other for n in waiting}
    for _ in range(4):
        yield {n: random.choice(FATES) for n in waiting}


def replay(ops: list[Op], fate: dict[int, str], root: Path, random: Random) -> None:
    """Make what is on the disk afterwards."""
    files: dict[int, bytearray] = {}
    names: dict[int, dict[str, int]] = {}
    for n, op in enumerate(ops):
        what = fate.get(n, "whole")
        if what == "lost" or op.kind not in ("write", "cut", "name"):
            continue
        if op.kind == "name":
            entries = names.setdefault(op.node, {})
            old, new = op.names
            if old is not None:
                entries.pop(old, None)
            assert new is not None
            entries[new] = op.at
        elif op.kind == "cut":
            del files.setdefault(op.node, bytearray())[op.at :]
        else:
            data = op.data
            if what == "part":
                data = data[: random.randrange(len(data))]
            elif what == "zeros":
                data = bytes(len(data))
            _put(files.setdefault(op.node, bytearray()), op.at, data)
    folders = {op.at for op in ops if op.data == FOLDER}
    _make(root, 0, names, files, folders)


def _put(content: bytearray, at: int, data: bytes) -> None:
    content.extend(bytes(max(0, at + len(data) - len(content))))
    content[at : at + len(data)] = data


def _make(
    path: Path,
    node: int,
    names: dict[int, dict[str, int]],
    files: dict[int, bytearray],
    folders: set[int],
) -> None:
    path.mkdir(exist_ok=True)
    for name, inner in names.get(node, {}).items():
        if inner in folders:
            _make(path / name, inner, names, files, folders)
        else:
            (path / name).write_bytes(files.get(inner, b""))
