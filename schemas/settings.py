"""How a side's settings are declared once and read once.

A side declares a frozen `Settings` struct: a field is a setting, its default the default, its
`Meta(description=…)` the help, its constraints the validation. `load` takes command-line options
first, then `HELIOGRAPH_<FIELD>` variables, then defaults. Only entry points call it.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

import msgspec

PREFIX = "HELIOGRAPH_"


class SettingsError(Exception):
    """A setting has an unusable value; the message names the variable and the reason."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every side's settings: immutable, typed, complete at start."""

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Raise ValueError where fields contradict each other."""


S = TypeVar("S", bound=Settings)


def _decode(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value).expanduser()
    raise NotImplementedError(f"no setting can be a {kind}")


def encode(settings: Settings) -> bytes:
    """One JSON line, as a parent hands its settings to a child."""
    return msgspec.json.encode(settings, enc_hook=str) + b"\n"


def decode(kind: type[S], line: bytes) -> S:
    """The inverse of `encode`."""
    return msgspec.json.decode(line, type=kind, dec_hook=_decode)


def variable(field: str) -> str:
    """The environment variable of a field."""
    return PREFIX + field.upper()


def option(field: str) -> str:
    """The command-line option of a field."""
    return "--" + field.replace("_", "-")


def is_secret(field: str) -> bool:
    """Whether a field must not be an option (process lists show them) nor be quoted."""
    return field.endswith(("password", "api_key"))


def _is_tuple(field: Any) -> bool:
    kind = field.type
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return get_origin(kind) is tuple


def load(kind: type[S], env: Mapping[str, str], options: Mapping[str, Any] | None = None) -> S:
    """Settings from options over environment over defaults; raises `SettingsError`."""
    raw: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        value = (options or {}).get(field.name)
        if value is None:
            value = env.get(variable(field.name))
        if value is None or value == "":
            continue
        if _is_tuple(field) and isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        raw[field.name] = str(value) if isinstance(value, Path) else value
    try:
        return msgspec.convert(raw, kind, strict=False, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise SettingsError(_explain(kind, str(error), raw, options or {})) from None


def _explain(
    kind: type[Settings], message: str, raw: Mapping[str, Any], options: Mapping[str, Any]
) -> str:
    """msgspec's `… - at `$.field`` message in the user's words: which setting, and its value."""
    text, _, place = message.partition(" - at `$.")
    name = re.split(r"[`\[]", place)[0]
    if not name:
        return text
    field = next(f for f in msgspec.structs.fields(kind) if f.name == name)
    choices = getattr(getattr(field.type, "__origin__", None), "__args__", ())
    if text.startswith("Invalid enum value") and choices:
        text = f"not one of {', '.join(map(str, choices))}"
    given = option(name) if options.get(name) is not None else variable(name)
    shown = "" if is_secret(name) else f" {str(raw[name])!r}"
    return f"{given}{shown}: {text[0].lower()}{text[1:]}"
