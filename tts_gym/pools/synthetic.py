"""Pools drawn from a seeded model of how branches behave, where no recorded data may be shipped.

A question has a difficulty, an early trap and a long-tailed list of other wrong answers. A branch is right or
wrong and has a length; on its way it shows the trap, other wrong answers or nothing readable, until it settles
on its final answer and holds it to its end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, fields
from statistics import NormalDist
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tts_gym.errors import UsageError
from tts_gym.pools.pool import Pool, pool_from_cells
from tts_gym.pools.statistics import UNPARSED

GENERATOR_VERSION = 0
"""Grows whenever the same spec and seed would give another pool."""

_ANSWERS = 1000  # 0..999, as in AIME
_MIN_INTERVALS = 3


@dataclass(frozen=True)
class SyntheticSpec:
    """What a synthetic pool is like. The defaults were chosen against the four recorded AIME24 pools only.

    A "mean over questions" is of a share that differs widely between questions: its law is Beta(a, 1).

    Attributes:
        questions: Q, number of questions.
        branches: N, branches per question.
        delta: interval length, tokens.
        max_intervals: most intervals a branch can have; longer thinking is cut off there, at least 3.
        difficulty_center: log-odds of being right, of a branch on a question of median difficulty.
        difficulty_spread: standard deviation over questions of those log-odds; 0 makes all questions alike.
        unsolved_share: the hardest questions, on which no branch is right, as a share of all.
        length_median: length of a right branch on a question of median difficulty, intervals.
        length_spread: standard deviation of log-length between the branches of a question; the long tail.
        question_length_spread: standard deviation of log-length between questions equally difficult.
        difficulty_length_ratio: factor on the length per standard deviation of difficulty.
        wrong_length_ratio: factor on the length of a branch that ends wrong.
        closing_tokens: tokens written after thinking, mean per interval thought; they decide
            ``tokens - delta * intervals``.
        hold_intervals: convergence. A branch as long as this typically holds its final answer through half its
            length, longer branches through a smaller part; more is earlier convergence. Intervals.
        change_rate: probability per interval that an unsettled branch draws a new answer.
        trap_share: early trap. Probability that a parsed answer drawn at the start of a branch is the question's
            trap, mean over questions; it falls linearly to 0 at the branch's end.
        trap_stay: share of the parsed wrong finals that are the trap, mean over questions.
        flicker: probability that an unsettled draw shows the final answer of some branch of the question.
        wrong_answers: wrong answers a question has beside its trap: median over questions of a log-normal
            number, 1 to 998.
        wrong_concentration: Zipf exponent of those answers: 0 spreads them evenly, more gathers them on few;
            mean over questions, uniform between 0 and twice as much.
        unparsed_probe: probability that an unsettled draw is unreadable ("ERR"), mean over questions.
        unparsed_final: share of the wrong finals that are "ERR".
    """

    questions: int = 30
    branches: int = 128
    delta: int = 500
    max_intervals: int = 80
    difficulty_center: float = 1.2
    difficulty_spread: float = 3.0
    unsolved_share: float = 0.13
    length_median: float = 20.0
    length_spread: float = 0.3
    question_length_spread: float = 0.35
    difficulty_length_ratio: float = 1.2
    wrong_length_ratio: float = 1.6
    closing_tokens: float = 22.0
    hold_intervals: float = 12.0
    change_rate: float = 0.65
    trap_share: float = 0.7
    trap_stay: float = 0.25
    flicker: float = 0.03
    wrong_answers: int = 100
    wrong_concentration: float = 1.2
    unparsed_probe: float = 0.11
    unparsed_final: float = 0.01

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            low, high = _RANGES.get(field.name, (0.0, 1.0))
            kind = int if field.type == "int" else (int, float)
            if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
                raise _unfit(field, f"{value!r:.60}")

    @classmethod
    def from_settings(cls, settings: Mapping[str, str]) -> SyntheticSpec:
        """The default spec with some parameters replaced, as written on a command line.

        Raises:
            UsageError: a setting names no parameter, is no number, or is out of range.
        """
        known = {field.name: field for field in fields(cls)}
        values: dict[str, Any] = {}
        for name, text in settings.items():
            if name not in known:
                raise UsageError(f"synthetic pool: no parameter '{name}'; there are {', '.join(known)}")
            try:
                values[name] = int(text) if known[name].type == "int" else float(text)
            except ValueError:
                raise _unfit(known[name], repr(text)) from None
        return cls(**values)


def _unfit(field: Field[Any], found: str) -> UsageError:
    low, high = _RANGES.get(field.name, (0.0, 1.0))
    whole = "whole " if field.type == "int" else ""
    return UsageError(
        f"synthetic pool: {field.name}: expected a {whole}number between {low:g} and {high:g}, found {found}"
    )


_RANGES: dict[str, tuple[float, float]] = {
    "questions": (1, 100_000),
    "branches": (1, 100_000),
    "delta": (1, 100_000),
    "max_intervals": (_MIN_INTERVALS, 1000),
    "difficulty_center": (-50, 50),
    "difficulty_spread": (0, 50),
    "length_median": (1, 1000),
    "length_spread": (0, 3),
    "question_length_spread": (0, 3),
    "difficulty_length_ratio": (0.1, 10),
    "wrong_length_ratio": (0.1, 10),
    "closing_tokens": (0, 10_000),
    "hold_intervals": (0.01, 10_000),
    "wrong_answers": (1, _ANSWERS - 2),
    "wrong_concentration": (0, 10),
}


def generate(spec: SyntheticSpec | None = None, *, seed: int = 0, name: str | None = None) -> Pool:
    """Draw a pool.

    Every pool of one spec and seed is the same, everywhere. What differs between questions is spread evenly
    over its distribution (a Latin hypercube), so that few questions still show all of it. As in recorded data
    the last probe of a branch equals its final answer, a branch has at least 3 intervals, and
    ``tokens - delta * intervals`` lies above ``-delta``.

    Args:
        spec: what it is like; the defaults of :class:`SyntheticSpec` by default.
        seed: at least 0.
        name: the pool's name; ``synthetic/seed-<seed>`` by default.

    Raises:
        UsageError: the seed is negative or no whole number.
    """
    spec = spec or SyntheticSpec()
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UsageError(f"synthetic pool: seed: expected a whole number of at least 0, found {seed!r:.60}")
    draw = _Draws(seed)
    traits = [_Traits.at(spec, *quantiles) for quantiles in draw.stratified(spec.questions, 7).tolist()]
    parts = [_question(spec, draw, question) for question in traits]
    dictionary = pa.array([*(str(answer) for answer in range(_ANSWERS)), UNPARSED], pa.string())

    def answers(ids: list[NDArray[np.int16]]) -> pa.DictionaryArray:
        return pa.DictionaryArray.from_arrays(pa.array(np.concatenate(ids)), dictionary)

    described = ", ".join(f"{key}={value}" for key, value in asdict(spec).items())
    return pool_from_cells(
        name=name or f"synthetic/seed-{seed}",
        questions=[f"synthetic question {q}" for q in range(spec.questions)],
        gold=[str(part.gold) for part in parts],
        probe_counts=np.concatenate([part.intervals for part in parts]),
        probe_answers=answers([part.probes for part in parts]),
        final_answers=answers([part.finals for part in parts]),
        tokens=np.concatenate([part.tokens for part in parts]),
        delta=spec.delta,
        provenance={
            "source": "synthetic",
            "generator": "tts_gym.pools.synthetic",
            "generator_version": str(GENERATOR_VERSION),
            "seed": str(seed),
            "spec": described,
        },
    )


class _Draws:
    """Random numbers made of PCG64's uniforms only: NumPy may change its other distributions."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(seed))

    def uniform(self, *shape: int) -> NDArray[np.float64]:
        """float64[shape], uniform in [0, 1)."""
        return self._generator.random(shape)

    def normal(self, *shape: int) -> NDArray[np.float64]:
        """float64[shape], standard normal (Box-Muller)."""
        radius = np.sqrt(-2.0 * np.log1p(-self.uniform(*shape)))
        return radius * np.cos(2.0 * math.pi * self.uniform(*shape))

    def stratified(self, rows: int, columns: int) -> NDArray[np.float64]:
        """float64[rows, columns] in (0, 1): each column has one number in each of ``rows`` equal parts."""
        order = np.argsort(self.uniform(rows, columns), axis=0)
        return (order + np.clip(self.uniform(rows, columns), 1e-9, 1 - 1e-9)) / rows


