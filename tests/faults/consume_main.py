"""`consumer.main.serve` as a process: settings line on stdin, whose end kills it (see tests).

Its session is short, so that the group misses a killed one soon.
"""

import os
import sys
import threading

from consumer import kafka_source
from consumer.main import serve
from consumer.settings import ConsumerSettings
from schemas.settings import decode


def _die_with_parent() -> None:
    os.read(0, 1)
    os._exit(9)


if __name__ == "__main__":
    given = decode(ConsumerSettings, sys.stdin.buffer.readline())
    kafka_source.SESSION_MS = 3_000
    threading.Thread(target=_die_with_parent, daemon=True).start()
    sys.exit(serve(given))
