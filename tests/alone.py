"""pytest, where the tests of real processes have a second chance: three test processes share two
cores, and what a machine that busy breaks is no fault of the product's. Run as a program.

Where at most three of those tests failed, and no other, they run once more, one after another.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

PLACES = ("tests/contract/", "tests/e2e/", "tests/faults/", "tests/integration/")
MOST = 3
FAILED = 1  # pytest's exit code


def failures(cache: Path) -> list[str]:
    """What failed in the run that had this cache."""
    found = cache / "v" / "cache" / "lastfailed"
    return sorted(json.loads(found.read_text())) if found.exists() else []


def main(arguments: list[str]) -> int:
    """Run pytest with these arguments; its exit code, or that of the second run."""
    with tempfile.TemporaryDirectory() as cache:  # of this run alone
        pytest = [sys.executable, "-m", "pytest", "-o", f"cache_dir={cache}"]
        code = subprocess.run([*pytest, *arguments]).returncode
        failed = failures(Path(cache))
        if code != FAILED or not failed or len(failed) > MOST:
            return code
        if not all(name.startswith(PLACES) for name in failed):
            return code
        print(f"{len(failed)} failed beside others, and run once more, alone", flush=True)
        if code := subprocess.run([*pytest, *failed]).returncode:
            return code
    for name in failed:
        print(f"failed beside others, passed alone: {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
