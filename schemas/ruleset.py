"""The rules that judge a hit, as data: files of schemas/rules/ and of a directory of the user's.

Files are taken in the order of their names, the user's among ours, and the first rule that holds
decides. A rule is a table `[[rule]]` of a .toml file or a line of a .jsonl file, a rule of several
hits a table `[[group]]`: see `rule`. From them come the rows of two dictionaries, one of agents by
pattern and one of lists by network, and the SQL that asks these: the one place where a verdict is
made.
"""

import hashlib
import ipaddress
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from schemas.rule import Group, Rule, RuleError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: The place of no rule.
_NONE: Final = 65_535
#: In the lists of a network of which only a part is in one: what is kept of an address is its
#: network, so of a stored hit there nobody can say whether it was in that part.
PART: Final = "~part"
_KEPT: Final = {4: 24, 6: 48}
_MAPPED: Final = ipaddress.ip_network("::/48")  # where a dictionary has all of IPv4
#: The lists around an address as it came, and around what is kept of one.
_LISTS: Final = "dictGet('{prefix}networks_{version}', 'lists', toIPv6OrDefault(address))"
_KEPT_LISTS: Final = f"if(position({_LISTS}, ' {PART} ') > 0, '', {_LISTS})"
#: Whether the consent mode kept anything of the client.
TOLD: Final = "(address != '' OR user_agent != '')"
#: What a verdict is made of, step by step: the place of the first rule that holds, and then what
#: that rule says. Low cardinality: patterns are tried once an agent, a rule is looked up once.
_STEPS: Final = {
    "verdict_ua": "toLowCardinality(user_agent)",
    "verdict_since": "if({since} >= -10, {since}, nan)",
    "verdict_told": "{told}",
    "verdict_due": "kind IN ('open', 'click')",
    "verdict_lists": "{lists}",
    "verdict_place": "toLowCardinality(toUInt64(least("
    "dictGet('{prefix}agents_{version}', 'place', verdict_ua), multiIf({places}{none}))))",
    "verdict_class": "dictGet('{prefix}rules_{version}', 'class', verdict_place)",
    "verdict_rule": "dictGet('{prefix}rules_{version}', 'rule', verdict_place)",
    "verdict_home": "dictGet('{prefix}rules_{version}', 'home', verdict_place)",
    "verdict_elsewhere": "verdict_home != '' AND toIPv6OrDefault(address) != toIPv6('::') "
    "AND position(verdict_lists, ' private ') = 0 "
    "AND position(verdict_lists, concat(' ', verdict_home, ' ')) = 0",
}
#: Those that find the rule.
_FIRST: Final = tuple(_STEPS)[: 1 + list(_STEPS).index("verdict_place")]
_COLUMNS: Final = (
    "multiIf(NOT verdict_due, '', verdict_elsewhere, 'unknown', verdict_class)",
    "multiIf(NOT verdict_due, '', verdict_elsewhere, concat(verdict_rule, '-elsewhere'), "
    "verdict_rule)",
    "if(verdict_due, '{version}', '')",
)


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A .toml file of rules."""

    rule: tuple[Rule, ...] = ()
    group: tuple[Group, ...] = ()


class Sql(NamedTuple):
    """SQL of a verdict: its steps by name, and the columns class, rule and ruleset by these.

    Two levels, for what is written once and asked often is planned each time: `found` is to be
    selected beside the hit's columns, and over that `given` to be put after WITH.
    """

    steps: Mapping[str, str]
    columns: tuple[str, ...]

    @property
    def found(self) -> str:
        """The steps up to the place of the rule."""
        return _named(self.steps, lambda name: name in _FIRST)

    @property
    def given(self) -> str:
        """The steps from there on."""
        return _named(self.steps, lambda name: name not in _FIRST)

    @property
    def alone(self) -> tuple[str, ...]:
        """The columns as expressions that need no WITH, for where none can be."""
        known: dict[str, str] = {}
        for name, step in self.steps.items():
            known[name] = f"({_put(step, known)})"
        return tuple(_put(column, known) for column in self.columns)


def _named(steps: Mapping[str, str], wanted: Callable[[str], bool]) -> str:
    return ", ".join(f"{step} AS {name}" for name, step in steps.items() if wanted(name))


def _put(sql: str, known: Mapping[str, str]) -> str:
    return re.sub(r"\bverdict_\w+", lambda found: known[found[0]], sql)


@dataclass(frozen=True)
class Ruleset:
    """All rules in order, and the networks of each list."""

    rules: tuple[Rule, ...]
    networks: Mapping[str, tuple[Network, ...]]
    groups: tuple[Group, ...] = ()

    @cached_property
    def version(self) -> str:
        """Names this set: another one with the same content has the same version."""
        digest = hashlib.sha256(msgspec.json.encode((self.rules, self.groups, PART)))
        for name, listed in sorted(self.networks.items()):
            digest.update(f"\0{name}\0{' '.join(sorted(map(str, listed)))}".encode())
        return digest.hexdigest()[:8]

    def agents(self) -> list[tuple[int, str, list[str], list[str]]]:
        """The rows of the regexp_tree: place, pattern, attribute names, attributes."""
        return [
            (place, _regexp(rule.agent), ["place"], [str(place)])
            for place, rule in enumerate(self.rules, 1)
            if not rule.conditions
        ]

    def places(self) -> list[tuple[int, str, str, str]]:
        """What the rule of each place says: class, id, and its home if that list is loaded."""
        return [
            (place, rule.verdict, rule.id, rule.home if rule.home in self.networks else "")
            for place, rule in enumerate(self.rules, 1)
        ]

    def lists(self) -> list[tuple[str, str]]:
        """The rows of the ip_trie: each network, and all lists that hold it, each in spaces."""
        named: dict[Network, set[str]] = {}
        for name, listed in self.networks.items():
            for network in listed:
                named.setdefault(network, set()).add(name)
                if network.prefixlen > (kept := _KEPT[network.version]):
                    around = network.supernet(new_prefix=kept)
                    if around != _MAPPED:
                        named.setdefault(around, set()).add(PART)
        found, above = [], list[Network]()
        for network in sorted(named, key=_order):
            while above and not _within(network, above[-1]):
                above.pop()
            if above:
                named[network] |= named[above[-1]]
            above.append(network)
            found.append((str(network), f" {' '.join(sorted(named[network]))} "))
        return found

    def sql(self, prefix: str, since: str, told: str = TOLD, *, kept: bool = False) -> Sql:
        """SQL of the verdict of a hit.

        The dictionaries are called PREFIXagents_VERSION and so on; `since` is SQL of the seconds
        since the send, NaN if unknown (well before it nobody knows when that was), `told` of
        whether anything of the client is known, `kept` that `address` is what is kept of one. The
        hit's columns are called as in `events`.
        """
        places = "".join(
            f"\n        {' AND '.join(rule.conditions)}, toUInt16({place}), "
            for place, rule in enumerate(self.rules, 1)
            if rule.conditions
        )
        values = {
            "prefix": prefix,
            "since": since,
            "told": told,
            "places": places,
            "none": f"toUInt16({_NONE})",
            "version": self.version,
        }
        values["lists"] = (_KEPT_LISTS if kept else _LISTS).format(**values)
        steps = {name: step.format(**values) for name, step in _STEPS.items()}
        return Sql(steps, tuple(column.format(**values) for column in _COLUMNS))


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
    groups: list[Group] = []
    for _, file in sorted(files.items()):
        try:
            found = _read(file)
        except (ValueError, msgspec.ValidationError) as error:
            raise RuleError(f"{file.name}: {error}") from None
        rules += found.rule
        groups += found.group
    ids = Counter([rule.id for rule in rules] + [group.id for group in groups])
    if twice := [name for name, count in ids.items() if count > 1]:
        raise RuleError(f"several rules are called {twice[0]}")
    every = {}
    for name, lines in {**lists, **(networks or {})}.items():
        try:
            every[name] = parse(lines)
        except RuleError as error:
            raise RuleError(f"networks {name}, {error}") from None
    return Ruleset(tuple(rules), every, tuple(groups))


def _read(file: Traversable) -> File:
    text = file.read_text("utf-8")
    if file.name.endswith(".jsonl"):
        lines = (line for line in text.splitlines() if line.strip())
        return File(tuple(msgspec.json.decode(line, type=Rule) for line in lines))
    return msgspec.convert(tomllib.loads(text), File)


def parse(lines: Iterable[str]) -> tuple[Network, ...]:
    """Networks, one at the start of a line; what follows it is not read, nor are comments."""
    found = []
    for number, line in enumerate(lines, 1):
        text = line.split("#", 1)[0].replace(",", " ").replace(";", " ").split()
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
