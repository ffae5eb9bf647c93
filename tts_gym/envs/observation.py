"""The compiled observation, written in place: each function writes what one kind of event changed.

``t`` is the address of the batch's table, ``h`` of an episode's engine block, ``e`` of the environment's slots
behind it (``layout.py``). What the numbers mean is said in ``TTSReplayEnv``.
"""

from __future__ import annotations

import math

import numpy as np

from tts_gym.engine import compiled as engine
from tts_gym.engine.memory import (
    load,
    load_float,
    load_int16,
    load_int32,
    store_float32,
    store_int16,
    store_int32,
)
from tts_gym.envs import layout as at

rule, inlined = engine.rule, engine.inlined_rule


@rule
def counts(t: int, e: int) -> int:
    """Where int32[V, 2] lies: votes per answer number, and those of finished branches."""
    return e + load(t, at.COUNTS_AT)


@rule
def votes_for(t: int, e: int, number: int) -> int:
    """How many branches vote for an answer."""
    return load_int32(counts(t, e), 2 * number)


@rule
def finished_votes_for(t: int, e: int, number: int) -> int:
    """How many finished branches vote for an answer."""
    return load_int32(counts(t, e), 2 * number + 1)


@rule
def votes(e: int) -> int:
    """Where int16[W] lies: each branch's vote, -1 for none."""
    return e + 8 * at.ENV_SLOTS


@rule
def notes(h: int, i: int) -> int:
    """Where int16[4] of branch i lies."""
    return engine.branch_address(h, i) + 8 * engine.NOTES


@rule
def squash(x: float, half: float) -> float:
    """[0, inf) to [0, 1): a half at ``half``."""
    return x / (x + half)


@rule
def ratio(part: float, whole: float) -> float:
    """part / whole, 0 of nothing."""
    return part / whole if whole > 0 else 0.0


# --- a new episode -----------------------------------------------------------------------------------


@rule
def clear(t: int, h: int, o: int) -> None:
    """Zero what the last episode wrote at ``o``; to be called while the block still knows how much that was."""
    opened = load(h, engine.OPENED)
    if load(t, at.GRID):
        columns = load(t, at.COLUMNS)
        for i in range(opened):
            depth = load(engine.branch_address(h, i), engine.DEPTH)
            for column in range(min(columns, depth + 2)):
                store_int16(o, i * columns + column, at.NOTHING)
        return
    for feature in range(at.GLOBALS + 2 * opened):
        store_float32(o, feature, 0.0)
    first = at.GLOBALS + 2 * load(t, at.WIDTH)
    for feature in range(first, first + at.PER_BRANCH * opened):
        store_float32(o, feature, 0.0)


@rule
def begin(t: int, h: int, o: int) -> None:
    """The few features that are not 0 before anything is opened."""
    if load(t, at.GRID) == 0:
        _show_budget(h, o, 0.0)


# --- one branch --------------------------------------------------------------------------------------


@rule
def show_branch(t: int, h: int, e: int, i: int) -> None:
    """All that is said of branch i alone."""
    b = engine.branch_address(h, i)
    depth, status, latest = load(b, engine.DEPTH), load(b, engine.STATUS), load(b, engine.LATEST)
    finished = status == engine.FINISHED_BRANCH
    o = load(e, at.E_OBSERVATION)
    if load(t, at.GRID):
        _show_cells(t, o, i, depth, status, latest, load(b, engine.PROBED) == depth)
        return
    width = load(t, at.WIDTH)
    o += 4 * (at.GLOBALS + 2 * width + at.PER_BRANCH * i)
    x = notes(h, i)
    readings = load_int16(x, at.X_READINGS)
    unread = 0 if finished else depth - load(b, engine.PROBED)
    store_float32(o, at.B_OPENED, 1.0)
    store_float32(o, at.B_LIVE, 1.0 if status == engine.LIVE_BRANCH else 0.0)
    store_float32(o, at.B_FINISHED, 1.0 if finished else 0.0)
    store_float32(o, at.B_PRUNED, 1.0 if status == engine.PRUNED_BRANCH else 0.0)
    store_float32(o, at.B_DEPTH, squash(depth, 16.0))
    store_float32(o, at.B_READ_HERE, 1.0 if unread == 0 else 0.0)
    store_float32(o, at.B_HAS_ANSWER, 1.0 if latest >= 0 else 0.0)
    store_float32(o, at.B_UNPARSED, 1.0 if latest < 0 and readings > 0 else 0.0)
    store_float32(o, at.B_STREAK, squash(load_int16(x, at.X_STREAK), 4.0))
    store_float32(o, at.B_CHANGES, squash(load_int16(x, at.X_CHANGES), 4.0))
    store_float32(o, at.B_READINGS, squash(readings, 16.0))
    store_float32(o, at.B_DISSENT, squash(load_int16(x, at.X_DISSENT), 4.0))
    store_float32(o, at.B_TOKENS, squash(load(b, engine.SPENT), 8000.0))
    store_float32(o, at.B_UNREAD, squash(unread, 4.0))
    store_float32(o, at.B_ANSWER, 1.0 / (1.0 + latest) if latest >= 0 else 0.0)
    store_float32(o, at.B_POSITION, (i + 1) / width)


