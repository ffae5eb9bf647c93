"""The compiled actions and masks: every move with the book-keeping that the observation needs.

Addresses as in ``observation.py``.
"""

from __future__ import annotations

from tts_gym.engine import compiled as engine
from tts_gym.engine.memory import (
    load,
    load_float,
    load_int16,
    load_int32,
    store,
    store_float,
    store_int8,
    store_int16,
    store_int32,
)
from tts_gym.envs import layout as at
from tts_gym.envs import observation as seen

rule, inlined = engine.rule, engine.inlined_rule


@rule
def kind_of(action: int, width: int) -> int:
    """Of an atomic action on a branch: 0 CONTINUE, 1 PROBE, 2 PRUNE, 3 ANSWER. Dividing would take longer."""
    action -= at.FIRST
    return (action >= width) + (action >= 2 * width) + (action >= 3 * width)


@rule
def branch_of(action: int, width: int) -> int:
    """Of an atomic action on a branch: which."""
    return action - at.FIRST - width * kind_of(action, width)


# --- readings and votes --------------------------------------------------------------------------------


@rule
def _vote(t: int, e: int, i: int, vote: int) -> None:
    """Change branch i's vote (-1: none) in all counts but the leader's."""
    v, c = seen.votes(e), seen.counts(t, e)
    before = load_int16(v, i)
    if before == vote:
        return
    table = load(t, at.CLOGC)
    total = load_float(e, at.E_CLOGC)
    if before >= 0:
        count = load_int32(c, 2 * before) - 1
        store_int32(c, 2 * before, count)
        store_int32(e, at.E_VOTES, load_int32(e, at.E_VOTES) - 1)
        total += load_float(table, count) - load_float(table, count + 1)
        if count == 0:
            store_int32(e, at.E_DISTINCT, load_int32(e, at.E_DISTINCT) - 1)
    if vote >= 0:
        count = load_int32(c, 2 * vote) + 1
        store_int32(c, 2 * vote, count)
        store_int32(e, at.E_VOTES, load_int32(e, at.E_VOTES) + 1)
        total += load_float(table, count) - load_float(table, count - 1)
        if count == 1:
            store_int32(e, at.E_DISTINCT, load_int32(e, at.E_DISTINCT) + 1)
    store_int16(v, i, vote)
    store_float(e, at.E_CLOGC, total)
    store_int32(e, at.E_SHOW, at.SHOW_VOTES)


@rule
def _count(t: int, h: int, e: int) -> bool:
    """Find the leader and its confidence anew. Returns whether another answer leads now."""
    before = load_int32(e, at.E_LEADER)
    seen.count_votes(t, h, e)
    if load_int32(e, at.E_LEADER) == before:
        return False
    if before >= 0:
        store_int32(e, at.E_LEADER_CHANGES, load_int32(e, at.E_LEADER_CHANGES) + 1)
    store_int32(e, at.E_LEADER_AGE, 0)
    store_float(e, at.E_LEADER_SINCE, engine.cost(h))
    return True


@rule
def _reading(t: int, h: int, e: int, i: int) -> None:
    """Branch i's answer was read: by a probe, or because it finished."""
    x = seen.notes(h, i)
    number = load(engine.branch_address(h, i), engine.LATEST)
    before = load_int16(seen.votes(e), i)
    readings, streak = load_int16(x, at.X_READINGS), load_int16(x, at.X_STREAK)
    store_int32(e, at.E_SHOW, max(load_int32(e, at.E_SHOW), at.SHOW_STANDING))
    if readings == 0:
        store_int32(e, at.E_READ, load_int32(e, at.E_READ) + 1)
    was_unparsed = readings > 0 and before < 0
    was_stable = before >= 0 and streak >= 2
    same = readings > 0 and before == number
    if readings > 0 and not same:
        store_int16(x, at.X_CHANGES, load_int16(x, at.X_CHANGES) + 1)
    streak = streak + 1 if same else 1
    store_int16(x, at.X_STREAK, streak)
    store_int16(x, at.X_READINGS, readings + 1)
    store_int32(e, at.E_UNPARSED, load_int32(e, at.E_UNPARSED) + (number < 0) - was_unparsed)
    store_int32(e, at.E_STABLE, load_int32(e, at.E_STABLE) + (number >= 0 and streak >= 2) - was_stable)

    moved = False
    if before != number:
        _vote(t, e, i, number)
        moved = _count(t, h, e)
    if not moved:
        store_int32(e, at.E_LEADER_AGE, load_int32(e, at.E_LEADER_AGE) + 1)
    confidence, average = seen.confidence_of_leader(t, e), load_float(e, at.E_AVERAGE)
    if load_int32(e, at.E_READINGS) == 0:
        average = confidence
    store_float(e, at.E_AVERAGE, average + 0.1 * (confidence - average))
    store_int32(e, at.E_READINGS, load_int32(e, at.E_READINGS) + 1)

    dissent = load_int16(x, at.X_DISSENT)
    patience = load(t, at.PATIENCE)
    now = dissent + 1 if number != load_int32(e, at.E_LEADER) else 0
    store_int16(x, at.X_DISSENT, now)
    store_int32(e, at.E_STUBBORN, load_int32(e, at.E_STUBBORN) + (now >= patience) - (dissent >= patience))


