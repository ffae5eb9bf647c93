"""The rules of the replay MDP on tiny pools, every number worked out by hand (spec, section 2).

An interval is 100 tokens throughout, unless a test says otherwise.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tts_gym.engine.moves import Move, Refusal, branch_order
from tts_gym.engine.reference import Episode
from tts_gym.errors import IllegalMove


def episode(
    answers: Sequence[Sequence[int]],
    tokens: Sequence[int],
    *,
    order: Sequence[int] | None = None,
    delta: int = 100,
    max_branches: int | None = None,
    budget: float | None = None,
    probe_cost: float = 0.0,
) -> Episode:
    """An episode over branches given by their answers: one per interval, then the final one."""
    return Episode(
        answers,
        [len(codes) - 1 for codes in answers],
        tokens,
        list(range(len(answers))) if order is None else order,
        delta=delta,
        max_branches=max_branches,
        budget=budget,
        probe_cost=probe_cost,
    )


def everything(e: Episode) -> dict[str, Any]:
    """All that an episode holds, copied."""
    return {
        name: list(value) if isinstance(value, list) else dict(value) if isinstance(value, dict) else value
        for name, value in vars(e).items()
    } | {"cost": e.cost, "sequential_tokens": e.sequential_tokens}


def refused(e: Episode, move: Callable[[], object], sentence: str) -> None:
    """The move is refused with this sentence, costs nothing and changes nothing."""
    before = everything(e)
    with pytest.raises(IllegalMove) as caught:
        move()
    assert str(caught.value) == sentence
    assert everything(e) == before


# --- what a branch costs -------------------------------------------------------------------------------

# tokens of a branch of three intervals; tokens billed after BRANCH and each CONTINUE when it is only read;
# the same when it is also probed after every interval; what it costs when walked: max(300, tokens)
COSTS = [
    (250, [100, 200, 250, 250], [100, 200, 300, 300]),  # ends inside the last interval
    (300, [100, 200, 300, 300], [100, 200, 300, 300]),  # ends exactly with it
    (301, [100, 200, 300, 301], [100, 200, 300, 301]),  # one token beyond
    (420, [100, 200, 300, 420], [100, 200, 300, 420]),  # more than an interval beyond
    (150, [100, 150, 150, 150], [100, 200, 300, 300]),  # fewer tokens than its intervals say
    (0, [0, 0, 0, 0], [100, 200, 300, 300]),
]


@pytest.mark.parametrize(("tokens", "read", "walked"), COSTS, ids=[f"{tokens}-tokens" for tokens, _, _ in COSTS])
def test_read_and_walked_costs(tokens: int, read: list[int], walked: list[int]) -> None:
    reading, walking = episode([[0, 0, 0, 0]], [tokens]), episode([[0, 0, 0, 0]], [tokens])
    billed: list[int] = []
    seen: list[int] = []
    reading.branch()
    walking.branch()
    for interval in (1, 2, 3):
        assert (reading.depth, walking.depth) == ([interval], [interval])
        walking.probe(0)
        billed.append(reading.spent[0])
        seen.append(walking.spent[0])
        assert reading.advance(0) == walking.advance(0) == (interval == 3)
    billed.append(reading.spent[0])
    seen.append(walking.spent[0])
    assert (billed, seen) == (read, walked)
    assert (reading.tokens, reading.cost) == (tokens, tokens)
    assert (walking.tokens, walking.cost) == (max(300, tokens), max(300, tokens))
    assert (reading.probes, walking.probes) == (0, 3)
    assert (reading.depth, reading.finished, reading.live) == ([3], [True], 0)


def test_a_probe_bills_the_intervals_up_to_its_depth_in_full() -> None:
    e = episode([[0, 0, 0, 0]], [150])
    e.branch()  # 100
    e.advance(0)  # 150: all there is
    assert e.tokens == 150
    e.probe(0)  # the second interval in full
    assert e.tokens == 200
    e.advance(0)  # the third holds no token, and the bill of 200 covers it
    assert e.tokens == 200
    e.advance(0)
    assert (e.tokens, e.finished) == (200, [True])


def test_a_late_probe_bills_all_intervals_before_it() -> None:
    e = episode([[0, 0, 0, 0]], [150])
    e.branch()
    e.advance(0)
    e.advance(0)
    assert e.tokens == 150
    e.probe(0)
    assert (e.tokens, e.spent) == (300, [300])


def test_probe_cost_is_counted_beside_the_tokens() -> None:
    e = episode([[0, 0], [0, 0]], [90, 100], probe_cost=2.5)
    e.branch()
    e.branch()
    assert e.cost == 190  # min(100, 90) + 100
    e.probe(0)
    e.probe(1)
    assert (e.tokens, e.probes, e.cost) == (200, 2, 205.0)
    e.advance(0)
    assert (e.tokens, e.cost) == (200, 205.0)


def test_branches_are_billed_apart() -> None:
    e = episode([[0, 0, 0], [0, 0], [0, 0]], [230, 100, 99])
    for _ in range(3):
        e.branch()
    e.advance(0)
    e.advance(0)
    e.prune(2)
    assert (e.spent, e.tokens, e.cost) == ([230, 100, 99], 429, 429)
    assert e.live_branches() == [1]


# --- probes ------------------------------------------------------------------------------------------


def test_a_branch_is_probed_once_per_depth() -> None:
    e = episode([[5, 6, 6]], [200])
    e.branch()
    assert e.probe(0) == 0
    refused(e, lambda: e.probe(0), "PROBE(0) is illegal: branch 0 was probed at this depth already")
    e.advance(0)
    assert e.why_not_probe(0) == Refusal.NONE
    assert e.probe(0) == 1
    assert e.probes == 2
    e.advance(0)
    refused(e, lambda: e.probe(0), "PROBE(0) is illegal: branch 0 is finished")


def test_continue_reveals_nothing_before_the_end() -> None:
    e = episode([[5, 6, 7]], [200])
    e.branch()
    e.advance(0)
    assert (e.latest, e.revealed) == ([-1], [])
    assert e.probe(0) == 0
    assert e.revealed == [6]  # the answer at the current depth, not the first one
    e.advance(0)
    assert (e.latest, e.revealed) == ([1], [6, 7])


def test_answers_are_numbered_by_first_revelation() -> None:
    e = episode([[4, 9, 9], [9, 2, 2], [4, 4, 4]], [200, 200, 200])
    for _ in range(3):
        e.branch()
    assert [e.probe(1), e.probe(0), e.probe(2)] == [0, 1, 1]
    assert e.revealed == [9, 4]
    e.advance(0)
    e.advance(1)
    assert [e.probe(0), e.probe(1)] == [0, 2]
    assert (e.latest, e.revealed) == ([0, 2, 1], [9, 4, 2])


def test_null_answers_have_no_number() -> None:
    e = episode([[3, -1, -1], [-1, 3, 3]], [200, 200])
    e.branch()
    assert e.probe(0) == 0
    e.advance(0)
    assert e.probe(0) == -1  # it had an answer and has none now
    assert (e.latest, e.revealed) == ([-1], [3])
    e.branch()
    assert e.probe(1) == -1
    e.advance(0)
    e.advance(1)
    assert (e.finished, e.latest) == ([True, False], [-1, -1])
    assert e.probe(1) == 0
    assert e.revealed == [3]


# --- the answer ----------------------------------------------------------------------------------------


def test_only_revealed_answers_can_be_given() -> None:
    e = episode([[7, 7], [8, 8]], [100, 100])
    e.branch()
    e.branch()
    refused(e, lambda: e.answer(0), "ANSWER(0) is illegal: answer 0 has not been revealed in this episode")
    e.probe(0)
    refused(e, lambda: e.answer(1), "ANSWER(1) is illegal: answer 1 has not been revealed in this episode")
    refused(e, lambda: e.answer(-2), "ANSWER(-2) is illegal: answer -2 has not been revealed in this episode")
    e.answer(0)
    assert e.answered == 0


@pytest.mark.parametrize("number", [-1, 0])
def test_after_the_answer_every_move_is_refused(number: int) -> None:
    e = episode([[7, 7], [8, 8]], [100, 100])
    e.branch()
    e.probe(0)
    e.answer(number)
    over = "is illegal: the episode has ended"
    refused(e, e.branch, f"BRANCH {over}")
    refused(e, lambda: e.advance(0), f"CONTINUE(0) {over}")
    refused(e, lambda: e.probe(0), f"PROBE(0) {over}")
    refused(e, lambda: e.prune(0), f"PRUNE(0) {over}")
    refused(e, lambda: e.answer(-1), f"ANSWER(-1) {over}")
    refused(e, e.end_round, f"END_ROUND {over}")
    assert {e.why_not_branch(), e.why_not_advance(0), e.why_not_probe(0)} == {Refusal.EPISODE_OVER}


def test_no_answer_needs_no_branch() -> None:
    e = episode([[7, 7]], [100])
    e.answer(-1)
    assert (e.answered, e.cost, e.opened) == (-1, 0, 0)


# --- the budget ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "refusal"), [(200, Refusal.NONE), (199.5, Refusal.BUDGET), (199, Refusal.BUDGET), (None, Refusal.NONE)]
)
def test_an_interval_must_fit_exactly(budget: float | None, refusal: Refusal) -> None:
    e = episode([[0, 0, 0], [0, 0, 0]], [200, 200], budget=budget)
    e.branch()
    assert e.cost == 100
    assert e.why_not_branch() == refusal
    assert e.why_not_advance(0) == refusal


def test_an_interval_counts_in_full_against_the_budget() -> None:
    # 20 tokens would fit in the 50 that are left, but nobody can know that before generating them
    e = episode([[0, 0], [0, 0]], [100, 20], budget=150)
    e.branch()
    refused(e, e.branch, "BRANCH is illegal: its cost does not fit in the remaining budget")
    refused(e, lambda: e.advance(0), "CONTINUE(0) is illegal: its cost does not fit in the remaining budget")


def test_a_budget_of_nothing() -> None:
    e = episode([[0, 0]], [100], budget=0)
    refused(e, e.branch, "BRANCH is illegal: its cost does not fit in the remaining budget")
    e.end_round()
    e.answer(-1)


@pytest.mark.parametrize(
    ("budget", "probe_cost", "refusal"),
    [
        (100, 0.0, Refusal.NONE),  # 40 spent, 60 to the end of the interval
        (101, 1.0, Refusal.NONE),
        (100, 1.0, Refusal.BUDGET),
        (100.25, 0.5, Refusal.BUDGET),
        (100.5, 0.5, Refusal.NONE),
    ],
)
def test_a_probe_must_fit_with_the_rest_of_its_interval(budget: float, probe_cost: float, refusal: Refusal) -> None:
    e = episode([[0, 0]], [40], budget=budget, probe_cost=probe_cost)
    e.branch()
    assert (e.cost, e.why_not_probe(0)) == (40, refusal)
    if refusal:
        refused(e, lambda: e.probe(0), "PROBE(0) is illegal: its cost does not fit in the remaining budget")
    else:
        e.probe(0)
        assert e.cost == 100 + probe_cost


def test_the_end_of_a_branch_may_pass_the_budget_once() -> None:
    e = episode([[0, 0], [0, 0]], [1300, 100], budget=250)
    e.branch()
    e.branch()
    assert e.why_not_advance(0) == Refusal.BUDGET  # 200 + 100
    e = episode([[0, 0], [0, 0]], [1300, 100], budget=200)
    e.branch()
    assert e.advance(0)  # counted as 100, costs 1,200
    assert e.cost == 1300
    refused(e, e.branch, "BRANCH is illegal: its cost does not fit in the remaining budget")
    e.answer(0)
    assert e.answered == 0


def test_what_is_free_is_legal_beyond_the_budget() -> None:
    e = episode([[0, 0], [0, 0]], [100, 900], budget=200)
    e.branch()
    e.branch()
    assert e.cost == 200
    e.probe(0)
    e.prune(1)
    e.end_round()
    e.answer(0)
    assert (e.cost, e.answered) == (200, 0)


def test_two_ways_to_run_out_of_branches() -> None:
    e = episode([[0, 0], [0, 0], [0, 0]], [100, 100, 100], max_branches=2)
    e.branch()
    e.branch()
    refused(e, e.branch, "BRANCH is illegal: max_branches branches are open already")
    e.prune(0)
    refused(e, e.branch, "BRANCH is illegal: max_branches branches are open already")  # opened, not live, ones count
    e = episode([[0, 0]], [100], max_branches=2)
    e.branch()
    refused(e, e.branch, "BRANCH is illegal: every recorded branch is open already")


# --- rounds --------------------------------------------------------------------------------------------


def test_sequential_tokens_are_the_longest_branch_of_every_round() -> None:
    e = episode([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0]], [330, 300, 180])
    e.branch()
    e.branch()
    e.advance(0)
    assert (e.spent, e.sequential_tokens, e.rounds) == ([200, 100], 200, 0)
    e.end_round()
    assert (e.sequential_tokens, e.rounds) == (200, 1)
    e.advance(1)  # 100
    e.branch()  # 100, side by side
    e.advance(2)  # its end: 80 more
    assert (e.spent, e.sequential_tokens) == ([200, 200, 180], 200 + 180)
    e.end_round()
    e.end_round()  # an empty round takes no time
    e.advance(0)
    e.advance(0)  # 130 together
    assert (e.spent, e.tokens) == ([330, 200, 180], 710)
    assert (e.sequential_tokens, e.rounds) == (200 + 180 + 130, 3)


def test_without_rounds_sequential_tokens_are_the_longest_branch() -> None:
    e = episode([[0, 0], [0, 0, 0]], [450, 200])
    assert e.sequential_tokens == 0
    for i in (0, 1):
        e.branch()
        while not e.advance(i):
            pass
    assert (e.tokens, e.sequential_tokens) == (650, 450)


def test_peak_width_counts_branches_live_together() -> None:
    e = episode([[0, 0]] * 5, [100] * 5)
    e.branch()
    e.branch()
    assert (e.live, e.peak_width) == (2, 2)
    e.prune(0)
    e.advance(1)
    assert (e.live, e.peak_width) == (0, 2)
    for _ in range(2):
        e.branch()
    assert (e.live, e.peak_width, e.opened) == (2, 2, 4)
    e.branch()
    assert (e.live, e.peak_width, e.opened) == (3, 3, 5)
    assert e.live_branches() == [2, 3, 4]


# --- a branch without intervals --------------------------------------------------------------------------


def test_a_branch_without_intervals_ends_when_it_is_opened() -> None:
    e = episode([[6], [-1], [6, 6]], [730, 0, 100], budget=500)
    assert e.branch() == 0
    assert (e.depth, e.finished, e.live, e.peak_width) == ([0], [True], 0, 1)
    assert (e.tokens, e.latest, e.revealed) == (730, [0], [6])
    refused(e, lambda: e.advance(0), "CONTINUE(0) is illegal: branch 0 is finished")
    refused(e, e.branch, "BRANCH is illegal: its cost does not fit in the remaining budget")
    e = episode([[-1], [6, 6]], [0, 100])
    e.branch()
    assert (e.tokens, e.latest, e.revealed, e.finished) == (0, [-1], [], [True])


# --- orders --------------------------------------------------------------------------------------------


def test_branches_open_in_the_order_given() -> None:
    e = episode([[0, 0], [1, 1], [2, 2]], [10, 20, 30], order=[2, 0, 1])
    for i in range(3):
        assert e.branch() == i
        e.advance(i)
    assert (e.spent, e.revealed) == ([30, 10, 20], [2, 0, 1])


@pytest.mark.parametrize(("branches", "order"), [(1, 0), (2, 1), (7, 12345), (128, 99)])
def test_an_order_is_cpythons_shuffle(branches: int, order: int) -> None:
    # Fisher-Yates from the last index down, written out (spec 2.2)
    generator = random.Random(order)
    positions = list(range(branches))
    for i in range(branches - 1, 0, -1):
        j = generator._randbelow(i + 1)  # type: ignore[attr-defined]
        positions[i], positions[j] = positions[j], positions[i]
    assert branch_order(branches, order).tolist() == positions
    with pytest.raises(ValueError, match="read-only"):
        branch_order(branches, order)[0] = 0


# --- defects of the published code, refused here -----------------------------------------------------------


def test_a_finished_branch_is_not_charged_again() -> None:
    # the published code charges its residual, 320 tokens here, at every further step
    e = episode([[0, 0]], [420])
    e.branch()
    assert e.advance(0)
    assert e.cost == 420
    refused(e, lambda: e.advance(0), "CONTINUE(0) is illegal: branch 0 is finished")
    refused(e, lambda: e.prune(0), "PRUNE(0) is illegal: branch 0 is finished")
    assert e.cost == 420


def test_the_first_unopened_branch_cannot_be_stepped() -> None:
    # the published code compares i <= opened
    e = episode([[0, 0], [0, 0]], [100, 100])
    e.branch()
    refused(e, lambda: e.advance(1), "CONTINUE(1) is illegal: branch 1 was not opened")
    refused(e, lambda: e.probe(1), "PROBE(1) is illegal: branch 1 was not opened")
    refused(e, lambda: e.prune(1), "PRUNE(1) is illegal: branch 1 was not opened")
    assert e.cost == 100


def test_a_negative_index_is_not_the_last_branch() -> None:
    e = episode([[0, 0], [0, 0]], [100, 100])
    e.branch()
    e.branch()
    refused(e, lambda: e.advance(-1), "CONTINUE(-1) is illegal: branch -1 was not opened")
    refused(e, lambda: e.probe(-1), "PROBE(-1) is illegal: branch -1 was not opened")
    refused(e, lambda: e.prune(-2), "PRUNE(-2) is illegal: branch -2 was not opened")


def test_a_pruned_branch_stays_pruned_and_paid_for() -> None:
    e = episode([[0, 0, 0]], [200])
    e.branch()
    e.probe(0)
    e.prune(0)
    assert (e.live, e.cost, e.latest) == (0, 100, [0])
    refused(e, lambda: e.advance(0), "CONTINUE(0) is illegal: branch 0 was pruned")
    refused(e, lambda: e.probe(0), "PROBE(0) is illegal: branch 0 was pruned")
    refused(e, lambda: e.prune(0), "PRUNE(0) is illegal: branch 0 was pruned")


def test_the_log_is_what_was_done() -> None:
    e = episode([[0, 0], [0, 0]], [100, 100])
    e.branch()
    e.branch()
    e.probe(1)
    with pytest.raises(IllegalMove):
        e.probe(1)
    e.advance(0)
    e.prune(1)
    e.end_round()
    e.answer(0)
    assert e.log == [
        (Move.BRANCH, 0),
        (Move.BRANCH, 1),
        (Move.PROBE, 1),
        (Move.CONTINUE, 0),
        (Move.PRUNE, 1),
        (Move.END_ROUND, 0),
        (Move.ANSWER, 0),
    ]