@rule
def _show_cells(t: int, o: int, i: int, depth: int, status: int, latest: int, read: bool) -> None:
    row = o + 2 * i * load(t, at.COLUMNS)
    answer = at.FIRST_ANSWER + latest if latest >= 0 else at.NO_ANSWER
    if status == engine.FINISHED_BRANCH:
        store_int16(row, depth, answer)
        store_int16(row, depth + 1, at.ENDED)
        return
    if status == engine.PRUNED_BRANCH:
        store_int16(row, depth, at.PRUNED)
    elif depth > 0:
        store_int16(row, depth - 1, answer if read else at.UNREAD)


# --- votes -------------------------------------------------------------------------------------------


@rule
def count_votes(t: int, h: int, e: int) -> None:
    """The leader, its votes and the runner-up's; ties go to the answer that comes first in opening order."""
    winner, first, second = -1, 0, 0
    v, c = votes(e), counts(t, e)
    for i in range(load(h, engine.OPENED)):
        vote = load_int16(v, i)
        if vote >= 0 and vote != winner:
            count = load_int32(c, 2 * vote)
            if count > first:
                winner, first, second = vote, count, first
            elif count > second:
                second = count
    store_int32(e, at.E_LEADER, winner)
    store_int32(e, at.E_FIRST, first)
    store_int32(e, at.E_SECOND, second)


@rule
def confidence_of_leader(t: int, e: int) -> float:
    """That the leader is truly ahead of the runner-up, by the table of ``programs.confidence``."""
    first, second = load_int32(e, at.E_FIRST), load_int32(e, at.E_SECOND)
    return load_float(load(t, at.CONFIDENCE), first * load(t, at.CONFIDENCE_ROW) + second)


@rule
def show_votes(t: int, h: int, e: int) -> None:
    """Each branch's share of the votes, and whether it agrees with the leader; what a changed vote changes for all."""
    o = load(e, at.E_OBSERVATION) + 4 * at.GLOBALS
    v, c, leader = votes(e), counts(t, e), load_int32(e, at.E_LEADER)
    each = 1.0 / max(1, load_int32(e, at.E_VOTES))
    for i in range(load(h, engine.OPENED)):
        vote = load_int16(v, i)
        share, agrees = 0.0, 0.0
        if vote >= 0:
            share = load_int32(c, 2 * vote) * each
            agrees = 1.0 if vote == leader else 0.0
        store_float32(o, 2 * i, share)
        store_float32(o, 2 * i + 1, agrees)


