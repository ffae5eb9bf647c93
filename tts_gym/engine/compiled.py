"""The replay MDP of ``reference.py`` over flat memory, compiled by Numba.

``h`` is the address of an episode's block: a header, ``WIDTH`` branches of ``BRANCH_SLOTS`` slots, then
two maps between answer codes and answer numbers. Every function is total: a move returns a ``Refusal``
(0: done) and an illegal move changes nothing but the three slots that remember it.
"""

from __future__ import annotations

import numpy as np

from tts_gym.engine.jit import cached_njit
from tts_gym.engine.memory import (
    load,
    load_float,
    load_int16,
    load_int32,
    store,
    store_int32,
)
from tts_gym.engine.moves import Move, Refusal
from tts_gym.pools.pool import Recording

# Header slots, those of one cache line on a line. The first two groups are set once per pool, the third at each
# reset, the rest by moves; what most moves need lies in the second line and the third.
(
    ANSWERS,  # address of int16[Q, N, D+1]
    INTERVALS,  # address of int16[Q, N]
    TOKENS,  # address of int32[Q, N]
    LOG,  # address of int32 log entries (move << 16 | operand), 0 for no log
    NUMBERS,  # address of the map answer code -> number, -1 where unrevealed
    REVEALED_CODES,  # address of the map answer number -> code
    REFUSED_MOVE,  # the last refused move: which, of which branch, and why (REFUSAL)
    REFUSED_BRANCH,
    #
    BRANCHES,  # N
    COLUMNS,  # D+1
    DELTA,  # tokens per interval
    WIDTH,  # most branches that may be opened
    BUDGET,  # float64, infinity for none
    PROBE_COST,  # float64, tokens per probe
    LOG_SIZE,
    Q_ANSWERS,
    #
    Q_INTERVALS,
    Q_TOKENS,
    ORDER,  # address of int32[N]
    OPENED,
    LIVE,
    SPENT_TOKENS,
    PROBES,
    OVER,
    #
    PEAK_WIDTH,
    REVEALED,
    ROUNDS,
    SEQUENTIAL,  # sequential tokens of closed rounds
    ANSWERED,
    LOGGED,  # log entries so far, where a log is kept; may pass LOG_SIZE, then the log is cut
    REFUSAL,
    _UNUSED,
    HEADER,
) = range(33)

REFUSED = (REFUSED_MOVE, REFUSED_BRANCH, REFUSAL)

# Slots of one branch, 64 bytes. The last is not the engine's: whoever drives it may keep notes there.
ROW, DEPTH, STATUS, LATEST, PROBED, SPENT, ROUND_START, NOTES, BRANCH_SLOTS = range(9)
LIVE_BRANCH, FINISHED_BRANCH, PRUNED_BRANCH = 0, 1, 2

_NONE = int(Refusal.NONE)
_NOT_OPENED = int(Refusal.NOT_OPENED)
_FINISHED = int(Refusal.FINISHED)
_PRUNED = int(Refusal.PRUNED)
_NO_BRANCH_LEFT = int(Refusal.NO_BRANCH_LEFT)
_WIDTH_REACHED = int(Refusal.WIDTH_REACHED)
_BUDGET = int(Refusal.BUDGET)
_ALREADY_PROBED = int(Refusal.ALREADY_PROBED)
_UNKNOWN_ANSWER = int(Refusal.UNKNOWN_ANSWER)
_EPISODE_OVER = int(Refusal.EPISODE_OVER)
_BRANCH = int(Move.BRANCH)
_CONTINUE = int(Move.CONTINUE)
_PROBE = int(Move.PROBE)
_PRUNE = int(Move.PRUNE)
_ANSWER = int(Move.ANSWER)
_END_ROUND = int(Move.END_ROUND)

rule = cached_njit(error_model="numpy")
inlined_rule = cached_njit(error_model="numpy", forceinline=True)  # for what every step calls


# --- the start -----------------------------------------------------------------------------------


@rule
def reset(h: int, question: int, order: int) -> None:
    """Begin an episode; ``order`` is the address of an int32 permutation of the question's branches."""
    numbers, codes = load(h, NUMBERS), load(h, REVEALED_CODES)
    for number in range(load(h, REVEALED)):
        store(numbers, load(codes, number), -1)
    branches = load(h, BRANCHES)
    store(h, Q_ANSWERS, load(h, ANSWERS) + 2 * question * branches * load(h, COLUMNS))
    store(h, Q_INTERVALS, load(h, INTERVALS) + 2 * question * branches)
    store(h, Q_TOKENS, load(h, TOKENS) + 4 * question * branches)
    store(h, ORDER, order)
    for slot in range(OPENED, HEADER):
        store(h, slot, 0)


@rule
def branch_address(h: int, i: int) -> int:
    """Where branch ``i`` lives."""
    return h + 8 * (HEADER + BRANCH_SLOTS * i)


# --- what has been spent ---------------------------------------------------------------------------


@rule
def cost(h: int) -> float:
    """Tokens billed plus probe_cost per probe."""
    return load(h, SPENT_TOKENS) + load_float(h, PROBE_COST) * load(h, PROBES)


