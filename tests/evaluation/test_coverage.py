"""Intervals hold the truth as often as they say, where the truth is known. Prints what it measures (pytest -s -n 0).

Repetitions are rows of one array, or operating points of one sweep, for each of which other questions were drawn; in
turns of a few hundred they share which of their questions the bootstrap repeats.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from long_tables import sweep_of
from numpy.typing import NDArray

from tts_gym.evaluation import evaluate
from tts_gym.evaluation.frontiers import mean_advantage
from tts_gym.evaluation.statistics import Estimate, mean_estimates, replicate, resample
from tts_gym.evaluation.sweep import Point, Scope, load_sweep

Sampler = Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float64]]

REPETITIONS, TURNS, DRAWS, ORDERS = 2000, 8, 2000, 100


def _covered(estimates: list[Estimate], truth: float) -> float:
    return 100 * float(np.mean([x.low - 1e-9 <= truth <= x.high + 1e-9 for x in estimates]))


def _coverage(values: NDArray[np.float64], truth: float, method: str = "expanded") -> float:
    """Percent of the rows of values[REPETITIONS, Q] whose interval of the mean holds the truth."""
    parts = enumerate(np.array_split(values, TURNS))
    return _covered([x for seed, part in parts for x in mean_estimates(part, DRAWS, seed=seed, method=method)], truth)


def _mixed(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Accuracy like that on AIME: a quarter of the questions never right, 45 % always, the rest anywhere."""
    kind, between = random.choice(3, shape, p=[0.25, 0.45, 0.3]), random.random(shape)
    return random.binomial(ORDERS, np.select([kind == 0, kind == 1], [0.0, 1.0], between)) * 100 / ORDERS


