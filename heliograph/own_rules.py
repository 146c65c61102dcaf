"""The user's own rules, tried before a line runs by them."""

import subprocess
import sys

from heliograph.errors import Failure


def check(rules: str) -> None:
    """Raise Failure where the rules of a directory cannot be used, or a test of them does not hold.

    In a process of its own, for the engine that judges takes memory.
    """
    if not rules:
        return
    argv = (sys.executable, "-m", "heliograph.cli", "classify", "--rules", rules)
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise Failure(done.stderr.strip().removeprefix("heliograph: "))
