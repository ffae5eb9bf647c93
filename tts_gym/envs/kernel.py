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
    store,
    store_float,
    store_int8,
    store_int16,
    store_int32,
)
from tts_gym.envs import layout as at
from tts_gym.envs import observation as seen

rule = engine.rule


@rule
def block(t: int, k: int) -> int:
    """Where the episode of environment k lives."""
    return load(t, at.BLOCKS) + 8 * k * load(t, at.SLOTS)


@rule
def env_slots(t: int, h: int) -> int:
    """Where the environment's slots begin, behind its engine block."""
    return h + 8 * (engine.HEADER + engine.BRANCH_SLOTS * load(t, at.WIDTH) + 2 * load(t, at.VOCABULARY))


# --- readings and votes --------------------------------------------------------------------------------


@rule
def _vote(t: int, e: int, i: int, vote: int) -> None:
    """Change branch i's vote (-1: none) in all counts but the leader's."""
    v, c = seen.votes(t, e), seen.counts(e)
    before = load_int32(v, i)
    if before == vote:
        return
    table = load(t, at.CLOGC)
    total = load_float(e, at.E_CLOGC)
    if before >= 0:
        count = load(c, before) - 1
        store(c, before, count)
        store(e, at.E_VOTES, load(e, at.E_VOTES) - 1)
        total += load_float(table, count) - load_float(table, count + 1)
        if count == 0:
            store(e, at.E_DISTINCT, load(e, at.E_DISTINCT) - 1)
    if vote >= 0:
        count = load(c, vote) + 1
        store(c, vote, count)
        store(e, at.E_VOTES, load(e, at.E_VOTES) + 1)
        total += load_float(table, count) - load_float(table, count - 1)
        if count == 1:
            store(e, at.E_DISTINCT, load(e, at.E_DISTINCT) + 1)
    store_int32(v, i, vote)
    store_float(e, at.E_CLOGC, total)
    store(e, at.E_SHOW, at.SHOW_VOTES)


@rule
def _count(t: int, h: int, e: int) -> bool:
    """Find the leader and its confidence anew. Returns whether another answer leads now."""
    before = load(e, at.E_LEADER)
    seen.count_votes(t, h, e)
    first, second = load(e, at.E_FIRST), load(e, at.E_SECOND)
    table = load(t, at.CONFIDENCE)
    store_float(e, at.E_CONFIDENCE, load_float(table, first * (load(t, at.WIDTH) + 1) + second))
    if load(e, at.E_LEADER) == before:
        return False
    if before >= 0:
        store(e, at.E_LEADER_CHANGES, load(e, at.E_LEADER_CHANGES) + 1)
    store(e, at.E_LEADER_AGE, 0)
    store_float(e, at.E_LEADER_SINCE, engine.cost(h))
    return True


@rule
def _reading(t: int, h: int, e: int, i: int) -> None:
    """Branch i's answer was read: by a probe, or because it finished."""
    x = seen.extras(t, e, i)
    number = load(engine.branch_address(h, i), engine.LATEST)
    before = load_int32(seen.votes(t, e), i)
    readings, streak = load_int32(x, at.X_READINGS), load_int32(x, at.X_STREAK)
    store(e, at.E_SHOW, max(load(e, at.E_SHOW), at.SHOW_STANDING))
    if readings == 0:
        store(e, at.E_READ, load(e, at.E_READ) + 1)
    was_unparsed = readings > 0 and before < 0
    was_stable = before >= 0 and streak >= 2
    same = readings > 0 and before == number
    if readings > 0 and not same:
        store_int32(x, at.X_CHANGES, load_int32(x, at.X_CHANGES) + 1)
    streak = streak + 1 if same else 1
    store_int32(x, at.X_STREAK, streak)
    store_int32(x, at.X_READINGS, readings + 1)
    store(e, at.E_UNPARSED, load(e, at.E_UNPARSED) + (number < 0) - was_unparsed)
    store(e, at.E_STABLE, load(e, at.E_STABLE) + (number >= 0 and streak >= 2) - was_stable)

    moved = False
    if before != number:
        _vote(t, e, i, number)
        moved = _count(t, h, e)
    if not moved:
        store(e, at.E_LEADER_AGE, load(e, at.E_LEADER_AGE) + 1)
    confidence, average = load_float(e, at.E_CONFIDENCE), load_float(e, at.E_AVERAGE)
    if load(e, at.E_READINGS) == 0:
        average = confidence
    store_float(e, at.E_AVERAGE, average + 0.1 * (confidence - average))
    store(e, at.E_READINGS, load(e, at.E_READINGS) + 1)

    dissent = load_int32(x, at.X_DISSENT)
    patience = load(t, at.PATIENCE)
    now = dissent + 1 if number != load(e, at.E_LEADER) else 0
    store_int32(x, at.X_DISSENT, now)
    store(e, at.E_STUBBORN, load(e, at.E_STUBBORN) + (now >= patience) - (dissent >= patience))


