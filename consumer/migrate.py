"""Numbered SQL files, forward only, each applied once and never changed afterwards.

The files are `schemas/clickhouse/NNNN_name.sql`; those named `….cluster.sql` are for clusters
only. The engine, the cluster clause and the names are the only substitutions, so one source gives
a single node and a cluster. A file that broke off is run again: its statements are idempotent.
"""

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Final

from clickhouse_connect.driver.client import Client

from consumer.errors import Misfit
from consumer.store import execute, rows
from schemas.ruleset import load_names
from schemas.words import spelled

_LEDGER: Final = """
CREATE TABLE IF NOT EXISTS {database}.migrations{on_cluster}
(
    number UInt32, name String, checksum String, applied_at DateTime('UTC') DEFAULT now()
)
ENGINE = {replicated}MergeTree ORDER BY number
"""


class MigrationError(Misfit):
    """The store was made by other files than these; the message says which."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number, name, text before substitution, and the text's SHA-256."""

    number: int
    name: str
    text: str
    checksum: str


def migrations(*, cluster: bool) -> list[Migration]:
    """The files in order, without those for clusters where there is none."""
    found = []
    for file in (resources.files("schemas") / "clickhouse").iterdir():
        if file.name.endswith(".sql") and (cluster or not file.name.endswith(".cluster.sql")):
            text = spelled(file.read_text("utf-8"))
            number = int(file.name.split("_", 1)[0])
            found.append(
                Migration(number, file.name, text, hashlib.sha256(text.encode()).hexdigest())
            )
    return sorted(found, key=lambda migration: migration.number)


def render(text: str, database: str, cluster: str, access: str = "") -> list[str]:
    """The statements of a file for a database, on one node or on a cluster.

    `access` names the user of a dictionary's source: see `dictionary_access`.
    """
    names = {
        "database": database,
        "cluster_name": f"'{cluster}'",
        "on_cluster": f" ON CLUSTER '{cluster}'" if cluster else "",
        "replicated": "Replicated" if cluster else "",
        "local": "_local" if cluster else "",
        "access": access,
    }
    for name, value in names.items():
        text = text.replace(f"{{{name}}}", value)
    return [part.strip() for part in (text + "\n").split(";\n") if _has_sql(part)]


def _has_sql(part: str) -> bool:
    lines = (line.strip() for line in part.splitlines())
    return any(line and not line.startswith("--") for line in lines)


def _applied(client: Client, database: str) -> dict[int, tuple[str, str]]:
    exists = rows(
        client,
        f"SELECT count() FROM system.tables WHERE database = '{database}' AND name = 'migrations'",
    )
    if not exists[0][0]:
        return {}
    found = rows(client, f"SELECT number, name, checksum FROM {database}.migrations")
    return {number: (name, checksum) for number, name, checksum in found}


def pending(client: Client, database: str, cluster: str = "") -> list[Migration]:
    """What is still to be applied; raises MigrationError where a file was changed or is missing."""
    known = {migration.number: migration for migration in migrations(cluster=bool(cluster))}
    applied = _applied(client, database)
    for number, (name, checksum) in sorted(applied.items()):
        if number not in known:
            raise MigrationError(
                f"the store has migration {name}, which this version does not know: "
                "it was made by a newer heliograph, or for another cluster setting"
            )
        if known[number].checksum != checksum:
            raise MigrationError(f"migration {known[number].name} was changed after it was applied")
    return [migration for number, migration in sorted(known.items()) if number not in applied]


def migrate(client: Client, database: str, cluster: str = "", access: str = "") -> list[str]:
    """Apply what is pending; the names of the files applied. Running it again does nothing."""
    on_cluster = f" ON CLUSTER '{cluster}'" if cluster else ""
    execute(client, f"CREATE DATABASE IF NOT EXISTS {database}{on_cluster} ENGINE = Atomic")
    for statement in render(_LEDGER, database, cluster):
        execute(client, statement)
    done = []
    for migration in pending(client, database, cluster):
        for statement in render(migration.text, database, cluster, access):
            execute(client, statement)
        execute(
            client,
            f"INSERT INTO {database}.migrations (number, name, checksum) VALUES "
            f"({migration.number}, '{migration.name}', '{migration.checksum}')",
            async_insert=0,
        )
        done.append(migration.name)
    _load_names(client, database, cluster)
    return done


def _load_names(client: Client, database: str, cluster: str) -> None:
    """Fill the dictionaries of clients' and systems' names, unless they hold these already."""
    table = f"{database}.names{'_local' if cluster else ''}"
    names = load_names()
    version = hashlib.sha256(repr(names).encode()).hexdigest()[:16]
    if rows(client, f"SELECT DISTINCT version FROM {table}") == [(version,)]:
        return
    execute(client, f"TRUNCATE TABLE {table}")
    given = [
        [kind, place, 0, pattern, ["name"], [name], version]
        for kind, found in names.items()
        for place, (pattern, name) in enumerate(found, 1)
    ]
    client.insert(table, given, settings={"async_insert": 0})
    for kind in names:
        execute(client, f"SYSTEM RELOAD DICTIONARY {database}.{kind}_names")
