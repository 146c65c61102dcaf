"""What a load test makes of its answers and rows."""

import os
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.pixel import PIXEL
from loadtest import scenarios
from loadtest.reconcile import PATIENCE, QUIET, settle
from loadtest.scenarios import SCENARIOS, Mail, Request, judge
from loadtest.tally import Difference, Key, Stored, Tally, compare
from loadtest.verdict import OK, SLOW, WRONG, Outcome
from schemas import keyring
from schemas.keyring import Keyring
from schemas.token import Sealed, TokenError, well_formed

KEYS = st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 9).map(str), st.just("open"))
#: Of each key: what was answered, what had no answer, and how many of the latter are rows.
RUNS = st.dictionaries(
    KEYS,
    st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 3)).map(
        lambda n: (n[0], n[1], min(n[1], n[2]))
    ),
    min_size=1,
)
Runs = dict[Key, tuple[int, int, int]]


def outcome(runs: Runs, **changes: Stored) -> Difference:
    answered = {key: n[0] for key, n in runs.items()}
    unknown = {key: n[1] for key, n in runs.items()}
    stored = {key: Stored(n[0] + n[2], n[0] + n[2]) for key, n in runs.items()}
    for name, rows in changes.items():
        stored[(name, "0", "open")] = rows
    return compare(answered, unknown, stored)


def faults(found: Difference) -> tuple[int, int, int]:
    return found.lost, found.doubled, found.extra


@given(RUNS)
def test_each_answer_once_and_the_unseen_perhaps_is_right(runs: Runs) -> None:
    found = outcome(runs)
    assert faults(found) == (0, 0, 0)
    assert found.unknown == sum(n[2] for n in runs.values())
    assert found.rows == sum(n[0] + n[2] for n in runs.values())
    assert found.examples == {}


@given(RUNS, st.integers(1, 5), st.integers(0, 3), st.integers(1, 3))
def test_each_fault_is_found_beside_what_is_right(
    runs: Runs, answered: int, unknown: int, wrong: int
) -> None:
    runs = {**runs, ("x", "0", "open"): (answered, unknown, 0)}
    lost = min(wrong, answered)
    assert faults(outcome(runs, x=Stored(answered - lost, answered - lost))) == (lost, 0, 0)
    assert faults(outcome(runs, x=Stored(answered + wrong, answered))) == (0, wrong, 0)
    most = answered + unknown
    assert faults(outcome(runs, x=Stored(most + wrong, most + wrong))) == (0, 0, wrong)
    # A lost one and a doubled one do not make up for each other, nor does another reader's.
    assert faults(outcome(runs, x=Stored(answered, answered - 1))) == (1, 1, 0)
    other = outcome(runs, x=Stored(0, 0), y=Stored(wrong, wrong))
    assert faults(other) == (answered, 0, wrong)


def test_an_example_names_the_reader() -> None:
    found = compare({("spring", "r7", "click"): 2}, {}, {("spring", "r7", "click"): Stored(1, 1)})
    assert (
        "click of r7 in spring: 2 answered, 0 without an answer, 1 rows" in found.examples["lost"]
    )


def test_what_is_cut_off_stays_open() -> None:
    tally, request = Tally(), Request(3, "open", "/o/x.gif", 200, PIXEL)
    for late in (0.0, 0.0009, 0.3):
        key = tally.ask(request, late)
    tally.answer(key)
    tally.answer(key, "status 500")
    assert (tally.answered, tally.unknown[key]) == ({key: 1}, 2)
    assert tally.wrong == {"status 500": 1}
    assert (tally.lateness(0.5), tally.lateness(1)) == (0, 0.511)
    other = Tally()
    other.merge(tally.dump())
    other.merge(tally.dump())
    assert other.answered == {key: 2}
    assert other.unknown == {key: 4}
    assert other.late.total() == 6


def test_it_waits_for_the_last_row_and_a_moment_longer() -> None:
    def waited(rows: list[int], complete: bool, idle: bool = False) -> tuple[float, float]:
        """Seconds to the last row, and to the end."""
        time = [0.0]
        told = settle(
            lambda: rows.pop(0) if len(rows) > 1 else rows[0], lambda: complete, lambda: idle,
            lambda: time[0], lambda seconds: time.__setitem__(0, time[0] + seconds),
        )  # fmt: skip
        return round(told, 1), time[0]

    assert waited([0, 3, 5], True) == (0.4, pytest.approx(0.4 + QUIET, abs=0.3))
    assert waited([5, 5, 6], True) == (0.4, pytest.approx(0.4 + QUIET, abs=0.3))
    assert waited([0, 3], False) == (0.2, pytest.approx(0.2 + PATIENCE, abs=0.3))
    assert waited([0, 3], False, idle=True) == (0.2, pytest.approx(0.2 + QUIET, abs=0.3))