@rule
def _leave(t: int, h: int, e: int, i: int, depth: int, unread: bool) -> None:
    """Branch i, until now live at ``depth``, no longer is."""
    store(e, at.E_LIVE_DEPTHS, load(e, at.E_LIVE_DEPTHS) - depth)
    store(e, at.E_UNREAD, load(e, at.E_UNREAD) - unread)
    if load_int32(seen.extras(t, e, i), at.X_DISSENT) >= load(t, at.PATIENCE):
        store(e, at.E_STUBBORN, load(e, at.E_STUBBORN) - 1)


# --- moves with their book-keeping; each returns the engine's refusal --------------------------------


@rule
def _generated(t: int, h: int, e: int, i: int, depth: int, unread: bool, reads: bool) -> None:
    """Branch i was live at ``depth``, and an interval was generated or its end found."""
    b = engine.branch_address(h, i)
    if load(b, engine.STATUS) == engine.FINISHED_BRANCH:
        store(e, at.E_FINISHED, load(e, at.E_FINISHED) + 1)
        _reading(t, h, e, i)
        _leave(t, h, e, i, depth, unread)
        number = load(b, engine.LATEST)
        if number >= 0:
            c = seen.finished_counts(t, e)
            store(c, number, load(c, number) + 1)
            store(e, at.E_FINISHED_VOTES, load(e, at.E_FINISHED_VOTES) + 1)
    else:
        store(e, at.E_LIVE_DEPTHS, load(e, at.E_LIVE_DEPTHS) + 1)
        store(e, at.E_DEEPEST, max(load(e, at.E_DEEPEST), depth + 1))
        store(e, at.E_UNREAD, load(e, at.E_UNREAD) + (not unread))
        if reads and _probe(t, h, e, i) == 0:
            return
    seen.show_branch(t, h, e, i)


@rule
def _branch(t: int, h: int, e: int, reads: bool) -> int:
    refusal = engine.branch(h)
    if refusal == 0:
        i = load(h, engine.OPENED) - 1
        x = seen.extras(t, e, i)
        for extra in range(at.EXTRAS):
            store_int32(x, extra, 0)
        store_int32(seen.votes(t, e), i, -1)
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
        store(e, at.E_UNREAD, load(e, at.E_UNREAD) - 1)
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
        x = seen.extras(t, e, i)
        store(e, at.E_PRUNED, load(e, at.E_PRUNED) + 1)
        _leave(t, h, e, i, depth, unread)
        if load_int32(x, at.X_READINGS) > 0:
            store(e, at.E_SHOW, max(load(e, at.E_SHOW), at.SHOW_STANDING))
            store(e, at.E_READ, load(e, at.E_READ) - 1)
            if load_int32(seen.votes(t, e), i) < 0:
                store(e, at.E_UNPARSED, load(e, at.E_UNPARSED) - 1)
            else:
                store(e, at.E_STABLE, load(e, at.E_STABLE) - (load_int32(x, at.X_STREAK) >= 2))
                _vote(t, e, i, -1)
                _count(t, h, e)
        seen.show_branch(t, h, e, i)
    return refusal


