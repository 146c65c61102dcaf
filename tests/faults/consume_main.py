"""`consumer.main.serve` as a process: settings line on stdin, whose end kills it (see tests)."""

import os
import sys
import threading

from consumer.main import serve
from consumer.settings import ConsumerSettings
from schemas.settings import decode


def _die_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(9)


if __name__ == "__main__":
    given = decode(ConsumerSettings, sys.stdin.buffer.readline())
    threading.Thread(target=_die_with_parent, daemon=True).start()
    sys.exit(serve(given))