def result(**more: Any) -> Outcome:
    usual: dict[str, Any] = {
        "run": "load-1", "scenario": "blast", "rate": 100, "seconds": 10, "took": 10.0,
        "interrupted": False, "planned": 1000, "answered": 1000, "wrong": Counter(),
        "unanswered": Counter(), "percentiles": [1, 2, 3], "late": 0.01, "users": 8,
        "client": 0.1, "server": 0.1, "machine": 0.1, "waiting": 0.1,
        "difference": Difference(1000, 0, 0, 0, 0, {}),
    }  # fmt: skip
    return Outcome(**usual | more)


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        ({}, OK, "verdict: ok"),
        ({"wrong": Counter(["status 500"])}, WRONG, "1 answers were wrong: status 500"),
        ({"unanswered": Counter(["timeout"])}, WRONG, "1 requests had no answer: timeout"),
        ({"difference": Difference(999, 1, 0, 0, 0, {"lost": "r7"})}, WRONG, "no row, e.g. r7"),
        ({"difference": Difference(1, 0, 1, 0, 0, {"doubled": "r7"})}, WRONG, "repeat an event"),
        ({"difference": Difference(1, 0, 0, 1, 0, {"extra": "r7"})}, WRONG, "nobody asked for"),
        ({"faults": ["a worker was lost"]}, WRONG, "a worker was lost"),
        ({"answered": 0}, WRONG, "nothing was answered"),
        ({"notes": ["something"]}, OK, "note       something"),
        ({"answered": 979, "client": 0.9, "server": 0.9}, SLOW, "the limit was the client"),
        ({"answered": 979, "server": 0.9, "machine": 1}, SLOW, "the limit was the server"),
        ({"answered": 979, "machine": 0.9}, SLOW, "the limit was this machine"),
        ({"answered": 979, "waiting": 0.9}, SLOW, "all 8 users waited"),
        ({"answered": 979}, SLOW, "more than 8 users may help"),
        ({"late": 2.0}, SLOW, "the peaks were not kept"),
        ({"interrupted": True, "took": 2.0, "planned": 300, "answered": 300}, OK, "after 2 of 10"),
        ({"answered": 979, "wrong": Counter("x")}, WRONG, "the limit was"),
    ],
)
def test_a_verdict(more: dict[str, Any], code: int, said: str) -> None:
    found = result(**more)
    assert found.code == code
    assert said in found.text()
    assert found.text().endswith(f"(exit code {code})")


@pytest.fixture(scope="module")
def ring() -> Keyring:
    return Keyring(keyring.create(os.urandom, 0))


def mail(ring: Keyring) -> Mail:
    sealed = Sealed("spring", "spring", "r1", 1_700_000_000)
    click = ring.seal("click", sealed._replace(link="https://shop.example/"))
    pixel = f"/px/o/{ring.seal('open', sealed)}.gif"
    return Mail(7, pixel, f"/px/c/{click}", "https://shop.example/")


@given(seed=st.integers(0, 2**32))
def test_a_bad_token_opens_nothing(ring: Keyring, seed: int) -> None:
    request = scenarios.bad(mail(ring), random.Random(seed))
    assert request.mail == -1
    folder, _, name = request.path.removeprefix("/px/").partition("/")
    assert (request.status, folder) in ((200, "o"), (404, "c"))
    text = name.removesuffix(".gif") if folder == "o" else name
    if well_formed(text.encode()):
        with pytest.raises(TokenError):
            ring.unseal("open" if folder == "o" else "click", text)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_keeps_to_its_mix(name: str, ring: Keyring) -> None:
    scenario, chance, mails = SCENARIOS[name], random.Random(1), [mail(ring)]
    drawn = Counter(scenarios.draw(scenario, mails, chance).kind.partition(" ")[0]
                    for _ in range(4000))  # fmt: skip
    whole = sum(scenario.mix.values())
    for kind, weight in scenario.mix.items():
        assert drawn[kind] / 4000 == pytest.approx(weight / whole, abs=0.03)


def test_only_the_exact_answer_is_right() -> None:
    pixel = Request(1, "open", "/o/x.gif", 200, PIXEL)
    click = Request(1, "click", "/c/x", 302, None, "https://shop.example/")
    assert scenarios.PIXEL == PIXEL
    assert judge(pixel, 200, PIXEL, None) == ""
    assert judge(click, 302, b"", "https://shop.example/") == ""
    assert judge(pixel, 500, PIXEL, None) == "status 500, open"
    assert judge(pixel, 200, PIXEL[:-1], None) == "42 bytes that are not the pixel"
    assert judge(pixel, 200, PIXEL, "https://elsewhere.example/") != ""
    assert judge(click, 302, b"", "https://elsewhere.example/") == "click leads elsewhere"
    assert judge(click, 302, b"", None) != ""
