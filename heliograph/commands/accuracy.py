"""`heliograph accuracy`: the rules, scored on labelled hits."""

from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from heliograph import lists
from heliograph.commands.classify import add_options, judged
from heliograph.errors import Failure

CLASSES: Final = ("human", "proxy", "prefetch", "scanner", "self", "unknown")
CONFIDENCES: Final = ("high", "medium", "low")


class Case(NamedTuple):
    """A labelled hit and what was made of it."""

    line: int
    label: str
    confidence: str
    verdict: str
    rule: str
    agent: str
    address: str


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        "Score the rules on JSON lines as of `classify` with a label (the class it should have)\n"
        "and a confidence: per class precision and recall, per confidence, and each miss. The\n"
        "exit code is 1 if a human or proxy case is called a scanner."
    )
    add_options(parser)


def run(args: Namespace) -> int:
    """Print the score as Markdown."""
    cases = [
        Case(n, record.label, str(record.confidence or "none"), verdict.name, verdict.rule,
             record.ua or "", record.ip or "")
        for n, (_, record, verdict) in enumerate(judged(args), 1)
    ]  # fmt: skip
    if wrong := [case.line for case in cases if case.label not in CLASSES]:
        raise Failure(f"case {wrong[0]}: its label is none of {', '.join(CLASSES)}")
    print("\n".join(report(cases)))
    called = sum(case.verdict == "scanner" and case.label in ("human", "proxy") for case in cases)
    right = sum(case.verdict == case.label for case in cases)
    lists.say(f"{right} of {len(cases)} right; {called} human or proxy cases called a scanner")
    return 1 if called else 0


def report(cases: Sequence[Case]) -> list[str]:
    """Two tables and the misses, in lines."""
    lines = ["| class | cases | right | precision | recall |", "|---|---:|---:|---:|---:|"]
    for name in CLASSES:
        labelled = sum(case.label == name for case in cases)
        called = sum(case.verdict == name for case in cases)
        right = sum(case.label == case.verdict == name for case in cases)
        if labelled or called:
            shares = f"{_share(right, called)} | {_share(right, labelled)}"
            lines.append(f"| {name} | {labelled} | {right} | {shares} |")
    lines += ["", "| confidence | cases | right | share |", "|---|---:|---:|---:|"]
    totals = Counter(case.confidence for case in cases)
    for name in sorted(totals, key=(*CONFIDENCES, *totals).index):
        right = sum(case.confidence == name and case.label == case.verdict for case in cases)
        lines.append(f"| {name} | {totals[name]} | {right} | {_share(right, totals[name])} |")
    misses = [case for case in cases if case.label != case.verdict]
    if misses:
        lines += ["", "| case | label | confidence | called | by rule | agent | address |",
                  "|---:|---|---|---|---|---|---|"]  # fmt: skip
        for case in misses:
            agent = case.agent.replace("|", "\\|").replace("`", "'")
            lines.append(f"| {case.line} | {case.label} | {case.confidence} | {case.verdict} | "
                         f"{case.rule} | `{agent}` | {case.address} |")  # fmt: skip
    return lines


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else ""
