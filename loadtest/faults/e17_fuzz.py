"""Bytes that nobody would send, to both paths of the edge, and journals that anything happened to.

The tests that hypothesis drives are run over and over, each time with another seed. What they find
is told with the bytes that did it, and is to be kept as a test.
"""

import subprocess
import sys
import time
from typing import Final

from loadtest.faults.run import ROOT
from loadtest.faults.trial import Trial

_TESTS: Final = (
    "tests/faults/test_journal_fuzz.py",
    "tests/integration/test_two_paths.py::test_the_two_agree",
    "tests/integration/test_two_paths.py::test_what_is_hidden_in_a_body_is_no_request",
)


def run(trial: Trial) -> None:
    """Each for a time; in CI the first alone, once, for all run there as tests."""
    seconds = trial.size("17 seconds")
    for test in _TESTS if seconds else _TESTS[:1]:
        ends = time.monotonic() + seconds
        while True:
            seed = trial.chance.randrange(1 << 32)
            words = [sys.executable, "-m", "pytest", "-q", test, f"--hypothesis-seed={seed}"]
            done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
            trial.fault(" passed" in done.stdout or " failed" in done.stdout, "the test")
            if done.returncode:
                trial.say(done.stdout[-5000:])
                trial.hold(False, f"found with seed {seed}: {test}")
                break
            if time.monotonic() > ends:
                break
