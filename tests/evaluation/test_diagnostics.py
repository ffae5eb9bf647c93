"""Bounds by gold: by hand, by counting all subsets, and by searching every play on the reference engine."""

from __future__ import annotations

import copy
import heapq
from itertools import combinations, count

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from random_pools import recordings, steady

from tts_gym.engine.moves import branch_order
from tts_gym.errors import PoolError, UsageError
from tts_gym.evaluation import evaluate, find_program
from tts_gym.evaluation.diagnostics import (
    cheapest_correct_stop,
    diagnostics,
    oracle_best_branch,
    pass_at,
    self_consistency_rate,
)
from tts_gym.evaluation.statistics import as_table
from tts_gym.pools import Pool, Recording, SyntheticSpec, Vocabulary, generate
from tts_gym.programs.runner import Limits, reference_episode, run_program

SMALL = generate(SyntheticSpec(questions=6, branches=12), seed=3, name="m/small")


def _pool(recording: Recording, gold: list[int]) -> Pool:
    """A pool over a recording: code c of every question is the string c."""
    size, questions = recording.vocabulary_size, recording.questions
    words = pa.array([str(code) for _ in range(questions) for code in range(size)])
    return Pool(
        name="m/hand",
        recording=recording,
        questions=tuple(f"question {q}" for q in range(questions)),
        gold=tuple(map(str, gold)),
        vocabulary=Vocabulary(words, np.arange(questions + 1) * size),
    )


def _recording(branches: list[list[tuple[list[int], int]]]) -> Recording:
    """From, per question and branch, its answers (probes, then the final one) and its tokens; delta is 100."""
    longest = max(len(codes) for question in branches for codes, _ in question)
    answers = [[codes + [-1] * (longest - len(codes)) for codes, _ in question] for question in branches]
    return Recording(
        answers=np.array(answers, dtype=np.int16),
        intervals=np.array([[len(codes) - 1 for codes, _ in question] for question in branches], dtype=np.int16),
        tokens=np.array([[tokens for _, tokens in question] for question in branches], dtype=np.int32),
        delta=100,
        vocabulary_size=1 + max(max(codes) for question in branches for codes, _ in question),
    )


# gold is 1 in both questions
HAND = _pool(
    _recording(
        [
            [([0, 0, 0], 250), ([0, 1, 0], 190), ([0, 0, 1], 130), ([-1], 40)],
            [([1, 1], 90), ([2], 70), ([0, 2], 180), ([-1, -1], 100)],
        ]
    ),
    [1, 1],
)


def test_pass_at_n_by_hand() -> None:
    # one right final answer among four branches: 1 - C(3, N) / C(4, N)
    assert pass_at(HAND, 1).tolist() == pytest.approx([1 / 4, 1 / 4])
    assert pass_at(HAND, 2).tolist() == pytest.approx([1 / 2, 1 / 2])
    assert pass_at(HAND, 3).tolist() == pytest.approx([3 / 4, 3 / 4])
    assert pass_at(HAND, 4).tolist() == [1.0, 1.0]
    assert pass_at(HAND, 4, questions=[1]).shape == (1,)


@pytest.mark.parametrize("width", [1, 2, 5, 8])
def test_pass_at_n_is_the_mean_over_all_choices(width: int) -> None:
    pool = generate(SyntheticSpec(questions=5, branches=8), seed=1, name="m/x")
    right = np.take_along_axis(pool.correct(), pool.final_codes().astype(np.int64), axis=1)
    chosen = [right[:, list(some)].any(axis=1) for some in combinations(range(8), width)]
    assert pass_at(pool, width) == pytest.approx(np.mean(chosen, axis=0))


def test_the_best_branch_over_orders_is_pass_at_n_at_what_self_consistency_spends() -> None:
    found = oracle_best_branch(SMALL, 4, 3000)
    assert found.correct.mean(axis=1) == pytest.approx(pass_at(SMALL, 4), abs=0.04)
    (row,) = evaluate("sc:n=4", SMALL, [0.0], orders=50).rows
    same = oracle_best_branch(SMALL, 4, 50)
    assert same.tokens.mean() == row.tokens
    assert 100 * same.correct.mean() >= row.accuracy


def test_the_cheapest_correct_stop_by_hand() -> None:
    # Opening costs min(100, tokens), or all of a branch of no interval. A right answer within costs, per question:
    # branch 1 at its second interval 200 (of 190), branch 2 at its end 130; branch 0 at its first interval 100 (of 90).
    reach: list[dict[int, int]] = [{1: 200, 2: 130}, {0: 90}]
    opening = [[100, 100, 100, 40], [90, 70, 100, 100]]
    for width in (1, 2, 3, 4):
        found = cheapest_correct_stop(HAND, width, 24)
        for q, s in np.ndindex(2, 24):
            order = branch_order(4, s)[:width].tolist()
            stops = [sum(opening[q][j] for j in order[:i]) + reach[q][b] for i, b in enumerate(order) if b in reach[q]]
            assert found.correct[q, s] == bool(stops)
            assert found.tokens[q, s] == min(stops, default=0)


