"""Command-line options, declared by a settings struct's fields and nowhere else."""

from argparse import ArgumentParser, BooleanOptionalAction
from typing import Any, Literal, get_origin

import msgspec

from schemas.settings import Settings, is_secret, option, variable


def add(
    parser: ArgumentParser,
    *kinds: type[Settings],
    only: frozenset[str] | None = None,
    skip: frozenset[str] = frozenset(),
) -> None:
    """Give a parser one option a field; `--help` names its variable and its default.

    Left out, an option is None, so that the variable and then the default hold. A secret gets no
    option, for process lists show them: the help names its variable only.
    """
    seen = set(skip)
    secrets = []
    for field in (field for kind in kinds for field in msgspec.structs.fields(kind)):
        if field.name in seen or (only is not None and field.name not in only):
            continue
        seen.add(field.name)
        if is_secret(field.name):
            secrets.append(f"{variable(field.name)} ({_description(field)})")
        else:
            _add(parser, field)
    if secrets:
        parser.epilog = "\n".join(filter(None, (parser.epilog, f"also read: {', '.join(secrets)}")))


def _add(parser: ArgumentParser, field: Any) -> None:
    default = field.default
    shown = ",".join(default) if isinstance(default, tuple) else default
    tail = f"; default: {shown}" if shown not in ("", None, False) else ""
    text = f"{_description(field)} [{variable(field.name)}{tail}]".replace("%", "%%")
    if getattr(field.type, "__origin__", field.type) is bool:
        parser.add_argument(
            option(field.name), action=BooleanOptionalAction, default=None, help=text
        )
        return
    parser.add_argument(option(field.name), metavar=_metavar(field), default=None, help=text)


def _description(field: Any) -> str:
    notes = getattr(field.type, "__metadata__", ())
    return next((note.description for note in notes if note.description), "")


def choices(field: Any) -> tuple[str, ...]:
    """The values that a setting is one of; none where any will do."""
    kind = getattr(field.type, "__origin__", field.type)
    return kind.__args__ if get_origin(kind) is Literal else ()


def _metavar(field: Any) -> str:
    if named := choices(field):
        return "|".join(named)
    kind = str(getattr(field.type, "__origin__", field.type))
    if "Path" in kind:
        return "DIR" if field.name == "data" else "FILE"
    if "int" in kind or "float" in kind:
        return "N"
    return "URL" if "url" in field.name or field.name in ("clickhouse", "remote") else "TEXT"