@dataclass(frozen=True)
class _Traits:
    """What is drawn once per question: ``length`` in intervals of a right branch, the others as in the spec."""

    accuracy: float
    length: float
    trap_share: float
    trap_stay: float
    unparsed_probe: float
    wrong_answers: int
    wrong_concentration: float

    @classmethod
    def at(
        cls,
        spec: SyntheticSpec,
        ease: float,
        length: float,
        trap_share: float,
        trap_stay: float,
        unparsed_probe: float,
        wrong_answers: float,
        wrong_concentration: float,
    ) -> _Traits:
        """The traits at the given quantiles, each in (0, 1)."""
        normal = NormalDist().inv_cdf
        difficulty = -normal(ease)
        log_odds = spec.difficulty_center - spec.difficulty_spread * difficulty
        longer = spec.question_length_spread * normal(length)
        return cls(
            accuracy=0.0 if ease < spec.unsolved_share else 1.0 / (1.0 + math.exp(-log_odds)),
            length=spec.length_median * spec.difficulty_length_ratio**difficulty * math.exp(longer),
            trap_share=_share(trap_share, spec.trap_share),
            trap_stay=_share(trap_stay, spec.trap_stay),
            unparsed_probe=_share(unparsed_probe, spec.unparsed_probe),
            wrong_answers=min(max(1, round(spec.wrong_answers * math.exp(normal(wrong_answers)))), _ANSWERS - 2),
            wrong_concentration=2 * spec.wrong_concentration * wrong_concentration,
        )


