"""Statistics of votes against brute force and exact arithmetic, interpreted and compiled (spec, section 3)."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from itertools import pairwise
from math import comb
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tts_gym import programs
from tts_gym.engine.jit import cached_njit
from tts_gym.programs import confidence, majority, ranked, top_two
from tts_gym.programs.native import NAMESPACE

STEADY = settings(max_examples=300, derandomize=True, database=None, deadline=None)

votes_lists = st.lists(st.integers(-1, 5) | st.integers(-1, 200), max_size=40)

_top_two, _majority, _confidence, _ranked = (
    NAMESPACE["top_two"],
    NAMESPACE["majority"],
    NAMESPACE["confidence"],
    NAMESPACE["ranked"],
)
native = cached_njit()


# Lists cross into compiled code as arrays, and become lists there.


@native  # type: ignore[untyped-decorator]
def _compiled_top_two(votes: Any) -> Any:
    return _top_two([vote for vote in votes])  # noqa: C416


@native  # type: ignore[untyped-decorator]
def _compiled_majority(votes: Any) -> Any:
    return _majority([vote for vote in votes])  # noqa: C416


@native  # type: ignore[untyped-decorator]
def _compiled_ranked(branches: Any, keys: Any) -> Any:
    return np.array(_ranked([i for i in branches], [key for key in keys]), dtype=np.int64)  # noqa: C416


def compiled_top_two(votes: list[int]) -> tuple[int, int, int]:
    return _compiled_top_two(np.array(votes, dtype=np.int64))  # type: ignore[no-any-return]


def compiled_majority(votes: list[int]) -> int:
    return _compiled_majority(np.array(votes, dtype=np.int64))  # type: ignore[no-any-return]


def compiled_ranked(branches: list[int], keys: list[int]) -> list[int]:
    found = _compiled_ranked(np.array(branches, dtype=np.int64), np.array(keys, dtype=np.int64))
    return found.tolist()  # type: ignore[no-any-return]


both_top_two = pytest.mark.parametrize("top", [top_two, compiled_top_two], ids=["interpreted", "compiled"])
both_majority = pytest.mark.parametrize("most", [majority, compiled_majority], ids=["interpreted", "compiled"])
both_ranked = pytest.mark.parametrize("rank", [ranked, compiled_ranked], ids=["interpreted", "compiled"])
both_confidence = pytest.mark.parametrize("sure", [confidence, _confidence], ids=["interpreted", "compiled"])


# --- votes -------------------------------------------------------------------------------------------


def counted(votes: list[int]) -> tuple[int, int, int]:
    """Winner and two largest counts: every answer counted, sorted by count, first in the list first."""
    answers = [vote for k, vote in enumerate(votes) if vote != -1 and vote not in votes[:k]]
    tallies = sorted(((votes.count(answer), -votes.index(answer)) for answer in answers), reverse=True)
    if not tallies:
        return -1, 0, 0
    return votes[-tallies[0][1]], tallies[0][0], tallies[1][0] if len(tallies) > 1 else 0


@both_top_two
@STEADY
@given(votes=votes_lists)
def test_top_two_counts(top: Callable[[list[int]], tuple[int, int, int]], votes: list[int]) -> None:
    assert top(votes) == counted(votes)


@both_majority
@STEADY
@given(votes=votes_lists)
def test_majority_is_the_winner(most: Callable[[list[int]], int], votes: list[int]) -> None:
    assert most(votes) == counted(votes)[0]


@both_top_two
@pytest.mark.parametrize(
    ("votes", "found"),
    [
        ([], (-1, 0, 0)),
        ([-1, -1, -1], (-1, 0, 0)),
        ([3], (3, 1, 0)),
        ([-1, 3, -1, -1], (3, 1, 0)),
        ([2, 1, 1, 2], (2, 2, 2)),  # a tie goes to the first in the list, not to the smallest
        ([0, 7, 7, 0, 7], (7, 3, 2)),
        ([0, 1, 2, 2], (2, 2, 1)),
        ([5, 5, 4, 4, 4, 5], (5, 3, 3)),
        ([1, 0, 0, 2, 2, 2, 0], (0, 3, 3)),
    ],
)
def test_top_two_by_hand(
    top: Callable[[list[int]], tuple[int, int, int]], votes: list[int], found: tuple[int, int, int]
) -> None:
    assert top(votes) == found


# --- confidence ----------------------------------------------------------------------------------------


@cache
def exact_row(n: int) -> list[float]:
    """For v1 = 0, 1, ... < n: sum of C(n, k) / 2^n over k <= v1, exactly, then rounded once."""
    total, row = 0, []
    for k in range(n):
        total += comb(n, k)
        row.append(float(Fraction(total, 2**n)))
    return row


def exact(first: int, second: int) -> float:
    return exact_row(first + second + 1)[first] if first > 0 else 0.0


@both_confidence
def test_confidence_is_exact_to_128_votes(sure: Callable[[int, int], float]) -> None:
    for votes in range(129):
        for first in range(votes + 1):
            found = sure(first, votes - first)
            assert abs(found - exact(first, votes - first)) <= 1e-12, (first, votes - first, found)


@both_confidence
def test_confidence_of_few_votes_by_hand(sure: Callable[[int, int], float]) -> None:
    # 1 - 2^-(v+1) for v votes and no dissent; a tie decides nothing
    assert [sure(v, 0) for v in range(6)] == [0.0, 0.75, 0.875, 0.9375, 0.96875, 0.984375]
    assert [sure(v, v) for v in (1, 2, 5, 20)] == [0.5, 0.5, 0.5, 0.5]
    assert [sure(0, 0), sure(0, 3), sure(-1, 0)] == [0.0, 0.0, 0.0]
    # (C(4,0) + C(4,1) + C(4,2)) / 16 and, behind, (C(4,0) + C(4,1)) / 16
    assert [sure(2, 1), sure(1, 2)] == [11 / 16, 5 / 16]


@both_confidence
@settings(STEADY, max_examples=60)
@given(votes=st.integers(129, 3000) | st.integers(990, 1110), share=st.floats(0.0, 1.0))
def test_confidence_of_many_votes(sure: Callable[[int, int], float], votes: int, share: float) -> None:
    first = round(votes * share)
    found = sure(first, votes - first)
    assert found == pytest.approx(exact(first, votes - first), rel=1e-9, abs=1e-12)
    assert 0.0 <= found <= 1.0 + 1e-12


@both_confidence
@pytest.mark.parametrize("second", [0, 1, 40, 400, 499, 500, 501, 1000, 1500])
def test_confidence_rises_with_the_leader_and_falls_with_the_runner_up(
    sure: Callable[[int, int], float], second: int
) -> None:
    firsts = [*range(1, 130), *range(480, 520), *range(940, 1110), *range(1400, 1500, 9), 2000, 3000]
    column = [sure(first, second) for first in firsts]
    assert all(later >= earlier - 1e-11 for earlier, later in pairwise(column))
    assert all(sure(first, second + 1) <= value + 1e-11 for first, value in zip(firsts, column, strict=True))
    assert column[0] <= 0.75
    assert column[-1] > 0.999


# --- ranked ------------------------------------------------------------------------------------------


@both_ranked
@STEADY
@given(data=st.data())
def test_ranked_is_a_stable_sort_downwards(
    rank: Callable[[list[int], list[int]], list[int]], data: st.DataObject
) -> None:
    keys = data.draw(st.lists(st.integers(-3, 4) | st.integers(-(2**40), 2**40), max_size=20))
    branches = data.draw(st.permutations(range(len(keys))))
    some = branches[: data.draw(st.integers(0, len(keys)))]
    expected = sorted(some, key=lambda i: keys[i], reverse=True)
    assert rank(some, keys) == expected


@both_ranked
def test_ranked_by_hand(rank: Callable[[list[int], list[int]], list[int]]) -> None:
    keys = [2, 9, 2, 5, 9]
    assert rank([0, 1, 2, 3, 4], keys) == [1, 4, 3, 0, 2]
    assert rank([4, 2, 1, 0], keys) == [4, 1, 2, 0]
    assert rank([], keys) == []


def test_ranked_sorts_in_place() -> None:
    branches, keys = [2, 0, 1], [1, 2, 3]
    assert ranked(branches, keys) is branches
    assert (branches, keys) == ([2, 1, 0], [1, 2, 3])


def test_every_primitive_has_a_compiled_form() -> None:
    assert set(NAMESPACE) == {name for name in programs.__all__ if name.islower()}
