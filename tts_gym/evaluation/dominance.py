"""What operating points dominate: hypervolume, and who owns how much of the frontier. Nothing is interpolated.

A budget of t tokens buys the most accurate operating point that costs t or less. Both numbers integrate that over the
log10 of budgets up to a reference, in every draw of questions; fewer than one token count as one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tts_gym.errors import UsageError
from tts_gym.evaluation.frontiers import contestant_envelope, envelope, log_of
from tts_gym.evaluation.statistics import Estimate, Replicates


@dataclass(frozen=True)
class Hypervolume:
    """The area that a contestant's operating points dominate.

    Attributes:
        reference_tokens, reference_accuracy: the corner it is measured from, in tokens and percent.
        estimate: percent x decades of tokens.
        over_baseline: that minus the baseline's; None without a baseline.
    """

    scope: str
    contestant: str
    reference_tokens: float
    reference_accuracy: float
    estimate: Estimate
    over_baseline: Estimate | None


def hypervolumes(
    replicates: Replicates,
    reference_tokens: float | None = None,
    reference_accuracy: float = 0.0,
    baseline: str | None = None,
) -> list[Hypervolume]:
    """The hypervolume of every contestant (Zitzler and Thiele, 1999), tokens on a log10 axis.

    It is the integral, over log10 of budgets up to the reference, of what the most accurate operating point within the
    budget has over the reference accuracy. Points that cost more than the reference add nothing. A contestant gains by
    being cheap as well as by being accurate: one whose beta reaches down to a single branch has much area there, which
    one that begins later cannot make up. ``mean_advantage`` compares two where both are.

    Args:
        reference_tokens: by default the mean tokens of the most expensive operating point of the scope, as observed:
            the same in every draw, but another sweep has another one. State it to compare across sweeps.
        reference_accuracy: percent.
        baseline: a contestant to subtract.
    """
    reference = _reference(replicates, reference_tokens)
    corner = float(log_of(reference))
    areas = {}
    for contestant in replicates.sweep.contestants:
        found = contestant_envelope(replicates, contestant)
        height = np.diff(np.maximum(found.accuracy, reference_accuracy), axis=1, prepend=reference_accuracy)
        areas[contestant] = (height * np.maximum(corner - found.log_tokens, 0.0)).sum(axis=1)
    if baseline is not None:
        replicates.sweep.indices(baseline)
    names = list(areas)
    values = replicates.estimates(np.stack([areas[name] for name in names], axis=1))
    over: list[Estimate] | list[None] = [None] * len(names)
    if baseline is not None:
        over = replicates.estimates(np.stack([areas[name] - areas[baseline] for name in names], axis=1))
    return [
        Hypervolume(replicates.scope.name, name, reference, reference_accuracy, value, other)
        for name, value, other in zip(names, values, over, strict=True)
    ]


@dataclass(frozen=True)
class Ownership:
    """The share of budgets, by length on the log axis, for which a contestant's operating point is the one to take.

    Attributes:
        reference_tokens: the largest budget.
        estimate: share of 1; over all contestants of a scope they sum to 1.
    """

    scope: str
    contestant: str
    reference_tokens: float
    estimate: Estimate


def owned_shares(replicates: Replicates, reference_tokens: float | None = None) -> list[Ownership]:
    """Which contestant owns how much of the frontier of all contestants together.

    Budgets go from the tokens of the cheapest operating point (in the draw) to the reference. A budget belongs to the
    contestant of the most accurate operating point within it, the cheapest of equally accurate ones; contestants with
    the very same point share it equally.

    Args:
        reference_tokens: as in ``hypervolumes``.

    Raises:
        UsageError: no operating point costs less than the reference.
    """
    sweep, reference = replicates.sweep, _reference(replicates, reference_tokens)
    corner = float(log_of(reference))
    found = envelope(replicates.mean["tokens"], replicates.mean["accuracy"])
    x = np.minimum(found.log_tokens, corner)
    width = np.diff(x, axis=1, append=corner)
    names = sweep.contestants
    owner = np.array([names.index(point.contestant) for point in sweep.points])[found.order]
    column = np.arange(x.shape[1])
    latest = [np.where(found.holds & (owner == c), column, -1) for c in range(len(names))]
    owned = np.stack([np.maximum.accumulate(columns, axis=1) >= found.first for columns in latest])
    lengths = (width * owned / owned.sum(axis=0)).sum(axis=2)
    whole = corner - x[:, 0]
    if whole[0] <= 0:
        raise UsageError(f"no operating point of {replicates.scope.name} costs less than {reference:,.0f} tokens")
    known = whole > 0
    share = np.divide(lengths, whole, out=np.zeros_like(lengths), where=known)
    return [
        Ownership(
            replicates.scope.name, name, reference,
            replicates.bracketed(share[c], np.where(known, share[c], 1.0)),
        )
        for c, name in enumerate(names)
    ]  # fmt: skip


def _reference(replicates: Replicates, reference_tokens: float | None) -> float:
    if reference_tokens is None:
        return max(float(replicates.mean["tokens"][0].max()), 1.0)
    if not 1 <= reference_tokens < math.inf:
        raise UsageError(f"reference_tokens should be a number of tokens of at least 1, found {reference_tokens}")
    return float(reference_tokens)
