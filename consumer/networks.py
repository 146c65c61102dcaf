"""Lists of networks that are kept in the store, beside those that come with the rules."""

from clickhouse_connect.driver.client import Client

from consumer.store import execute, rows
from schemas.rule import RuleError
from schemas.ruleset import parse


def load(
    client: Client, database: str, name: str, text: bytes, now: float, cluster: str = ""
) -> int:
    """Put a list in the place of the one of that name; how many networks it has.

    A text of nothing drops it. It is one insert, and the rules see it as a whole or not at all.
    Raises RuleError.
    """
    found = sorted(
        {str(network) for network in parse(text.decode("utf-8-sig", "replace").splitlines())}
    )
    if text and not found:
        raise RuleError("it holds no network")
    table = f"{database}.networks{'_local' if cluster else ''}"
    if not text and not rows(
        client, f"SELECT 1 FROM {table} WHERE list = '{name}' AND network != '' LIMIT 1"
    ):
        raise RuleError(f"no list {name} was loaded")
    at = int(now * 1000)
    given = [[name, network, at] for network in found or [""]]
    client.insert(table, given, column_names=["list", "network", "at"])
    old = f"list = '{name}' AND at < fromUnixTimestamp64Milli({at}, 'UTC')"
    where = f" ON CLUSTER '{cluster}'" if cluster else ""
    execute(client, f"ALTER TABLE {table}{where} DELETE WHERE {old}")
    return len(found)
