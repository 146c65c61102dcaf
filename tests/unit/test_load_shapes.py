"""When the load tests open mails, and how they keep to their plan."""

import math
import random
from bisect import bisect_right

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest import shapes
from loadtest.shapes import Plan

#: The share of opens by some hours after the sending, as it is known of real newsletters.
KNOWN = {1: 0.18, 6: 0.52, 24: 0.78, 168: 0.96}
HOURS = st.floats(-1000, 1000)


@pytest.mark.parametrize("hours", KNOWN)
def test_delays_have_the_known_quantiles(hours: int) -> None:
    assert shapes.share_by(hours) == pytest.approx(KNOWN[hours], abs=0.006)
    chance = random.Random(1)
    drawn = [shapes.delay(chance) for _ in range(20_000)]
    assert sum(d <= hours for d in drawn) / 20_000 == pytest.approx(KNOWN[hours], abs=0.012)


def test_a_bound_leaves_the_distribution_as_it_is_below() -> None:
    chance = random.Random(2)
    drawn = [shapes.delay(chance, within=24) for _ in range(20_000)]
    assert max(drawn) <= 24
    share = shapes.share_by(6) / shapes.share_by(24)
    assert sum(d <= 6 for d in drawn) / 20_000 == pytest.approx(share, abs=0.012)


@given(HOURS)
def test_the_clock_of_readers_runs_forward_and_takes_a_day_for_a_day(hour: float) -> None:
    passed = shapes.readers_hours(hour)
    assert shapes.clock(passed) == pytest.approx(hour, abs=1e-6)
    assert shapes.readers_hours(hour + 24) == pytest.approx(passed + 24)
    assert shapes.readers_hours(hour + 0.1) > passed


@settings(max_examples=15)
@given(st.floats(0, 24))
def test_whole_days_are_exact_whenever_a_mail_is_sent(sent: float) -> None:
    found = shapes.after_sending(168, sent)(random.Random(3), 4000)
    assert found == sorted(found)
    assert found[0] >= 0
    assert found[-1] <= 1
    share = shapes.share_by(24) / shapes.share_by(168)
    assert bisect_right(found, 24 / 168) / 4000 == pytest.approx(share, abs=0.03)


def test_night_follows_day() -> None:
    found = shapes.any_day(random.Random(4), 40_000)

    def around(hour: float) -> int:
        return sum(abs(share * 24 - hour) < 1 for share in found)

    ratio = around(shapes.PEAK_HOUR) / around(shapes.PEAK_HOUR - 12)
    assert ratio == pytest.approx((1 + shapes.WAVE) / (1 - shapes.WAVE), rel=0.2)


def test_deliveries_come_in_bursts() -> None:
    found = shapes.deliveries(12)(random.Random(5), 12_000)
    assert all(0 <= share < 1 for share in found)
    # Half of a batch is there in a sixth of the time that it has.
    assert sum(share * 12 % 1 < 1 / 6 for share in found) / 12_000 == pytest.approx(0.49, abs=0.03)


def test_ages_share_all_opens() -> None:
    shares = shapes.age_shares((1, 6, 24, 168))
    assert sum(shares) == pytest.approx(1)
    assert shares[0] == pytest.approx(shapes.share_by(math.sqrt(6)))


def test_a_plan_gives_what_is_due_in_order_and_drops_what_is_too_late() -> None:
    plan = Plan([0.1, 0.5, 0.9], seconds=10, grace=1)
    assert [plan.take(0), plan.take(7)] == [1, 5]  # late, and still to be sent
    assert not plan.over(10.9)
    assert plan.over(11.1)
    assert plan.take(11.1) is None
    assert plan.planned == 3  # what was dropped was planned


def test_a_stopped_plan_has_planned_what_was_due_by_then() -> None:
    plan = Plan([0.1, 0.5, 0.9], seconds=10)
    plan.take(0)
    plan.stop(6)
    assert (plan.planned, plan.ends, plan.stopped) == (2, 6, True)
    assert plan.take(6.1) is None
    plan.stop(8)
    assert (plan.planned, plan.ends) == (2, 6)