@rule
def _leave(t: int, h: int, e: int, i: int, depth: int, unread: bool) -> None:
    """Branch i, until now live at ``depth``, no longer is."""
    store_int32(e, at.E_LIVE_DEPTHS, load_int32(e, at.E_LIVE_DEPTHS) - depth)
    store_int32(e, at.E_UNREAD, load_int32(e, at.E_UNREAD) - unread)
    if load_int16(seen.notes(h, i), at.X_DISSENT) >= load(t, at.PATIENCE):
        store_int32(e, at.E_STUBBORN, load_int32(e, at.E_STUBBORN) - 1)


# --- moves with their book-keeping; each returns the engine's refusal --------------------------------


@rule
def _generated(t: int, h: int, e: int, i: int, depth: int, unread: bool, reads: bool) -> None:
    """Branch i was live at ``depth``, and an interval was generated or its end found."""
    b = engine.branch_address(h, i)
    if load(b, engine.STATUS) == engine.FINISHED_BRANCH:
        store_int32(e, at.E_FINISHED, load_int32(e, at.E_FINISHED) + 1)
        _reading(t, h, e, i)
        _leave(t, h, e, i, depth, unread)
        number = load(b, engine.LATEST)
        if number >= 0:
            c = seen.counts(t, e)
            store_int32(c, 2 * number + 1, load_int32(c, 2 * number + 1) + 1)
            store_int32(e, at.E_FINISHED_VOTES, load_int32(e, at.E_FINISHED_VOTES) + 1)
    else:
        store_int32(e, at.E_LIVE_DEPTHS, load_int32(e, at.E_LIVE_DEPTHS) + 1)
        store_int32(e, at.E_DEEPEST, max(load_int32(e, at.E_DEEPEST), depth + 1))
        store_int32(e, at.E_UNREAD, load_int32(e, at.E_UNREAD) + (not unread))
        if reads and _probe(t, h, e, i) == 0:
            return
    seen.show_branch(t, h, e, i)


@rule
def _branch(t: int, h: int, e: int, reads: bool) -> int:
    refusal = engine.branch(h)
    if refusal == 0:
        i = load(h, engine.OPENED) - 1
        store(engine.branch_address(h, i), engine.NOTES, 0)
        store_int16(seen.votes(e), i, -1)
        _generated(t, h, e, i, 0, False, reads)
    return refusal


@rule
def _advance(t: int, h: int, e: int, i: int, reads: bool) -> int:
    b = engine.branch_address(h, i)
    depth = load(b, engine.DEPTH)
    unread = load(b, engine.PROBED) != depth
    refusal = engine.advance(h, i)
    if refusal == 0:
        _generated(t, h, e, i, depth, unread, reads)
    return refusal


@rule
def _probe(t: int, h: int, e: int, i: int) -> int:
    refusal = engine.probe(h, i)
    if refusal == 0:
        store_int32(e, at.E_UNREAD, load_int32(e, at.E_UNREAD) - 1)
        _reading(t, h, e, i)
        seen.show_branch(t, h, e, i)
    return refusal