def _share(quantile: float, mean: float) -> float:
    return quantile ** (1.0 / mean - 1.0) if mean > 0 else 0.0


@dataclass(frozen=True)
class _Question:
    """One question's branches: answers by their index in the dictionary, the last one unparsed."""

    gold: int
    intervals: NDArray[np.int64]
    tokens: NDArray[np.int32]
    probes: NDArray[np.int16]
    finals: NDArray[np.int16]


def _question(spec: SyntheticSpec, draw: _Draws, traits: _Traits) -> _Question:
    n = spec.branches
    gold, trap, *others = np.argsort(draw.uniform(_ANSWERS)).tolist()
    zipf = np.cumsum(np.arange(1, traits.wrong_answers + 1) ** -traits.wrong_concentration)
    wrong_answers = np.array(others[: traits.wrong_answers], dtype=np.int16)

    def wrong(*shape: int) -> NDArray[np.int16]:
        ranks = np.searchsorted(zipf, draw.uniform(*shape) * zipf[-1], side="right")
        answers: NDArray[np.int16] = wrong_answers[ranks]
        return answers

    right = draw.uniform(n) < traits.accuracy
    kind = draw.uniform(n)
    finals = wrong(n)
    finals[kind < spec.unparsed_final + (1 - spec.unparsed_final) * traits.trap_stay] = trap
    finals[kind < spec.unparsed_final] = _ANSWERS
    finals[right] = gold

    intervals, tokens = _lengths(spec, draw, traits, right)
    depth = np.arange(spec.max_intervals)
    unsettled = depth < (intervals - _held(spec, draw, intervals))[:, None]
    shape = (n, spec.max_intervals)
    kind = draw.uniform(*shape)
    shown = wrong(*shape)
    flickers = traits.unparsed_probe + (1 - traits.unparsed_probe) * spec.flicker
    trapped = flickers + (1 - flickers) * traits.trap_share * (1 - depth / intervals[:, None])
    shown[kind < trapped] = trap
    shown = np.where(kind < flickers, finals[(draw.uniform(*shape) * n).astype(np.int64)], shown)
    shown[kind < traits.unparsed_probe] = _ANSWERS
    redrawn = (draw.uniform(*shape) < spec.change_rate) | (depth == 0)
    drawn_at = np.maximum.accumulate(np.where(redrawn, depth, 0), axis=1)
    shown = np.where(unsettled, np.take_along_axis(shown, drawn_at, axis=1), finals[:, None])
    return _Question(gold, intervals, tokens, shown[depth < intervals[:, None]], finals)


def _lengths(
    spec: SyntheticSpec, draw: _Draws, traits: _Traits, right: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """int64[N] intervals and int32[N] tokens: thinking, read every ``delta`` tokens and at its end, then closing."""
    n = len(right)
    length = traits.length * np.exp(spec.length_spread * draw.normal(n)) * np.where(right, 1, spec.wrong_length_ratio)
    length = np.clip(length, _MIN_INTERVALS - draw.uniform(n), spec.max_intervals)
    closing = spec.closing_tokens * length * np.exp(0.35 * draw.normal(n) - 0.06)
    # a recorded run also ends where thinking and closing together reach a limit two to three intervals above the cap
    budget = (spec.max_intervals + 2 + draw.uniform(n)) * spec.delta
    shortest = (_MIN_INTERVALS - 1) * spec.delta + 1
    thinking = np.ceil(np.clip(budget - closing, shortest, length * spec.delta)).astype(np.int64)
    intervals = -(-thinking // spec.delta)
    return intervals, (thinking + closing.astype(np.int64)).astype(np.int32)


def _held(spec: SyntheticSpec, draw: _Draws, intervals: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64[N] in 1..intervals: how long each branch holds its final answer at its end."""
    checking, solving = -np.log1p(-draw.uniform(2, 2, len(intervals))).sum(axis=0)
    share = spec.hold_intervals * checking / (spec.hold_intervals * checking + intervals * solving)
    held: NDArray[np.int64] = np.maximum(1, np.rint(share * intervals)).astype(np.int64)
    return held
