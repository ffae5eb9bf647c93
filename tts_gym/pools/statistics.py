"""The facts that characterise a pool, measured alike for every pool so that pools can be compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from tts_gym.pools.pool import Pool

UNPARSED = "ERR"
"""The recorded string of a probe or branch from which no answer could be read (spec 1.2)."""

DEPTHS = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Relative depths; depth f of a branch with L intervals is its probe number min(floor(f L), L - 1)."""

_EARLY = (0.0, 0.1, 0.25, 0.5)

# what each statistic is, and how it is printed; the order is that of the table
_ROWS: dict[str, tuple[str, str]] = {
    "questions": ("questions", "d"),
    "branches": ("branches per question", "d"),
    "delta": ("interval, tokens", "d"),
    "tokens_mean": ("tokens per branch, mean", "d"),
    "tokens_median": ("tokens per branch, median", "d"),
    "tokens_p95": ("tokens per branch, 95 %", "d"),
    "tokens_max": ("tokens per branch, maximum", "d"),
    "intervals_mean": ("intervals per branch, mean", ".1f"),
    "intervals_min": ("intervals per branch, minimum", "d"),
    "intervals_max": ("intervals per branch, maximum", "d"),
    "residual_negative": ("branches with tokens - delta * intervals below 0", ".1%"),
    "residual_within": ("... in [0, delta)", ".1%"),
    "residual_above": ("... of delta or more", ".1%"),
    "residual_min": ("... minimum, tokens", "d"),
    "residual_max": ("... maximum, tokens", "d"),
    "accuracy": ("single-branch accuracy", ".1%"),
    "sc64_accuracy": ("majority of the first 64 branches", ".1%"),
    "majority_accuracy": ("majority of all branches", ".1%"),
    "pass_accuracy": ("questions with a right branch (pass@N)", ".1%"),
    "earliest_accuracy": ("accuracy of each question's 8 shortest branches", ".1%"),
    "minority_right": ("questions with a right branch lost by the majority", ".1%"),
    "accuracy_std": ("per-question accuracy, standard deviation", ".3f"),
    "questions_at_0": ("questions where no branch is right", ".1%"),
    "questions_between": ("questions in between", ".1%"),
    "questions_at_1": ("questions where all are right", ".1%"),
    "vote_margin": ("lead of the most frequent final answer over the second, of all branches", ".3f"),
    "unparsed_final": ("unparsed final answers", ".2%"),
    "unparsed_probe": ("unparsed probe answers", ".1%"),
    "unparsed_probe_question_max": ("... on the worst question", ".1%"),
    "distinct_mean": ("distinct answers per question, mean", ".1f"),
    "distinct_median": ("distinct answers per question, median", ".1f"),
    "wrong_lead": ("wrong finals that agree on the leading wrong answer, mean over questions", ".3f"),
    "tokens_right": ("tokens of right branches, mean", "d"),
    "tokens_wrong": ("tokens of wrong branches, mean", "d"),
    "wrong_length_ratio": ("length of wrong over right branches within a question (geometric)", ".2f"),
    "wrong_length_correlation": ("correlation of tokens and being wrong within a question", ".3f"),
    "question_length_correlation": ("correlation of a question's accuracy and mean tokens", ".3f"),
    "length_spread": ("standard deviation of log tokens within a question", ".3f"),
    **{f"accuracy_at_{f:g}": (f"accuracy of probe answers at relative depth {f:g}", ".1%") for f in DEPTHS},
    "held_right": ("intervals a right branch holds its final answer at its end, mean", ".1f"),
    "held_wrong": ("intervals a wrong branch holds its final answer at its end, mean", ".1f"),
    "changes_mean": ("answer changes per branch, mean", ".1f"),
    "abandoned_right": ("wrong branches that showed a right answer on the way", ".1%"),
    **{
        f"lead_at_{f:g}": (f"branches on the leading wrong answer at relative depth {f:g}, mean over questions", ".3f")
        for f in _EARLY
    },
    **{
        f"trapped_at_{f:g}": (
            f"questions led by a wrong answer at relative depth {f:g}, by a right one at the end",
            ".1%",
        )
        for f in _EARLY
    },
}


