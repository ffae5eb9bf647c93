"""What the recorded branches of a pool would allow: bounds that look at gold, and agreement with the crowd.

None of the bounds is achievable: each knows which answers are right. They say how much a better controller could still
gain on a pool, never how well one does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tts_gym.engine.moves import branch_orders
from tts_gym.errors import UsageError
from tts_gym.evaluation.statistics import Estimate, mean_estimates
from tts_gym.pools.pool import Pool

WIDTHS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, eq=False)
class Oracle:
    """What an oracle reaches in each episode. Not achievable by a controller.

    Attributes:
        correct: bool[A, S] over questions and orders.
        tokens: int64[A, S].
    """

    correct: NDArray[np.bool_]
    tokens: NDArray[np.int64]


def pass_at(
    pool: Pool, width: int, *, grading: str = "exact", questions: Sequence[int] | None = None
) -> NDArray[np.float64]:
    """pass@N: the probability that any of N branches has a right final answer. NOT achievable but for N = 1.

    The unbiased estimator of Chen et al. (2021, arXiv 2107.03374): 1 - C(M - c, N) / C(M, N) for c right ones among M
    recorded branches, so the mean over all ways to choose N of them.

    Args:
        width: N.
        questions: question indices; None for all.

    Returns:
        float64[A], a share of 1 for each question.

    Raises:
        UsageError: N is not from 1 to the number of recorded branches.
        PoolError: the pool does not have that grading.
    """
    branches = _checked(pool, width)
    right = _right_finals(pool, grading, questions).sum(axis=1)
    drawn = np.arange(branches - width + 1, branches + 1)  # C(M - c, N) / C(M, N) = product of 1 - c / these
    return 1 - np.prod(np.maximum(1 - right[:, None] / drawn, 0.0), axis=1)


def oracle_best_branch(
    pool: Pool,
    width: int,
    orders: int | Sequence[int] = 100,
    *,
    grading: str = "exact",
    questions: Sequence[int] | None = None,
) -> Oracle:
    """The best of the first N branches chosen by gold, all of them read to their end. NOT achievable.

    It bounds whatever reads N branches and gives one of their final answers, at what SC@N spends: an episode is correct
    if any of the final answers is. A branch can show a right answer on its way and end in a wrong one, so a controller
    that probes is bounded by ``cheapest_correct_stop`` only.

    Args:
        width: N.
        orders: how many orders, from 0, or which ones.
        questions: question indices; None for all.

    Raises:
        UsageError, PoolError: as in ``pass_at``.
    """
    branches = _checked(pool, width)
    opened = branch_orders(branches, _seeds(orders))[:, :width]
    right = _right_finals(pool, grading, questions)
    tokens = pool.tokens[_asked(pool, questions)].astype(np.int64)
    correct: NDArray[np.bool_] = np.any(right[:, opened], axis=2)
    return Oracle(correct, tokens[:, opened].sum(axis=2))


def cheapest_correct_stop(
    pool: Pool,
    width: int,
    orders: int | Sequence[int] = 100,
    *,
    grading: str = "exact",
    questions: Sequence[int] | None = None,
) -> Oracle:
    """The fewest tokens by which any legal play can hold a right answer, chosen by gold. NOT achievable.

    No controller of at most N branches is right in an episode where this is not, and none is right for fewer tokens. By
    the rules of replay (docs/rules.md), to reveal
    something of the branch opened as number i, each branch before it has to be opened, for its first interval:
    min(delta, its tokens), or all its tokens if it has no interval. In branch i, a right answer after interval d costs
    delta * d (a probed interval is billed in full), a right final answer its tokens. The cheapest over i < N and d is
    taken; probes are free.

    Where none of the N branches ever shows a right answer, the episode is not correct and costs 0: the oracle knows,
    and gives up at once.

    Args:
        width, orders, questions: as in ``oracle_best_branch``.

    Raises:
        UsageError, PoolError: as in ``pass_at``.
    """
    branches = _checked(pool, width)
    asked, delta = _asked(pool, questions), pool.recording.delta
    graded = pool.correct(grading, asked.tolist())
    opened = branch_orders(branches, _seeds(orders))[:, :width]
    correct = np.zeros((len(asked), len(opened)), dtype=np.bool_)
    fewest = np.zeros(correct.shape, dtype=np.int64)
    for a, question in enumerate(asked):
        reach, opening = _cost_to_right(pool, int(question), graded[a], delta)
        before = np.cumsum(opening[opened], axis=1) - opening[opened]
        stops = np.where(reach[opened] < _NEVER, before + reach[opened], _NEVER).min(axis=1)
        correct[a] = stops < _NEVER
        fewest[a] = np.where(correct[a], stops, 0)
    return Oracle(correct, fewest)


_NEVER = np.iinfo(np.int64).max


def _cost_to_right(
    pool: Pool, question: int, graded: NDArray[np.bool_], delta: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """int64[N] each: tokens to a branch's first right answer once its turn has come (or _NEVER), and to open it."""
    codes, lengths = pool.answers[question], pool.intervals[question].astype(np.int64)
    tokens = pool.tokens[question].astype(np.int64)
    right = graded[codes] & (codes >= 0)
    depths = np.arange(codes.shape[1])
    final = right[np.arange(len(codes)), lengths]
    probed = right & (depths < lengths[:, None])
    by_probe = np.where(probed.any(axis=1), delta * (np.argmax(probed, axis=1) + 1), _NEVER)
    opening = np.where(lengths > 0, np.minimum(delta, tokens), tokens)
    return np.minimum(by_probe, np.where(final, tokens, _NEVER)), opening


