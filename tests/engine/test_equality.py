"""The reference engine and the compiled one are the same machine, legal moves and illegal ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_pools import recordings, steady

from tts_gym.engine import compiled as engine
from tts_gym.engine.moves import Move, Refusal, branch_order, refusal_sentence
from tts_gym.engine.reference import Episode
from tts_gym.errors import IllegalMove
from tts_gym.pools.pool import Recording

STEADY = settings(steady, max_examples=250)

# Branches to name in a move: real ones, the first unopened one, negative ones, and far beyond.
OPERANDS = (0, 1, 2, 3, 4, 5, 6, -1, -2, 8, 1000, 2**31, 2**40, 2**62, -(2**62))
# How often each move is drawn. ANSWER ends the episode, so it is rare.
WEIGHTED_MOVES = (
    [Move.BRANCH] * 4
    + [Move.CONTINUE] * 10
    + [Move.PROBE] * 8
    + [Move.PRUNE] * 2
    + [Move.END_ROUND] * 2
    + [Move.ANSWER]
)

Script = list[tuple[Move, int]]


@dataclass(frozen=True)
class Limits:
    max_branches: int | None
    budget: float | None
    probe_cost: float


class BranchState(NamedTuple):
    depth: int
    finished: bool
    pruned: bool
    latest: int
    probed: int
    spent: int


class State(NamedTuple):
    opened: int
    live: int
    live_branches: list[int]
    branches: list[BranchState]
    tokens: int
    probes: int
    cost: float
    sequential_tokens: int
    rounds: int
    peak_width: int
    revealed: list[int]
    answered: int | None


# --- strategies ------------------------------------------------------------------------------------


@st.composite
def limits(draw: st.DrawFn, delta: int) -> Limits:
    """Limits; budgets often lie exactly on a sum of whole intervals and probes, or just beside it.

    Fractions are binary ones, so that every sum is exact and a boundary is a boundary.
    """
    probe_cost = draw(st.sampled_from([0.0, 0.0, 0.25, 1.0, 2.5, 3000.0]))
    boundary = st.tuples(
        st.integers(0, 20), st.integers(0, 8), st.sampled_from([0.0, 0.0, -1.0, 1.0, -0.25, 0.25, -0.5])
    ).map(lambda parts: max(0.0, parts[0] * delta + parts[1] * probe_cost + parts[2]))
    budget = draw(st.none() | boundary | boundary | st.sampled_from([0.0, 0.5, 1e9]))
    return Limits(draw(st.none() | st.integers(1, 8)), budget, probe_cost)


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    size = draw(st.integers(0, 70))
    move = st.tuples(st.sampled_from(WEIGHTED_MOVES), st.sampled_from(OPERANDS[:7] * 3 + OPERANDS))
    return draw(st.lists(move, min_size=size, max_size=size))


# --- the two machines ------------------------------------------------------------------------------


def reference(recording: Recording, question: int, order: int, bounds: Limits) -> Episode:
    return Episode(
        recording.answers[question].tolist(),
        recording.intervals[question].tolist(),
        recording.tokens[question].tolist(),
        branch_order(recording.branches, order).tolist(),
        delta=recording.delta,
        max_branches=bounds.max_branches,
        budget=bounds.budget,
        probe_cost=bounds.probe_cost,
    )


def new_block(recording: Recording, bounds: Limits, log_size: int = 0) -> engine.Block:
    return engine.Block(
        recording,
        max_branches=bounds.max_branches,
        budget=bounds.budget,
        probe_cost=bounds.probe_cost,
        log_size=log_size,
    )


def begin(block: engine.Block, recording: Recording, question: int, order: int) -> None:
    engine.reset(block.address, question, branch_order(recording.branches, order).ctypes.data)


def play_reference(episode: Episode, move: Move, i: int) -> str:
    """Make a move; returns the text of its refusal, empty if it was legal."""
    moves: dict[Move, Any] = {
        Move.CONTINUE: episode.advance,
        Move.PROBE: episode.probe,
        Move.PRUNE: episode.prune,
        Move.ANSWER: episode.answer,
    }
    try:
        if move == Move.BRANCH:
            episode.branch()
        elif move == Move.END_ROUND:
            episode.end_round()
        else:
            moves[move](i)
    except IllegalMove as error:
        return str(error)
    return ""


def state_of_reference(episode: Episode) -> State:
    columns = (episode.depth, episode.finished, episode.pruned, episode.latest, episode.probed, episode.spent)
    return State(
        episode.opened,
        episode.live,
        episode.live_branches(),
        [BranchState(*values) for values in zip(*columns, strict=True)],
        episode.tokens,
        episode.probes,
        episode.cost,
        episode.sequential_tokens,
        episode.rounds,
        episode.peak_width,
        list(episode.revealed),
        episode.answered,
    )


def state_of_block(block: engine.Block) -> State:
    slots = block.slots.tolist()
    branches, live = [], []
    for i in range(slots[engine.OPENED]):
        at = engine.HEADER + engine.BRANCH_SLOTS * i
        status = slots[at + engine.STATUS]
        if status == engine.LIVE_BRANCH:
            live.append(i)
        branches.append(
            BranchState(
                slots[at + engine.DEPTH],
                status == engine.FINISHED_BRANCH,
                status == engine.PRUNED_BRANCH,
                slots[at + engine.LATEST],
                slots[at + engine.PROBED],
                slots[at + engine.SPENT],
            )
        )
    codes = (slots[engine.REVEALED_CODES] - block.address) // 8
    return State(
        slots[engine.OPENED],
        slots[engine.LIVE],
        live,
        branches,
        slots[engine.SPENT_TOKENS],
        slots[engine.PROBES],
        engine.cost(block.address),
        engine.sequential_tokens(block.address),
        slots[engine.ROUNDS],
        slots[engine.PEAK_WIDTH],
        slots[codes : codes + slots[engine.REVEALED]],
        slots[engine.ANSWERED] if slots[engine.OVER] else None,
    )


def numbers_of_block(block: engine.Block, recording: Recording) -> list[int]:
    """The map answer code -> number, -1 where unrevealed."""
    at = (int(block.slots[engine.NUMBERS]) - block.address) // 8
    return block.slots[at : at + recording.vocabulary_size].tolist()  # type: ignore[no-any-return]


def log_of_block(block: engine.Block) -> list[tuple[int, int]]:
    kept = min(int(block.slots[engine.LOGGED]), len(block.log))
    entries = block.log[:kept].tolist()
    return [(entry >> 16, (entry & 0xFFFF) - (0x10000 if entry & 0x8000 else 0)) for entry in entries]


def without_memory_of_refusal(block: engine.Block) -> list[int]:
    slots = block.slots.copy()
    slots[list(engine.REFUSED)] = 0
    return slots.tolist()  # type: ignore[no-any-return]


def assert_same_permissions(episode: Episode, block: engine.Block) -> None:
    h = block.address
    assert episode.why_not_branch() == engine.why_not_branch(h)
    for i in OPERANDS:
        assert (i, episode.why_not_advance(i)) == (i, engine.why_not_advance(h, i))
        assert (i, episode.why_not_probe(i)) == (i, engine.why_not_probe(h, i))


def play_both(episode: Episode, block: engine.Block, move: Move, i: int) -> Refusal:
    """Make one move on both machines and hold them equal, before and after. Returns why it was refused."""
    h = block.address
    before, memory = state_of_block(block), without_memory_of_refusal(block)
    foreseen = {
        Move.BRANCH: lambda: engine.why_not_branch(h),
        Move.CONTINUE: lambda: engine.why_not_advance(h, i),
        Move.PROBE: lambda: engine.why_not_probe(h, i),
        Move.PRUNE: lambda: engine.why_not_touch(h, i),
    }
    expected = foreseen[move]() if move in foreseen else None

    refusal = Refusal(engine.apply(h, int(move), i))
    said = play_reference(episode, move, i)

    assert expected is None or refusal == expected
    assert said == (refusal_sentence(move, i, refusal) if refusal else "")
    assert state_of_block(block) == state_of_reference(episode)
    if refusal:
        assert state_of_block(block) == before
        assert without_memory_of_refusal(block) == memory
        branch = -1 if move in (Move.BRANCH, Move.END_ROUND) else i
        assert block.slots[list(engine.REFUSED)].tolist() == [move, branch, refusal]
    return refusal


# --- equality --------------------------------------------------------------------------------------


@STEADY
@given(data=st.data(), recording=recordings(), script=scripts(), order=st.integers(0, 10**6))
def test_one_machine(data: st.DataObject, recording: Recording, script: Script, order: int) -> None:
    bounds = data.draw(limits(recording.delta))
    question = data.draw(st.integers(0, recording.questions - 1))
    episode = reference(recording, question, order, bounds)
    block = new_block(recording, bounds)
    begin(block, recording, question, order)
    assert state_of_block(block) == state_of_reference(episode)
    assert_same_permissions(episode, block)
    for move, i in script:
        play_both(episode, block, move, i)
        assert_same_permissions(episode, block)
    if episode.answered is not None:
        code = episode.revealed[episode.answered] if episode.answered >= 0 else -1
        assert engine.answered_code(block.address) == code


@STEADY
@given(data=st.data(), recording=recordings(), script=scripts(), log_size=st.integers(1, 80))
def test_the_log_holds_the_legal_moves(
    data: st.DataObject, recording: Recording, script: Script, log_size: int
) -> None:
    bounds = data.draw(limits(recording.delta))
    episode = reference(recording, 0, 0, bounds)
    block = new_block(recording, bounds, log_size)
    begin(block, recording, 0, 0)
    legal = 0
    for move, i in script:
        legal += play_both(episode, block, move, i) == Refusal.NONE
    assert len(episode.log) == legal
    assert block.slots[engine.LOGGED] == legal
    assert log_of_block(block) == [(int(move), i) for move, i in episode.log[:log_size]]


@settings(STEADY, max_examples=120)
@given(data=st.data(), recording=recordings(), episodes=st.lists(scripts(), min_size=2, max_size=3))
def test_a_block_used_again_holds_no_trace_of_the_last_episode(
    data: st.DataObject, recording: Recording, episodes: Sequence[Script]
) -> None:
    bounds = data.draw(limits(recording.delta))
    used = new_block(recording, bounds, log_size=80)
    for script in episodes:
        question = data.draw(st.integers(0, recording.questions - 1))
        order = data.draw(st.integers(0, 100))
        fresh = new_block(recording, bounds, log_size=80)
        begin(used, recording, question, order)
        begin(fresh, recording, question, order)
        assert used.slots[engine.OPENED : engine.HEADER].tolist() == [0] * (engine.HEADER - engine.OPENED)
        assert numbers_of_block(used, recording) == [-1] * recording.vocabulary_size
        for move, i in script:
            assert engine.apply(used.address, int(move), i) == engine.apply(fresh.address, int(move), i)
            assert state_of_block(used) == state_of_block(fresh)
        assert used.slots[engine.OPENED : engine.HEADER].tolist() == fresh.slots[engine.OPENED : engine.HEADER].tolist()
        assert numbers_of_block(used, recording) == numbers_of_block(fresh, recording)
        assert log_of_block(used) == log_of_block(fresh)


# --- every refusal, none by chance --------------------------------------------------------------------

# Question 0 of this pool, delta 100: branch 0 has two intervals, branches 1 and 2 one.
SMALL = Recording(
    answers=np.array([[[0, 1, 1], [1, 1, -1], [0, 0, -1]]], dtype=np.int16),
    intervals=np.array([[2, 1, 1]], dtype=np.int16),
    tokens=np.array([[230, 90, 400]], dtype=np.int32),
    delta=100,
    vocabulary_size=2,
)
UNLIMITED = Limits(None, None, 0.0)
OPEN, STEP, LOOK = (Move.BRANCH, 0), (Move.CONTINUE, 0), (Move.PROBE, 0)

REFUSALS: list[tuple[Refusal, Limits, Script, tuple[Move, int]]] = [
    (Refusal.NOT_OPENED, UNLIMITED, [], (Move.CONTINUE, 0)),
    (Refusal.NOT_OPENED, UNLIMITED, [OPEN], (Move.CONTINUE, 1)),
    (Refusal.NOT_OPENED, UNLIMITED, [OPEN], (Move.PROBE, -1)),
    (Refusal.NOT_OPENED, UNLIMITED, [OPEN, OPEN], (Move.PRUNE, -2)),
    (Refusal.NOT_OPENED, UNLIMITED, [OPEN], (Move.CONTINUE, 2**62)),
    (Refusal.FINISHED, UNLIMITED, [OPEN, STEP, STEP], (Move.CONTINUE, 0)),
    (Refusal.FINISHED, UNLIMITED, [OPEN, STEP, STEP], (Move.PROBE, 0)),
    (Refusal.FINISHED, UNLIMITED, [OPEN, STEP, STEP], (Move.PRUNE, 0)),
    (Refusal.PRUNED, UNLIMITED, [OPEN, (Move.PRUNE, 0)], (Move.CONTINUE, 0)),
    (Refusal.PRUNED, UNLIMITED, [OPEN, (Move.PRUNE, 0)], (Move.PROBE, 0)),
    (Refusal.PRUNED, UNLIMITED, [OPEN, (Move.PRUNE, 0)], (Move.PRUNE, 0)),
    (Refusal.NO_BRANCH_LEFT, Limits(8, None, 0.0), [OPEN] * 3, OPEN),
    (Refusal.WIDTH_REACHED, Limits(2, None, 0.0), [OPEN] * 2, OPEN),
    (Refusal.BUDGET, Limits(None, 99.0, 0.0), [], OPEN),
    (Refusal.BUDGET, Limits(None, 199.75, 0.0), [OPEN], OPEN),
    (Refusal.BUDGET, Limits(None, 199.75, 0.0), [OPEN], STEP),
    (Refusal.BUDGET, Limits(None, 110.0, 10.25), [OPEN], LOOK),
    (Refusal.ALREADY_PROBED, UNLIMITED, [OPEN, LOOK], LOOK),
    (Refusal.UNKNOWN_ANSWER, UNLIMITED, [OPEN], (Move.ANSWER, 0)),
    (Refusal.UNKNOWN_ANSWER, UNLIMITED, [OPEN, LOOK], (Move.ANSWER, 1)),
    (Refusal.UNKNOWN_ANSWER, UNLIMITED, [OPEN, LOOK], (Move.ANSWER, -2)),
    *[(Refusal.EPISODE_OVER, UNLIMITED, [OPEN, LOOK, (Move.ANSWER, 0)], (move, 0)) for move in Move],
]


@pytest.mark.parametrize(
    ("refusal", "bounds", "script", "illegal"),
    REFUSALS,
    ids=[f"{r[0].name}-{r[3][0].name}({r[3][1]})" for r in REFUSALS],
)
def test_every_refusal(refusal: Refusal, bounds: Limits, script: Script, illegal: tuple[Move, int]) -> None:
    order = next(s for s in range(100) if branch_order(3, s).tolist() == [0, 1, 2])
    episode = reference(SMALL, 0, order, bounds)
    block = new_block(SMALL, bounds)
    begin(block, SMALL, 0, order)
    assert [play_both(episode, block, *move) for move in script] == [Refusal.NONE] * len(script)
    assert play_both(episode, block, *illegal) == refusal


def test_no_refusal_is_left_out() -> None:
    assert {case[0] for case in REFUSALS} == set(Refusal) - {Refusal.NONE}


# --- what a block accepts ----------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["dtype", "stride"])
def test_a_block_refuses_arrays_it_would_misread(change: str) -> None:
    answers = SMALL.answers.astype(np.int32) if change == "dtype" else np.asfortranarray(np.repeat(SMALL.answers, 2, 0))
    with pytest.raises(ValueError, match="C-contiguous int16"):
        engine.Block(Recording(answers, SMALL.intervals, SMALL.tokens, 100, 2))