def pool_statistics(pool: Pool, grading: str = "exact") -> dict[str, float]:
    """Measure a pool.

    Shares and accuracies are fractions of 1; tokens and intervals are counts. A vote is over recorded
    answers in list order, ties going to the first in the list; no answer (-1) is no vote. An unparsed
    final answer ("ERR") is an ordinary vote, as for every method, but the leading wrong answer and the
    early leaders are sought among parsed answers only. What a pool cannot show is NaN.

    Args:
        pool: the pool.
        grading: which of its gradings says what is right.

    Returns:
        One number per statistic; :func:`statistics_table` says what each is.

    Raises:
        PoolError: the pool does not have that grading.
    """
    correct = pool.correct(grading)
    unparsed = pc.equal(pool.vocabulary.strings, UNPARSED).to_numpy(zero_copy_only=False)
    offsets = pool.vocabulary.offsets
    per_question = [
        _question(
            pool.answers[q],
            pool.intervals[q].astype(np.int64),
            pool.tokens[q].astype(np.float64),
            np.append(correct[q, : offsets[q + 1] - offsets[q]], False),
            np.append(unparsed[offsets[q] : offsets[q + 1]], False),
        )
        for q in range(pool.recording.questions)
    ]
    values = {key: np.array([facts[key] for facts in per_question]) for key in per_question[0]}

    def over_questions(key: str) -> float:
        known = values[key][~np.isnan(values[key])]
        return float(known.mean()) if len(known) else math.nan

    def ratio(numerator: str, denominator: str) -> float:
        return _ratio(values[numerator].sum(), values[denominator].sum())

    tokens = pool.tokens.ravel()
    intervals = pool.intervals.ravel()
    residual = tokens.astype(np.int64) - pool.recording.delta * intervals.astype(np.int64)
    accuracy = values["accuracy"]
    sizes = pool.vocabulary.sizes
    statistics: dict[str, float] = {
        "questions": pool.recording.questions,
        "branches": pool.recording.branches,
        "delta": pool.recording.delta,
        "tokens_mean": tokens.mean(),
        "tokens_median": np.median(tokens),
        "tokens_p95": np.quantile(tokens, 0.95),
        "tokens_max": tokens.max(),
        "intervals_mean": intervals.mean(),
        "intervals_min": intervals.min(),
        "intervals_max": intervals.max(),
        "residual_negative": (residual < 0).mean(),
        "residual_within": ((residual >= 0) & (residual < pool.recording.delta)).mean(),
        "residual_above": (residual >= pool.recording.delta).mean(),
        "residual_min": residual.min(),
        "residual_max": residual.max(),
        "minority_right": ((accuracy > 0) & (values["majority_accuracy"] == 0)).mean(),
        "accuracy_std": accuracy.std(),
        "questions_at_0": (accuracy == 0).mean(),
        "questions_between": ((accuracy > 0) & (accuracy < 1)).mean(),
        "questions_at_1": (accuracy == 1).mean(),
        "unparsed_probe": ratio("unparsed_probes", "probes"),
        "unparsed_probe_question_max": max(
            _ratio(*pair) for pair in zip(values["unparsed_probes"], values["probes"], strict=True)
        ),
        "distinct_mean": sizes.mean(),
        "distinct_median": np.median(sizes),
        "tokens_right": ratio("right_tokens", "right_branches"),
        "tokens_wrong": ratio("wrong_tokens", "wrong_branches"),
        "wrong_length_ratio": math.exp(ratio("wrong_by_log_tokens", "wrong_by_wrong")),
        "wrong_length_correlation": _ratio(
            values["wrong_by_tokens"].sum(),
            math.sqrt(values["wrong_by_wrong"].sum() * values["tokens_by_tokens"].sum()),
        ),
        "question_length_correlation": _correlation(accuracy, pool.tokens.mean(axis=1)),
        "length_spread": math.sqrt(over_questions("log_tokens_variance")),
        "held_right": ratio("right_held", "right_branches"),
        "held_wrong": ratio("wrong_held", "wrong_branches"),
        "changes_mean": values["changes"].sum() / len(tokens),
        "abandoned_right": ratio("abandoned_right", "wrong_branches"),
    }
    return {key: float(statistics[key]) if key in statistics else over_questions(key) for key in _ROWS}


