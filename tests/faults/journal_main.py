"""Write a journal under load until killed: `python -m tests.faults.journal_main ROOT`.

Each line on stdout is a journal's name and a seq up to which everything was appended.
"""

import itertools
import sys
import threading
import time
from pathlib import Path

from collector.journal import Journal
from tests.faults.load import body, new_journal


def main(root: Path, stop: threading.Event) -> None:
    """Groups of all sizes; now and then the journal is sealed and another begun."""
    for _ in itertools.count():
        journal = Journal(root, new_journal(), time.time, segment_bytes=1 << 20)
        for turn in range(400):
            assert journal.append([body(turn + n) for n in range(1 + turn * 7 % 60)])
            print(journal.id, journal.next_seq - 1, flush=True)
            time.sleep(0.005)
            if stop.is_set():
                journal.close()
                return
        journal.close()


if __name__ == "__main__":
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    main(Path(sys.argv[1]), ended)
