"""A program does the same compiled and interpreted: any program, every shipped controller, every failure."""

from __future__ import annotations

import dataclasses
import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_pools import recordings, steady

from tts_gym.controllers import controller_files
from tts_gym.engine.moves import branch_order
from tts_gym.errors import ProgramError
from tts_gym.files import user_cache, written_whole
from tts_gym.pools import open_pool
from tts_gym.pools.pool import Pool, Recording
from tts_gym.programs.program import Number, Program, load_program
from tts_gym.programs.runner import Limits, Outcomes, run_program

STEADY = settings(steady, max_examples=200)
CONTROLLERS = sorted(controller_files())


def program_file(source: str) -> Path:
    """A file with this source that stays where it is, so that its machine code is found again in the next run."""
    path = user_cache("test-programs") / f"program_{hashlib.sha256(source.encode()).hexdigest()[:12]}.py"
    if not path.exists():
        with written_whole(path) as temporary:
            temporary.write_text(source)
    return path


@cache
def program_of(source: str) -> Program:
    return load_program(program_file(source))


@cache
def shipped(name: str) -> Program:
    return load_program(controller_files()[name], name)


# --- strategies ------------------------------------------------------------------------------------


@st.composite
def longer_recordings(draw: st.DrawFn) -> Recording:
    """Up to 90 branches of up to 60 intervals whose answers settle slowly, some null, some of no interval at all."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    branches, most = draw(st.sampled_from([1, 2, 5, 7, 9, 20, 90])), draw(st.sampled_from([3, 15, 60]))
    vocabulary, stay = draw(st.integers(1, 5)), draw(st.sampled_from([0.3, 0.9, 0.98]))
    intervals = generator.integers(0, most + 1, (1, branches)).astype(np.int16)
    codes = generator.integers(-1, vocabulary, (1, branches, most + 1)).astype(np.int16)
    for column in range(1, most + 1):
        kept = generator.random((1, branches)) < stay
        codes[:, :, column] = np.where(kept, codes[:, :, column - 1], codes[:, :, column])
    codes[np.arange(most + 1) > intervals[:, :, None]] = -1
    tokens = np.maximum(0, 500 * intervals + generator.integers(-400, 1500, (1, branches))).astype(np.int32)
    return Recording(codes, intervals, tokens, 500, vocabulary)


def assert_equal(one: Outcomes, other: Outcomes) -> None:
    for field in dataclasses.fields(Outcomes):
        found, expected = getattr(one, field.name), getattr(other, field.name)
        assert found.tolist() == expected.tolist(), field.name


def run_both(
    program: Program, recording: Recording, knobs: dict[str, Number], orders: list[int], limits: Limits | None = None
) -> Outcomes:
    """Run it both ways and hold the outcomes equal."""
    interpreted = run_program(program, recording, knobs, orders=orders, limits=limits, interpreted=True)
    compiled = run_program(program, recording, knobs, orders=orders, limits=limits)
    assert_equal(compiled, interpreted)
    return compiled


# --- any program ---------------------------------------------------------------------------------------

# Moves drawn by a linear congruential generator. Whatever a look shows is stirred into the generator, so a look
# that differs changes all moves after it. The guards keep every move legal, also within a budget.
RANDOM_PROGRAM = '''
"""Random legal moves with every primitive."""

from tts_gym.programs import (
    Episode, Knobs, advance, branch, can_advance, can_branch, confidence, depth, end_round, finish, is_finished,
    is_live, is_pruned, latest, live, majority, opened, probe, prune, prune_dissenters, ranked, read, spent, spent_on,
    start, start_many, step, top_two, width,
)


def schedule(beta):
    return {"seed": 1, "moves": 60, "delta": 500, "budget": -1.0, "probe_cost": 0.0, "patient": False}


def stirred(state, value):
    return ((state ^ (value + 7)) * 1103515245 + 12345) % 2147483648


def fits(episode, knobs, probes, extra):
    return knobs.budget < 0 or spent(episode) + knobs.probe_cost * probes + extra <= knobs.budget


def seen_of(episode, i):
    """All that can be looked at of one branch, as one number."""
    flags = 4 * int(is_finished(episode, i)) + 2 * int(is_pruned(episode, i)) + int(is_live(episode, i))
    return 8 * (latest(episode, i) + 1) + 64 * depth(episode, i) + 4096 * spent_on(episode, i) + flags


def solve(episode: Episode, knobs: Knobs) -> int:
    state = knobs.seed
    probes = 0
    probed = [0] * 100  # depth of the last probe of each branch
    dissent = [0] * 100
    votes: list[int] = []
    for _ in range(knobs.moves):
        state = stirred(state, spent(episode) + 17 * width(episode) + 31 * int(can_branch(episode)))
        kind = (state >> 16) % 14
        n = opened(episode)
        i = (state >> 8) % n if n > 0 else 0
        whole = knobs.delta + knobs.probe_cost
        if n == 0 or kind == 0:
            if can_branch(episode):
                i = branch(episode)
        elif kind == 1 or kind == 2:
            if can_advance(episode, i):
                state = stirred(state, int(advance(episode, i)))
        elif kind == 3:
            rest = max(0, knobs.delta * depth(episode, i) - spent_on(episode, i)) + knobs.probe_cost
            if is_live(episode, i) and probed[i] < depth(episode, i) and fits(episode, knobs, probes, rest):
                state = stirred(state, probe(episode, i))
                probed[i] = depth(episode, i)
                probes += 1
        elif kind == 4:
            if is_live(episode, i) and (state >> 20) % 3 == 0:
                prune(episode, i)
        elif kind == 5:
            end_round(episode)
        elif kind == 6:
            if can_branch(episode) and fits(episode, knobs, probes, whole):
                i = start(episode)
                if not is_finished(episode, i):
                    probed[i] = depth(episode, i)
                    probes += 1
        elif kind == 7 or kind == 8:
            behind = knobs.delta * (depth(episode, i) + 1) - spent_on(episode, i)
            if can_advance(episode, i) and fits(episode, knobs, probes, max(whole, behind + knobs.probe_cost)):
                votes.append(step(episode, i))
                if is_live(episode, i):
                    probed[i] = depth(episode, i)
                    probes += 1
        elif kind == 9:
            if (state >> 20) % 4 == 0:
                votes.append(finish(episode, i))
        elif kind == 10:
            if can_branch(episode) and (state >> 20) % 3 == 0:
                i = read(episode)
                votes.append(latest(episode, i))
        elif kind == 11:
            if fits(episode, knobs, probes, whole):
                wanted = 1 if knobs.budget >= 0 else (state >> 20) % 3
                before = opened(episode)
                state = stirred(state, start_many(episode, wanted, votes))
                for j in range(before, opened(episode)):
                    if not is_finished(episode, j):
                        probed[j] = 1
                        probes += 1
        elif kind == 12:
            leader, first, second = top_two(votes)
            state = stirred(state, leader + 3 * first + 5 * second + round(1000 * confidence(first, second)))
            prune_dissenters(episode, leader, dissent, 3 if knobs.patient else 1, (state >> 20) % 3)
        else:
            costs = [spent_on(episode, j) for j in range(n)]
            for j in ranked(live(episode), costs):
                state = stirred(state, j)
        if opened(episode) > 0:
            state = stirred(state, seen_of(episode, (state >> 8) % opened(episode)))
    for i in range(opened(episode)):
        votes.append(latest(episode, i))
    if (state >> 16) % 3 == 0:
        return majority(votes)
    return votes[(state >> 20) % len(votes)] if len(votes) > 0 else -1
'''


@STEADY
@given(data=st.data(), recording=recordings(), seed=st.integers(0, 2**31 - 1))
def test_any_program(data: st.DataObject, recording: Recording, seed: int) -> None:
    delta = recording.delta
    probe_cost = data.draw(st.sampled_from([0.0, 0.25, 2.5, 700.0]))
    budget = data.draw(
        st.none()
        | st.tuples(st.integers(0, 40), st.integers(0, 10)).map(lambda n: n[0] * delta + n[1] * probe_cost)
        | st.floats(0, 30 * delta).map(round)
    )
    limits = Limits(data.draw(st.none() | st.integers(1, 8)), budget, probe_cost)
    program = program_of(RANDOM_PROGRAM)
    chosen: dict[str, str | Number] = {
        "seed": seed,
        "moves": data.draw(st.sampled_from([10, 60, 200])),
        "delta": delta,
        "budget": -1.0 if budget is None else float(budget),
        "probe_cost": probe_cost,
        "patient": data.draw(st.booleans()),
    }
    orders = data.draw(st.lists(st.integers(0, 10**6), min_size=1, max_size=3))
    outcomes = run_both(program, recording, program.knobs(0.5, chosen), orders, limits)
    assert outcomes.code.shape == (recording.questions, len(orders))
    assert (outcomes.branches <= min(recording.branches, limits.max_branches or recording.branches)).all()
    assert (outcomes.sequential_tokens <= outcomes.tokens).all()
    assert (outcomes.code < recording.vocabulary_size).all()


def test_the_random_program_does_everything() -> None:
    """What the test above is worth: on one pool it opens, probes, runs in parallel, answers, and is never the same."""
    recording = open_pool("synthetic/aime-v0").recording
    program = program_of(RANDOM_PROGRAM)
    outcomes = [run_both(program, recording, program.knobs(0.5, {"seed": seed}), [0]) for seed in range(20)]
    assert len({tuple(outcome.tokens[:, 0].tolist()) for outcome in outcomes}) == 20
    for field in ("tokens", "probes", "peak_width", "branches"):
        assert len(np.unique([getattr(outcome, field) for outcome in outcomes])) > 5, field
    assert any((outcome.sequential_tokens < outcome.tokens).all() for outcome in outcomes)
    answered = np.array([outcome.code for outcome in outcomes]) >= 0
    assert 0.1 < answered.mean() < 1


# --- shipped controllers -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONTROLLERS)
@settings(STEADY, max_examples=20)
@given(recording=recordings(), order=st.integers(0, 1000), width=st.none() | st.integers(1, 8))
def test_controllers_on_small_pools(name: str, recording: Recording, order: int, width: int | None) -> None:
    program = shipped(name)
    for beta in (0.0, 0.3, 0.5, 1.0):
        outcomes = run_both(program, recording, program.knobs(beta), [order, order + 1], Limits(max_branches=width))
        assert (outcomes.branches >= 1).all()
        assert (outcomes.code < recording.vocabulary_size).all()


@pytest.mark.parametrize("name", CONTROLLERS)
@settings(STEADY, max_examples=10)
@given(recording=longer_recordings(), beta=st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_controllers_on_longer_pools(name: str, recording: Recording, beta: float) -> None:
    program = shipped(name)
    run_both(program, recording, program.knobs(beta), [0, 1])


def one_question(answers: list[list[int]], tokens: list[int], delta: int = 100) -> Recording:
    """One question from its branches' answers: one per interval, then the final one."""
    deepest = max(len(codes) for codes in answers)
    padded = [codes + [-1] * (deepest - len(codes)) for codes in answers]
    return Recording(
        np.array([padded], dtype=np.int16),
        np.array([[len(codes) - 1 for codes in answers]], dtype=np.int16),
        np.array([tokens], dtype=np.int32),
        delta,
        max(1, 1 + max(max(codes) for codes in answers)),
    )


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("name", CONTROLLERS)
def test_no_answer_anywhere_is_no_answer(name: str, beta: float) -> None:
    program = shipped(name)
    nothing = one_question([[-1, -1, -1], [-1], [-1, -1]], [200, 70, 100])
    outcomes = run_both(program, nothing, program.knobs(beta), [0, 1, 2])
    assert outcomes.code.tolist() == [[-1, -1, -1]]


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("name", CONTROLLERS)
def test_one_branch_that_ends_at_once_is_the_answer(name: str, beta: float) -> None:
    program = shipped(name)
    outcomes = run_both(program, one_question([[0]], [70]), program.knobs(beta), [0])
    assert (outcomes.code.tolist(), outcomes.tokens.tolist(), outcomes.branches.tolist()) == ([[0]], [[70]], [[1]])
    assert outcomes.probes.tolist() == [[0]]


