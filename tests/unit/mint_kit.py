"""What the tests of minting share."""

import json
from pathlib import Path
from typing import Any

from heliograph.cli import main
from schemas import keyring
from schemas.journal.directory import is_sealed, journals
from schemas.journal.reader import Reader

URL = "https://px.example.org"


def no_damage(journal: Path, size: int, kept: Path) -> None:
    raise AssertionError(f"{size} damaged bytes in {journal}")


def recorded(data: Path) -> list[dict[str, Any]]:
    """All events in the journals of a data directory, in order; each journal must be sealed."""
    events = []
    for journal in journals(data / "journal"):
        assert is_sealed(journal)
        for frame in Reader(journal, 1, no_damage).read(1 << 30):
            events += [json.loads(line) for line in frame.block.splitlines()]
    return events


def opened(data: Path, url: str) -> Any:
    """What the token of a pixel's or link's URL says, and its key."""
    ring = keyring.load(data / "keys.json")
    kind, _, name = url.removeprefix(URL).strip("/").partition("/")
    purpose = {"o": "open", "c": "click", "optout": "optout"}[kind]
    return ring.unseal(purpose, name.removesuffix(".gif"))  # type: ignore[arg-type]


def heliograph(*argv: object) -> int:
    """Run a command in this process; its exit code, also where argparse exits."""
    try:
        return main([str(word) for word in argv])
    except SystemExit as done:
        return int(done.code or 0)
