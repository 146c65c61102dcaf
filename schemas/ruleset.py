"""The rules that judge a hit, as data: files of schemas/rules/ and of a directory of the user's.

Files are taken in the order of their names, the user's among ours, and the first rule that holds
decides. A rule is a table `[[rule]]` of a .toml file or a line of a .jsonl file; `Rule` says what
it may hold. From them come the rows of two dictionaries, one of agents by pattern and one of lists
by network, and the SQL that asks these: the one place where a verdict is made.
"""

import hashlib
import ipaddress
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Class = Literal["human", "proxy", "prefetch", "scanner", "self", "unknown"]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.+-]{0,63}$")]

#: The place of no rule.
_NONE: Final = 65_535
#: Whether the consent mode kept anything of the client.
TOLD: Final = "(address != '' OR user_agent != '')"
#: What a verdict is made of, step by step: the place of the first rule that holds, and then what
#: that rule says.
_STEPS: Final = {
    "verdict_ua": "toLowCardinality(user_agent)",
    "verdict_since": "{since}",
    "verdict_told": "{told}",
    "verdict_due": "kind IN ('open', 'click')",
    "verdict_agent": "dictGet('{agents}', 'place', verdict_ua)",
    "verdict_home": "dictGet('{agents}', 'home', verdict_ua)",
    "verdict_lists": "dictGet('{networks}', 'lists', toIPv6OrDefault(address))",
    "verdict_place": "least(verdict_agent{places})",
    "verdict_elsewhere": "verdict_place = verdict_agent AND verdict_home != '' AND address != '' "
    "AND position(verdict_lists, concat(' ', verdict_home, ' ')) = 0",
}
_COLUMNS: Final = (
    """multiIf(NOT verdict_due, '', verdict_elsewhere, 'unknown',
        verdict_place = verdict_agent, dictGet('{agents}', 'class', verdict_ua),
        transform(verdict_place, [{numbers}], [{classes}], 'unknown'))""",
    """multiIf(NOT verdict_due, '',
        verdict_elsewhere, concat(dictGet('{agents}', 'rule', verdict_ua), '-elsewhere'),
        verdict_place = verdict_agent, dictGet('{agents}', 'rule', verdict_ua),
        transform(verdict_place, [{numbers}], [{names}], 'none'))""",
    "if(verdict_due, '{version}', '')",
)


class Sql(NamedTuple):
    """SQL of a verdict: what to put after WITH, and the columns class, rule and ruleset by that."""

    given: str
    columns: tuple[str, ...]
    steps: Mapping[str, str]

    @property
    def alone(self) -> tuple[str, ...]:
        """The columns as expressions that need no WITH, for where none can be."""
        known: dict[str, str] = {}
        for name, step in self.steps.items():
            known[name] = f"({_put(step, known)})"
        return tuple(_put(column, known) for column in self.columns)


def _put(sql: str, known: Mapping[str, str]) -> str:
    return re.sub(r"\bverdict_\w+", lambda found: known[found[0]], sql)


class RuleError(ValueError):
    """A file of rules or networks cannot be used; the message says which and why."""


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A hit that a rule must decide: `delay_s` is seconds since the send, `lists` hold its `ip`."""

    ua: str = ""
    ip: str = ""
    headers: dict[str, str] = {}
    method: str = "GET"
    delay_s: float | None = None
    send: str = ""
    lists: tuple[str, ...] = ()


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One rule. All the conditions that it names must hold; patterns are RE2's.

    agent: a pattern of the User-Agent. home: a list of networks that such an agent comes from; from
    elsewhere it is `unknown`, if the list is loaded. prefetch: a pattern of the header that
    announces a prefetch. method: a pattern of the method. send: a pattern of the send's name.
    network: a list that holds the address. before: seconds after the send; `timeless` says whether
    it holds when these are not known. untold: neither agent nor address is known.
    """

    id: Name
    verdict: Class = msgspec.field(name="class")
    confidence: Literal["high", "medium", "low"]
    source: str
    test: tuple[str | Case, ...]
    agent: str = ""
    home: str = ""
    prefetch: str = ""
    method: str = ""
    send: str = ""
    network: str = ""
    untold: bool = False
    before: int = 0
    timeless: bool = False

    @property
    def conditions(self) -> list[str]:
        """What must hold, as SQL; none where the dictionary of agents alone decides."""
        held = [
            f"match({column}, {quoted(pattern)})"
            for column, pattern in (
                ("prefetch", self.prefetch),
                ("method", self.method),
                ("send", self.send),
            )
            if pattern
        ]
        if self.network:
            held.append(f"position(verdict_lists, {quoted(f' {self.network} ')}) > 0")
        if self.untold:
            held.append("NOT verdict_told")
        if self.before:
            held.append(f"ifNull(verdict_since < {self.before}, {int(self.timeless)})")
        if held and self.agent:
            held.append(f"match(verdict_ua, {quoted(self.agent)})")
        return held