def _question(
    answers: NDArray[np.int16],
    intervals: NDArray[np.int64],
    tokens: NDArray[np.float64],
    correct: NDArray[np.bool_],
    unparsed: NDArray[np.bool_],
) -> dict[str, float]:
    """The facts of one question; ``correct`` and ``unparsed`` have a last entry for the code -1."""
    codes = answers.astype(np.int64)
    columns = np.arange(codes.shape[1])
    recorded = columns < intervals[:, None]
    finals = codes[np.arange(len(codes)), intervals]
    right = correct[finals]
    wrong = ~right
    probes = codes[recorded]
    departs = (codes != finals[:, None]) & recorded
    settled = np.where(departs.any(axis=1), codes.shape[1] - np.argmax(departs[:, ::-1], axis=1), 0)
    held = intervals - settled
    changes = (codes[:, 1:] != codes[:, :-1]) & recorded[:, 1:]

    shift = wrong.astype(np.float64) - wrong.mean()
    centred = tokens - tokens.mean()
    logs = np.log(np.maximum(tokens, 1.0))
    votes = finals[finals >= 0]
    counts = np.sort(np.bincount(votes, minlength=2))
    shortest = np.argsort(tokens, kind="stable")[:8]
    facts = {
        "accuracy": right.mean(),
        "sc64_accuracy": float(correct[_leader(finals[:64])]),
        "majority_accuracy": float(correct[_leader(finals)]),
        "pass_accuracy": float(right.any()),
        "earliest_accuracy": right[shortest].mean(),
        "vote_margin": (counts[-1] - counts[-2]) / len(finals),
        "unparsed_final": unparsed[finals].mean(),
        "unparsed_probes": unparsed[probes].sum(),
        "probes": len(probes),
        "wrong_lead": _ratio(_lead(finals[wrong & ~unparsed[finals]]), wrong.sum()),
        "right_tokens": tokens[right].sum(),
        "wrong_tokens": tokens[wrong].sum(),
        "right_branches": right.sum(),
        "wrong_branches": wrong.sum(),
        "wrong_by_wrong": shift @ shift,
        "wrong_by_tokens": shift @ centred,
        "tokens_by_tokens": centred @ centred if wrong.any() and right.any() else 0.0,
        "wrong_by_log_tokens": shift @ logs,
        "log_tokens_variance": logs.var(),
        "right_held": held[right].sum(),
        "wrong_held": held[wrong].sum(),
        "changes": changes.sum(),
        "abandoned_right": np.any(correct[codes[wrong]] & recorded[wrong], axis=1).sum(),
    }
    probed = np.flatnonzero(intervals > 0)
    finally_right = bool(correct[_leader(finals[~unparsed[finals]])])
    for depth in sorted({*DEPTHS, *_EARLY}):
        at = np.minimum((depth * intervals[probed]).astype(np.int64), intervals[probed] - 1)
        seen = codes[probed, at]
        if depth in DEPTHS:
            facts[f"accuracy_at_{depth:g}"] = _ratio(correct[seen].sum(), len(seen))
        if depth in _EARLY:
            parsed = seen[~unparsed[seen]]
            leader = _leader(parsed)
            facts[f"lead_at_{depth:g}"] = _ratio(_lead(parsed[~correct[parsed]]), len(seen))
            facts[f"trapped_at_{depth:g}"] = float(finally_right and leader >= 0 and not correct[leader])
    return facts


def _leader(votes: NDArray[np.int64]) -> int:
    """The most frequent code, the first in the list of equals; -1 without votes."""
    votes = votes[votes >= 0]
    if not len(votes):
        return -1
    counts = np.bincount(votes)
    return int(votes[np.argmax(counts[votes])])


def _lead(votes: NDArray[np.int64]) -> int:
    votes = votes[votes >= 0]
    return int(np.bincount(votes).max()) if len(votes) else 0


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator else math.nan


def _correlation(x: NDArray[np.floating], y: NDArray[np.floating]) -> float:
    dx, dy = x - x.mean(), y - y.mean()
    return _ratio(float(dx @ dy), math.sqrt(float(dx @ dx) * float(dy @ dy)))


def statistics_table(statistics: Mapping[str, Mapping[str, float]], keys: Sequence[str] | None = None) -> str:
    """Pools side by side as a Markdown table, one row per statistic and one column per pool.

    Args:
        statistics: per column heading, what :func:`pool_statistics` returned.
        keys: which statistics, in which order; all by default.

    Returns:
        The table's lines, each ended by a newline. NaN is printed as a dash.
    """
    rows = [["", *statistics]]
    for key in _ROWS if keys is None else keys:
        label, form = _ROWS[key]
        rows.append([label, *(_printed(facts[key], form) for facts in statistics.values())])
    rule = "|---|" + "---:|" * len(statistics)
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, rule, *body]) + "\n"


def _printed(value: float, form: str) -> str:
    if math.isnan(value):
        return "-"
    if form.endswith("%"):
        return f"{value:{form}}".replace("%", " %")
    return f"{round(value):,}" if form == "d" else f"{value:{form}}"
