"""Frontiers and comparisons against numbers worked out by hand and against plain Python, draw by draw."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from long_tables import sweep_of
from numpy.typing import NDArray

from tts_gym.errors import UsageError
from tts_gym.evaluation.dominance import hypervolumes, owned_shares
from tts_gym.evaluation.frontiers import (
    accuracy_at_equal_tokens,
    frontier,
    mean_advantage,
    tokens_at_equal_accuracy,
)
from tts_gym.evaluation.statistics import Estimate, Replicates, replicate, resample
from tts_gym.evaluation.sweep import Point, Scope, Sweep


def _replicates(sweep: Sweep, draws: int = 2000) -> Replicates:
    return replicate(sweep, resample(sweep, draws, method="percentile"), Scope("*", sweep.pools))


def _certain(points: dict[tuple[str, float], tuple[float, float]]) -> Replicates:
    """Operating points (tokens, accuracy) that are the same on all of three questions: intervals have no width."""
    tokens, accuracy = (np.repeat([[value[i]] for value in points.values()], 3, axis=1) for i in (0, 1))
    return _replicates(sweep_of([accuracy], [tokens], points=[Point(*key) for key in points]), 100)


def _exactly(estimate: Estimate, value: float) -> bool:
    return (estimate.value, estimate.low, estimate.high) == pytest.approx((value, value, value))


HAND = {
    ("a", 0.0): (1e3, 20.0),
    ("a", 0.5): (5e3, 10.0),  # dominated
    ("a", 1.0): (1e4, 60.0),
    ("b", 0.0): (1e2, 10.0),
    ("b", 1.0): (1e5, 50.0),
}


def test_a_frontier_by_hand() -> None:
    a = frontier(_certain(HAND), "a")
    assert [(p.beta, p.tokens.value, p.accuracy.value, p.on_frontier, p.on_frontier_share) for p in a] == [
        (0.0, 1e3, 20.0, True, 1.0),
        (0.5, 5e3, 10.0, False, 0.0),
        (1.0, 1e4, 60.0, True, 1.0),
    ]
    assert _exactly(a[2].tokens, 1e4)
    assert _exactly(a[2].accuracy, 60.0)


def test_a_frontier_has_intervals_in_both_axes_and_says_how_often_a_point_is_on_it() -> None:
    # Two questions. The dearer point is right where the cheaper is wrong: equally accurate as observed, so dominated;
    # on the frontier when both draws are question 1, one draw in four.
    sweep = sweep_of([np.array([[100.0, 0.0], [0.0, 100.0]])], [np.array([[10.0, 30.0], [40.0, 60.0]])])
    cheap, dear = frontier(_replicates(sweep, 20_000), "c")
    assert (cheap.tokens, cheap.accuracy) == (Estimate(20.0, 10.0, 30.0), Estimate(50.0, 0.0, 100.0))
    assert (cheap.on_frontier, dear.on_frontier) == (True, False)
    assert cheap.on_frontier_share == 1.0
    assert dear.on_frontier_share == pytest.approx(0.25, abs=0.015)


def test_equal_points_are_on_the_frontier_together() -> None:
    replicates = _certain({("a", 0.0): (1e3, 20.0), ("a", 0.5): (1e3, 20.0), ("a", 1.0): (2e3, 20.0)})
    assert [point.on_frontier for point in frontier(replicates, "a")] == [True, True, False]


def test_accuracy_at_equal_tokens_by_hand() -> None:
    replicates = _certain(HAND)
    # a is at 40 % halfway between 10^3 and 10^4 tokens; b rises by 40 points over 3 decades from 10 % at 10^2.
    found = accuracy_at_equal_tokens(replicates, "a", "b", tokens=10**3.5)
    assert _exactly(found.estimate, 40 - (10 + 40 * 1.5 / 3))
    assert (found.at, found.comparable) == (pytest.approx(10**3.5), 1.0)
    # b read at the tokens of a's operating points, and a at its own, the dominated one included
    assert _exactly(accuracy_at_equal_tokens(replicates, "b", Point("a", 1.0)).estimate, 10 + 40 * 2 / 3 - 60)
    assert _exactly(accuracy_at_equal_tokens(replicates, "a", Point("a", 1.0)).estimate, 0.0)
    dominated = accuracy_at_equal_tokens(replicates, "a", Point("a", 0.5))
    assert _exactly(dominated.estimate, 20 + 40 * math.log10(5) - 10)
    assert dominated.baseline == "a at beta 0.5"


def test_tokens_at_equal_accuracy_by_hand() -> None:
    replicates = _certain(HAND)
    found = tokens_at_equal_accuracy(replicates, "a", "b", accuracy=40.0)
    assert _exactly(found.estimate, 10**3.5 / 10 ** (2 + 3 * 30 / 40))
    assert _exactly(tokens_at_equal_accuracy(replicates, "a", Point("b", 1.0)).estimate, 10**3.75 / 1e5)
    assert _exactly(tokens_at_equal_accuracy(replicates, "b", Point("b", 0.0)).estimate, 1.0)


def test_beyond_the_operating_points_there_are_brackets_and_no_number() -> None:
    replicates = _certain(HAND)
    dear = accuracy_at_equal_tokens(replicates, "a", Point("b", 1.0))  # a ends at 10^4 tokens with 60 %
    assert math.isnan(dear.estimate.value)
    assert (dear.estimate.low, dear.estimate.high) == (10.0, 50.0)  # 60 to 100 % against 50 %
    assert (dear.at_least, dear.at_most, dear.comparable) == (10.0, 50.0, 0.0)
    cheap = accuracy_at_equal_tokens(replicates, "a", Point("b", 0.0))  # a begins at 10^3 tokens with 20 %
    assert (cheap.at_least, cheap.at_most) == (-10.0, 10.0)
    weak = tokens_at_equal_accuracy(replicates, "a", Point("b", 0.0))  # 20 % for 10^3, so 10 % for less
    assert (weak.at_least, weak.at_most) == (0.0, pytest.approx(10.0))
    strong = tokens_at_equal_accuracy(replicates, "b", Point("a", 1.0))  # 50 % for 10^5, so 60 % for more
    assert (strong.at_least, strong.at_most) == (pytest.approx(10.0), math.inf)
    neither = tokens_at_equal_accuracy(replicates, "a", "b", accuracy=99.0)
    assert (neither.at_least, neither.at_most) == (0.0, math.inf)
    assert math.isnan(neither.estimate.value)


def test_an_interval_takes_the_brackets_of_draws_that_reach_too_little() -> None:
    # As observed b reaches a's 50 %, but where question 1 is drawn more often a has more than b ever has.
    accuracy = np.array([[0.0, 100.0], [0.0, 40.0], [100.0, 60.0]])
    points = [Point("a", 0.0), Point("b", 0.0), Point("b", 1.0)]
    sweep = sweep_of([accuracy], [np.repeat([[100.0], [10.0], [1000.0]], 2, axis=1)], points=points)
    found = tokens_at_equal_accuracy(_replicates(sweep, 20_000), "b", Point("a", 0.0))
    assert found.estimate.value == pytest.approx(10 ** (1 + 2 * 30 / 60) / 100)  # between 20 % and 80 %
    assert found.comparable == pytest.approx(0.75, abs=0.02)
    assert (found.estimate.low, found.estimate.high) == (pytest.approx(0.1), math.inf)


def test_mean_advantage_by_hand() -> None:
    replicates = _certain(HAND)
    found = mean_advantage(replicates, "a", "b")  # from 10^3 to 10^4: a 40 % on average, b 23.3 to 36.7 %
    assert _exactly(found.estimate, 10.0)
    assert (found.low_tokens, found.high_tokens, found.comparable) == (pytest.approx(1e3), pytest.approx(1e4), 1.0)
    assert _exactly(mean_advantage(replicates, "b", "a").estimate, -10.0)
    upper = mean_advantage(replicates, "a", "b", low_tokens=10**3.5, high_tokens=1e6)  # a 50 %, b 33.3 %
    assert _exactly(upper.estimate, 50 - (10 + 40 * 1.75 / 3))
    assert (upper.low_tokens, upper.high_tokens) == (pytest.approx(10**3.5), pytest.approx(1e4))


def test_mean_advantage_over_one_operating_point_is_the_difference_there() -> None:
    replicates = _certain({**HAND, ("one", 0.0): (10**3.5, 30.0), ("far", 0.0): (1e6, 90.0)})
    found = mean_advantage(replicates, "a", "one")
    assert _exactly(found.estimate, 10.0)
    assert found.low_tokens == found.high_tokens
    far = mean_advantage(replicates, "a", "far")
    assert math.isnan(far.estimate.value)
    assert math.isnan(far.low_tokens)
    assert (far.estimate.low, far.estimate.high, far.comparable) == (-100.0, 100.0, 0.0)


def test_hypervolume_by_hand() -> None:
    replicates = _certain(HAND)
    a, b = hypervolumes(replicates, baseline="b")  # up to 10^5, the dearest point
    assert _exactly(a.estimate, 20 * 1 + 60 * 1)
    assert _exactly(b.estimate, 10 * 3)
    assert a.reference_tokens == 1e5
    assert a.over_baseline is not None
    assert b.over_baseline is not None
    assert _exactly(a.over_baseline, 50.0)
    assert _exactly(b.over_baseline, 0.0)
    a, b = hypervolumes(replicates, reference_tokens=1e6, reference_accuracy=15.0)
    assert _exactly(a.estimate, (20 - 15) * 1 + (60 - 15) * 2)
    assert _exactly(b.estimate, 35 * 1)
    assert a.over_baseline is None
    a, b = hypervolumes(replicates, reference_tokens=1e3)
    assert _exactly(a.estimate, 0.0)
    assert _exactly(b.estimate, 10.0)


def test_owned_shares_by_hand() -> None:
    a, b = owned_shares(_certain(HAND))  # b from 10^2, a from 10^3 up to 10^5
    assert (a.reference_tokens, b.reference_tokens) == (1e5, 1e5)
    assert _exactly(a.estimate, 2 / 3)
    assert _exactly(b.estimate, 1 / 3)
    a, b = owned_shares(_certain(HAND), reference_tokens=10**3.5)
    assert _exactly(a.estimate, 1 / 3)


def test_equal_points_of_two_contestants_are_owned_by_both() -> None:
    a, b, c = owned_shares(
        _certain({("a", 0.0): (1e2, 30.0), ("b", 0.0): (1e2, 30.0), ("c", 0.0): (1e3, 30.0), ("b", 1.0): (1e3, 40.0)}),
        reference_tokens=1e4,
    )
    assert _exactly(a.estimate, 0.25)
    assert _exactly(b.estimate, 0.75)
    assert _exactly(c.estimate, 0.0)  # as accurate as a, and dearer


class _Recorded(Replicates):
    """Keeps what is handed over to be summarised: every draw, as (lower, upper) or as values of several statistics."""

    @property
    def handed(self) -> list[NDArray[np.float64]]:
        return self.__dict__.setdefault("_handed", [])

    def bracketed(self, lower: NDArray[np.float64], upper: NDArray[np.float64]) -> Estimate:
        self.handed.append(np.stack([lower, upper], axis=1))
        return super().bracketed(lower, upper)

    def estimates(self, values: NDArray[np.float64]) -> list[Estimate]:
        self.handed.append(values)
        return super().estimates(values)


Plain = list[tuple[float, float]]


def _drawn(seed: int) -> tuple[_Recorded, list[dict[str, Plain]]]:
    """Random operating points, and in every draw the frontier of each contestant, by the definition."""
    random = np.random.default_rng(seed)
    points = [Point(c, beta) for c, betas in (("a", 4), ("b", 3), ("one", 1)) for beta in map(float, range(betas))]
    tokens = random.choice([10.0, 50.0, 200.0, 1000.0, 4000.0], (len(points), 1)) * random.integers(1, 4, (1, 4))
    accuracy = random.choice([0.0, 20.0, 40.0, 60.0, 100.0], (len(points), 4))
    sweep = sweep_of([accuracy], [tokens], points=points)
    replicates = _Recorded(**vars(_replicates(sweep, 60)))
    logs, right = np.log10(replicates.mean["tokens"]), replicates.mean["accuracy"]
    frontiers = [
        {name: _undominated([(float(x[k]), float(y[k])) for k in sweep.indices(name)]) for name in sweep.contestants}
        for x, y in zip(logs, right, strict=True)
    ]
    return replicates, frontiers


def _undominated(points: Plain) -> Plain:
    kept = [p for p in points if not any(q != p and q[0] <= p[0] and q[1] >= p[1] for q in points)]
    return sorted(set(kept))


def _reading(points: Plain, x: float, least: float, most: float) -> tuple[float, float]:
    """What a frontier is at x: between which two numbers."""
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 <= x <= x1:
            return (y0 + (y1 - y0) * (x - x0) / (x1 - x0),) * 2
    (first, lowest), (last, highest) = points[0], points[-1]
    if x < first:
        return least, lowest
    return (highest, most) if x > last else (highest, highest)


@pytest.mark.parametrize("seed", range(8))
def test_readings_are_those_of_plain_python_in_every_draw(seed: int) -> None:
    replicates, frontiers = _drawn(seed)
    accuracy_at_equal_tokens(replicates, "a", "b", tokens=300.0)
    tokens_at_equal_accuracy(replicates, "a", Point("one", 0.0))
    accuracy, tokens = replicates.handed
    for r, found in enumerate(frontiers):
        a, b = (_reading(found[name], float(np.log10(300.0)), 0.0, 100.0) for name in "ab")
        assert accuracy[r] == pytest.approx([a[0] - b[1], a[1] - b[0]])
        ((spent, right),) = found["one"]
        a = _reading([(y, x) for x, y in found["a"]], right, -math.inf, math.inf)
        assert tokens[r] == pytest.approx([10 ** (a[0] - spent), 10 ** (a[1] - spent)])


@pytest.mark.parametrize("seed", range(8))
def test_mean_advantages_are_those_of_fine_sums_in_every_draw(seed: int) -> None:
    replicates, frontiers = _drawn(seed)
    mean_advantage(replicates, "a", "b")
    (handed,) = replicates.handed
    middles = (np.arange(4000) + 0.5) / 4000
    for r, found in enumerate(frontiers):
        low = max(found["a"][0][0], found["b"][0][0])
        high = min(found["a"][-1][0], found["b"][-1][0])
        if low > high:
            assert handed[r].tolist() == [-100.0, 100.0]
            continue
        a, b = (np.interp(low + middles * (high - low), *zip(*found[name], strict=True)) for name in "ab")
        assert handed[r] == pytest.approx([np.mean(a - b)] * 2, abs=1e-3)


@pytest.mark.parametrize("seed", range(8))
def test_shares_are_those_of_counted_budgets_in_every_draw(seed: int) -> None:
    replicates, frontiers = _drawn(seed)
    shares = owned_shares(replicates, reference_tokens=20_000.0)
    budgets = (np.arange(1000) + 0.5) / 1000
    for r, found in enumerate(frontiers):
        everyone = _undominated([p for points in found.values() for p in points])
        counted = dict.fromkeys(found, 0.0)
        for budget in everyone[0][0] + budgets * (math.log10(20_000.0) - everyone[0][0]):
            at = max(p for p in everyone if p[0] <= budget)
            owners = [name for name in found if at in found[name]]
            for name in owners:
                counted[name] += 1 / len(owners) / len(budgets)
        assert [lower[r, 0] for lower in replicates.handed] == pytest.approx(list(counted.values()), abs=0.003)
    assert sum(share.estimate.value for share in shares) == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(8))
def test_hypervolumes_are_those_of_rectangles_in_every_draw(seed: int) -> None:
    replicates, frontiers = _drawn(seed)
    hypervolumes(replicates, reference_tokens=2_000.0, reference_accuracy=10.0)
    (handed,) = replicates.handed
    corner = math.log10(2_000.0)
    for r, found in enumerate(frontiers):
        for c, points in enumerate(found.values()):
            inside = [(x, y) for x, y in points if x < corner and y > 10]
            ends = [*(x for x, _ in inside[1:]), corner]
            assert handed[r, c] == pytest.approx(sum((y - 10) * (end - x) for (x, y), end in zip(inside, ends)))


def test_fewer_than_one_token_counts_as_one() -> None:
    replicates = _certain({("a", 0.0): (0.0, 10.0), ("a", 1.0): (100.0, 50.0), ("b", 0.0): (10.0, 20.0)})
    assert _exactly(accuracy_at_equal_tokens(replicates, "a", Point("b", 0.0)).estimate, 10.0)


def test_wrong_requests_are_named() -> None:
    replicates = _certain(HAND)
    for call, says in (
        (lambda: frontier(replicates, "z"), "no contestant 'z'"),
        (lambda: accuracy_at_equal_tokens(replicates, "a", "b"), "a baseline that is a contestant needs tokens="),
        (
            lambda: tokens_at_equal_accuracy(replicates, "a", Point("b", 0.0), accuracy=3.0),
            "a baseline that is an operating point has its own accuracy",
        ),
        (lambda: accuracy_at_equal_tokens(replicates, "a", Point("b", 0.3)), "not evaluated at beta 0.3"),
        (lambda: mean_advantage(replicates, "a", "b", 1e4, 1e3), "should rise and begin at 1 or later"),
        (lambda: hypervolumes(replicates, reference_tokens=0.0), "reference_tokens should be a number of tokens"),
        (lambda: hypervolumes(replicates, baseline="z"), "no contestant 'z'"),
        (lambda: owned_shares(replicates, reference_tokens=50.0), r"no operating point of \* costs less than 50"),
    ):
        with pytest.raises(UsageError, match=says):
            call()
