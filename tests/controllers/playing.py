"""One episode of a shipped controller on branches written as strings, compiled and interpreted."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tts_gym.engine.moves import branch_order
from tts_gym.evaluation import contestant, find_program
from tts_gym.pools.pool import Recording
from tts_gym.programs.program import as_attributes
from tts_gym.programs.runner import Limits, Outcomes, run_program

DELTA = 100


class Played(NamedTuple):
    """What came of an episode; the answer is a letter, or ``-`` for none."""

    answer: str
    branches: int
    tokens: int
    sequential_tokens: int


def recording_of(branches: Sequence[str], tokens: Sequence[int] | None = None) -> Recording:
    """One question. Order 0 opens its branches as listed; each is a letter per interval, ``-`` for no answer.

    The final answer is the last letter, and a branch has 100 tokens a letter unless it is said otherwise.
    """
    tokens = [DELTA * len(letters) for letters in branches] if tokens is None else tokens
    deepest = max(map(len, branches))
    answers = np.full((1, len(branches), deepest + 1), -1, dtype=np.int16)
    intervals = np.zeros((1, len(branches)), dtype=np.int16)
    spent = np.zeros((1, len(branches)), dtype=np.int32)
    for place, letters, total in zip(branch_order(len(branches), 0), branches, tokens, strict=True):
        codes = [-1 if letter == "-" else ord(letter) - ord("A") for letter in letters + letters[-1]]
        answers[0, place, : len(codes)] = codes
        intervals[0, place] = len(letters)
        spent[0, place] = total
    return Recording(answers, intervals, spent, DELTA, 26)


def play(
    spec: str, branches: Sequence[str], tokens: Sequence[int] | None = None, limits: Limits | None = None
) -> Played:
    """Run ``spec`` (at beta 1) once, both ways."""
    outcomes = run_both(spec, recording_of(branches, tokens), [0], limits)
    code = int(outcomes.code[0, 0])
    return Played(
        "-" if code < 0 else chr(ord("A") + code),
        int(outcomes.branches[0, 0]),
        int(outcomes.tokens[0, 0]),
        int(outcomes.sequential_tokens[0, 0]),
    )


def run_both(spec: str, recording: Recording, orders: Sequence[int], limits: Limits | None = None) -> Outcomes:
    """Run ``spec`` at beta 1 compiled and interpreted, and hold the outcomes equal."""
    chosen = contestant(spec)
    knobs = chosen.knobs(1.0)
    compiled = run_program(chosen.program, recording, knobs, orders=orders, limits=limits)
    interpreted = run_program(chosen.program, recording, knobs, orders=orders, limits=limits, interpreted=True)
    for field in dataclasses.fields(Outcomes):
        assert getattr(compiled, field.name).tolist() == getattr(interpreted, field.name).tolist(), field.name
    return compiled


def function(name: str, of: str) -> Any:
    """A function of a shipped controller, interpreted."""
    return find_program(of).namespace[name]


def knobs_of(spec: str) -> Any:
    """The knobs of ``spec`` at beta 1, as a program reads them."""
    return as_attributes(contestant(spec).knobs(1.0))
