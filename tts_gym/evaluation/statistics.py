"""Means, differences and their intervals, by resampling questions.

What is resampled are questions, each with all its orders and recorded branches: 100 orders of a question are no 100
questions. An interval says how much the number could be another one had the benchmark held other questions of the
same kind. Pools are fixed: pooled over pools, the questions of each benchmark are drawn once and for all its pools
together (a question that is hard for one model is hard for the next), those of different benchmarks independently;
every pool then counts the same.

Which interval. How often nominal 95 % intervals over 30 questions held the truth (per cent of 20,000 repetitions;
tests/evaluation/test_coverage.py repeats it with fewer). The first three populations are synthetic: AIME-like accuracy,
accuracy of 11 % on average, log-normal tokens. The last four are the 240 recorded AIME questions of four models:

==============  =====  ====  ======  ========  ==========  ==================  ========
method          mixed  hard  tokens  CMC acc.  CMC tokens  CMC beta 0.5 - 1.0  CMC - SC
==============  =====  ====  ======  ========  ==========  ==================  ========
``percentile``  94.0   90.8  89.8    94.1      93.2        88.5                75.3
``expanded``    95.4   92.1  91.3    95.4      94.6        89.7                76.8
``bca``         96.8   94.5  92.3    96.9      95.2        90.6                71.0
==============  =====  ====  ======  ========  ==========  ==================  ========

``expanded`` is the default: it is never below ``percentile``, it is there for every statistic, frontiers included, and
it fails least where intervals fail most. ``bca`` is closer for skewed means and fails worse there. That is a difference
which few questions carry (``Difference.carried_by``; of 30 questions about 20 carry the accuracy of CMC, 4 the
difference of its betas, 2 the one to SC): often none of those that matter is among the 30, and no interval can know of
what was not seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit

from tts_gym.errors import UsageError
from tts_gym.evaluation.episodes import MEASURES
from tts_gym.evaluation.sweep import Point, Scope, Sweep

METHODS = ("expanded", "percentile", "bca")


@dataclass(frozen=True)
class Estimate:
    """A number and its interval, in the number's own unit. NaN where it does not exist."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Draws:
    """Draws of questions, shared by all statistics, so that what is compared is compared on the same questions.

    Attributes:
        counts: per benchmark, float64[1 + R + J, Q]: how often each question was drawn. Row 0 is the benchmark
            itself, R bootstrap draws follow, and then J rows that each leave one question of one benchmark out.
        left_out: int64[J], how many questions the benchmark has from which that row leaves one out.
        number: R.
        level: of the intervals, e.g. 0.95.
        method: one of ``METHODS``.
    """

    counts: Mapping[str, NDArray[np.float64]]
    left_out: NDArray[np.int64]
    number: int
    level: float
    method: str

    def estimates(self, values: NDArray[np.float64], questions: int) -> list[Estimate]:
        """The K estimates of K statistics.

        Args:
            values: float64[1 + R + J, K], the statistics in every draw, finite.
            questions: how many questions there are, of the smallest benchmark if there are several.
        """
        drawn = values[1 : 1 + self.number]
        if self.method == "bca":
            levels = self._bca_levels(values, self._levels(questions))
        else:
            levels = np.broadcast_to(self._levels(questions)[:, None], (2, values.shape[1]))
        low, high = _order_statistics(drawn, levels)
        return [Estimate(*map(float, numbers)) for numbers in zip(values[0], low, high, strict=True)]

    def bracketed(self, lower: NDArray[np.float64], upper: NDArray[np.float64], questions: int) -> Estimate:
        """The estimate of a statistic that in some draws is only known to lie in a bracket.

        The interval takes the lower ends for its low end and the upper ends for its high end, so it holds whatever
        the truth in the brackets is. The value is NaN if it is bracketed itself. ``bca`` is read as ``expanded``.

        Args:
            lower, upper: float64[1 + R + J], equal where the statistic is known.
            questions: as in ``estimates``.
        """
        value = float(lower[0]) if lower[0] == upper[0] else math.nan
        low, high = self._levels(questions)[:, None]
        ends = [
            float(_order_statistics(side[1 : 1 + self.number, None], level[None])[0, 0])
            for side, level in ((lower, low), (upper, high))
        ]
        return Estimate(value, *ends)

    def _levels(self, questions: int) -> NDArray[np.float64]:
        """float64[2], the quantiles of the draws that end an interval.

        ``expanded`` (Hesterberg, arXiv 1411.5279, and his R package resample): as much further out as Student's t
        with n - 1 degrees of freedom and the unbiased variance are wider than the normal with the biased one.
        """
        low = (1 - self.level) / 2
        if self.method != "percentile":
            low = float(ndtr(math.sqrt(questions / (questions - 1)) * stdtrit(questions - 1, low)))
        return np.array([low, 1 - low])

    def _bca_levels(self, values: NDArray[np.float64], levels: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64[2, K], corrected for bias and acceleration (Davison and Hinkley, 1997, section 5.3.2)."""
        observed, drawn = values[0], values[1 : 1 + self.number]
        below = ((drawn < observed).mean(axis=0) + (drawn <= observed).mean(axis=0)) / 2
        bias = ndtri(np.clip(below, 0.5 / self.number, 1 - 0.5 / self.number))
        influence = (observed - values[1 + self.number :]) * ((self.left_out - 1) / self.left_out)[:, None]
        spread = (influence**2).sum(axis=0) ** 1.5
        acceleration = np.divide((influence**3).sum(axis=0), 6 * spread, out=np.zeros_like(spread), where=spread > 0)
        z = bias + ndtri(np.clip(levels, 1e-12, 1 - 1e-12))[:, None]
        return ndtr(bias + z / np.maximum(1 - acceleration * z, 1e-3))


def _order_statistics(drawn: NDArray[np.float64], levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64[E, K], quantiles of the K columns of ``drawn`` at levels[E, K]; each is a value that was drawn."""
    ranks = np.clip(np.ceil(levels * len(drawn) - 1e-9).astype(np.int64) - 1, 0, len(drawn) - 1)
    columns = np.partition(np.ascontiguousarray(drawn.T), np.unique(ranks), axis=1)
    return columns[np.arange(ranks.shape[1]), ranks]


def resample(
    sweep: Sweep, draws: int = 10_000, *, seed: int = 0, level: float = 0.95, method: str = "expanded"
) -> Draws:
    """Draw questions for a sweep.

    A benchmark's draws depend on the seed, its name and how many questions it has, and on nothing else in the sweep.

    Args:
        draws: R, the number of bootstrap draws.
        level: of the intervals, between 0 and 1.
        method: ``expanded`` (percentile interval widened for few questions), ``percentile`` or ``bca``; the module's
            text says how well each does.

    Raises:
        UsageError: an argument is out of range, or a benchmark has fewer than 2 questions.
    """
    sizes = {name: len(asked) for name, asked in zip(sweep.benchmarks, sweep.questions, strict=True)}
    return _draw(sizes, draws, seed, level, method)


def _draw(sizes: Mapping[str, int], draws: int, seed: int, level: float, method: str) -> Draws:
    if draws < 1:
        raise UsageError(f"draws should be at least 1, found {draws}")
    if seed < 0:
        raise UsageError(f"seed should be at least 0, found {seed}")
    if not 0 < level < 1:
        raise UsageError(f"level should be between 0 and 1, found {level}")
    if method not in METHODS:
        raise UsageError(f"method should be one of {', '.join(METHODS)}, found '{method}'")
    total, start = sum(sizes.values()), 0
    counts = {}
    for name, size in sizes.items():
        if size < 2:
            raise UsageError(f"an interval over questions needs at least 2 of them, '{name}' has {size}")
        random = np.random.default_rng([seed, *name.encode()])
        drawn = random.multinomial(size, np.full(size, 1 / size), size=draws)
        without = np.ones((total, size))
        without[start : start + size] -= np.eye(size)
        counts[name] = np.concatenate([np.ones((1, size)), drawn, without])
        start += size
    left_out = np.repeat(list(sizes.values()), list(sizes.values()))
    return Draws(counts, left_out, draws, level, method)


def mean_estimates(
    values: NDArray[Any], draws: int = 10_000, *, seed: int = 0, level: float = 0.95, method: str = "expanded"
) -> list[Estimate]:
    """The means of K numbers over the Q questions of one pool, with intervals over questions.

    Args:
        values: number[K, Q], one per question, e.g. means over orders.
        draws, seed, level, method: as in ``resample``.
    """
    drawn = _draw({"": values.shape[1]}, draws, seed, level, method)
    counts = drawn.counts[""]
    return drawn.estimates(counts @ values.T.astype(np.float64) / counts.sum(axis=1)[:, None], values.shape[1])


@dataclass(frozen=True, eq=False)
class Replicates:
    """The means of a scope in every draw. Everything else about the scope is computed from them, draw by draw.

    Attributes:
        sweep, scope, draws: what was averaged, over which pools, under which draws.
        questions: how many questions the smallest benchmark of the scope has.
        mean: per measure, float64[1 + R + J, K]: means per episode over pools, questions and orders; ``accuracy``
            in percent, the others in tokens, branches and probes. Rows as in ``Draws.counts``.
    """

    sweep: Sweep
    scope: Scope
    draws: Draws
    questions: int
    mean: Mapping[str, NDArray[np.float64]]

    def estimates(self, values: NDArray[np.float64]) -> list[Estimate]:
        """Estimates of K statistics from float64[1 + R + J, K]."""
        return self.draws.estimates(values, self.questions)

    def bracketed(self, lower: NDArray[np.float64], upper: NDArray[np.float64]) -> Estimate:
        """Estimate of a statistic known up to a bracket; see ``Draws.bracketed``."""
        return self.draws.bracketed(lower, upper, self.questions)


def replicate(sweep: Sweep, draws: Draws, scope: Scope, measures: Iterable[str] = ("correct", "tokens")) -> Replicates:
    """Compute the means of every operating point in every draw.

    Args:
        draws: from ``resample`` of the same sweep.
        scope: one of ``scopes(sweep)``, or one of your own.
        measures: which of ``MEASURES``.

    Raises:
        UsageError: the scope names a pool that the sweep does not hold.
    """
    for name in scope.pools:
        if name not in sweep.pools:
            raise UsageError(f"scope {scope.name} names the pool {name}, which is not in the sweep")
    indices = [sweep.pools.index(name) for name in scope.pools]
    mean = {}
    for measure in measures:
        total: Any = 0.0
        for p in indices:
            counts, sums = draws.counts[sweep.benchmarks[p]], sweep.sums[measure][p]
            if measure == "correct":
                sums = 100 * sums
            total = total + counts @ sums.T / (counts.sum(axis=1)[:, None] * sweep.orders)
        mean["accuracy" if measure == "correct" else measure] = total / len(indices)
    return Replicates(sweep, scope, draws, min(len(sweep.questions[p]) for p in indices), mean)


@dataclass(frozen=True)
class Summary:
    """An operating point in a scope: means per episode with intervals over questions.

    Attributes:
        accuracy: percent of episodes answered correctly.
        tokens, sequential_tokens, peak_width, probes, branches: as in ``Results.episodes``.
    """

    scope: str
    contestant: str
    beta: float
    accuracy: Estimate
    tokens: Estimate
    sequential_tokens: Estimate
    peak_width: Estimate
    probes: Estimate
    branches: Estimate


def summaries(sweep: Sweep, draws: Draws, scope: Scope) -> list[Summary]:
    """One row per operating point of a scope, in the order of ``sweep.points``."""
    replicates = replicate(sweep, draws, scope, MEASURES)
    columns = [replicates.estimates(values) for values in replicates.mean.values()]
    return [Summary(scope.name, *point, *row) for point, *row in zip(sweep.points, *columns, strict=True)]


@dataclass(frozen=True)
class Difference:
    """What an operating point has over another one, on the same questions and orders.

    Attributes:
        accuracy: percentage points, positive if it is more accurate than the baseline.
        tokens: tokens more than the baseline; negative if it is cheaper.
        tokens_ratio: its tokens divided by the baseline's, fewer than one counting as one.
        carried_by: how many questions carry the difference in accuracy: (sum |d|)^2 / sum d^2 over each question's
            part d, which is the number of questions that differ if they differ equally; 0 if none does. The interval
            of ``accuracy`` is too short where few do: measured coverage of 95 % is 77 at 2, 90 at 5, 94 from 13 on.
    """

    scope: str
    contestant: str
    beta: float
    baseline: str
    baseline_beta: float
    accuracy: Estimate
    tokens: Estimate
    tokens_ratio: Estimate
    carried_by: float


def differences(replicates: Replicates, baseline: Point | str) -> list[Difference]:
    """Every other operating point against a baseline.

    Each interval holds by itself: of twenty that compare equals, one on average excludes 0 at level 0.95.

    Args:
        replicates: accuracy and tokens of a scope.
        baseline: an operating point; or a contestant's name, then each point is compared with that contestant at the
            same beta, and the betas that it lacks are left out.

    Raises:
        UsageError: there is no such contestant or beta.
    """
    sweep, mean = replicates.sweep, replicates.mean
    if isinstance(baseline, str):
        at = {sweep.points[k].beta: k for k in sweep.indices(baseline)}
        pairs = [(k, at[p.beta]) for k, p in enumerate(sweep.points) if p.contestant != baseline and p.beta in at]
    else:
        b = sweep.index(*baseline)
        pairs = [(k, b) for k in range(len(sweep.points)) if k != b]
    if not pairs:
        return []
    ours, theirs = (np.array(side) for side in zip(*pairs, strict=True))
    accuracy, tokens = mean["accuracy"], mean["tokens"]
    ratio = np.maximum(tokens[:, ours], 1.0) / np.maximum(tokens[:, theirs], 1.0)
    points = np.round(accuracy[:, ours] - accuracy[:, theirs], 9)  # what cancels is 0, not 1e-14
    columns = [replicates.estimates(values) for values in (points, tokens[:, ours] - tokens[:, theirs], ratio)]
    carried = [
        _carried_by(question_differences(sweep, replicates.scope, sweep.points[k], sweep.points[b])) for k, b in pairs
    ]
    return [
        Difference(replicates.scope.name, *sweep.points[k], *sweep.points[b], *row)
        for (k, b), *row in zip(pairs, *columns, carried, strict=True)
    ]


def question_differences(sweep: Sweep, scope: Scope, ours: Point, theirs: Point) -> dict[str, NDArray[np.float64]]:
    """Which questions a difference in accuracy comes from.

    Returns:
        per benchmark, float64[Q], percentage points that each question contributes; all together sum to the
        difference in the scope. Questions in the order of ``sweep.questions``.
    """
    k, b = sweep.index(*ours), sweep.index(*theirs)
    parts: dict[str, NDArray[np.float64]] = {}
    for name in scope.pools:
        p = sweep.pools.index(name)
        correct = sweep.sums["correct"][p]
        part = 100 * (correct[k] - correct[b]) / (correct.shape[1] * sweep.orders * len(scope.pools))
        parts[sweep.benchmarks[p]] = parts.get(sweep.benchmarks[p], 0.0) + part
    return parts


def _carried_by(parts: Mapping[str, NDArray[np.float64]]) -> float:
    all_parts = np.abs(np.concatenate(list(parts.values())))
    squares = float((all_parts**2).sum())
    return float(all_parts.sum()) ** 2 / squares if squares else 0.0


def as_table(rows: Sequence[Any]) -> pa.Table:
    """Rows of one kind (``Summary``, ``Difference``, ...) as Arrow; an estimate is three: x, x_low, x_high."""
    columns: dict[str, list[Any]] = {}
    for field in fields(rows[0]) if rows else ():
        values = [getattr(row, field.name) for row in rows]
        if any(isinstance(value, Estimate) for value in values):
            for suffix, part in (("", "value"), ("_low", "low"), ("_high", "high")):
                columns[field.name + suffix] = [getattr(value, part, None) for value in values]
        else:
            columns[field.name] = values
    return pa.table(columns)