def test_edges_by_hand() -> None:
    """Spec 2.2: fewer branches than SC wants, a partial ESC window, a null answer for ASC, an empty vote."""
    # final answers 0, 1, 1 of 100 tokens each; order 1 of three branches opens 1, 2, 0
    assert branch_order(3, 1).tolist() == [1, 2, 0]
    three = one_question([[0, 0], [1, 1], [1, 1]], [100, 100, 100])
    sc = run_both(shipped("sc"), three, shipped("sc").knobs(1.0), [1])
    assert (sc.code.tolist(), sc.tokens.tolist(), sc.branches.tolist()) == ([[1]], [[300]], [[3]])
    # a window of 8 holds the three there are; unanimous or not, nothing is left for a second one
    esc = run_both(shipped("esc"), three, shipped("esc").knobs(1.0), [1])
    assert (esc.code.tolist(), esc.tokens.tolist(), esc.branches.tolist()) == ([[1]], [[300]], [[3]])
    # windows of 2: the first one is unanimous
    knobs = shipped("esc").knobs(1.0, {"window": 2})
    esc = run_both(shipped("esc"), three, knobs, [1])
    assert (esc.code.tolist(), esc.tokens.tolist(), esc.branches.tolist()) == ([[1]], [[200]], [[2]])
    # ASC ends at the null answer, which it has paid for
    null = one_question([[0, 0], [1, 1], [1, -1]], [100, 100, 100])
    asc = run_both(shipped("asc"), null, shipped("asc").knobs(1.0), [1])
    assert (asc.code.tolist(), asc.tokens.tolist(), asc.branches.tolist()) == ([[1]], [[200]], [[2]])