@rule
def sequential_tokens(h: int) -> int:
    """Sum over rounds of the most tokens one branch was billed in it, the open round included."""
    longest = 0
    for i in range(load(h, OPENED)):
        b = branch_address(h, i)
        longest = max(longest, load(b, SPENT) - load(b, ROUND_START))
    return load(h, SEQUENTIAL) + longest


# --- what may be done ------------------------------------------------------------------------------


@rule
def over_budget(h: int, extra: float) -> bool:
    """Whether ``extra`` cost does not fit any more; cheap where there is no budget."""
    budget = load_float(h, BUDGET)
    return budget < np.inf and cost(h) + extra > budget


@rule
def why_not_branch(h: int) -> int:
    if load(h, OVER):
        return _EPISODE_OVER
    opened = load(h, OPENED)
    if opened >= load(h, BRANCHES):
        return _NO_BRANCH_LEFT
    if opened >= load(h, WIDTH):
        return _WIDTH_REACHED
    if over_budget(h, load(h, DELTA)):
        return _BUDGET
    return _NONE


@rule
def why_not_touch(h: int, i: int) -> int:
    if load(h, OVER):
        return _EPISODE_OVER
    if i < 0 or i >= load(h, OPENED):
        return _NOT_OPENED
    status = load(branch_address(h, i), STATUS)
    if status == FINISHED_BRANCH:
        return _FINISHED
    if status == PRUNED_BRANCH:
        return _PRUNED
    return _NONE


@rule
def why_not_advance(h: int, i: int) -> int:
    refusal = why_not_touch(h, i)
    if refusal == _NONE and over_budget(h, load(h, DELTA)):
        return _BUDGET
    return refusal


@rule
def why_not_probe(h: int, i: int) -> int:
    refusal = why_not_touch(h, i)
    if refusal != _NONE:
        return refusal
    b = branch_address(h, i)
    depth = load(b, DEPTH)
    if load(b, PROBED) == depth:
        return _ALREADY_PROBED
    extra = max(0, load(h, DELTA) * depth - load(b, SPENT))
    if over_budget(h, extra + load_float(h, PROBE_COST)):
        return _BUDGET
    return _NONE


# --- the moves -------------------------------------------------------------------------------------


@rule
def branch(h: int) -> int:
    refusal = why_not_branch(h)
    if refusal != _NONE:
        return _refuse(h, _BRANCH, -1, refusal)
    i = load(h, OPENED)
    _log(h, _BRANCH, i)
    b = branch_address(h, i)
    store(b, ROW, load_int32(load(h, ORDER), i))
    store(b, DEPTH, 0)
    store(b, STATUS, LIVE_BRANCH)
    store(b, LATEST, -1)
    store(b, PROBED, 0)
    store(b, SPENT, 0)
    store(b, ROUND_START, 0)
    live = load(h, LIVE) + 1
    store(h, OPENED, i + 1)
    store(h, LIVE, live)
    store(h, PEAK_WIDTH, max(load(h, PEAK_WIDTH), live))
    _generate(h, b)
    return _NONE


@rule
def advance(h: int, i: int) -> int:
    refusal = why_not_advance(h, i)
    if refusal != _NONE:
        return _refuse(h, _CONTINUE, i, refusal)
    _log(h, _CONTINUE, i)
    _generate(h, branch_address(h, i))
    return _NONE


@rule
def probe(h: int, i: int) -> int:
    refusal = why_not_probe(h, i)
    if refusal != _NONE:
        return _refuse(h, _PROBE, i, refusal)
    _log(h, _PROBE, i)
    b = branch_address(h, i)
    depth = load(b, DEPTH)
    store(h, PROBES, load(h, PROBES) + 1)
    store(b, PROBED, depth)
    _bill(h, b, load(h, DELTA) * depth)
    _reveal(h, b, depth - 1)
    return _NONE


@rule
def prune(h: int, i: int) -> int:
    refusal = why_not_touch(h, i)
    if refusal != _NONE:
        return _refuse(h, _PRUNE, i, refusal)
    _log(h, _PRUNE, i)
    store(branch_address(h, i), STATUS, PRUNED_BRANCH)
    store(h, LIVE, load(h, LIVE) - 1)
    return _NONE


@rule
def answer(h: int, number: int) -> int:
    if load(h, OVER):
        return _refuse(h, _ANSWER, number, _EPISODE_OVER)
    if number < -1 or number >= load(h, REVEALED):
        return _refuse(h, _ANSWER, number, _UNKNOWN_ANSWER)
    _log(h, _ANSWER, number)
    store(h, OVER, 1)
    store(h, ANSWERED, number)
    return _NONE


@rule
def end_round(h: int) -> int:
    if load(h, OVER):
        return _refuse(h, _END_ROUND, -1, _EPISODE_OVER)
    _log(h, _END_ROUND, 0)
    store(h, SEQUENTIAL, sequential_tokens(h))
    for i in range(load(h, OPENED)):
        b = branch_address(h, i)
        store(b, ROUND_START, load(b, SPENT))
    store(h, ROUNDS, load(h, ROUNDS) + 1)
    return _NONE


