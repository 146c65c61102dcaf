"""The rules that judge a hit, as data: files of schemas/rules/ and of a directory of the user's.

Files are taken in the order of their names, the user's among ours, and the first rule that holds
decides. A rule is a table `[[rule]]` of a .toml file or a line of a .jsonl file; `Rule` says what
it may hold. From them come the rows of two dictionaries, one of agents by pattern and one of lists
by network, and the SQL that asks these: the one place where a verdict is made.
"""

import hashlib
import ipaddress
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Class = Literal["human", "proxy", "prefetch", "scanner", "self", "unknown"]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.+-]{0,63}$")]

#: The place of no rule.
_NONE: Final = 65_535
#: The place of the first rule that holds, and what it says.
_SQL: Final = """
    toLowCardinality(user_agent) AS verdict_ua,
    {since} AS verdict_since,
    kind IN ('open', 'click') AS verdict_due,
    dictGet('{agents}', 'place', verdict_ua) AS verdict_agent,
    dictGet('{agents}', 'home', verdict_ua) AS verdict_home,
    dictGet('{networks}', 'lists', toIPv6OrDefault(address)) AS verdict_lists,
    least(verdict_agent{places}) AS verdict_place,
    verdict_place = verdict_agent AND verdict_home != ''
        AND position(verdict_lists, concat(' ', verdict_home, ' ')) = 0 AS verdict_elsewhere
---
    multiIf(NOT verdict_due, '', verdict_elsewhere, 'unknown',
        verdict_place = verdict_agent, dictGet('{agents}', 'class', verdict_ua),
        transform(verdict_place, [{numbers}], [{classes}], 'unknown')),
    multiIf(NOT verdict_due, '',
        verdict_elsewhere, concat(dictGet('{agents}', 'rule', verdict_ua), '-elsewhere'),
        verdict_place = verdict_agent, dictGet('{agents}', 'rule', verdict_ua),
        transform(verdict_place, [{numbers}], [{names}], 'none')),
    if(verdict_due, '{version}', '')
"""


class RuleError(ValueError):
    """A file of rules or networks cannot be used; the message says which and why."""


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A hit that a rule must decide: `delay_s` is seconds since the send."""

    ua: str = ""
    ip: str | None = None
    headers: dict[str, str] = {}
    method: str = "GET"
    delay_s: float | None = None


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One rule. All the conditions that it names must hold; patterns are RE2's.

    agent: a pattern of the User-Agent. home: a list of networks that such an agent comes from; from
    elsewhere it is `unknown`, if the list is loaded. prefetch: a pattern of the header that
    announces a prefetch. method: a pattern of the method. network: a list that holds the address.
    before: seconds after the send; `timeless` says whether it holds when these are not known.
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
    network: str = ""
    before: int = 0
    timeless: bool = False

    @property
    def only_agent(self) -> bool:
        """Whether the dictionary of agents decides it alone."""
        return bool(self.agent) and not (
            self.prefetch or self.method or self.network or self.before
        )


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
        return [
            (
                place,
                rule.agent,
                ["place", "class", "rule", "home"],
                [
                    str(place),
                    rule.verdict,
                    rule.id,
                    rule.home if rule.home in self.networks else "",
                ],
            )
            for place, rule in enumerate(self.rules, 1)
            if rule.only_agent
        ]

    def lists(self) -> list[tuple[str, str]]:
        """The rows of the ip_trie: each network, and all lists that hold it, each in spaces."""
        named: dict[Network, set[str]] = {}
        for name, listed in self.networks.items():
            for network in listed:
                named.setdefault(network, set()).add(name)
        found, above = [], list[Network]()
        for network in sorted(
            named, key=lambda n: (n.version, int(n.network_address), n.prefixlen)
        ):
            while above and not _within(network, above[-1]):
                above.pop()
            if above:
                named[network] |= named[above[-1]]
            above.append(network)
            found.append((str(network), f" {' '.join(sorted(named[network]))} "))
        return found

    def sql(self, agents: str, networks: str, since: str) -> tuple[str, str]:
        """What to put after WITH, and the columns class, rule and ruleset of a hit.

        `agents` and `networks` name the dictionaries, `since` is SQL of the seconds since the send.
        The hit's columns are called as in `events`.
        """
        rest = [(n, rule) for n, rule in enumerate(self.rules, 1) if not rule.only_agent]
        places = "".join(
            f",\n        if({_conditions(rule)}, toUInt16({n}), toUInt16({_NONE}))"
            for n, rule in rest
        )
        told = {
            "agents": agents,
            "networks": networks,
            "since": since,
            "places": places,
            "numbers": ", ".join(f"toUInt16({n})" for n, _ in rest),
            "classes": ", ".join(quoted(rule.verdict) for _, rule in rest),
            "names": ", ".join(quoted(rule.id) for _, rule in rest),
            "version": self.version,
        }
        given, columns = (part.format(**told) for part in _SQL.split("\n---\n"))
        return given, columns


def _within(inner: Network, outer: Network) -> bool:
    return (
        inner.version == outer.version
        and int(outer.network_address) <= int(inner.network_address)
        and int(inner.broadcast_address) <= int(outer.broadcast_address)
    )


def _conditions(rule: Rule) -> str:
    held = []
    if rule.agent:
        held.append(f"match(verdict_ua, {quoted(rule.agent)})")
    if rule.prefetch:
        held.append(f"match(prefetch, {quoted(rule.prefetch)})")
    if rule.method:
        held.append(f"match(method, {quoted(rule.method)})")
    if rule.network:
        held.append(f"position(verdict_lists, {quoted(f' {rule.network} ')}) > 0")
    if rule.before:
        held.append(f"ifNull(verdict_since < {rule.before}, {int(rule.timeless)})")
    return " AND ".join(held)


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
