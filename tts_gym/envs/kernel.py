"""The compiled environment: resets and steps of a batch. Addresses as in ``observation.py``; ``k`` is an index."""

from __future__ import annotations

import contextlib
import logging
from functools import lru_cache

from numba import int64

from tts_gym.engine import compiled as engine
from tts_gym.engine.jit import code_cache
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
from tts_gym.envs import actions
from tts_gym.envs import layout as at
from tts_gym.envs import observation as seen

rule, inlined = engine.rule, engine.inlined_rule
log = logging.getLogger("tts_gym")


@lru_cache(maxsize=1)
def prepare() -> None:
    """Bring the machine code into memory. Where this version was never run it is made, which takes half a minute."""
    ready = code_cache() / "environment"
    if not ready.exists():
        log.warning("compiling the environment (first time only; the machine code is kept)")
    begin.compile((int64,) * 6)
    begin_many.compile((int64,) * 2)
    step.compile((int64,) * 3)
    with contextlib.suppress(OSError):  # the machine code was there, in a cache that is not ours to write
        ready.touch()


@rule
def env(t: int, k: int) -> int:
    """Where the slots of environment k begin."""
    return load(t, at.BLOCKS) + 8 * k * load(t, at.SLOTS)


@rule
def block(t: int, e: int) -> int:
    """Where its engine block begins."""
    return e + load(t, at.ENGINE_AT)


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
        actions.clear_mask(t, h, e)
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
    actions.mask_all(t, h, e)
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
    legal = actions.act(t, h, e, load(load(t, at.ACTIONS), k), chosen)
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
        if load(t, at.ROUNDS) or actions.is_tight(h):  # otherwise the action has set what it changed
            actions.mask_all(t, h, e)
        store_float(load(t, at.COST), k, after)
        store(load(t, at.TOKENS), k, load(h, engine.SPENT_TOKENS))
        store(load(t, at.PROBED), k, load(h, engine.PROBES))
    if terminated or truncated:
        store_int32(e, at.E_ENDED, 1)
        correct = _tell_end(t, k, h)
        if terminated:
            reward += correct
            actions.mask_ended(t, h, e)
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
    taken = load(t, at.ACTIONS)
    disabled, strict = load(t, at.AUTORESET) == at.DISABLED, load(t, at.STRICT) != 0
    for k in range(load(t, at.COUNT)):
        action = load(taken, k)
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
        i = actions.branch_of(action, width)
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
