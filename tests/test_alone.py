"""Who gets a second chance, and that it is told."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ALONE = Path(__file__).with_name("alone.py")
NEVER = "def test_never(): assert False"
#: So many tests that fail in the first run and not in the second.
ONCE = """
from pathlib import Path
import pytest
@pytest.mark.parametrize("n", range({}))
def test_once(n):
    seen = Path(f"seen-{{n}}")
    found = seen.exists()
    seen.touch()
    assert found
"""


@pytest.mark.parametrize(
    ("place", "text", "options", "code", "runs"),
    [
        ("e2e", ONCE.format(3), ["-p", "xdist", "-n", "2"], 0, 2),
        ("e2e", ONCE.format(4), [], 1, 1),
        ("e2e", NEVER, [], 1, 2),
        ("unit", ONCE.format(1), [], 1, 1),
    ],
    ids=["three that pass alone", "too many", "one that fails alone too", "a unit test"],
)
def test_a_second_chance(
    tmp_path: Path, place: str, text: str, options: list[str], code: int, runs: int
) -> None:
    (tmp_path / "pytest.ini").touch()
    folder = tmp_path / "tests" / place
    folder.mkdir(parents=True)
    (folder / "test_it.py").write_text(text)
    done = subprocess.run(
        [sys.executable, ALONE, *options, "tests"], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip
    assert done.returncode == code, done.stdout
    assert done.stdout.count("test session starts") == runs, done.stdout
    told = [line for line in done.stdout.splitlines() if "passed alone: " in line]
    names = [f"tests/e2e/test_it.py::test_once[{n}]" for n in range(3)]
    passed = [f"failed beside others, passed alone: {name}" for name in names]
    assert told == (passed if code == 0 else [])
