"""Where the gradings of a pool disagree, answer by answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tabulate import tabulate

from tts_gym.pools.grading import with_grading
from tts_gym.pools.pool import Pool


@dataclass(frozen=True)
class Disagreement:
    """An answer that ``exact`` and ``math`` grade differently.

    Attributes:
        question: index of the question.
        gold: the reference answer.
        answer: the answer string.
        exact, math: whether each grading takes it as correct.
        finals: branches that end with it.
        probes: probe answers, over all branches, that are it.
    """

    question: int
    gold: str
    answer: str
    exact: bool
    math: bool
    finals: int
    probes: int


def disagreements(pool: Pool) -> list[Disagreement]:
    """Every answer of the pool on which ``exact`` and ``math`` disagree, by question, those of most branches first."""
    pool = with_grading(pool, "math")
    exact, math = pool.correct("exact"), pool.correct("math")
    finals = pool.final_codes()
    found = []
    for q in np.flatnonzero((exact != math).any(axis=1)).tolist():
        words = pool.vocabulary[q]
        some = [
            Disagreement(
                question=q,
                gold=pool.gold[q],
                answer=words[code],
                exact=bool(exact[q, code]),
                math=bool(math[q, code]),
                finals=int((finals[q] == code).sum()),
                probes=int((pool.answers[q] == code).sum() - (finals[q] == code).sum()),
            )
            for code in np.flatnonzero(exact[q] != math[q]).tolist()
        ]
        found += sorted(some, key=lambda one: (-one.finals, -one.probes, one.answer))
    return found


def branch_accuracy(pool: Pool, grading: str) -> float:
    """Percent of all branches whose final answer is correct."""
    pool = with_grading(pool, grading)
    finals = pool.final_codes().astype(np.int64)
    correct = np.take_along_axis(pool.correct(grading), np.maximum(finals, 0), axis=1) & (finals >= 0)
    return 100 * float(correct.mean())


def audit_table(pools: Sequence[Pool]) -> str:
    """What ``tts-gym pools audit`` prints."""
    parts = []
    for pool in pools:
        found = disagreements(pool)
        words = int(pool.vocabulary.sizes.sum())
        accuracies = {grading: branch_accuracy(pool, grading) for grading in ("exact", "math")}
        said = ", ".join(f"{accuracy:.2f}% by {grading}" for grading, accuracy in accuracies.items())
        questions = len({one.question for one in found})
        head = (
            f"{pool.name}: {len(found)} of {words:,} answers are graded differently, in {questions} of "
            f"{len(pool.gold)} questions\nfinal answers of single branches correct: {said}"
        )
        columns = ("question", "gold", "answer", "exact", "math", "final of branches", "probe answers")
        rows = [
            (one.question, one.gold, one.answer, _said(one.exact), _said(one.math), one.finals, one.probes)
            for one in found
        ]
        parts.append(f"{head}\n\n{tabulate(rows, headers=columns, disable_numparse=True)}" if rows else head)
    return "\n\n".join(parts)


def _said(correct: bool) -> str:
    return "right" if correct else "wrong"
