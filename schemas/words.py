"""The words and formulas of words.sql, and their place in other SQL."""

import re
from functools import cache
from importlib import resources
from typing import Final

_PIECE: Final = re.compile(r"^-- \{(\w+)\}.*\n(?:--.*\n)*", re.MULTILINE)


@cache
def pieces() -> dict[str, str]:
    """Each piece by its name."""
    text = (resources.files("schemas") / "words.sql").read_text("utf-8")
    _, *found = _PIECE.split(text)
    return {name: body.strip() for name, body in zip(found[::2], found[1::2], strict=True)}


def spelled(text: str) -> str:
    """SQL with each {name} of a piece replaced by it."""
    for name, piece in pieces().items():
        text = text.replace(f"{{{name}}}", piece)
    return text


@cache
def questions() -> dict[str, str]:
    """The text of each schemas/queries/NAME.sql by its name, ready to be asked."""
    files = (resources.files("schemas") / "queries").iterdir()
    return {
        file.name.removesuffix(".sql"): spelled(file.read_text("utf-8"))
        .replace("{database}.", "")
        .strip()
        for file in files
        if file.name.endswith(".sql")
    }