@rule
def _prune(t: int, h: int, e: int, i: int) -> int:
    b = engine.branch_address(h, i)
    depth = load(b, engine.DEPTH)
    unread = load(b, engine.PROBED) != depth
    refusal = engine.prune(h, i)
    if refusal == 0:
        x = seen.notes(h, i)
        store_int32(e, at.E_PRUNED, load_int32(e, at.E_PRUNED) + 1)
        _leave(t, h, e, i, depth, unread)
        if load_int16(x, at.X_READINGS) > 0:
            store_int32(e, at.E_SHOW, max(load_int32(e, at.E_SHOW), at.SHOW_STANDING))
            store_int32(e, at.E_READ, load_int32(e, at.E_READ) - 1)
            if load_int16(seen.votes(e), i) < 0:
                store_int32(e, at.E_UNPARSED, load_int32(e, at.E_UNPARSED) - 1)
            else:
                store_int32(e, at.E_STABLE, load_int32(e, at.E_STABLE) - (load_int16(x, at.X_STREAK) >= 2))
                _vote(t, e, i, -1)
                _count(t, h, e)
        seen.show_branch(t, h, e, i)
    return refusal


@rule
def aggregate(t: int, h: int, e: int) -> int:
    """The built-in answer: the majority of all votes, or of the finished branches' where there is one."""
    if load(t, at.AGGREGATION) == 1 and load_int32(e, at.E_FINISHED_VOTES) > 0:
        v = seen.votes(e)
        winner, most = -1, 0
        for i in range(load(h, engine.OPENED)):
            finished = load(engine.branch_address(h, i), engine.STATUS) == engine.FINISHED_BRANCH
            vote = load_int16(v, i)
            if finished and vote >= 0 and seen.finished_votes_for(t, e, vote) > most:
                winner, most = vote, seen.finished_votes_for(t, e, vote)
        return winner
    return load_int32(e, at.E_LEADER)


# --- actions -------------------------------------------------------------------------------------------


@rule
def room(h: int) -> bool:
    """Whether one more interval fits in the budget."""
    return not engine.over_budget(h, load(h, engine.DELTA))


@rule
def is_tight(h: int) -> bool:
    """Whether the budget may forbid something: a PROBE costs at most the rest of an interval and its fee."""
    return engine.over_budget(h, load(h, engine.DELTA) + load_float(h, engine.PROBE_COST))


@rule
def is_legal(t: int, h: int, e: int, action: int) -> bool:
    """Whether ``action`` may be taken now; ANSWER always may."""
    if action == at.ANSWER:
        return True
    if load(h, engine.OVER):
        return False
    if load(t, at.ROUNDS) == 0:
        width = load(t, at.WIDTH)
        if action == at.BRANCH:
            return engine.why_not_branch(h) == 0
        kind, i = kind_of(action, width), branch_of(action, width)
        if kind == 0:
            return engine.why_not_advance(h, i) == 0
        if kind == 1:
            return engine.why_not_probe(h, i) == 0
        if kind == 2:
            return engine.why_not_touch(h, i) == 0
        return i < load(h, engine.OPENED)
    if action == at.BRANCH or action <= at.OPEN_8:
        return engine.why_not_branch(h) == 0
    if action == at.PRUNE_DISSENTERS:
        return load_int32(e, at.E_STUBBORN) > 0
    if load(h, engine.LIVE) == 0 or not room(h):
        return False
    if action == at.ADVANCE_AGREEING:
        leader = load_int32(e, at.E_LEADER)
        return leader >= 0 and seen.votes_for(t, e, leader) > seen.finished_votes_for(t, e, leader)
    return True


@inlined
def act(t: int, h: int, e: int, action: int, chosen: int) -> bool:
    """Take an action; ``chosen`` is an answer number that replaces the built-in one, or -2. Returns whether legal."""
    width = load(t, at.WIDTH)
    if action == at.ANSWER:
        return engine.answer(h, chosen if chosen > -2 else aggregate(t, h, e)) == 0
    if load(t, at.ROUNDS):
        if not is_legal(t, h, e, action):
            return False
        _round(t, h, e, action)
        return True
    reads = load(t, at.AUTO_PROBE) != 0
    if action == at.BRANCH:
        legal = _branch(t, h, e, reads) == 0
        if legal:
            _mask_branch(t, h, e, load(h, engine.OPENED) - 1)
            store_int8(load(e, at.E_MASK), at.BRANCH, engine.why_not_branch(h) == 0)
        return legal
    kind, i = kind_of(action, width), branch_of(action, width)
    if kind == 0:
        legal = _advance(t, h, e, i, reads) == 0
    elif kind == 1:
        legal = _probe(t, h, e, i) == 0
    elif kind == 2:
        legal = _prune(t, h, e, i) == 0
    else:
        return i < load(h, engine.OPENED) and engine.answer(h, load(engine.branch_address(h, i), engine.LATEST)) == 0
    if legal:
        _mask_probe(t, h, e, i)
    return legal