def self_consistency_rate(
    pool: Pool, codes: NDArray[np.integer], questions: Sequence[int] | None = None
) -> NDArray[np.float64]:
    """How often answers agree with the crowd: the share of episodes that give a most frequent of all final answers.

    No gold is involved. It is what spending less than all branches should keep (PETS, arXiv 2602.16745, takes the
    majority of endlessly many for the crowd; here it is all recorded branches). Several equally frequent answers count
    alike; no answer never agrees, and is no vote.

    Args:
        pool: as it was replayed, merged or not.
        codes: int[A, S], the answers' codes in the pool, e.g. ``run_program(...).code``; -1 for none.
        questions: the A question indices; None for all.

    Returns:
        float64[A], a share of 1 for each question.

    Raises:
        UsageError: ``codes`` has another number of questions, or a code that its question does not have.
    """
    asked = _asked(pool, questions)
    codes = np.asarray(codes)
    if codes.ndim != 2 or len(codes) != len(asked):
        raise UsageError(f"codes should be answers of {len(asked)} questions x orders, found shape {codes.shape}")
    sizes = pool.vocabulary.sizes[asked]
    if (codes < -1).any() or (codes >= sizes[:, None]).any():
        raise UsageError(f"codes has an answer that pool {pool.name} does not have for that question")
    rates = np.zeros(len(asked))
    for a, finals in enumerate(pool.final_codes()[asked]):
        votes = np.bincount(finals[finals >= 0], minlength=max(1, int(sizes[a])))
        crowd = votes == max(1, int(votes.max()))
        rates[a] = (crowd[codes[a]] & (codes[a] >= 0)).mean()
    return rates


@dataclass(frozen=True)
class Diagnostic:
    """A bound on a pool, with intervals over questions.

    Attributes:
        name: what it is; says "(not achievable)".
        width: N, the branches at hand.
        accuracy: percent.
        tokens: mean tokens per episode; None for pass@N, which is no play.
    """

    pool: str
    name: str
    width: int
    accuracy: Estimate
    tokens: Estimate | None


def diagnostics(
    pool: Pool,
    widths: Sequence[int] = WIDTHS,
    orders: int | Sequence[int] = 100,
    *,
    grading: str = "exact",
    questions: Sequence[int] | None = None,
    seed: int = 0,
) -> list[Diagnostic]:
    """Every bound at every width, 95 % intervals over questions. None is achievable, pass@1 apart: it is SC@1.

    Raises:
        UsageError, PoolError: as in ``pass_at``.
    """
    rows = []
    for width in widths:
        share = pass_at(pool, width, grading=grading, questions=questions)
        (accuracy,) = mean_estimates(100 * share[None], seed=seed)
        rows.append(Diagnostic(pool.name, "pass@N (not achievable)", width, accuracy, None))
    for name, oracle in (
        ("best branch by gold (not achievable)", oracle_best_branch),
        ("cheapest correct stop (not achievable)", cheapest_correct_stop),
    ):
        for width in widths:
            found = oracle(pool, width, orders, grading=grading, questions=questions)
            means = np.stack([100 * found.correct.mean(axis=1), found.tokens.mean(axis=1)])
            accuracy, tokens = mean_estimates(means, seed=seed)
            rows.append(Diagnostic(pool.name, name, width, accuracy, tokens))
    return rows


def _checked(pool: Pool, width: int) -> int:
    branches = pool.recording.branches
    if not 1 <= width <= branches:
        raise UsageError(f"width should be from 1 to the {branches} branches of pool {pool.name}, found {width}")
    return branches


def _asked(pool: Pool, questions: Sequence[int] | None) -> NDArray[np.int64]:
    count = pool.recording.questions
    asked = np.arange(count) if questions is None else np.asarray(questions, dtype=np.int64)
    if not len(asked) or not 0 <= asked.min() <= asked.max() < count:
        raise UsageError(f"questions should be from 0 to {count - 1}, at least one, found {asked.tolist()}")
    return asked


def _seeds(orders: int | Sequence[int]) -> tuple[int, ...]:
    seeds = tuple(range(orders)) if isinstance(orders, int) else tuple(orders)
    if not seeds or min(seeds) < 0:
        raise UsageError(f"orders should be at least one, from 0 on, found {orders}")
    return seeds


def _right_finals(pool: Pool, grading: str, questions: Sequence[int] | None) -> NDArray[np.bool_]:
    """bool[A, N], whether each branch's final answer is right; no answer is wrong."""
    asked = _asked(pool, questions)
    finals = pool.final_codes()[asked].astype(np.int64)
    return np.take_along_axis(pool.correct(grading, asked.tolist()), np.maximum(finals, 0), axis=1) & (finals >= 0)
