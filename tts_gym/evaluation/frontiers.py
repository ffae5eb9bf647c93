"""Frontiers and how they compare: every statistic is recomputed in every draw of questions.

A contestant's frontier in a draw are its operating points that none of its others dominates (as accurate or more, for
as many tokens or fewer, and not both equal). Between two neighbours on it, accuracy is taken as linear in log tokens
(as Bjøntegaard deltas do for rate and distortion).

There is no extrapolation. Beyond its cheapest and its most expensive point a frontier is only bracketed, by the nearest
point and by 0 or 100 % (or no and endless tokens), because more tokens never make a frontier less accurate. A
comparison that the operating points leave open has the value NaN, and draws that leave it open enter the interval with
the worst of their bracket: the interval holds whatever lies out there, and is wide where little is known.

Tokens are means per episode, and fewer than one count as one. Differences are paired: all draws are shared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tts_gym.errors import UsageError
from tts_gym.evaluation.statistics import Estimate, Replicates
from tts_gym.evaluation.sweep import Point

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Envelope:
    """A frontier in each of R' draws: K points by rising tokens, a dominated one replaced by the point before it.

    Attributes:
        log_tokens: float64[R', K], log10 of tokens, never falling along K.
        accuracy: float64[R', K], percent, never falling along K; it rises exactly where ``log_tokens`` does.
        order: int64[R', K], the sorting: ``order[r, j]`` is the column that came in as number j.
        first: int64[R', K], for each sorted point, which one holds its place.
        holds: bool[R', K], whether a sorted point is on the frontier itself; equal points are on it together.
    """

    log_tokens: Floats
    accuracy: Floats
    order: NDArray[np.int64]
    first: NDArray[np.int64]
    holds: NDArray[np.bool_]


def log_of(tokens: Floats | float) -> Floats:
    """log10 of tokens, at least one. Frontiers use no other logarithm: it could round otherwise, and points miss."""
    return np.log10(np.maximum(np.asarray(tokens, dtype=np.float64), 1.0))


def envelope(tokens: Floats, accuracy: Floats) -> Envelope:
    """The upper envelope of operating points, float64[R', K] each, in each draw."""
    log_tokens = log_of(tokens)
    order = np.lexsort((-accuracy, log_tokens), axis=1)
    x, y = np.take_along_axis(log_tokens, order, 1), np.take_along_axis(accuracy, order, 1)
    best = np.maximum.accumulate(y, axis=1)
    rises = np.concatenate([np.ones((len(y), 1), dtype=np.bool_), best[:, 1:] > best[:, :-1]], axis=1)
    first = np.maximum.accumulate(np.where(rises, np.arange(y.shape[1]), 0), axis=1)
    kept = np.take_along_axis(x, first, 1)
    return Envelope(kept, best, order, first, holds=(x == kept) & (y == best))


def _between(knots: Floats, values: Floats, at: Floats, floor: float, ceiling: float) -> tuple[Floats, Floats]:
    """The values at ``at`` (float64[R']) of a curve that never falls: lower and upper bound, equal within its range."""
    rows = np.arange(len(knots))
    left = (knots <= at[:, None]).sum(axis=1) - 1
    inside = np.clip(left, 0, knots.shape[1] - 2) if knots.shape[1] > 1 else np.zeros_like(left)
    right = np.minimum(inside + 1, knots.shape[1] - 1)
    x0, x1, y0, y1 = knots[rows, inside], knots[rows, right], values[rows, inside], values[rows, right]
    part = np.divide(at - x0, x1 - x0, out=np.zeros_like(at), where=x1 > x0)
    value = y0 + part * (y1 - y0)
    under, over = at < knots[:, 0], at > knots[:, -1]
    return (
        np.where(under, floor, np.where(over, values[:, -1], value)),
        np.where(under, values[:, 0], np.where(over, ceiling, value)),
    )


def _accuracy_at(frontier: Envelope, log_tokens: Floats) -> tuple[Floats, Floats]:
    return _between(frontier.log_tokens, frontier.accuracy, log_tokens, 0.0, 100.0)


def _log_tokens_at(frontier: Envelope, accuracy: Floats) -> tuple[Floats, Floats]:
    return _between(frontier.accuracy, frontier.log_tokens, accuracy, -math.inf, math.inf)


def contestant_envelope(replicates: Replicates, contestant: str) -> Envelope:
    """The frontier of one contestant. Raises UsageError that says which there are."""
    own = replicates.sweep.indices(contestant)
    return envelope(replicates.mean["tokens"][:, own], replicates.mean["accuracy"][:, own])


@dataclass(frozen=True)
class FrontierPoint:
    """An operating point with intervals in both axes.

    Attributes:
        tokens: mean tokens per episode.
        accuracy: percent.
        on_frontier: whether no other operating point of the contestant dominates it.
        on_frontier_share: share of the draws in which that is so.
    """

    scope: str
    contestant: str
    beta: float
    tokens: Estimate
    accuracy: Estimate
    on_frontier: bool
    on_frontier_share: float


def frontier(replicates: Replicates, contestant: str) -> list[FrontierPoint]:
    """A contestant's operating points by rising tokens. Betas that give equal points are on the frontier together."""
    own = replicates.sweep.indices(contestant)
    tokens, accuracy = (replicates.mean[name][:, own] for name in ("tokens", "accuracy"))
    found = envelope(tokens, accuracy)
    kept = np.empty_like(found.holds)
    np.put_along_axis(kept, found.order, found.holds, 1)
    share = kept[1 : 1 + replicates.draws.number].mean(axis=0)
    points = [
        FrontierPoint(replicates.scope.name, *replicates.sweep.points[k], at, right, bool(on), float(part))
        for k, at, right, on, part in zip(
            own, replicates.estimates(tokens), replicates.estimates(accuracy), kept[0], share, strict=True
        )
    ]
    return sorted(points, key=lambda point: (point.tokens.value, -point.accuracy.value))


@dataclass(frozen=True)
class Comparison:
    """A contestant's frontier against a baseline at one place.

    Attributes:
        baseline: a contestant, for its frontier, or "NAME at beta B", for that operating point.
        at: where they are compared: tokens, or percent accuracy.
        estimate: percentage points of accuracy over the baseline; or tokens as a multiple of the baseline's.
        at_least, at_most: what the operating points say of the value; both equal to it where it is comparable.
        comparable: share of the draws that decide it; in the others the frontiers do not reach that place.
    """

    scope: str
    contestant: str
    baseline: str
    at: float
    estimate: Estimate
    at_least: float
    at_most: float
    comparable: float


def accuracy_at_equal_tokens(
    replicates: Replicates, contestant: str, baseline: str | Point, tokens: float | None = None
) -> Comparison:
    """How much more accurate a frontier is than a baseline for equal tokens, in percentage points.

    Args:
        baseline: an operating point: the frontier is read at that point's tokens, whatever they are in a draw. Or a
            contestant: both frontiers are read at ``tokens``.
        tokens: mean tokens per episode, only for a contestant.

    Raises:
        UsageError: no such contestant or beta, or ``tokens`` where it does not belong or missing where it does.
    """
    accuracy = replicates.mean["accuracy"]
    if isinstance(baseline, Point):
        _stated(tokens, False, "tokens")
        b = replicates.sweep.index(*baseline)
        at = log_of(replicates.mean["tokens"][:, b])
        theirs = accuracy[:, b], accuracy[:, b]
    else:
        at = log_of(np.full(len(accuracy), _stated(tokens, True, "tokens")))
        theirs = _accuracy_at(contestant_envelope(replicates, baseline), at)
    ours = _accuracy_at(contestant_envelope(replicates, contestant), at)
    lower, upper = np.round(ours[0] - theirs[1], 9), np.round(ours[1] - theirs[0], 9)
    return _comparison(replicates, contestant, baseline, float(10 ** at[0]), lower, upper)


def tokens_at_equal_accuracy(
    replicates: Replicates, contestant: str, baseline: str | Point, accuracy: float | None = None
) -> Comparison:
    """The tokens a frontier needs for an accuracy, as a multiple of the baseline's: 0.5 is half as many.

    Args:
        baseline: an operating point: the frontier is read at that point's accuracy, whatever it is in a draw. Or a
            contestant: both frontiers are read at ``accuracy``.
        accuracy: percent, only for a contestant.

    Raises:
        UsageError: no such contestant or beta, or ``accuracy`` where it does not belong or missing where it does.
    """
    if isinstance(baseline, Point):
        _stated(accuracy, False, "accuracy")
        b = replicates.sweep.index(*baseline)
        at = replicates.mean["accuracy"][:, b]
        spent = log_of(replicates.mean["tokens"][:, b])
        theirs = spent, spent
    else:
        at = np.full(len(replicates.mean["accuracy"]), float(_stated(accuracy, True, "accuracy")))
        theirs = _log_tokens_at(contestant_envelope(replicates, baseline), at)
    ours = _log_tokens_at(contestant_envelope(replicates, contestant), at)
    with np.errstate(invalid="ignore"):  # both without end
        lower = np.nan_to_num(ours[0] - theirs[1], nan=-math.inf, posinf=math.inf, neginf=-math.inf)
        upper = np.nan_to_num(ours[1] - theirs[0], nan=math.inf, posinf=math.inf, neginf=-math.inf)
    return _comparison(replicates, contestant, baseline, float(at[0]), 10**lower, 10**upper)


def _stated(number: float | None, wanted: bool, name: str) -> float:
    if (number is not None) != wanted:
        needs = f"needs {name}=" if wanted else f"has its own {name}"
        raise UsageError(f"a baseline that is {'a contestant' if wanted else 'an operating point'} {needs}")
    return number or 0.0


def _comparison(
    replicates: Replicates, contestant: str, baseline: str | Point, at: float, lower: Floats, upper: Floats
) -> Comparison:
    return Comparison(
        replicates.scope.name,
        contestant,
        str(baseline),
        at,
        replicates.bracketed(lower, upper),
        float(lower[0]),
        float(upper[0]),
        _share(replicates, lower == upper),
    )


def _share(replicates: Replicates, holds: NDArray[np.bool_]) -> float:
    """The share of the draws in which something holds."""
    return float(holds[1 : 1 + replicates.draws.number].mean())


@dataclass(frozen=True)
class Advantage:
    """Mean accuracy of a frontier over another one's, over a range of log tokens.

    Attributes:
        low_tokens, high_tokens: the part of the stated range that both frontiers cover; NaN if they do not meet.
        estimate: percentage points.
        comparable: share of the draws in which they meet in the range.
    """

    scope: str
    contestant: str
    baseline: str
    low_tokens: float
    high_tokens: float
    estimate: Estimate
    comparable: float


def mean_advantage(
    replicates: Replicates, contestant: str, baseline: str, low_tokens: float = 1.0, high_tokens: float = math.inf
) -> Advantage:
    """The mean over log tokens of the difference between two frontiers (Bjøntegaard's delta, piecewise linear).

    The mean is over the part of the stated range that both frontiers cover in the draw; where that is a single
    number of tokens (a contestant with one operating point), it is the difference there.

    Args:
        low_tokens, high_tokens: the range, in tokens; all that the frontiers share by default.
    """
    if not 1 <= low_tokens <= high_tokens:
        raise UsageError(f"a range of tokens should rise and begin at 1 or later, found {low_tokens} to {high_tokens}")
    ours, theirs = contestant_envelope(replicates, contestant), contestant_envelope(replicates, baseline)
    low = np.maximum(np.maximum(ours.log_tokens[:, 0], theirs.log_tokens[:, 0]), log_of(low_tokens))
    high = np.minimum(np.minimum(ours.log_tokens[:, -1], theirs.log_tokens[:, -1]), log_of(high_tokens))
    meet = low <= high
    place, wide = np.where(meet, low, 0.0), high > low
    width = np.where(wide, high - low, 1.0)
    area = _area(ours, place, place + width) - _area(theirs, place, place + width)
    there = _accuracy_at(ours, place)[0] - _accuracy_at(theirs, place)[0]
    mean = np.where(wide, area / width, there)
    return Advantage(
        replicates.scope.name,
        contestant,
        baseline,
        float(10 ** low[0]) if meet[0] else math.nan,
        float(10 ** high[0]) if meet[0] else math.nan,
        replicates.bracketed(np.where(meet, mean, -100.0), np.where(meet, mean, 100.0)),
        _share(replicates, meet),
    )


def _area(frontier: Envelope, low: Floats, high: Floats) -> Floats:
    """float64[R'], the integral of accuracy over log10 tokens from low to high, within the frontier's range."""
    x, y = frontier.log_tokens, frontier.accuracy
    total = np.zeros(len(x))
    for j in range(x.shape[1] - 1):
        x0, x1, y0, y1 = x[:, j], x[:, j + 1], y[:, j], y[:, j + 1]
        a, b = np.clip(low, x0, x1), np.clip(high, x0, x1)
        slope = np.divide(y1 - y0, x1 - x0, out=np.zeros_like(x0), where=x1 > x0)
        total += (b - a) * (y0 + slope * ((a + b) / 2 - x0))
    return total
