"""Samples a worker of the edge: put this folder on PYTHONPATH, see ../profile.py.

From SIGUSR1 on, every `_EVERY` seconds of its CPU time, the worker notes where it is. Python looks
for signals where a function begins and where one in C returns: what comes in between is the
caller's, and at a callback's first line it is the loop's own work (polling, reading).
"""

import atexit
import json
import os
import signal
import sys
from collections import Counter

_EVERY = 0.002


def _install() -> None:
    seen: Counter[str] = Counter()

    def start(*_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, _EVERY, _EVERY)

    def note(_: int, frame) -> None:
        loop = ""
        while frame.f_back and frame.f_lineno == frame.f_code.co_firstlineno:
            if frame.f_back.f_code.co_filename.endswith("runners.py"):
                loop = "loop"
                break
            frame = frame.f_back
        code = frame.f_code
        seen["\0".join((code.co_filename, code.co_qualname, str(frame.f_lineno or 0), loop))] += 1

    def dump() -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        with open(os.environ["HELIOGRAPH_SAMPLES"], "w") as file:  # noqa: PTH123
            json.dump(seen, file)

    signal.signal(signal.SIGUSR1, start)
    signal.signal(signal.SIGPROF, note)
    atexit.register(dump)


if any("collector.worker" in word for word in sys.orig_argv):
    _install()
