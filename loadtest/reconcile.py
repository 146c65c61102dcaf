"""Asking the store what became of a run, and whether the line has lost or doubled anything."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from consumer.settings import ConsumerSettings
from heliograph.access import Store
from heliograph.errors import Failure
from loadtest.tally import Key, Stored

HELIOGRAPH = Path(sys.executable).with_name("heliograph")
QUIET, PATIENCE = 1.5, 30.0
_OURS = "startsWith(campaign, {run:String}) AND kind IN ('open', 'click')"
_COUNT = f"SELECT count() FROM events WHERE {_OURS}"
_ROWS = f"""
SELECT campaign, recipient, kind, toUInt64(count()), toUInt64(uniqExact(journal, seq))
FROM events WHERE {_OURS} GROUP BY campaign, recipient, kind
"""
_JOURNALS = f"SELECT DISTINCT journal FROM events WHERE {_OURS}"
_OTHERS = """
SELECT countIf(kind IN ('open', 'click') AND NOT startsWith(campaign, {run:String})) +
    (SELECT count() FROM dead_letter) FROM events
"""


class Rows:
    """The rows of one run."""

    def __init__(self, store: Store, run: str) -> None:
        self._store = store
        self._run = {"run": run}

    def _ask(self, sql: str) -> list[list[Any]]:
        answer = self._store.query(sql, self._run, "JSONCompactEachRow")
        return [json.loads(line) for line in b"".join(answer.chunks).splitlines()]

    def count(self) -> int:
        """How many there are."""
        return int(self._ask(_COUNT)[0][0])

    def others(self) -> int:
        """Opens and clicks that are not of this run, and lines that are no event."""
        return int(self._ask(_OTHERS)[0][0])

    def by_key(self) -> dict[Key, Stored]:
        """What each recipient did."""
        return {
            (campaign, recipient, kind): Stored(int(rows), int(events))
            for campaign, recipient, kind, rows, events in self._ask(_ROWS)
        }

    def journals(self) -> set[str]:
        """The journals that took them."""
        return {journal for (journal,) in self._ask(_JOURNALS)}


def settle(
    count: Callable[[], int],
    complete: Callable[[], bool],
    idle: Callable[[], bool],
    now: Callable[[], float],
    sleep: Callable[[float], object],
) -> float:
    """Wait until nothing more is counted: a moment after what was asked is `complete`, and if some
    is missing until the line is `idle`, or long enough. Gives the seconds until the last was."""
    began = changed = asked = now()
    last = -1
    while now() - changed < PATIENCE:
        if (found := count()) != last:
            last, changed = found, now()
        if now() - max(changed, asked) >= QUIET:
            if complete() or idle():
                break
            asked = now()
        sleep(0.2)
    return changed - began


def audit(settings: ConsumerSettings) -> list[dict[str, Any]]:
    """What `heliograph audit` says of each journal; raises Failure."""
    where = ["--clickhouse", settings.clickhouse] if settings.clickhouse else []
    where = where or ["--data", str(settings.data)]
    argv = [HELIOGRAPH, "audit", "--format", "json", "--database", settings.database, *where]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=PATIENCE)
        told: list[dict[str, Any]] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise Failure(f"the audit has not ended within {PATIENCE:g} s") from None
    except ValueError:
        raise Failure(f"the audit failed: {done.stderr.strip() or 'it says nothing'}") from None
    return told


def unsound(told: list[dict[str, Any]], ours: set[str]) -> tuple[list[str], list[str]]:
    """What an audit found wrong with the run's journals, and with others: faults and notes."""
    faults, notes = [], []
    known = {row["journal"] for row in told}
    for row in told:
        if row["missing"] or row["repeated"]:
            mine = row["journal"] in ours
            text = f"journal {row['journal']}: {row['missing']} missing, {row['repeated']} repeated"
            (faults if mine else notes).append(text + ("" if mine else ", not of this run"))
    faults += [f"journal {name} is not known to the audit" for name in sorted(ours - known)]
    return faults, notes