@rule
def aggregate(t: int, h: int, e: int) -> int:
    """The built-in answer: the majority of all votes, or of the finished branches' where there is one."""
    if load(t, at.AGGREGATION) == 1 and load(e, at.E_FINISHED_VOTES) > 0:
        v, c = seen.votes(t, e), seen.finished_counts(t, e)
        winner, most = -1, 0
        for i in range(load(h, engine.OPENED)):
            finished = load(engine.branch_address(h, i), engine.STATUS) == engine.FINISHED_BRANCH
            vote = load_int32(v, i)
            if finished and vote >= 0 and load(c, vote) > most:
                winner, most = vote, load(c, vote)
        return winner
    return load(e, at.E_LEADER)


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
        kind, i = (action - at.FIRST) // width, (action - at.FIRST) % width
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
        return load(e, at.E_STUBBORN) > 0
    if load(h, engine.LIVE) == 0 or not _room(h):
        return False
    if action == at.ADVANCE_AGREEING:
        leader = load(e, at.E_LEADER)
        return leader >= 0 and load(seen.counts(e), leader) > load(seen.finished_counts(t, e), leader)
    return True


@rule
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
        return legal
    kind, i = (action - at.FIRST) // width, (action - at.FIRST) % width
    if kind == 0:
        legal = _advance(t, h, e, i, reads) == 0
    elif kind == 1:
        legal = _probe(t, h, e, i) == 0
    elif kind == 2:
        legal = _prune(t, h, e, i) == 0
    else:
        return i < load(h, engine.OPENED) and engine.answer(h, load(engine.branch_address(h, i), engine.LATEST)) == 0
    if legal:
        _mask_branch(t, h, e, i)
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
        leader, v = load(e, at.E_LEADER), seen.votes(t, e)  # as the round begins
        for i in range(load(h, engine.OPENED)):
            if _is_live(h, i) and (action == at.ADVANCE_ALL or load_int32(v, i) == leader):
                _advance(t, h, e, i, True)
    elif action == at.PRUNE_DISSENTERS:
        patience = load(t, at.PATIENCE)
        for i in range(load(h, engine.OPENED)):
            if _is_live(h, i) and load_int32(seen.extras(t, e, i), at.X_DISSENT) >= patience:
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
def _mask(t: int, h: int, e: int) -> None:
    """What is left to set after an action: all of it in rounds, BRANCH and what the budget forbids otherwise."""
    m = load(e, at.E_MASK)
    if load(t, at.ROUNDS):
        for action in range(load(t, at.ACTIONS_PER_ENV)):
            store_int8(m, action, is_legal(t, h, e, action))
        return
    store_int8(m, at.BRANCH, engine.why_not_branch(h) == 0)
    store_int8(m, at.ANSWER, 1)
    if not _room(h):
        for i in range(load(h, engine.OPENED)):
            _mask_branch(t, h, e, i)


@rule
def _mask_ended(t: int, e: int) -> None:
    """After the end only ANSWER, so that a masked policy always has something to choose."""
    m = load(e, at.E_MASK)
    for action in range(load(t, at.ACTIONS_PER_ENV)):
        store_int8(m, action, action == at.ANSWER)


# --- resets --------------------------------------------------------------------------------------------


@rule
def _clear_mask(t: int, h: int, e: int) -> None:
    m, width, opened = load(e, at.E_MASK), load(t, at.WIDTH), load(h, engine.OPENED)
    if load(t, at.ROUNDS):
        return  # rewritten whole
    for kind in range(4 if load(t, at.ANSWER_WITH) else 3):
        for i in range(opened):
            store_int8(m, at.FIRST + kind * width + i, 0)


