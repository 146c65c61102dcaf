"""The rules in the store: the dictionaries of a version, and the SQL that judges by them.

Each version of the rules has dictionaries of its own, so two consumers with different rules do not
disturb each other, and a verdict's version names what it was made by.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from clickhouse_connect.driver.client import Client

from consumer.errors import Misfit
from consumer.settings import ConsumerSettings
from consumer.store import dictionary_access, execute, rows
from schemas.ruleset import TOLD, RuleError, Sql, load

#: Seconds since the send of a staged hit and of a stored one; NULL if the send's time is unknown.
STAGED: Final = "if(sent_at > 0, toFloat64(ts) / 1000 - toFloat64(sent_at), NULL)"
STORED: Final = (
    "if(toUnixTimestamp(sent_at) > 0, "
    "toUnixTimestamp64Milli(ts) / 1000 - toUnixTimestamp(sent_at), NULL)"
)
#: Versions whose dictionaries are kept, for consumers that still run with older rules.
_KEPT: Final = 3
_AGENTS: Final = """
CREATE DICTIONARY IF NOT EXISTS {database}.agents_{version}{on_cluster}
(
    regexp String, place UInt16 DEFAULT 65535, class String DEFAULT 'unknown',
    rule String DEFAULT 'none', home String
)
PRIMARY KEY regexp
SOURCE(CLICKHOUSE(QUERY 'SELECT id, parent_id, regexp, keys, `values`
    FROM {database}.rules_agents{local} FINAL WHERE version = \\'{version}\\' ORDER BY id'{access}))
LAYOUT(REGEXP_TREE)
LIFETIME(0)
"""
_NETWORKS: Final = """
CREATE DICTIONARY IF NOT EXISTS {database}.networks_{version}{on_cluster}
(
    network String, lists String
)
PRIMARY KEY network
SOURCE(CLICKHOUSE(QUERY 'SELECT network, lists
    FROM {database}.rules_networks{local} FINAL WHERE version = \\'{version}\\''{access}))
LAYOUT(IP_TRIE)
LIFETIME(0)
"""


class Verdicts:
    """The rules that this process judges by; shared by all that writes."""

    def __init__(
        self, database: str, *, rules: Path | None = None, cluster: str = "", access: str = ""
    ) -> None:
        """`rules` is a directory of the user's rules, `access` what a dictionary's source needs."""
        self._database = database
        self._rules = rules
        self._names = {
            "database": database,
            "on_cluster": f" ON CLUSTER '{cluster}'" if cluster else "",
            "local": "_local" if cluster else "",
            "access": access,
        }
        self.ruleset = load(rules)

    @classmethod
    def of(cls, settings: ConsumerSettings) -> "Verdicts":
        """As the settings say; raises Misfit where the user's rules cannot be used."""
        rules = Path(settings.rules) if settings.rules else None
        try:
            return cls(
                settings.database,
                rules=rules,
                cluster=settings.cluster,
                access=dictionary_access(settings),
            )
        except (RuleError, OSError) as error:
            raise Misfit(f"HELIOGRAPH_RULES: {error}") from None

    def install(self, client: Client, networks: Mapping[str, Iterable[str]] | None = None) -> None:
        """See to it that the store has the dictionaries of these rules, and of the networks in it
        or of those given.
        """
        listed = dict(networks or {})
        if networks is None:
            asked = f"SELECT list, groupArray(network) FROM {self._database}.networks GROUP BY list"
            listed = dict(rows(client, asked))
        self.ruleset = load(self._rules, listed)
        version = self.ruleset.version
        local = self._names["local"]
        for table, columns, found in (
            ("agents", ["id", "regexp", "keys", "values"], self.ruleset.agents()),
            ("networks", ["network", "lists"], self.ruleset.lists()),
        ):
            at = f"{self._database}.rules_{table}{local}"
            if not rows(client, f"SELECT count() FROM {at} WHERE version = '{version}'")[0][0]:
                given = [[version, *row] for row in found]
                client.insert(at, given, column_names=["version", *columns])
        for made in (_AGENTS, _NETWORKS):
            execute(client, made.format(version=version, **self._names))

    def sql(self, since: str, told: str = TOLD) -> Sql:
        """SQL of a verdict by what is installed: see `Ruleset.sql`."""
        at, version = self._database, self.ruleset.version
        return self.ruleset.sql(f"{at}.agents_{version}", f"{at}.networks_{version}", since, told)