@rule
def show_standing(t: int, h: int, e: int) -> None:
    """The global features that only readings and prunings change."""
    o = load(e, at.E_OBSERVATION)
    cast, first, second = load_int32(e, at.E_VOTES), load_int32(e, at.E_FIRST), load_int32(e, at.E_SECOND)
    each = 1.0 / max(1, cast)
    confidence, average = confidence_of_leader(t, e), load_float(e, at.E_AVERAGE)
    leader, finished = load_int32(e, at.E_LEADER), load_int32(e, at.E_FINISHED_VOTES)
    finished_leader = finished_votes_for(t, e, leader) if leader >= 0 else 0
    width = 1.0 / load(t, at.WIDTH)
    entropy = 0.0
    if cast > 1:
        whole = math.log(cast)
        entropy = min(1.0, max(0.0, 1.0 - load_float(e, at.E_CLOGC) * each / whole))
    store_float32(o, at.G_VOTES, cast * width)
    store_float32(o, at.G_LEADER, first * each)
    store_float32(o, at.G_RUNNER_UP, second * each)
    store_float32(o, at.G_MARGIN, (first - second) * each)
    store_float32(o, at.G_CONFIDENCE, confidence)
    store_float32(o, at.G_AVERAGE, average)
    store_float32(o, at.G_TREND, confidence - average)
    store_float32(o, at.G_ENTROPY, entropy)
    store_float32(o, at.G_DISTINCT, squash(load_int32(e, at.E_DISTINCT), 4.0))
    store_float32(o, at.G_LEADER_AGE, squash(load_int32(e, at.E_LEADER_AGE), 16.0))
    store_float32(o, at.G_LEADER_CHANGES, squash(load_int32(e, at.E_LEADER_CHANGES), 4.0))
    store_float32(o, at.G_FINISHED_VOTES, finished * width)
    store_float32(o, at.G_FINISHED_LEADER, ratio(finished_leader, finished))
    store_float32(o, at.G_UNPARSED, ratio(load_int32(e, at.E_UNPARSED), load_int32(e, at.E_READ)))
    store_float32(o, at.G_STABLE, load_int32(e, at.E_STABLE) * each)
    store_float32(o, at.G_SEEN, squash(load(h, engine.REVEALED), 8.0))


# --- what every move may change ----------------------------------------------------------------------


@rule
def show_steps(e: int, steps: int) -> None:
    """How many actions were taken."""
    store_float32(load(e, at.E_OBSERVATION), at.G_STEPS, squash(steps, 256.0))


@inlined
def show_spending(t: int, h: int, e: int) -> None:
    """The global features that any move may change."""
    o = load(e, at.E_OBSERVATION)
    width = 1.0 / load(t, at.WIDTH)
    opened, live, leader = load(h, engine.OPENED), load(h, engine.LIVE), load_int32(e, at.E_LEADER)
    spent = engine.cost(h)
    some = 1.0 / max(1, live)
    agreeing = votes_for(t, e, leader) - finished_votes_for(t, e, leader) if leader >= 0 else 0
    store_float32(o, at.G_OPENED, opened * width)
    store_float32(o, at.G_LIVE, live * width)
    store_float32(o, at.G_FINISHED, load_int32(e, at.E_FINISHED) * width)
    store_float32(o, at.G_PRUNED, load_int32(e, at.E_PRUNED) * width)
    store_float32(o, at.G_COST, squash(spent, 100_000.0))
    store_float32(o, at.G_PROBES, squash(load(h, engine.PROBES), 64.0))
    store_float32(o, at.G_COST_SINCE, squash(spent - load_float(e, at.E_LEADER_SINCE), 100_000.0))
    store_float32(o, at.G_AGREEING, agreeing * some)
    store_float32(o, at.G_UNREAD, load_int32(e, at.E_UNREAD) * some)
    store_float32(o, at.G_DEEPEST, squash(load_int32(e, at.E_DEEPEST), 16.0))
    store_float32(o, at.G_MEAN_DEPTH, squash(load_int32(e, at.E_LIVE_DEPTHS) * some, 16.0))
    store_float32(o, at.G_STUBBORN, load_int32(e, at.E_STUBBORN) * some)
    tokens = load(h, engine.SPENT_TOKENS)
    store_float32(o, at.G_PER_BRANCH, ratio(tokens, tokens + 8000.0 * opened))
    if load_float(h, engine.BUDGET) < np.inf:
        _show_budget(h, o, spent)


@rule
def _show_budget(h: int, o: int, spent: float) -> None:
    budget = load_float(h, engine.BUDGET)
    share, left = 1.0, 1.0
    if budget < np.inf:
        rest = max(0.0, budget - spent)
        share, left = ratio(rest, budget), squash(rest, 100_000.0)
    store_float32(o, at.G_BUDGET_SHARE, share)
    store_float32(o, at.G_BUDGET, left)