@rule
def apply(h: int, move: int, i: int) -> int:
    """Any move by its number; ``i`` is the branch, or for ANSWER the answer number."""
    if move == _BRANCH:
        return branch(h)
    if move == _CONTINUE:
        return advance(h, i)
    if move == _PROBE:
        return probe(h, i)
    if move == _PRUNE:
        return prune(h, i)
    if move == _ANSWER:
        return answer(h, i)
    return end_round(h)


@rule
def answered_code(h: int) -> int:
    """The pool's answer code of the given answer, -1 for no answer. For the trusted side only."""
    number = load(h, ANSWERED)
    return load(load(h, REVEALED_CODES), number) if number >= 0 else -1


# --- the parts of a move -----------------------------------------------------------------------------


@rule
def _refuse(h: int, move: int, i: int, refusal: int) -> int:
    store(h, REFUSAL, refusal)
    store(h, REFUSED_MOVE, move)
    store(h, REFUSED_BRANCH, i)
    return refusal


@rule
def _log(h: int, move: int, operand: int) -> None:
    size = load(h, LOG_SIZE)
    if size == 0:
        return
    at = load(h, LOGGED)
    store(h, LOGGED, at + 1)
    if at < size:
        store_int32(load(h, LOG), at, (move << 16) | (operand & 0xFFFF))


@rule
def _generate(h: int, b: int) -> None:
    row = load(b, ROW)
    depth = load(b, DEPTH)
    length = load_int16(load(h, Q_INTERVALS), row)
    tokens = load_int32(load(h, Q_TOKENS), row)
    if depth < length:
        store(b, DEPTH, depth + 1)
        _bill(h, b, min(load(h, DELTA) * (depth + 1), tokens))
    else:
        _bill(h, b, tokens)
        store(b, STATUS, FINISHED_BRANCH)
        store(h, LIVE, load(h, LIVE) - 1)
        _reveal(h, b, length)


@rule
def _bill(h: int, b: int, total: int) -> None:
    extra = total - load(b, SPENT)
    if extra > 0:
        store(b, SPENT, total)
        store(h, SPENT_TOKENS, load(h, SPENT_TOKENS) + extra)


@rule
def _reveal(h: int, b: int, column: int) -> None:
    code = load_int16(load(h, Q_ANSWERS), load(b, ROW) * load(h, COLUMNS) + column)
    if code < 0:
        store(b, LATEST, -1)
        return
    numbers = load(h, NUMBERS)
    number = load(numbers, code)
    if number < 0:
        number = load(h, REVEALED)
        store(numbers, code, number)
        store(load(h, REVEALED_CODES), number, code)
        store(h, REVEALED, number + 1)
    store(b, LATEST, number)


# --- from Python -------------------------------------------------------------------------------------


class Block:
    """One episode's memory over a recording. Not safe to share between threads; cheap to make.

    Args:
        recording: the pool's arrays; memory-mapped ones are read as they are touched.
        max_branches, budget, probe_cost: as in :class:`tts_gym.engine.reference.Episode`.
        log_size: log entries to keep per episode; 0 for none.
    """

    def __init__(
        self,
        recording: Recording,
        *,
        max_branches: int | None = None,
        budget: float | None = None,
        probe_cost: float = 0.0,
        log_size: int = 0,
    ) -> None:
        answers, intervals, tokens = recording.answers, recording.intervals, recording.tokens
        for array, dtype in ((answers, np.int16), (intervals, np.int16), (tokens, np.int32)):
            if array.dtype != dtype or not array.flags.c_contiguous:
                raise ValueError(f"the engine needs C-contiguous {np.dtype(dtype)} arrays, found {array.dtype}")
        vocabulary, delta = max(1, recording.vocabulary_size), recording.delta
        branches = answers.shape[1]
        width = branches if max_branches is None else max_branches
        self._kept_alive = recording  # the block holds bare addresses into it
        maps = HEADER + BRANCH_SLOTS * min(width, branches)
        self.slots = np.zeros(maps + 2 * vocabulary, dtype=np.int64)
        self.address: int = self.slots.ctypes.data
        slots, floats = self.slots, self.slots.view(np.float64)
        slots[ANSWERS] = answers.ctypes.data
        slots[INTERVALS] = intervals.ctypes.data
        slots[TOKENS] = tokens.ctypes.data
        slots[BRANCHES], slots[COLUMNS] = branches, answers.shape[2]
        slots[DELTA], slots[WIDTH] = delta, width
        floats[BUDGET] = np.inf if budget is None else budget
        floats[PROBE_COST] = probe_cost
        slots[NUMBERS] = self.address + 8 * maps
        slots[REVEALED_CODES] = slots[NUMBERS] + 8 * vocabulary
        slots[maps : maps + vocabulary] = -1
        self.log = np.zeros(log_size, dtype=np.int32)
        slots[LOG], slots[LOG_SIZE] = self.log.ctypes.data, log_size