@dataclass(frozen=True)
class Ruleset:
    """All rules in order, and the networks of each list."""

    rules: tuple[Rule, ...]
    networks: Mapping[str, tuple[Network, ...]]

    @property
    def version(self) -> str:
        """Names this set: another one with the same content has the same version."""
        digest = hashlib.sha256(msgspec.json.encode(self.rules))
        for name, listed in sorted(self.networks.items()):
            digest.update(f"\0{name}\0{' '.join(sorted(map(str, listed)))}".encode())
        return digest.hexdigest()[:8]

    def agents(self) -> list[tuple[int, str, list[str], list[str]]]:
        """The rows of the regexp_tree: place, pattern, attribute names, attributes."""
        found = []
        for place, rule in enumerate(self.rules, 1):
            if not rule.conditions:
                home = rule.home if rule.home in self.networks else ""
                told = [str(place), rule.verdict, rule.id, home]
                found.append((place, _regexp(rule.agent), ["place", "class", "rule", "home"], told))
        return found

    def lists(self) -> list[tuple[str, str]]:
        """The rows of the ip_trie: each network, and all lists that hold it, each in spaces."""
        named: dict[Network, set[str]] = {}
        for name, listed in self.networks.items():
            for network in listed:
                named.setdefault(network, set()).add(name)
        found, above = [], list[Network]()
        for network in sorted(named, key=_order):
            while above and not _within(network, above[-1]):
                above.pop()
            if above:
                named[network] |= named[above[-1]]
            above.append(network)
            found.append((str(network), f" {' '.join(sorted(named[network]))} "))
        return found

    def sql(self, agents: str, networks: str, since: str, told: str = TOLD) -> Sql:
        """SQL of the verdict of a hit.

        `agents` and `networks` name the dictionaries; `since` is SQL of the seconds since the send,
        `told` of whether anything of the client is known. The hit's columns are called as in
        `events`.
        """
        rest = [(n, rule) for n, rule in enumerate(self.rules, 1) if rule.conditions]
        places = "".join(
            f",\n        if({' AND '.join(rule.conditions)}, toUInt16({n}), toUInt16({_NONE}))"
            for n, rule in rest
        )
        values = {
            "agents": agents,
            "networks": networks,
            "since": since,
            "told": told,
            "places": places,
            "numbers": ", ".join(f"toUInt16({n})" for n, _ in rest),
            "classes": ", ".join(quoted(rule.verdict) for _, rule in rest),
            "names": ", ".join(quoted(rule.id) for _, rule in rest),
            "version": self.version,
        }
        steps = {name: step.format(**values) for name, step in _STEPS.items()}
        given = ",\n    ".join(f"{step} AS {name}" for name, step in steps.items())
        return Sql(given, tuple(column.format(**values) for column in _COLUMNS), steps)


def _regexp(pattern: str) -> str:
    """A pattern for a dictionary, which looks for its literals first, but as they are written."""
    return pattern + (r"|[^\s\S]" if "(?i" in pattern else "")


def _order(network: Network) -> tuple[int, int, int]:
    return network.version, int(network.network_address), network.prefixlen


def _within(inner: Network, outer: Network) -> bool:
    return (
        inner.version == outer.version
        and int(outer.network_address) <= int(inner.network_address)
        and int(inner.broadcast_address) <= int(outer.broadcast_address)
    )


def quoted(text: str) -> str:
    """A text as an SQL string."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def shipped() -> Traversable:
    """The directory of our own rules."""
    return resources.files("schemas") / "rules"


def load(more: Path | None = None, networks: Mapping[str, Iterable[str]] | None = None) -> Ruleset:
    """Our rules with those of a directory `more`, and with lists of networks that replace ours.

    Raises RuleError, which names the file.
    """
    files: dict[str, Traversable] = {}
    lists: dict[str, Iterable[str]] = {}
    for place in (shipped(), more):
        for file in place.iterdir() if place else ():
            if file.name.endswith((".toml", ".jsonl")):
                files[file.name] = file
        listed = place / "networks" if place else None
        for file in listed.iterdir() if listed and listed.is_dir() else ():
            lists[file.name.removesuffix(".txt")] = file.read_text("utf-8").splitlines()
    rules: list[Rule] = []
    for _, file in sorted(files.items()):
        try:
            rules += _read(file)
        except (ValueError, msgspec.ValidationError) as error:
            raise RuleError(f"{file.name}: {error}") from None
    return Ruleset(
        tuple(rules), {name: parse(lines) for name, lines in {**lists, **(networks or {})}.items()}
    )


def _read(file: Traversable) -> list[Rule]:
    text = file.read_text("utf-8")
    if file.name.endswith(".jsonl"):
        return [msgspec.json.decode(line, type=Rule) for line in text.splitlines()]
    return msgspec.convert(tomllib.loads(text).get("rule", []), list[Rule])


def parse(lines: Iterable[str]) -> tuple[Network, ...]:
    """Networks, one at the start of a line; what follows it is not read, nor are comments."""
    found = []
    for number, line in enumerate(lines, 1):
        text = line.split("#", 1)[0].replace(",", " ").split()
        if not text:
            continue
        try:
            found.append(ipaddress.ip_network(text[0], strict=False))
        except ValueError as error:
            raise RuleError(f"line {number}: {error}") from None
    return tuple(found)


def load_names() -> dict[str, list[tuple[str, str]]]:
    """For `client` and `system` the patterns of agents in order, and the name that each gives."""
    found: dict[str, list[tuple[str, str]]] = {}
    for kind in ("client", "system"):
        for name in (f"{kind}s-own.jsonl", f"{kind}s.jsonl"):
            for line in (shipped() / "names" / name).read_text("utf-8").splitlines():
                told = msgspec.json.decode(line, type=dict[str, str])
                found.setdefault(kind, []).append((_regexp(told["agent"]), told["name"]))
    return found
