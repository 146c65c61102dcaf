"""The tests of the user's own rules, judged where these are loaded, by the SQL of the store."""

from typing import Final

from clickhouse_connect.driver.client import Client

from consumer.errors import Misfit
from consumer.store import rows
from schemas.event import announced, clean
from schemas.rule import Case, quoted
from schemas.ruleset import Ruleset, load

_HITS: Final = (
    "n UInt32, kind String, user_agent String, address String, prefetch String, method String, "
    "send String, since Nullable(Float64), lists String, told Bool"
)


def try_cases(client: Client, database: str, ruleset: Ruleset) -> None:
    """Raise Misfit, which names each test that its rule does not decide. The store has the
    dictionaries of these rules.
    """
    ours = load().rules
    cases = [
        (rule, Case(ua=case) if isinstance(case, str) else case)
        for rule in ruleset.rules
        if rule not in ours
        for case in rule.test
    ]
    if not cases:
        return
    sql = ruleset.sql(f"{database}.", "ifNull(since, nan)", "told")
    lists = f"concat({sql.steps['verdict_lists']}, lists)"
    sql = sql._replace(steps={**sql.steps, "verdict_lists": lists})
    hits = ", ".join(_row(n, case) for n, (_, case) in enumerate(cases))
    found = f"SELECT *, {sql.found} FROM values('{_HITS}', {hits})"
    asked = f"WITH {sql.given} SELECT {', '.join(sql.columns)} FROM ({found}) ORDER BY n"
    wrong = [
        f"rule {rule.id}: its test {_named(case)} is judged {verdict[0]} by {verdict[1]}"
        for (rule, case), verdict in zip(cases, rows(client, asked), strict=True)
        if tuple(verdict[:2]) != (rule.verdict, rule.id)
    ]
    if wrong:
        raise Misfit(f"HELIOGRAPH_RULES: {'; '.join(wrong)}")


def _row(n: int, case: Case) -> str:
    headers = {name.lower(): value for name, value in case.headers.items()}
    texts = (
        "open", clean(case.ua, 512), case.ip, clean(announced(headers), 64), case.method, case.send
    )  # fmt: skip
    since = "NULL" if case.delay_s is None else str(float(case.delay_s))
    lists = quoted(f" {' '.join(case.lists)} ")
    return f"({n}, {', '.join(map(quoted, texts))}, {since}, {lists}, {case != Case()})"


def _named(case: Case) -> str:
    said = {name: getattr(case, name) for name in Case.__struct_fields__}
    given = [f"{n} = {value!r}" for n, value in said.items() if value != getattr(Case(), n)]
    return ", ".join(given) or "{}"