def _hard(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Most questions never right: Beta(0.12, 0.97)."""
    return random.binomial(ORDERS, random.beta(0.12, 0.97, shape)) * 100 / ORDERS


def _tokens(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    return random.lognormal(0.0, 0.8, shape)


# What the docstring of tts_gym.evaluation.statistics says, from 20,000 repetitions; per cent.
METHODS_SAID = ("percentile", "expanded", "bca")


@pytest.mark.parametrize(
    ("sampler", "truth", "said"),
    [
        (_mixed, 60.0, (94.0, 95.4, 96.8)),
        (_hard, 100 * 0.12 / 1.09, (90.8, 92.1, 94.5)),
        (_tokens, np.exp(0.32), (89.8, 91.3, 92.3)),
    ],
)
def test_means_over_thirty_questions(sampler: Sampler, truth: float, said: tuple[float, ...]) -> None:
    values = sampler(np.random.default_rng(1), (REPETITIONS, 30))
    covered = [_coverage(values, truth, method) for method in METHODS_SAID]
    print(sampler.__name__, covered)
    assert covered == pytest.approx(said, abs=2.0)  # the standard error of 2,000 repetitions is 0.5 to 0.7
    assert covered[0] < covered[1]


def test_paired_differences_over_thirty_questions() -> None:
    """The questions differ much, the contestants little: the difference is known far better than either."""
    random = np.random.default_rng(2)
    base = random.choice([0.1, 0.5, 0.8], (REPETITIONS, 30))
    gain = random.choice([-0.1, 0.0, 0.0, 0.1, 0.2], (REPETITIONS, 30))  # 4 points on average
    ours, theirs = (random.binomial(ORDERS, p) * 100 / ORDERS for p in (base + gain, base))
    assert 93 <= _coverage(ours - theirs, 4.0) <= 97
    found, unpaired = mean_estimates(ours - theirs, DRAWS), mean_estimates(ours, DRAWS)
    widths = [[x.high - x.low for x in estimates] for estimates in (found, unpaired)]
    assert np.mean(widths[0]) < 0.5 * np.mean(widths[1])


def test_four_models_asked_the_same_questions() -> None:
    """Drawn together, as is the default, they cover; taken for different questions they do not."""
    random = np.random.default_rng(3)
    hardness = random.random((REPETITIONS, 30))
    pools = [np.clip(hardness + random.normal(0, 0.1, hardness.shape), 0, 1) * 100 for _ in range(4)]
    covered = {}
    for how, benchmarks in (("together", None), ("apart", ["a", "b", "c", "d"])):
        sweep = sweep_of(pools, benchmarks=benchmarks)
        replicates = replicate(sweep, resample(sweep, DRAWS), Scope("*", sweep.pools))
        covered[how] = _covered(replicates.estimates(replicates.mean["accuracy"]), 50.0)
    print(covered)
    assert 93 <= covered["together"] <= 97
    assert covered["apart"] < 75


def test_two_benchmarks_taken_for_one_lose_nothing() -> None:
    random = np.random.default_rng(4)
    pools = [_mixed(random, (REPETITIONS, 30)) for _ in range(2)]
    for benchmarks in (["x", "y"], ["x", "x"]):
        sweep = sweep_of(pools, benchmarks=benchmarks)
        replicates = replicate(sweep, resample(sweep, DRAWS), Scope("*", sweep.pools))
        assert 93.5 <= _covered(replicates.estimates(replicates.mean["accuracy"]), 60.0) <= 97


def test_mean_advantage_of_a_frontier() -> None:
    """Two contestants of three operating points; the first is 5 points better at every one, on average."""
    random = np.random.default_rng(5)
    points = [Point(c, beta) for c in "ab" for beta in (0.0, 0.5, 1.0)]
    levels, estimates = np.array([0.3, 0.5, 0.6]), []
    for _ in range(400):
        hardness = random.uniform(-0.2, 0.2, 30)
        better = random.choice([0.0, 0.0, 0.2], 30) - 0.2 / 3
        right = [levels[:, None] + hardness + 0.05 + better, levels[:, None] + hardness]
        accuracy = random.binomial(ORDERS, np.concatenate(right)) * 100 / ORDERS
        tokens = np.tile([[1e3], [1e4], [1e5]], (2, 1)) * random.lognormal(0, 0.5, 30)
        sweep = sweep_of([accuracy], [tokens], points=points)
        found = mean_advantage(replicate(sweep, resample(sweep, 500), Scope("*", sweep.pools)), "a", "b")
        assert found.comparable == 1.0
        estimates.append(found.estimate)
    covered = _covered(estimates, 5.0)
    print("mean advantage", covered)
    assert 91 <= covered <= 98


def test_recorded_questions(autotts: Path) -> None:
    """240 recorded questions as the population. A difference that few of them carry is the hard case: see the docs."""
    pools = [autotts / model / f"{name}.json" for model in
             ("Qwen3-0.6B", "Qwen3-1.7B", "Qwen3-4B", "Qwen3-8B") for name in ("aime24", "aime25")]  # fmt: skip
    sweep = load_sweep(evaluate(["sc", "cmc"], pools, [0.5, 1.0], orders=ORDERS))
    accuracy, tokens = (np.concatenate(sweep.sums[name], axis=1) / ORDERS for name in ("correct", "tokens"))
    sc, cmc = sweep.index("sc", 1.0), sweep.index("cmc", 1.0)
    half = sweep.index("cmc", 0.5)
    chosen = np.random.default_rng(6).integers(0, 240, (REPETITIONS, 30))
    for name, values, said in (
        ("CMC acc.", 100 * accuracy[cmc], (94.1, 95.4, 96.9)),
        ("CMC tokens", tokens[cmc], (93.2, 94.6, 95.2)),
        ("CMC beta 0.5 - 1.0", 100 * (accuracy[half] - accuracy[cmc]), (88.5, 89.7, 90.6)),
        ("CMC - SC", 100 * (accuracy[cmc] - accuracy[sc]), (75.3, 76.8, 71.0)),
    ):
        covered = [_coverage(values[chosen], values.mean(), method) for method in METHODS_SAID]
        print(name, covered)
        assert covered == pytest.approx(said, abs=3.0 if name == "CMC - SC" else 2.0)
