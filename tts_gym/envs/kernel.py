"""The compiled environment: actions, masks, rewards and resets of a batch, on the compiled engine.

Addresses as in ``observation.py``; ``k`` is an environment's index in the batch.
"""

from __future__ import annotations

from tts_gym.engine import compiled as engine
from tts_gym.engine.memory import (
    load,
    load_float,
    load_int8,
    load_int16,
    load_int32,
    next_random,
    prefetch,
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
def env(t: int, k: int) -> int:
    """Where the slots of environment k begin."""
    return load(t, at.BLOCKS) + 8 * k * load(t, at.SLOTS)


@rule
def block(t: int, e: int) -> int:
    """Where its engine block begins."""
    return e + load(t, at.ENGINE_AT)


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
def _room(h: int) -> bool:
    return not engine.over_budget(h, load(h, engine.DELTA))


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
    if load(h, engine.LIVE) == 0 or not _room(h):
        return False
    if action == at.ADVANCE_AGREEING:
        leader = load_int32(e, at.E_LEADER)
        return leader >= 0 and seen.votes_for(t, e, leader) > seen.finished_votes_for(t, e, leader)
    return True


@inlined
def _act(t: int, h: int, e: int, action: int, chosen: int) -> bool:
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
def _mask_all(t: int, h: int, e: int) -> None:
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
def _clear_mask(t: int, h: int, e: int) -> None:
    """Zero what the mask says of branches."""
    m, width, opened = load(e, at.E_MASK), load(t, at.WIDTH), load(h, engine.OPENED)
    for kind in range(4 if load(t, at.ANSWER_WITH) else 3):
        for i in range(opened):
            store_int8(m, at.FIRST + kind * width + i, 0)


@rule
def _mask_ended(t: int, h: int, e: int) -> None:
    """After the end only ANSWER, so that a masked policy always has something to choose."""
    m = load(e, at.E_MASK)
    if load(t, at.ROUNDS):
        for action in range(len(at.ROUND_ACTIONS)):
            store_int8(m, action, 0)
    else:
        _clear_mask(t, h, e)
        store_int8(m, at.BRANCH, 0)
    store_int8(m, at.ANSWER, 1)


# --- resets --------------------------------------------------------------------------------------------


@rule
def _replayed(t: int, k: int, slot: int) -> int:
    """Where it is written what environment k replays."""
    return load(t, at.REPLAYED) + 8 * (slot * load(t, at.COUNT) + k)


@rule
def begin(t: int, k: int, pool: int, question: int, order: int, order_at: int) -> None:
    """Start environment k on a question of a pool; ``order_at`` is the address of the permutation ``order``."""
    e = env(t, k)
    h = block(t, e)
    seen.clear(t, h, load(e, at.E_OBSERVATION))
    if load(t, at.ROUNDS) == 0:
        _clear_mask(t, h, e)
    c = seen.counts(t, e)
    for number in range(load(h, engine.REVEALED)):
        store(c, number, 0)  # both counts
    p = load(t, at.POOLS) + 8 * at.POOL_SLOTS * pool
    store(h, engine.ANSWERS, load(p, at.P_ANSWERS))
    store(h, engine.INTERVALS, load(p, at.P_INTERVALS))
    store(h, engine.TOKENS, load(p, at.P_TOKENS))
    store(h, engine.BRANCHES, load(p, at.P_BRANCHES))
    store(h, engine.COLUMNS, load(p, at.P_COLUMNS))
    store(h, engine.DELTA, load(p, at.P_DELTA))
    engine.reset(h, question, order_at)
    store(_replayed(t, k, at.R_POOL), 0, pool)
    store(_replayed(t, k, at.R_QUESTION), 0, question)
    store(_replayed(t, k, at.R_ORDER), 0, order)
    for number in (at.E_AVERAGE, at.E_CLOGC, at.E_LEADER_SINCE):
        store_float(e, number, 0.0)
    for slot in range(at.E_ENDED, at.E_SHOW + 1):
        store_int32(e, slot, 0)
    store_int32(e, at.E_LEADER, -1)
    seen.begin(t, h, load(e, at.E_OBSERVATION))
    _mask_all(t, h, e)
    store_float(load(t, at.COST), k, 0.0)
    store(load(t, at.TOKENS), k, 0)
    store(load(t, at.PROBED), k, 0)
    store_int8(load(t, at.ILLEGAL), k, 0)


@rule
def begin_random(t: int, k: int) -> None:
    """Start environment k on a random pool, question and order: one draw each, none for the pool if there is one."""
    random = load(t, at.RANDOM) + 32 * k
    pool, count = 0, load(t, at.POOL_COUNT)
    if count > 1:
        draw, edges = next_random(random), load(t, at.POOL_EDGES)
        while pool < count - 1 and draw >= load_float(edges, pool):
            pool += 1
    p = load(t, at.POOLS) + 8 * at.POOL_SLOTS * pool
    chosen = int(next_random(random) * load(p, at.P_QUESTION_COUNT))
    row = int(next_random(random) * load(p, at.P_ORDER_COUNT))
    order_at = load(p, at.P_ORDERS) + 4 * row * load(p, at.P_BRANCHES)
    begin(t, k, pool, load(load(p, at.P_QUESTIONS), chosen), load(load(p, at.P_ORDER_SEEDS), row), order_at)


# --- steps ---------------------------------------------------------------------------------------------


@rule
def _told(t: int, k: int, slot: int) -> int:
    """Where what an episode ended with is told of environment k."""
    return load(t, at.FINAL) + 8 * (slot * load(t, at.COUNT) + k)


@rule
def _tell(t: int, k: int, slot: int, value: int) -> None:
    store(_told(t, k, slot), 0, value)


@inlined
def _forget_end(t: int, k: int) -> None:
    """An end is told for one step only."""
    if load_int8(load(t, at.TERMINATED), k) or load_int8(load(t, at.TRUNCATED), k):
        for slot in range(at.FINAL_SLOTS):
            _tell(t, k, slot, 0)
        store_int8(load(t, at.CORRECT), k, 0)


@inlined
def _tell_end(t: int, k: int, h: int) -> bool:
    """Write down what the episode ended with, before a reset overwrites it. Returns whether its answer was right."""
    pool, question = load(_replayed(t, k, at.R_POOL), 0), load(_replayed(t, k, at.R_QUESTION), 0)
    _tell(t, k, at.F_POOL, pool)
    _tell(t, k, at.F_QUESTION, question)
    _tell(t, k, at.F_ORDER, load(_replayed(t, k, at.R_ORDER), 0))
    _tell(t, k, at.F_BRANCHES, load(h, engine.OPENED))
    _tell(t, k, at.F_SEQUENTIAL, engine.sequential_tokens(h))
    _tell(t, k, at.F_PEAK_WIDTH, load(h, engine.PEAK_WIDTH))
    store_float(_told(t, k, at.F_COST), 0, engine.cost(h))
    _tell(t, k, at.F_TOKENS, load(h, engine.SPENT_TOKENS))
    _tell(t, k, at.F_PROBES, load(h, engine.PROBES))
    _tell(t, k, at.F_ILLEGAL, load_int8(load(t, at.ILLEGAL), k))
    code = engine.answered_code(h) if load(h, engine.OVER) else -1
    p = load(t, at.POOLS) + 8 * at.POOL_SLOTS * pool
    cell = question * load(p, at.P_VOCABULARY) + code
    correct = code >= 0 and load_int8(load(p, at.P_CORRECT), cell) != 0
    store_int8(load(t, at.CORRECT), k, correct)
    return correct


@inlined
def step_one(t: int, k: int) -> bool:
    """One action of environment k, with everything a step returns. Returns whether its episode ended."""
    e = env(t, k)
    h = block(t, e)
    _forget_end(t, k)
    before = engine.cost(h)
    chosen = load(load(t, at.CHOSEN), k) if load(t, at.CHOSEN) else -2
    legal = _act(t, h, e, load(load(t, at.ACTIONS), k), chosen)
    steps = load_int32(e, at.E_STEPS) + 1
    store_int32(e, at.E_STEPS, steps)
    if load(t, at.GRID) == 0:
        seen.show_steps(e, steps)
    after = engine.cost(h)
    weight = load_float(load(t, at.COST_WEIGHTS), k)
    reward = weight * before - weight * after
    terminated = load(h, engine.OVER) != 0
    truncated = steps == load(t, at.MAX_STEPS)  # of an episode that ends at the limit too, as TimeLimit has it
    store_int8(load(t, at.ILLEGAL), k, not legal)
    if legal and not terminated:
        if load(t, at.GRID) == 0:
            seen.show_spending(t, h, e)
            show = load_int32(e, at.E_SHOW)
            if show > 0:
                seen.show_standing(t, h, e)
                if show == at.SHOW_VOTES:
                    seen.show_votes(t, h, e)
                store_int32(e, at.E_SHOW, 0)
        if load(t, at.ROUNDS) or not _room(h):  # otherwise the action has set what it changed
            _mask_all(t, h, e)
        store_float(load(t, at.COST), k, after)
        store(load(t, at.TOKENS), k, load(h, engine.SPENT_TOKENS))
        store(load(t, at.PROBED), k, load(h, engine.PROBES))
    if terminated or truncated:
        store_int32(e, at.E_ENDED, 1)
        correct = _tell_end(t, k, h)
        if terminated:
            reward += correct
            _mask_ended(t, h, e)
    store_float(load(t, at.REWARDS), k, reward)
    store_int8(load(t, at.TERMINATED), k, terminated)
    store_int8(load(t, at.TRUNCATED), k, truncated)
    return terminated or truncated


@rule
def _copy_final(t: int, k: int, e: int) -> None:
    """The last observation and mask of an episode, kept because its environment is reset at once."""
    source, size = load(e, at.E_OBSERVATION), load(t, at.OBSERVATION_SIZE)
    target = load(t, at.FINAL_OBSERVATIONS) + size * k
    for word in range(size // 4):
        store_int32(target, word, load_int32(source, word))
    if size % 4:  # int16 cells can leave half a word
        store_int16(target, size // 2 - 1, load_int16(source, size // 2 - 1))
    source, size = load(e, at.E_MASK), load(t, at.ACTIONS_PER_ENV)
    target = load(t, at.FINAL_MASKS) + size * k
    for action in range(size):
        store_int8(target, action, load_int8(source, action))


# What ``refused`` finds wrong.
UNKNOWN_ACTION, WAITS_FOR_RESET, ILLEGAL_ACTION, PROBLEMS = range(1, 5)


@rule
def refused(t: int) -> int:
    """Look before anything moves: 0 if all actions can be taken, otherwise PROBLEMS * k + what is wrong with k's."""
    actions = load(t, at.ACTIONS)
    disabled, strict = load(t, at.AUTORESET) == at.DISABLED, load(t, at.STRICT) != 0
    for k in range(load(t, at.COUNT)):
        action = load(actions, k)
        if action < 0 or action >= load(t, at.ACTIONS_PER_ENV):
            return PROBLEMS * k + UNKNOWN_ACTION
        if disabled or strict:
            e = env(t, k)
            ended = load_int32(e, at.E_ENDED) != 0
            if ended and disabled:
                return PROBLEMS * k + WAITS_FOR_RESET
            if strict and not ended and load_int8(load(e, at.E_MASK), action) == 0:
                return PROBLEMS * k + ILLEGAL_ACTION
    return 0


# How many environments ahead memory is asked for: of a large batch none of it is near. What the first look finds
# says where to look next.
_FAR, _NEAR, _NEXT = 12, 7, 3


@inlined
def _fetch(t: int, k: int) -> None:
    """Ask for what every step of environment k touches, and for the branch that its action names."""
    e = env(t, k)
    h, action = block(t, e), load(load(t, at.ACTIONS), k)
    o = load(t, at.OBSERVATIONS) + load(t, at.OBSERVATION_SIZE) * k
    prefetch(e)
    prefetch(e + 64)
    prefetch(h + 64)
    prefetch(h + 128)
    prefetch(o)
    if action >= at.FIRST and load(t, at.ROUNDS) == 0:
        width = load(t, at.WIDTH)
        i = branch_of(action, width)
        prefetch(engine.branch_address(h, i))
        prefetch(load(t, at.MASKS) + load(t, at.ACTIONS_PER_ENV) * k + action)
        prefetch(o + 4 * (at.GLOBALS + 2 * width + at.PER_BRANCH * i))
        if action < at.FIRST + width:
            return
    prefetch(h + 192)
    prefetch(o + 64)


@inlined
def _fetch_second(t: int, k: int) -> None:
    """Ask for the branch that BRANCH will open, for the answer that PROBE will read, or for what a reset clears."""
    action, width = load(load(t, at.ACTIONS), k), load(t, at.WIDTH)
    e = env(t, k)
    h = block(t, e)
    if action < at.FIRST or load(t, at.ROUNDS):
        opened = load(h, engine.OPENED)
        prefetch(engine.branch_address(h, opened if action == at.BRANCH else 0))
        prefetch(load(h, engine.ORDER) + 4 * opened)
        prefetch(load(t, at.MASKS) + load(t, at.ACTIONS_PER_ENV) * k)
    elif action >= at.FIRST + width and action < at.FIRST + 2 * width:
        b = engine.branch_address(h, action - at.FIRST - width)
        cell = load(b, engine.ROW) * load(h, engine.COLUMNS) + load(b, engine.DEPTH)
        prefetch(load(h, engine.Q_ANSWERS) + 2 * cell - 2)
        prefetch(seen.counts(t, e))


@inlined
def _fetch_number(t: int, k: int) -> None:
    """Ask for the number that the answer of a coming PROBE may have."""
    action, width = load(load(t, at.ACTIONS), k), load(t, at.WIDTH)
    if action >= at.FIRST + width and action < at.FIRST + 2 * width and load(t, at.ROUNDS) == 0:
        h = block(t, env(t, k))
        i = action - at.FIRST - width
        b = engine.branch_address(h, i)
        if i < load(h, engine.OPENED) and load(b, engine.DEPTH) > 0:
            cell = load(b, engine.ROW) * load(h, engine.COLUMNS) + load(b, engine.DEPTH) - 1
            prefetch(load(h, engine.NUMBERS) + 8 * load_int16(load(h, engine.Q_ANSWERS), cell))


@rule
def step(t: int, first: int, last: int) -> int:
    """One step of environments ``first`` to ``last`` - 1. Returns how many episodes ended."""
    ended = 0
    same_step = load(t, at.AUTORESET) == at.SAME_STEP
    for k in range(first, last):
        if k + _FAR < last:
            _fetch(t, k + _FAR)
            _fetch_second(t, k + _NEAR)
            _fetch_number(t, k + _NEXT)
        e = env(t, k)
        if load_int32(e, at.E_ENDED):  # only ever so where the next step resets
            _forget_end(t, k)
            begin_random(t, k)
            store_float(load(t, at.REWARDS), k, 0.0)
            store_int8(load(t, at.TERMINATED), k, 0)
            store_int8(load(t, at.TRUNCATED), k, 0)
        elif step_one(t, k):
            ended += 1
            if same_step:
                _copy_final(t, k, e)
                begin_random(t, k)
    return ended


@rule
def begin_many(t: int, wanted: int) -> None:
    """Random episodes for the environments that ``wanted`` (address of bool[K]) names."""
    for k in range(load(t, at.COUNT)):
        if load_int8(wanted, k):
            begin_random(t, k)


@rule
def uniform(randoms: int, k: int) -> float:
    """The next draw of environment k, for resets that Python makes."""
    return next_random(randoms + 32 * k)
