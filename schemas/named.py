"""Whether a text names a recipient: their key stands in it by itself, as lines of JSON write it."""

import json
from collections.abc import Iterable


def pattern(recipients: Iterable[str]) -> str:
    """A regular expression (RE2) of the texts that name any of them."""
    written = sorted({text for name in recipients for text in _written(name)})
    return "|".join(rf"(^|[^0-9A-Za-z_]){_literal(text)}($|[^0-9A-Za-z_])" for text in written)


def _written(name: str) -> set[str]:
    return {name, *(json.dumps(name, ensure_ascii=ascii)[1:-1] for ascii in (True, False))}


def _literal(text: str) -> str:
    return "".join(
        c if c.isalnum() or c in "_-" or not c.isascii() else f"\\x{ord(c):02x}" for c in text
    )
