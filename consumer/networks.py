"""Lists of networks that are kept in the store, beside those that come with the rules."""

from clickhouse_connect.driver.client import Client

from consumer.store import execute
from schemas.ruleset import parse


def load(
    client: Client, database: str, name: str, text: bytes, now: float, cluster: str = ""
) -> int:
    """Put a list in the place of the one of that name; how many networks it has. None drops it.

    It is one insert, and the rules see it as a whole or not at all. Raises RuleError.
    """
    found = sorted(
        {str(network) for network in parse(text.decode("utf-8", "replace").splitlines())}
    )
    table = f"{database}.networks{'_local' if cluster else ''}"
    at = int(now * 1000)
    given = [[name, network, at] for network in found or [""]]
    client.insert(table, given, column_names=["list", "network", "at"])
    old = f"list = '{name}' AND at < fromUnixTimestamp64Milli({at}, 'UTC')"
    where = f" ON CLUSTER '{cluster}'" if cluster else ""
    execute(client, f"ALTER TABLE {table}{where} DELETE WHERE {old}")
    return len(found)
