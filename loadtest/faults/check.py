"""The table in ClickHouse against what the clients were answered."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from loadtest.faults.load import Load
from loadtest.processes import ask

#: SQL: the number of a row's request, "" if it has none.
NUMBER: Final = r"extract(user_agent, '\\(faults\\) (\\d+)$')"


class Found(NamedTuple):
    """What the table holds beside the answers.

    `unanswered` are events of requests whose answer was not received: both is right, to have them
    and not to have them.
    """

    answered: int
    lost: int
    doubled: int
    phantom: int
    unanswered: int


def compare(url: str, database: str, loads: Iterable[Load], tokens: int, campaign: str) -> Found:
    """Hold all rows of a campaign's opens against the logs. Request n bore the token of recipient
    n modulo `tokens`; a row of another one, or of a request nobody sent, is a phantom.
    """
    sql = (
        f"SELECT toUInt64OrZero({NUMBER}) AS n, "
        f"{NUMBER} != '' AND recipient = concat('r', toString(n % {tokens})) AS ours, count() "
        f"FROM {database}.events WHERE kind = 'open' AND campaign = '{campaign}' GROUP BY n, ours"
    )
    rows = [tuple(map(int, line.split("\t"))) for line in ask(url, sql).splitlines()]
    ours = {number: count for number, right, count in rows if right}
    answered = {number for load in loads for number, _, _ in load.records()}
    sent = [range(load.first, load.first + int(load.told["sent"])) for load in loads]
    strange = [n for n in ours if n not in answered]
    unanswered = [n for n in strange if any(n in each for each in sent)]
    phantom = sum(count for _, right, count in rows if not right) + len(strange) - len(unanswered)
    doubled = sum(count - 1 for count in ours.values())
    return Found(len(answered), len(answered - ours.keys()), doubled, phantom, len(unanswered))


def others(url: str, database: str, campaign: str) -> int:
    """Rows of any kind and campaign but a campaign's opens."""
    but = f"NOT (kind = 'open' AND campaign = '{campaign}')"
    return int(ask(url, f"SELECT count() FROM {database}.events WHERE {but}"))


def repeated(url: str, database: str) -> int:
    """Rows of any kind whose identity another row has too."""
    sql = f"SELECT count() - uniqExact(journal, seq) FROM {database}.events"
    return int(ask(url, sql))
