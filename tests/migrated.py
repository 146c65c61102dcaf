"""A migrated store to begin with: to make one takes a hundred statements, to copy one nothing."""

import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
_MAKE = """
import sys
from pathlib import Path
from consumer.migrate import migrate
from consumer.store import open_embedded
client = open_embedded(Path(sys.argv[1]))
migrate(client, "heliograph")
client.close()
"""


def migrated(path: Path) -> None:
    """Put a store at a path, as the migrations make it."""
    shutil.copytree(Path(_made().name, "store"), path, symlinks=True)


@cache
def _made() -> "tempfile.TemporaryDirectory[str]":
    """Made by another process: this one may have a store open, and can have one only."""
    found = tempfile.TemporaryDirectory(prefix="migrated-")
    command = [sys.executable, "-c", _MAKE, str(Path(found.name, "store"))]
    subprocess.run(command, cwd=ROOT, check=True)
    return found
