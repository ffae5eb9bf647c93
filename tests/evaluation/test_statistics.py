"""Means, differences and intervals against numbers worked out by hand and against SciPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from long_tables import long_table, sweep_of
from scipy import stats

from tts_gym.errors import UsageError
from tts_gym.evaluation import evaluate
from tts_gym.evaluation.statistics import (
    METHODS,
    Draws,
    Estimate,
    as_table,
    differences,
    mean_estimates,
    question_differences,
    replicate,
    resample,
    summaries,
)
from tts_gym.evaluation.sweep import Point, Scope, Sweep, load_sweep, scopes
from tts_gym.pools import SyntheticSpec, generate

ALL = 20_000


def _whole(sweep: Sweep) -> Scope:
    return Scope("*", sweep.pools)


def test_means_are_those_of_the_evaluation_to_the_last_digit() -> None:
    pools = [generate(SyntheticSpec(questions=q, branches=8), seed=q, name=f"m{q}/b{q}") for q in (3, 7)]
    results = evaluate(["sc", "cmc", "esc"], pools, [0.0, 0.2], orders=6)
    sweep = load_sweep(results)
    draws = resample(sweep, 50)
    each = {name: summaries(sweep, draws, Scope(name, (name,))) for name in sweep.pools}
    for row in results.rows:
        (found,) = (s for s in each[row.pool] if (s.contestant, s.beta) == (row.contestant, row.beta))
        for name in ("accuracy", "tokens", "sequential_tokens", "peak_width", "probes"):
            assert getattr(found, name).value == getattr(row, name)
    for k, pooled in enumerate(summaries(sweep, draws, _whole(sweep))):
        by_hand = (each["m3/b3"][k].tokens.value + each["m7/b7"][k].tokens.value) / 2  # not 3/10 and 7/10 of them
        assert pooled.tokens.value == by_hand


def test_percentiles_of_three_questions_by_hand() -> None:
    # Right on one of three questions. It is drawn 0, 1, 2, 3 times with 8, 12, 6, 1 of 27: 29.6, 74.1, 96.3, 100 %.
    sweep = sweep_of([np.array([[0.0, 0.0, 90.0]])])
    for level, low, high in ((0.95, 0.0, 90.0), (0.9, 0.0, 60.0), (0.5, 0.0, 60.0), (0.3, 30.0, 30.0)):
        draws = resample(sweep, ALL, level=level, method="percentile")
        (estimate,) = replicate(sweep, draws, _whole(sweep)).estimates(
            replicate(sweep, draws, _whole(sweep)).mean["accuracy"]
        )
        assert estimate == Estimate(30.0, low, high), level


def test_expanded_percentiles_by_hand() -> None:
    # n = 30: t = 2.04523 at 29 degrees of freedom, times sqrt(30 / 29) = 2.08019; the normal is below it with 1.876 %.
    draws = Draws({}, np.zeros(0, dtype=np.int64), 10_000, 0.95, "expanded")
    numbers = np.concatenate([[5000.0], np.random.default_rng(0).permutation(10_000) + 1.0])
    assert draws.estimates(numbers[:, None], 30) == [Estimate(5000.0, 188.0, 9813.0)]
    # n = 5: 2.77645 x sqrt(5 / 4) = 3.10416, 0.0954 %; and ever so many questions: 2.5 %.
    assert draws.estimates(numbers[:, None], 5) == [Estimate(5000.0, 10.0, 9991.0)]
    assert draws.estimates(numbers[:, None], 10**7) == [Estimate(5000.0, 250.0, 9751.0)]


@pytest.mark.parametrize(("method", "of_scipy"), [("percentile", "percentile"), ("bca", "BCa")])
def test_intervals_are_scipys(method: str, of_scipy: str) -> None:
    random = np.random.default_rng(5)
    values = random.lognormal(0, 1, (4, 30))
    level = 0.95 if method == "percentile" else 1 - 2 * 0.018760  # bca ends where expanded does
    ours = mean_estimates(values, ALL, method=method)
    theirs = stats.bootstrap(
        (values,), np.mean, axis=-1, n_resamples=ALL, confidence_level=level, method=of_scipy, rng=random, batch=1000
    ).confidence_interval
    width = theirs.high - theirs.low
    assert [x.value for x in ours] == pytest.approx(values.mean(axis=1))
    assert np.abs([x.low for x in ours] - theirs.low).max() < 0.02 * width.min()
    assert np.abs([x.high for x in ours] - theirs.high).max() < 0.04 * width.min()


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    values = np.random.default_rng(0).random((1, 30))
    assert mean_estimates(values, seed=3) == mean_estimates(values, seed=3)
    assert mean_estimates(values, seed=3) != mean_estimates(values, seed=4)


def test_draws_of_a_benchmark_do_not_depend_on_the_rest_of_the_sweep() -> None:
    random = np.random.default_rng(0)
    values = [random.random((2, 9)), random.random((2, 9))]
    both, one = sweep_of(values, pools=["m/x", "m/y"]), sweep_of(values[1:], pools=["m/y"])
    alone = Scope("m/y", ("m/y",))
    assert summaries(both, resample(both, 500), alone) == summaries(one, resample(one, 500), alone)


def test_models_of_one_benchmark_share_the_draw() -> None:
    # What is easy for one model is hard for the other: their mean is 50 % whichever questions are drawn.
    values = np.array([[0.0, 100.0, 30.0, 60.0]])
    joint = sweep_of([values, 100 - values])
    apart = sweep_of([values, 100 - values], benchmarks=["x", "y"])
    (same,) = summaries(joint, resample(joint, 1000), _whole(joint))
    (wide,) = summaries(apart, resample(apart, 1000), _whole(apart))
    assert same.accuracy == Estimate(50.0, 50.0, 50.0)
    assert wide.accuracy.high - wide.accuracy.low > 30


def test_one_question_of_two_benchmarks_by_hand() -> None:
    # Per benchmark the mean is 0, 50, 100 with 1/4, 1/2, 1/4, so the mean of both is 0, 25, ..., 100 with binomial
    # (4, 1/2) weights 1, 4, 6, 4, 1 of 16: 6.3, 31.3, 68.8, 93.8, 100 %.
    sweep = sweep_of([np.array([[0.0, 100.0]])] * 2, benchmarks=["x", "y"])
    for level, low, high in ((0.95, 0.0, 100.0), (0.8, 25.0, 75.0), (0.3, 50.0, 50.0)):
        (row,) = summaries(sweep, resample(sweep, ALL, level=level, method="percentile"), _whole(sweep))
        assert row.accuracy == Estimate(50.0, low, high)


def test_a_constant_difference_is_certain() -> None:
    random = np.random.default_rng(1)
    base, tokens = random.integers(0, 90, (1, 20)), random.integers(1000, 9000, (1, 20))
    sweep = sweep_of(
        [np.concatenate([base, base + 7.0])],
        [np.concatenate([tokens, 2.0 * tokens])],
        points=[Point("a", 0.0), Point("b", 0.0)],
    )
    replicates = replicate(sweep, resample(sweep, 1000), _whole(sweep))
    (found,) = differences(replicates, Point("a", 0.0))
    assert found.accuracy == Estimate(7.0, 7.0, 7.0)
    assert found.tokens_ratio == Estimate(2.0, 2.0, 2.0)
    assert found.tokens.value == tokens.mean()
    assert found.tokens.low < tokens.mean() < found.tokens.high
    assert found.carried_by == pytest.approx(20.0)
    assert summaries(sweep, replicates.draws, _whole(sweep))[1].accuracy.low < base.mean() + 5  # each alone is not


def test_who_is_compared_with_whom() -> None:
    points = [Point("a", 0.0), Point("a", 1.0), Point("b", 0.0), Point("b", 0.5), Point("c", 1.0)]
    sweep = sweep_of([np.arange(10.0).reshape(5, 2)], points=points)
    replicates = replicate(sweep, resample(sweep, 10), _whole(sweep))
    against = [(d.contestant, d.beta, d.baseline, d.baseline_beta) for d in differences(replicates, Point("a", 1.0))]
    assert against == [(*point, "a", 1.0) for point in points if point != ("a", 1.0)]
    same = [(d.contestant, d.beta, d.baseline, d.baseline_beta) for d in differences(replicates, "a")]
    assert same == [("b", 0.0, "a", 0.0), ("c", 1.0, "a", 1.0)]
    assert differences(replicates, "b")[0].accuracy.value == -4.0  # mean of 0, 1 minus mean of 4, 5
    with pytest.raises(UsageError, match="no contestant 'd'"):
        differences(replicates, "d")


@pytest.mark.parametrize("method", METHODS)
def test_what_never_differs_or_costs_nothing_has_numbers(method: str) -> None:
    points = [Point("a", 0.0), Point("b", 0.0)]
    sweep = sweep_of([np.array([[100.0, 0.0]] * 2)], [np.array([[0.0, 0.0], [7.0, 7.0]])], points=points)
    (found,) = differences(replicate(sweep, resample(sweep, 100, method=method), _whole(sweep)), "a")
    assert (found.accuracy, found.carried_by) == (Estimate(0.0, 0.0, 0.0), 0.0)
    assert found.tokens_ratio == Estimate(7.0, 7.0, 7.0)


def test_which_questions_carry_a_difference() -> None:
    ours, theirs = np.array([50.0, 80.0, 0.0, 10.0]), np.array([50.0, 20.0, 0.0, 40.0])
    points = [Point("a", 0.0), Point("b", 0.0)]
    sweep = sweep_of([np.stack([ours, theirs]), np.stack([theirs, theirs])], points=points)
    parts = question_differences(sweep, _whole(sweep), *points)
    assert parts["b"] == pytest.approx([0.0, 7.5, 0.0, -3.75])  # (60, -30) / 4 questions / 2 pools
    (found,) = differences(replicate(sweep, resample(sweep, 10), _whole(sweep)), points[1])
    assert found.accuracy.value == 3.75
    assert found.carried_by == pytest.approx(1.8)  # 90^2 / (60^2 + 30^2)


def test_cmc_over_self_consistency_on_the_search_pool(autotts: Path) -> None:
    """Spec section 7: +5.4 points, 0.0 to 13.6 over questions, all of it from questions 13 and 28."""
    results = evaluate(["cmc", "sc"], [autotts / "Qwen3-8B" / "aime24.json"], [1.0], orders=100)
    sweep = load_sweep(results)
    (scope,) = scopes(sweep)
    cmc, sc = Point("cmc", 1.0), Point("sc", 1.0)
    found = {}
    for method in METHODS:
        (found[method],) = differences(replicate(sweep, resample(sweep, method=method), scope), sc)
    assert found["percentile"].accuracy.value == pytest.approx(5.4)
    assert found["percentile"].accuracy.low == 0.0
    assert found["percentile"].accuracy.high == pytest.approx(13.6, abs=0.3)
    assert found["expanded"].accuracy.low == 0.0
    assert found["expanded"].accuracy.high == pytest.approx(13.7, abs=0.3)
    (parts,) = question_differences(sweep, scope, cmc, sc).values()
    assert np.flatnonzero(parts).tolist() == [13, 28]
    assert parts[[13, 28]] == pytest.approx([83 / 30, 79 / 30])
    assert found["expanded"].carried_by == pytest.approx(162**2 / (83**2 + 79**2))
    assert found["expanded"].tokens_ratio.value == pytest.approx(467_434 / 910_813, abs=1e-5)
    # 3,000 trials taken for independent would have left no doubt: a standard error of 0.95 points.


def test_rows_become_a_table() -> None:
    sweep = load_sweep(long_table({("m/x", c, 0.5): (np.eye(3, dtype=bool), 100) for c in "ab"}))
    draws = resample(sweep, 100)
    table = as_table(differences(replicate(sweep, draws, _whole(sweep)), "a"))
    assert table.column_names[:8] == [
        "scope", "contestant", "beta", "baseline", "baseline_beta", "accuracy", "accuracy_low", "accuracy_high"
    ]  # fmt: skip
    assert table["carried_by"].to_pylist() == [0.0]
    assert as_table([]).num_rows == 0


def test_wrong_requests_are_named() -> None:
    sweep = sweep_of([np.zeros((1, 3))])
    for arguments, says in (
        ({"draws": 0}, "draws should be at least 1, found 0"),
        ({"seed": -1}, "seed should be at least 0, found -1"),
        ({"level": 95}, "level should be between 0 and 1, found 95"),
        ({"method": "normal"}, "method should be one of expanded, percentile, bca, found 'normal'"),
    ):
        with pytest.raises(UsageError, match=says):
            resample(sweep, **arguments)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="needs at least 2 of them, 'b' has 1"):
        resample(sweep_of([np.zeros((1, 1))]))
    with pytest.raises(UsageError, match="names the pool other, which is not in the sweep"):
        replicate(sweep, resample(sweep, 5), Scope("*", ("other",)))