def _search(pool: Pool, question: int, order: int, width: int, right: set[int]) -> int | None:
    """The fewest tokens to a right answer, over every legal play on the reference engine (Dijkstra)."""
    number = count()
    first = reference_episode(pool.recording, question, order, Limits(max_branches=width))
    queue = [(0, next(number), first)]
    done = set()
    while queue:
        tokens, _, episode = heapq.heappop(queue)
        if right & set(episode.revealed):
            return tokens
        state = (tuple(episode.depth), tuple(episode.finished), tuple(episode.spent))
        if state in done:
            continue
        done.add(state)
        moves = [("branch", ())]
        moves += [(name, (i,)) for i in episode.live_branches() for name in ("advance", "probe")]
        for name, arguments in moves:
            if not getattr(episode, f"why_not_{name}")(*arguments):
                after = copy.deepcopy(episode)
                getattr(after, name)(*arguments)
                heapq.heappush(queue, (after.tokens, next(number), after))
    return None


@settings(steady, max_examples=80)
@given(recording=recordings(most_intervals=3), data=st.data())
def test_no_play_is_cheaper_than_the_cheapest_correct_stop(recording: Recording, data: st.DataObject) -> None:
    gold = data.draw(st.integers(0, recording.vocabulary_size - 1))
    width = data.draw(st.integers(1, min(3, recording.branches)))
    pool = _pool(recording, [gold] * recording.questions)
    found = cheapest_correct_stop(pool, width, 2)
    for order in range(2):
        best = _search(pool, 0, order, width, {gold})
        assert (bool(found.correct[0, order]), int(found.tokens[0, order])) == (best is not None, best or 0)


@pytest.mark.parametrize("name", ["cmc", "parallel_probe", "sc", "esc"])
def test_no_controller_beats_the_oracles(name: str) -> None:
    program = find_program(name)
    outcomes = run_program(program, SMALL.recording, program.knobs(1.0), orders=40, limits=Limits(max_branches=12))
    graded = SMALL.correct()
    right = np.take_along_axis(graded, np.maximum(outcomes.code, 0), axis=1) & (outcomes.code >= 0)
    oracle = cheapest_correct_stop(SMALL, 12, 40)
    assert (oracle.correct >= right).all()
    assert (oracle.tokens <= outcomes.tokens)[right].all()
    assert right.any()


def test_self_consistency_by_hand() -> None:
    finals: list[list[tuple[list[int], int]]] = [
        [([code], 10) for code in codes] for codes in ([0, 0, 1, 2], [1, 1, 2, 2], [-1, -1, -1, 3], [-1, -1, -1, -1])
    ]
    pool = _pool(_recording(finals), [0] * 4)
    codes = np.array([[0, 0, 1, -1], [1, 2, 0, 2], [3, -1, -1, -1], [-1, 0, 1, 2]])
    # a tie counts for both; no answer is no vote, agrees with nobody, and without votes there is no crowd
    assert self_consistency_rate(pool, codes).tolist() == [0.5, 0.75, 0.25, 0.0]
    assert self_consistency_rate(pool, codes[2:3], questions=[2]).tolist() == [0.25]


def test_the_vote_of_all_branches_always_agrees_with_the_crowd() -> None:
    def rate(n: int) -> NDArray[np.float64]:
        code = run_program(find_program("sc"), SMALL.recording, {"n": n}, orders=12).code
        return self_consistency_rate(SMALL, code)

    assert rate(12).tolist() == [1.0] * 6
    most = [np.bincount(finals).max() / 12 for finals in SMALL.final_codes()]
    unique = [
        np.sort(np.bincount(finals, minlength=2))[-2] < np.bincount(finals).max() for finals in SMALL.final_codes()
    ]
    one = self_consistency_rate(SMALL, SMALL.final_codes())  # every branch once: the crowd's share
    assert [r for r, u in zip(one, unique, strict=True) if u] == pytest.approx(
        [m for m, u in zip(most, unique, strict=True) if u]
    )
    assert any(unique)
    assert (rate(1) <= 1.0).all()
    assert rate(1).mean() < 1.0


def test_rows_say_that_they_are_not_achievable() -> None:
    rows = diagnostics(SMALL, [1, 4], 20)
    assert [row.width for row in rows] == [1, 4] * 3
    assert all("(not achievable)" in row.name for row in rows)
    pass_4, best_4, stop_4 = rows[1::2]
    assert pass_4.tokens is None
    assert pass_4.accuracy.value == pytest.approx(100 * pass_at(SMALL, 4).mean())
    assert best_4.tokens is not None
    assert stop_4.tokens is not None
    assert stop_4.accuracy.value >= best_4.accuracy.value
    assert stop_4.tokens.value < best_4.tokens.value
    assert best_4.accuracy.low < best_4.accuracy.value < best_4.accuracy.high
    table = as_table(rows)
    assert table["tokens_high"].to_pylist()[:2] == [None, None]
    assert table.num_rows == 6


def test_wrong_requests_are_named() -> None:
    for call, says in (
        (lambda: pass_at(SMALL, 13), "width should be from 1 to the 12 branches of pool m/small, found 13"),
        (lambda: oracle_best_branch(SMALL, 0), "width should be from 1"),
        (lambda: cheapest_correct_stop(SMALL, 2, 0), "orders should be at least one"),
        (lambda: pass_at(SMALL, 2, questions=[6]), r"questions should be from 0 to 5, at least one, found \[6\]"),
        (lambda: self_consistency_rate(SMALL, np.zeros((5, 3), dtype=int)), "answers of 6 questions x orders"),
        (lambda: self_consistency_rate(SMALL, np.full((6, 3), 999)), "an answer that pool m/small does not have"),
    ):
        with pytest.raises(UsageError, match=says):
            call()
    with pytest.raises(PoolError, match="no 'math' grading"):
        pass_at(SMALL, 2, grading="math")