@rule
def _is_live(h: int, i: int) -> bool:
    return load(engine.branch_address(h, i), engine.STATUS) == engine.LIVE_BRANCH


@rule
def _finish(t: int, h: int, e: int, i: int) -> None:
    while engine.why_not_advance(h, i) == 0:
        _advance(t, h, e, i, False)


@rule
def _round(t: int, h: int, e: int, action: int) -> None:
    """A legal whole-round move: atomic moves in opening order, each only while it is legal, then a closed round."""
    if action == at.BRANCH or action <= at.OPEN_8:
        count = 1 if action == at.BRANCH else 2 << (action - at.OPEN_2)
        for _ in range(count):
            if _branch(t, h, e, True) != 0:
                break
    elif action == at.ADVANCE_ALL or action == at.ADVANCE_AGREEING:
        leader, v = load_int32(e, at.E_LEADER), seen.votes(e)  # as the round begins
        for i in range(load(h, engine.OPENED)):
            if _is_live(h, i) and (action == at.ADVANCE_ALL or load_int16(v, i) == leader):
                _advance(t, h, e, i, True)
    elif action == at.PRUNE_DISSENTERS:
        patience = load(t, at.PATIENCE)
        for i in range(load(h, engine.OPENED)):
            if _is_live(h, i) and load_int16(seen.notes(h, i), at.X_DISSENT) >= patience:
                _prune(t, h, e, i)
    elif action == at.FINISH_NEAREST:
        deepest, most = -1, -1
        for i in range(load(h, engine.OPENED)):
            depth = load(engine.branch_address(h, i), engine.DEPTH)
            if _is_live(h, i) and depth > most:
                deepest, most = i, depth
        _finish(t, h, e, deepest)
    else:
        for i in range(load(h, engine.OPENED)):
            _finish(t, h, e, i)
    engine.end_round(h)


# --- masks ---------------------------------------------------------------------------------------------


@rule
def _mask_branch(t: int, h: int, e: int, i: int) -> None:
    m, width = load(e, at.E_MASK), load(t, at.WIDTH)
    store_int8(m, at.FIRST + i, engine.why_not_advance(h, i) == 0)
    store_int8(m, at.FIRST + width + i, engine.why_not_probe(h, i) == 0)
    store_int8(m, at.FIRST + 2 * width + i, _is_live(h, i))
    if load(t, at.ANSWER_WITH):
        store_int8(m, at.FIRST + 3 * width + i, 1)


@rule
def _mask_probe(t: int, h: int, e: int, i: int) -> None:
    """A branch that stays live changes its PROBE only."""
    if _is_live(h, i):
        store_int8(load(e, at.E_MASK), at.FIRST + load(t, at.WIDTH) + i, engine.why_not_probe(h, i) == 0)
    else:
        _mask_branch(t, h, e, i)


@rule
def mask_all(t: int, h: int, e: int) -> None:
    m = load(e, at.E_MASK)
    if load(t, at.ROUNDS):
        for action in range(len(at.ROUND_ACTIONS)):
            store_int8(m, action, is_legal(t, h, e, action))
        return
    store_int8(m, at.BRANCH, engine.why_not_branch(h) == 0)
    store_int8(m, at.ANSWER, 1)
    for i in range(load(h, engine.OPENED)):
        _mask_branch(t, h, e, i)


@rule
def clear_mask(t: int, h: int, e: int) -> None:
    """Zero what the mask says of branches."""
    m, width, opened = load(e, at.E_MASK), load(t, at.WIDTH), load(h, engine.OPENED)
    for kind in range(4 if load(t, at.ANSWER_WITH) else 3):
        for i in range(opened):
            store_int8(m, at.FIRST + kind * width + i, 0)


@rule
def mask_ended(t: int, h: int, e: int) -> None:
    """After the end only ANSWER, so that a masked policy always has something to choose."""
    m = load(e, at.E_MASK)
    if load(t, at.ROUNDS):
        for action in range(len(at.ROUND_ACTIONS)):
            store_int8(m, action, 0)
    else:
        clear_mask(t, h, e)
        store_int8(m, at.BRANCH, 0)
    store_int8(m, at.ANSWER, 1)