# --- schedules -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONTROLLERS)
def test_every_knob_is_monotone_in_beta(name: str) -> None:
    grid = [shipped(name).knobs(point / 100) for point in range(101)]
    assert all(list(knobs) == list(grid[0]) for knobs in grid)
    for knob in grid[0]:
        steps = np.diff([float(knobs[knob]) for knobs in grid])
        assert (steps >= 0).all() or (steps <= 0).all(), knob
        assert {type(knobs[knob]) for knobs in grid} == {type(grid[0][knob])}, knob


@cache
def default_pool() -> Pool:
    return open_pool("synthetic/aime-v0")


@pytest.mark.parametrize("name", CONTROLLERS)
def test_a_larger_beta_never_spends_less(name: str) -> None:
    program = shipped(name)
    means = [
        float(run_program(program, default_pool().recording, program.knobs(point / 10), orders=20).tokens.mean())
        for point in range(11)
    ]
    assert means == sorted(means)
    assert means[-1] > 1.5 * means[0]


# --- failures ------------------------------------------------------------------------------------------

HEAD = """from tts_gym.programs import advance, branch, can_branch, finish, is_finished, latest, majority, probe, prune


def schedule(beta):
    return {"one": 1, "zero": 0}


def solve(episode, knobs):
    i = branch(episode)
"""

