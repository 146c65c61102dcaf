"""The rules in the store: the dictionaries of a version, and the SQL that judges by them.

Each version of the rules has dictionaries of its own, so two consumers with different rules do not
disturb each other, and a verdict's version names what it was made by.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from consumer.errors import Misfit, StoreTrouble
from consumer.settings import ConsumerSettings
from consumer.store import dictionary_access, execute, rows
from consumer.trial import try_cases
from schemas.rule import Rule, RuleError, quoted
from schemas.ruleset import TOLD, Ruleset, Sql, load

#: Seconds since the send of a staged hit and of a stored one; NaN if the send's time is unknown.
STAGED: Final = "if(sent_at > 0, toFloat64(ts) / 1000 - toFloat64(sent_at), nan)"
STORED: Final = (
    "if(toUnixTimestamp(sent_at) > 0, "
    "toUnixTimestamp64Milli(ts) / 1000 - toUnixTimestamp(sent_at), nan)"
)
_SEEN: Final = "SELECT toString(max(at)), count() FROM {database}.networks{local}"
_LISTED: Final = """
SELECT list, groupArray(network) FROM {database}.networks{local}
WHERE (list, at) IN (SELECT list, max(at) FROM {database}.networks{local} GROUP BY list)
GROUP BY list HAVING any(network) != ''
"""
#: A consumer that runs with older rules makes their dictionaries anew when it misses them.
_OLD: Final = """
SELECT version FROM {database}.rules_agents{local} WHERE version != '{current}'
GROUP BY version HAVING max(at) < now() - INTERVAL 7 DAY
"""
_USED: Final = """
SELECT 1 FROM {database}.events{local}
WHERE ruleset = '{version}' AND ts >= now() - INTERVAL 7 DAY LIMIT 1
"""
_DROP: Final = "DROP DICTIONARY IF EXISTS {database}.{name}_{version}{on_cluster}"
_DELETE: Final = (
    "ALTER TABLE {database}.rules_{table}{local}{on_cluster} DELETE WHERE version = '{version}'"
)
_AGENTS: Final = """
CREATE DICTIONARY IF NOT EXISTS {database}.agents_{version}{on_cluster}
(
    regexp String, place UInt16 DEFAULT 65535
)
PRIMARY KEY regexp
SOURCE(CLICKHOUSE(QUERY 'SELECT id, parent_id, regexp, keys, `values`
    FROM {database}.rules_agents{local} FINAL WHERE version = \\'{version}\\' ORDER BY id'{access}))
LAYOUT(REGEXP_TREE)
LIFETIME(0)
"""
_PLACES: Final = """
CREATE DICTIONARY IF NOT EXISTS {database}.rules_{version}{on_cluster}
(
    place UInt64, class String DEFAULT 'unknown', rule String DEFAULT 'none', home String
)
PRIMARY KEY place
SOURCE(CLICKHOUSE(QUERY 'SELECT place, class, rule, home
    FROM {database}.rules_places{local} FINAL WHERE version = \\'{version}\\''{access}))
LAYOUT(FLAT)
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
        """`rules` is a directory of the user's rules, `access` what a dictionary's source needs.

        Raises Misfit where the rules cannot be used.
        """
        self._database = database
        self._rules = rules
        self._names = {
            "database": database,
            "on_cluster": f" ON CLUSTER '{cluster}'" if cluster else "",
            "local": "_local" if cluster else "",
            "access": access,
        }
        self.ruleset = self._load()
        self._seen: tuple[object, ...] = ()
        self._checked: tuple[Rule, ...] = ()

    @classmethod
    def of(cls, settings: ConsumerSettings) -> "Verdicts":
        """As the settings say."""
        return cls(
            settings.database,
            rules=Path(settings.rules) if settings.rules else None,
            cluster=settings.cluster,
            access=dictionary_access(settings),
        )

    def refresh(self, client: Client) -> None:
        """Take notice of networks that another process has loaded."""
        if rows(client, _SEEN.format(**self._names))[0] != self._seen:
            self.install(client)

    def install(self, client: Client, networks: Mapping[str, Iterable[str]] | None = None) -> None:
        """See to it that the store has the dictionaries of these rules, and of the networks in it
        or of those given. Raises Misfit.
        """
        seen = self._seen
        if networks is None:
            seen = rows(client, _SEEN.format(**self._names))[0]
            networks = self.listed(client)
        self.ruleset = self.prepare(client, networks)
        self._seen = seen
        self._forget(client, self.ruleset.version)

    def listed(self, client: Client) -> dict[str, Sequence[str]]:
        """The lists of networks in the store."""
        return dict(rows(client, _LISTED.format(**self._names)))

    def prepare(
        self, client: Client, networks: Mapping[str, Iterable[str]], *, tried: bool = False
    ) -> Ruleset:
        """Make the dictionaries of today's rules with these networks, by which nobody judges yet.

        `tried`: the tests of the user's rules must hold. Raises Misfit.
        """
        ruleset = self._load(networks)
        version = ruleset.version
        self._check(client, ruleset)
        self._fill(client, "places", version, ["place", "class", "rule", "home"], ruleset.places())
        self._fill(client, "agents", version, ["id", "regexp", "keys", "values"], ruleset.agents())
        self._fill(client, "networks", version, ["network", "lists"], ruleset.lists())
        for made in (_PLACES, _AGENTS, _NETWORKS):
            sql = made.format(version=version, **self._names)
            if self._names["access"] and not self._seen:  # the password may have changed since
                sql = sql.replace("DICTIONARY IF NOT EXISTS", "OR REPLACE DICTIONARY", 1)
            execute(client, sql)
        if tried:
            try_cases(client, self._database, ruleset)
        return ruleset

    def _load(self, networks: Mapping[str, Iterable[str]] | None = None) -> Ruleset:
        try:
            return load(self._rules, networks)
        except (RuleError, OSError) as error:
            raise Misfit(f"HELIOGRAPH_RULES: {error}") from None

    def _check(self, client: Client, ruleset: Ruleset) -> None:
        """Raise Misfit where a pattern is none: a dictionary would not find it, nor say so."""
        if ruleset.rules == self._checked:
            return
        patterns = {rule.id: rule.agent for rule in ruleset.rules if rule.agent}
        try:
            execute(client, f"SELECT {', '.join(map(_tried, patterns.values()))}")
        except StoreTrouble:
            for name, pattern in patterns.items():
                try:
                    execute(client, f"SELECT {_tried(pattern)}")
                except StoreTrouble as trouble:
                    raise Misfit(f"HELIOGRAPH_RULES: rule {name}: {trouble}") from None
            raise
        self._checked = ruleset.rules

    def _fill(
        self, client: Client, what: str, version: str, columns: list[str], found: Sequence[Any]
    ) -> None:
        """Put a version's rows into a dictionary's table, unless it has them all."""
        table = "{database}.rules_{what}{local}".format(what=what, **self._names)
        there = f"SELECT count() FROM {table} FINAL WHERE version = '{version}'"
        if rows(client, there)[0][0] != len(found):
            given = [[version, *row] for row in found]
            client.insert(table, given, column_names=["version", *columns])

    def _forget(self, client: Client, current: str) -> None:
        """Drop the dictionaries of versions that nobody has judged by for long."""
        for (version,) in rows(client, _OLD.format(current=current, **self._names)):
            if rows(client, _USED.format(version=version, **self._names)):
                continue
            for name, table in (("rules", "places"), ("agents",) * 2, ("networks",) * 2):
                names = {"name": name, "table": table, "version": version, **self._names}
                execute(client, _DROP.format(**names))
                execute(client, _DELETE.format(**names))

    def sql(self, since: str, told: str = TOLD, *, kept: bool = False) -> Sql:
        """SQL of a verdict by what is installed: see `Ruleset.sql`."""
        return self.ruleset.sql(f"{self._database}.", since, told, kept=kept)


def _tried(pattern: str) -> str:
    return f"match('', {quoted(pattern)})"