@rule
def begin(t: int, k: int, pool: int, question: int, order: int, order_at: int) -> None:
    """Start environment k on a question of a pool; ``order_at`` is the address of the permutation ``order``."""
    h = block(t, k)
    e = env_slots(t, h)
    seen.clear(t, h, load(e, at.E_OBSERVATION))
    _clear_mask(t, h, e)
    c, f = seen.counts(e), seen.finished_counts(t, e)
    for number in range(load(h, engine.REVEALED)):
        store(c, number, 0)
        store(f, number, 0)
    p = load(t, at.POOLS) + 8 * at.POOL_SLOTS * pool
    store(h, engine.ANSWERS, load(p, at.P_ANSWERS))
    store(h, engine.INTERVALS, load(p, at.P_INTERVALS))
    store(h, engine.TOKENS, load(p, at.P_TOKENS))
    store(h, engine.BRANCHES, load(p, at.P_BRANCHES))
    store(h, engine.COLUMNS, load(p, at.P_COLUMNS))
    store(h, engine.DELTA, load(p, at.P_DELTA))
    engine.reset(h, question, order_at)
    store(e, at.E_POOL, pool)
    store(e, at.E_QUESTION, question)
    store(e, at.E_ORDER, order)
    store(e, at.E_ORDER_AT, order_at)
    store(e, at.E_ENDED, 0)
    for slot in range(at.E_FIRST_CLEARED, at.ENV_SLOTS):
        store(e, slot, 0)
    store(e, at.E_LEADER, -1)
    seen.begin(t, h, load(e, at.E_OBSERVATION))
    _mask(t, h, e)
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
def _keep_final(t: int, k: int, h: int, e: int) -> None:
    """What is told of an episode that has ended, before a reset overwrites it."""
    f = load(t, at.FINAL) + 8 * at.FINAL_SLOTS * k
    code = engine.answered_code(h) if load(h, engine.OVER) else -1
    p = load(t, at.POOLS) + 8 * at.POOL_SLOTS * load(e, at.E_POOL)
    cell = load(e, at.E_QUESTION) * load(p, at.P_VOCABULARY) + code
    store(f, at.F_CORRECT, load_int8(load(p, at.P_CORRECT), cell) if code >= 0 else 0)
    store(f, at.F_POOL, load(e, at.E_POOL))
    store(f, at.F_QUESTION, load(e, at.E_QUESTION))
    store(f, at.F_ORDER, load(e, at.E_ORDER))
    store(f, at.F_CODE, code)
    store(f, at.F_BRANCHES, load(h, engine.OPENED))
    store(f, at.F_SEQUENTIAL, engine.sequential_tokens(h))
    store(f, at.F_PEAK_WIDTH, load(h, engine.PEAK_WIDTH))
    store_float(f, at.F_COST, engine.cost(h))
    store(f, at.F_TOKENS, load(h, engine.SPENT_TOKENS))
    store(f, at.F_PROBES, load(h, engine.PROBES))
    store(f, at.F_ILLEGAL, load_int8(load(t, at.ILLEGAL), k))


@rule
def step_one(t: int, k: int) -> None:
    """One action of environment k, with everything a step returns. An ended one is left to the caller."""
    h = block(t, k)
    e = env_slots(t, h)
    before = engine.cost(h)
    chosen = load(load(t, at.CHOSEN), k) if load(t, at.CHOSEN) else -2
    legal = _act(t, h, e, load(load(t, at.ACTIONS), k), chosen)
    steps = load(e, at.E_STEPS) + 1
    store(e, at.E_STEPS, steps)
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
            show = load(e, at.E_SHOW)
            if show > 0:
                seen.show_standing(t, h, e)
                if show == at.SHOW_VOTES:
                    seen.show_votes(t, h, e)
                store(e, at.E_SHOW, 0)
        _mask(t, h, e)
        store_float(load(t, at.COST), k, after)
        store(load(t, at.TOKENS), k, load(h, engine.SPENT_TOKENS))
        store(load(t, at.PROBED), k, load(h, engine.PROBES))
    if terminated or truncated:
        store(e, at.E_ENDED, 1)
        _keep_final(t, k, h, e)
        if terminated:
            reward += load(load(t, at.FINAL) + 8 * at.FINAL_SLOTS * k, at.F_CORRECT)
            _mask_ended(t, e)
    store_float(load(t, at.REWARDS), k, reward)
    store_int8(load(t, at.TERMINATED), k, terminated)
    store_int8(load(t, at.TRUNCATED), k, truncated)


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


@rule
def step(t: int, first: int, last: int) -> int:
    """One step of environments ``first`` to ``last`` - 1. Returns how many episodes ended."""
    ended = 0
    autoreset = load(t, at.AUTORESET)
    for k in range(first, last):
        h = block(t, k)
        e = env_slots(t, h)
        if load(e, at.E_ENDED):  # only ever so where the next step resets
            begin_random(t, k)
            store_float(load(t, at.REWARDS), k, 0.0)
            store_int8(load(t, at.TERMINATED), k, 0)
            store_int8(load(t, at.TRUNCATED), k, 0)
            continue
        step_one(t, k)
        if load(e, at.E_ENDED):
            ended += 1
            if autoreset == at.SAME_STEP:
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
