"""What the commands are told, and the one place where the command line reads the environment."""

import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from msgspec import Meta

from schemas.settings import Settings, load

S = TypeVar("S", bound=Settings)


class DataSettings(Settings, frozen=True, kw_only=True):
    """Where this machine's line lives."""

    data: Annotated[Path, Meta(description="the directory of keys, journal and store")] = Path(
        "data"
    )

    @property
    def journal(self) -> Path:
        """The directory of the journals."""
        return self.data / "journal"


class KeySettings(DataSettings, frozen=True, kw_only=True):
    """Where the secrets lie."""

    keys: Annotated[Path | None, Meta(description="the key file (default: DATA/keys.json)")] = None
    api_key_file: Annotated[
        Path | None, Meta(description="the file of the API key (default: DATA/api.key)")
    ] = None

    @property
    def key_file(self) -> Path:
        """The path of the key file."""
        return self.keys or self.data / "keys.json"

    @property
    def api_key_path(self) -> Path:
        """The path of the API key's file."""
        return self.api_key_file or self.data / "api.key"


class MintSettings(KeySettings, frozen=True, kw_only=True):
    """How sends are minted and recorded: in a journal here, or by a collector elsewhere."""

    public_url: Annotated[
        str,
        Meta(description="what every URL begins with, as the mails' readers see it (default: that "
             "of a running `up`, else http://127.0.0.1:8080)"),
    ] = ""  # fmt: skip
    remote: Annotated[
        str, Meta(description="URL of a collector that mints and records instead of this machine")
    ] = ""
    api_key: Annotated[str, Meta(description="the API key of the remote collector")] = ""

    def check(self) -> None:
        """Raise ValueError where a URL is none."""
        for name, url in (("public_url", self.public_url), ("remote", self.remote)):
            if url and not url.startswith(("http://", "https://")):
                raise ValueError(f"{name} {url!r} is no http or https URL")


class StoreSettings(DataSettings, frozen=True, kw_only=True):
    """Which store answers questions."""

    clickhouse: Annotated[
        str, Meta(description="URL of ClickHouse, with user and password, in place of DATA's store")
    ] = ""
    database: Annotated[
        str, Meta(description="database of the tables", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    ] = "heliograph"


def read(kind: type[S], options: Namespace | Mapping[str, Any]) -> S:
    """Settings from options over the environment over defaults; raises SettingsError."""
    given = dict(vars(options) if isinstance(options, Namespace) else options)
    if given.get("data") is not None:  # who names a directory does not mean the environment's URL
        for url in ("clickhouse", "remote"):
            given[url] = given.get(url) or ""
    return load(kind, os.environ, given)
