"""Lists of networks that are kept in the store, beside those that come with the rules."""

from collections.abc import Sequence

from clickhouse_connect.driver.client import Client

from consumer.store import execute, rows
from schemas.rule import RuleError
from schemas.ruleset import parse


def networks_of(text: bytes) -> list[str]:
    """The networks of a list, each once; none of a text of nothing. Raises RuleError."""
    lines = text.decode("utf-8-sig", "replace").splitlines()
    found = sorted({str(network) for network in parse(lines)})
    if text and not found:
        raise RuleError("it holds no network")
    return found


def load(
    client: Client, database: str, name: str, found: Sequence[str], now: float, cluster: str = ""
) -> None:
    """Put a list in the place of the one of that name; none drops it.

    It is one insert, and the rules see it as a whole or not at all. Raises RuleError.
    """
    table = f"{database}.networks{'_local' if cluster else ''}"
    if not found and not rows(
        client, f"SELECT 1 FROM {table} WHERE list = '{name}' AND network != '' LIMIT 1"
    ):
        raise RuleError(f"no list {name} was loaded")
    at = int(now * 1000)
    given = [[name, network, at] for network in found or [""]]
    client.insert(table, given, column_names=["list", "network", "at"])
    old = f"list = '{name}' AND at < fromUnixTimestamp64Milli({at}, 'UTC')"
    where = f" ON CLUSTER '{cluster}'" if cluster else ""
    execute(client, f"ALTER TABLE {table}{where} DELETE WHERE {old}")
