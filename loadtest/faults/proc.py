"""What /proc says of processes."""

import re
from collections.abc import Iterable
from pathlib import Path


def state(pid: int) -> str:
    """The letter of a process's state, such as T for stopped; "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def memory(pids: Iterable[int]) -> int:
    """The resident bytes of processes together."""
    total = 0
    for pid in pids:
        try:
            found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        except OSError:
            continue
        total += int(found[1]) * 1024 if found else 0
    return total


def descriptors(pids: Iterable[int]) -> int:
    """The open descriptors of processes together."""
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids)
