"""Where the command line reads the environment, and the settings that no other side has.

The other commands use the collector's and the consumer's settings, each with the options it needs.
"""

import os
from argparse import Namespace
from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar

from msgspec import Meta

from collector.settings import CollectorSettings
from schemas.settings import Settings, SettingsError, load, variable

S = TypeVar("S", bound=Settings)

KEYS: Final = frozenset(("data", "keys", "api_key_file"))
STORE: Final = frozenset(("data", "clickhouse", "database"))
MINT: Final = KEYS | {"public_url", "remote", "api_key"}


class MintSettings(CollectorSettings, frozen=True, kw_only=True):
    """How sends are minted and recorded: in a journal here, or by a collector elsewhere."""

    remote: Annotated[
        str, Meta(description="URL of a collector that mints and records instead of this machine")
    ] = ""
    api_key: Annotated[str, Meta(description="the API key of the remote collector")] = ""

    def check(self) -> None:
        """Raise ValueError where fields contradict each other."""
        super().check()
        if self.remote and not self.remote.startswith(("http://", "https://")):
            raise ValueError(f"remote {self.remote!r} is no http or https URL")


def read(kind: type[S], options: Namespace | Mapping[str, Any]) -> S:
    """Settings from options over the environment over defaults; raises SettingsError."""
    given = dict(vars(options) if isinstance(options, Namespace) else options)
    if given.get("data") is not None:  # who names a directory does not mean the environment's URL
        for url in ("clickhouse", "remote"):
            given[url] = given.get(url) or ""
    settings = load(kind, os.environ, given)
    data = getattr(settings, "data", None)
    if data and os.path.lexists(data) and not data.is_dir():
        raise SettingsError(f"{data} is not a directory (--data, {variable('data')})")
    return settings


def is_given(field: str, options: Namespace) -> bool:
    """Whether an option or a variable names a setting, be it as the default has it."""
    return getattr(options, field) is not None or bool(os.environ.get(variable(field)))