# the line that fails, and what is said about it
FAILURES = [
    ("advance(episode, 5)", "IllegalMove: CONTINUE(5) is illegal: branch 5 was not opened"),
    ("advance(episode, i - 1)", "IllegalMove: CONTINUE(-1) is illegal: branch -1 was not opened"),
    ("probe(episode, i + 1)", "IllegalMove: PROBE(1) is illegal: branch 1 was not opened"),
    ("prune(episode, finish(episode, i) - 7)", "IllegalMove: PRUNE(-7) is illegal: branch -7 was not opened"),
    (
        "(probe(episode, i), probe(episode, i))",
        "IllegalMove: PROBE(0) is illegal: branch 0 was probed at this depth already",
    ),
    ("[10, 20][knobs.one + i + 1]", "IndexError: list index out of range"),
    ("latest(episode, i + 1)", "IndexError: list index out of range"),
    ("is_finished(episode, knobs.one)", "IndexError: list index out of range"),
    ("knobs.one // knobs.zero", "ZeroDivisionError: "),
    ("knobs.one / knobs.zero", "ZeroDivisionError: "),
    ("prune(episode, finish(episode, i))", "IllegalMove: PRUNE(0) is illegal: branch 0 is finished"),
]

# Two questions of two branches of one interval.
PAIR = Recording(
    answers=np.array([[[0, 0], [0, 0]], [[0, 0], [0, 0]]], dtype=np.int16),
    intervals=np.array([[1, 1], [1, 1]], dtype=np.int16),
    tokens=np.array([[100, 100], [100, 100]], dtype=np.int32),
    delta=100,
    vocabulary_size=1,
)


