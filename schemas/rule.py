"""What a rule may say: of one hit, and of several together. `ruleset` makes verdicts of it."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Class = Literal["human", "proxy", "prefetch", "scanner", "self", "unknown"]
Confidence = Literal["high", "medium", "low"]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.+-]{0,63}$")]


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
    announces a prefetch. method: a pattern of the method. send: the send's name.
    network: a list that holds the address. before: seconds after the send; `timeless` says whether
    it holds when these are not known. untold: neither agent nor address is known.
    """

    id: Name
    verdict: Class = msgspec.field(name="class")
    confidence: Confidence
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

    def __post_init__(self) -> None:
        if not (self.agent or self.conditions):
            raise ValueError(f"rule {self.id} asks nothing, so it would take every hit")
        if self.home and self.conditions:
            raise ValueError(f"rule {self.id}: home goes with agent alone")

    @property
    def conditions(self) -> list[str]:
        """What must hold, as SQL; none where the dictionary of agents alone decides."""
        held = []
        if self.prefetch:
            held.append(f"match(toLowCardinality(prefetch), {quoted(self.prefetch)})")
        if self.method:
            held.append(f"match(toLowCardinality(method), {quoted(self.method)})")
        if self.send:
            held.append(f"send = {quoted(self.send)}")
        if self.network:
            held.append(f"position(verdict_lists, {quoted(f' {self.network} ')}) > 0")
        if self.untold:
            held.append("NOT verdict_told")
        if self.before:
            unknown = "NOT verdict_since >=" if self.timeless else "verdict_since <"  # of NaN
            held.append(f"{unknown} {self.before}")
        if held and self.agent:
            held.append(f"match(verdict_ua, {quoted(self.agent)})")
        return held


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A rule about hits together: at least so many `what` within so many seconds. It takes hits of
    human and unknown class; `sign`: only where something else there is a scanner's.

    clicks: of a recipient. links: different ones, and all that the mail has. recipients: whose hits
    came from one address.
    """

    id: Name
    verdict: Class = msgspec.field(name="class")
    confidence: Confidence
    source: str
    what: Literal["clicks", "links", "recipients"]
    within: Annotated[int, Meta(ge=1, le=3600)]
    least: Annotated[int, Meta(ge=2)]
    sign: bool = False


def quoted(text: str) -> str:
    """A text as an SQL string."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
