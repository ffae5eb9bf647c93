"""Running a program over recorded branches. It is given no gold and no strings, only a Recording.

This is the seam of isolation: an untrusted program will run behind the same function, in another process.
"""

from __future__ import annotations

import math
from bdb import BdbQuit
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
from numpy.typing import NDArray

from tts_gym.engine.moves import Move, Refusal, branch_order, branch_orders, refusal_sentence
from tts_gym.engine.reference import Episode
from tts_gym.errors import IllegalMove, PoolError, ProgramError, UsageError
from tts_gym.pools.pool import Recording
from tts_gym.programs.program import Number, Program, as_attributes, line_of, said


@dataclass(frozen=True, eq=False)
class Limits:
    """What an episode may spend.

    Attributes:
        max_branches: most branches; None for all there are.
        budget: most cost in tokens; None for no limit.
        probe_cost: cost of one probe in tokens.
    """

    max_branches: int | None = None
    budget: float | None = None
    probe_cost: float = 0.0

    def __post_init__(self) -> None:
        if self.max_branches is not None and self.max_branches < 1:
            raise UsageError(f"max_branches should be at least 1, found {self.max_branches}")
        for name, value in (("budget", self.budget), ("probe_cost", self.probe_cost)):
            known = isinstance(value, Real) and value >= 0 and (name == "budget" or value < math.inf)
            if not known and not (name == "budget" and value is None):
                raise UsageError(f"{name} should be at least 0 tokens, found {value!r}")


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What came of each episode; every field is int64[A, S] over questions and orders.

    Attributes:
        code: the answer's code in the pool, -1 for no answer.
        tokens: tokens generated.
        sequential_tokens: sum over rounds of the longest branch's tokens.
        peak_width: most branches live at once.
        probes: probes made.
        branches: branches opened.
    """

    code: NDArray[np.int64]
    tokens: NDArray[np.int64]
    sequential_tokens: NDArray[np.int64]
    peak_width: NDArray[np.int64]
    probes: NDArray[np.int64]
    branches: NDArray[np.int64]


def run_program(
    program: Program,
    recording: Recording,
    knobs: Mapping[str, Number],
    *,
    questions: Sequence[int] | NDArray[np.int64] | None = None,
    orders: int | Sequence[int] = 100,
    limits: Limits | None = None,
    interpreted: bool = False,
) -> Outcomes:
    """Run a program on questions x orders.

    Args:
        questions: question indices; None for all.
        orders: how many orders, from 0, or which ones.
        interpreted: run the file as plain Python on the reference engine, about ninety times slower.

    Raises:
        UsageError: a question that the recording does not have.
        ProgramError: the program fails or makes an illegal move; the message says where.
    """
    chosen = np.arange(recording.questions) if questions is None else np.asarray(questions, dtype=np.int64)
    if len(chosen) and not 0 <= chosen.min() <= chosen.max() < recording.questions:
        raise UsageError(f"questions should be from 0 to {recording.questions - 1}, found {chosen.tolist()}")
    seeds = range(orders) if isinstance(orders, int) else orders
    permutations = branch_orders(recording.branches, tuple(seeds))
    outcomes = np.zeros((len(chosen), len(permutations), 6), dtype=np.int64)
    at = np.zeros(2, dtype=np.int64)
    run = _interpret if interpreted else _run_compiled
    try:
        run(program, recording, knobs, chosen, permutations, limits or Limits(), outcomes, at)
    except (ProgramError, PoolError, UsageError, BdbQuit):
        raise
    except (Exception, SystemExit) as error:
        where = f"{program.path}: question {chosen[at[0]]}, order {seeds[at[1]]}"
        if not interpreted:  # the interpreter knows the line
            run_program(
                program, recording, knobs, questions=chosen[at[0] : at[0] + 1], orders=[seeds[at[1]]], limits=limits,
                interpreted=True,
            )  # fmt: skip
        raise ProgramError(f"{where}{line_of(error, program.path)}: {said(error)}") from None
    return Outcomes(*np.moveaxis(outcomes, 2, 0))


def trace_program(
    program: Program,
    recording: Recording,
    knobs: Mapping[str, Number],
    *,
    question: int,
    order: int,
    limits: Limits | None = None,
) -> list[tuple[Move, int]]:
    """The action log of one episode: every move with its branch, or for ANSWER the answer number."""
    episode = reference_episode(recording, question, order, limits or Limits())
    episode.answer(program.solve(episode, as_attributes(knobs)))
    return [(Move(move), operand) for move, operand in episode.log]


def reference_episode(recording: Recording, question: int, order: int, limits: Limits) -> Episode:
    """One question under one order on the reference engine."""
    return _Question(recording, question).episode(branch_order(recording.branches, order), limits)


class _Question:
    """A question's columns as lists, which plain Python reads faster than arrays."""

    def __init__(self, recording: Recording, question: int) -> None:
        self.delta = recording.delta
        self.answers = recording.answers[question].tolist()
        self.intervals = recording.intervals[question].tolist()
        self.tokens = recording.tokens[question].tolist()

    def episode(self, order: NDArray[np.int32], limits: Limits) -> Episode:
        columns = (self.answers, self.intervals, self.tokens, order.tolist())
        return Episode(*columns, delta=self.delta, **vars(limits))


def _interpret(
    program: Program,
    recording: Recording,
    knobs: Mapping[str, Number],
    questions: NDArray[np.int64],
    permutations: NDArray[np.int32],
    limits: Limits,
    outcomes: NDArray[np.int64],
    at: NDArray[np.int64],
) -> None:
    attributes = as_attributes(knobs)
    for a, question in enumerate(questions):
        recorded = _Question(recording, int(question))
        for s, permutation in enumerate(permutations):
            at[:] = a, s
            episode = recorded.episode(permutation, limits)
            number = program.solve(episode, attributes)
            if isinstance(number, bool) or not isinstance(number, Integral):
                raise TypeError(f"solve should always return an answer number or -1, found {number!r}")
            episode.answer(int(number))
            outcomes[a, s] = (
                episode.revealed[number] if number >= 0 else -1,
                episode.tokens,
                episode.sequential_tokens,
                episode.peak_width,
                episode.probes,
                episode.opened,
            )


def _run_compiled(
    program: Program,
    recording: Recording,
    knobs: Mapping[str, Number],
    questions: NDArray[np.int64],
    permutations: NDArray[np.int32],
    limits: Limits,
    outcomes: NDArray[np.int64],
    at: NDArray[np.int64],
) -> None:
    from tts_gym.engine import compiled as engine
    from tts_gym.programs.compilation import compiled_driver
    from tts_gym.programs.native import KnobsBlock

    drive = compiled_driver(program, knobs)
    block = engine.Block(recording, **vars(limits))
    values = KnobsBlock(dict(knobs))
    try:
        drive(block.address, values, questions, permutations, permutations.ctypes.data, outcomes, at)
    except IllegalMove:
        move, branch, refusal = (int(block.slots[slot]) for slot in engine.REFUSED)
        raise IllegalMove(refusal_sentence(Move(move), branch, Refusal(refusal))) from None