@pytest.mark.parametrize("interpreted", [False, True], ids=["compiled", "interpreted"])
@pytest.mark.parametrize(("line", "said"), FAILURES, ids=[line for line, _ in FAILURES])
def test_a_failure_says_where_and_why(line: str, said: str, interpreted: bool) -> None:
    program = program_of(f"{HEAD}    {line}\n    return -1\n")
    with pytest.raises(ProgramError) as caught:
        run_program(program, PAIR, program.knobs(0.5), questions=[1, 0], orders=[3, 4], interpreted=interpreted)
    assert str(caught.value).startswith(f"{program.path}: question 1, order 3 in line 10: {said}")


@pytest.mark.parametrize("interpreted", [False, True], ids=["compiled", "interpreted"])
def test_a_failure_in_one_episode_of_many_is_found(interpreted: bool) -> None:
    # question 1 holds one branch without intervals: it ends on opening, and stepping it is illegal
    program = program_of(f"{HEAD}    advance(episode, i)\n    return latest(episode, i)\n")
    recording = dataclasses.replace(PAIR, intervals=np.array([[1, 1], [1, 0]], dtype=np.int16))
    first = next(s for s in range(100) if branch_order(2, s).tolist() == [1, 0])
    harmless = [s for s in range(100) if branch_order(2, s).tolist() == [0, 1]][:3]
    orders = [*harmless, first]
    with pytest.raises(ProgramError) as caught:
        run_program(program, recording, program.knobs(0.5), orders=orders, interpreted=interpreted)
    assert str(caught.value) == (
        f"{program.path}: question 1, order {first} in line 10: "
        "IllegalMove: CONTINUE(0) is illegal: branch 0 is finished"
    )
    outcomes = run_program(program, recording, program.knobs(0.5), orders=harmless, interpreted=interpreted)
    assert outcomes.code.tolist() == [[0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("interpreted", [False, True], ids=["compiled", "interpreted"])
@pytest.mark.parametrize("number", [1, 5, -2])
def test_an_answer_that_was_not_revealed_is_refused(number: int, interpreted: bool) -> None:
    program = program_of(f"{HEAD}    probe(episode, i)\n    return knobs.number\n".replace('"zero"', '"number"'))
    with pytest.raises(ProgramError) as caught:
        run_program(
            program, PAIR, program.knobs(0.5, {"number": number}), questions=[1], orders=[8], interpreted=interpreted
        )
    assert str(caught.value) == (
        f"{program.path}: question 1, order 8: IllegalMove: ANSWER({number}) is illegal: "
        f"answer {number} has not been revealed in this episode"
    )
    outcomes = run_program(program, PAIR, program.knobs(0.5), orders=1, interpreted=interpreted)
    assert outcomes.code.tolist() == [[0], [0]]


@pytest.mark.parametrize("returned", ["0.0", "latest(episode, i) / 1", "is_finished(episode, i)", "None", "(0, 1)"])
def test_what_is_no_answer_number_is_refused(returned: str) -> None:
    program = program_of(f"{HEAD}    return {returned}\n")
    with pytest.raises(ProgramError, match="solve should always return an answer number or -1, found ") as caught:
        run_program(program, PAIR, program.knobs(0.5), orders=1, interpreted=True)
    assert str(caught.value).startswith(f"{program.path}: question 0, order 0: ")
    with pytest.raises(ProgramError) as caught:
        run_program(program, PAIR, program.knobs(0.5), orders=1)
    assert str(caught.value).startswith(f"{program.path}: ")


@pytest.mark.parametrize("interpreted", [False, True], ids=["compiled", "interpreted"])
def test_a_budget_refuses_a_move_of_a_program(interpreted: bool) -> None:
    program = program_of(f"{HEAD}    branch(episode)\n    return -1\n")
    with pytest.raises(ProgramError, match=r"in line 10: IllegalMove: BRANCH is illegal: its cost does not fit"):
        run_program(program, PAIR, program.knobs(0.5), orders=1, limits=Limits(budget=199.5), interpreted=interpreted)
    with pytest.raises(ProgramError, match=r"in line 10: IllegalMove: BRANCH is illegal: max_branches branches"):
        run_program(program, PAIR, program.knobs(0.5), orders=1, limits=Limits(max_branches=1), interpreted=interpreted)
    outcomes = run_program(
        program, PAIR, program.knobs(0.5), orders=1, limits=Limits(budget=200), interpreted=interpreted
    )
    assert outcomes.tokens.tolist() == [[200], [200]]
