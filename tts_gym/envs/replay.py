"""The memory behind the environments: arguments checked, arrays laid out, episodes begun. One batch, of one or many."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn, TypeAlias, TypedDict

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from tts_gym.engine import compiled as engine
from tts_gym.engine.moves import Move, Refusal, branch_order, branch_orders, refusal_sentence
from tts_gym.envs import kernel
from tts_gym.envs import layout as at
from tts_gym.envs.scene import Scene, replayed
from tts_gym.envs.snapshot import Snapshot
from tts_gym.errors import UsageError
from tts_gym.names import nearest
from tts_gym.pools import DEFAULT_POOL, GRADINGS, Pool, open_pool, with_grading
from tts_gym.programs.runner import Limits

_TOO_LARGE = 2**63

PoolSpec: TypeAlias = Pool | str | Path
Aggregation: TypeAlias = str | Callable[[Snapshot], int]


class Settings(TypedDict, total=False):
    """Arguments that the environment and the vector environment share; ``TTSReplayEnv`` says what they mean."""

    max_branches: int
    budget: float | None
    probe_cost: float
    cost_weight: float
    actions: str
    observation: str
    grading: str
    questions: Sequence[int] | Sequence[Sequence[int]] | None
    orders: int | Sequence[int]
    pool_weights: Sequence[float] | None
    auto_probe: bool
    answer_with_branch: bool
    aggregation: Aggregation
    patience: int
    strict: bool


SETTINGS = tuple(Settings.__annotations__)


@lru_cache(maxsize=16)
def _opened(pool: str, grading: str) -> Pool:
    return with_grading(open_pool(pool), grading)


class Replay:
    """Memory for ``count`` episodes at a time over the same pools, and what the kernel needs to know of them.

    Everything the kernel writes is an attribute: ``observations``, ``masks`` (int8[K, A]), ``rewards``
    (float64[K]), ``terminated``, ``truncated``, ``illegal`` (bool[K]), ``cost`` (float64[K]), ``tokens``,
    ``probes`` (int64[K]); of the episodes that the last step ended ``correct`` (bool[K]) and ``final``
    (int64[FINAL_SLOTS, K]), 0 elsewhere. Pools are shared, never copied.
    """

    def __init__(
        self,
        count: int,
        pool: PoolSpec | Sequence[PoolSpec] | None = None,
        *,
        max_branches: int = 64,
        budget: float | None = None,
        probe_cost: float = 0.0,
        cost_weight: float = 2.0**-20,
        actions: str = "atomic",
        observation: str = "features",
        grading: str = "exact",
        questions: Sequence[int] | Sequence[Sequence[int]] | None = None,
        orders: int | Sequence[int] = 1024,
        pool_weights: Sequence[float] | None = None,
        auto_probe: bool = False,
        answer_with_branch: bool = False,
        aggregation: Aggregation = "majority",
        patience: int = 3,
        strict: bool = False,
        autoreset: int = at.DISABLED,
        max_steps: int | None = None,
        logged: bool = False,
    ) -> None:
        # Copied: a copy of this batch is made of the same arguments again, whatever became of the caller's lists.
        self._made_by = {name: _own(value) for name, value in locals().items() if name != "self"}
        self.count, self.strict, self.aggregation, self.max_steps = count, strict, aggregation, max_steps
        self.limits = Limits(whole_number("max_branches", max_branches, 1), budget, probe_cost)
        for name in ("auto_probe", "answer_with_branch", "strict"):
            flag(name, self._made_by[name])
        _choice("grading", grading, GRADINGS)
        self.rounds = _choice("actions", actions, ("atomic", "rounds")) == 1
        self.grid = _choice("observation", observation, ("features", "grid")) == 1
        if not callable(aggregation):
            _choice("aggregation", aggregation, at.AGGREGATIONS)
        if self.rounds and (answer_with_branch or auto_probe):
            name = "answer_with_branch" if answer_with_branch else "auto_probe"
            raise UsageError(f"{name} belongs to actions='atomic'; rounds read what they generate and answer by vote")
        self.pools = _pools(pool, grading)
        self.orders = _orders(orders)
        self.questions = _questions(questions, self.pools)
        self.edges = _edges(pool_weights, self.pools)
        checked_weight(cost_weight)

        self.width = width = int(max_branches)
        recordings = [pool.recording for pool in self.pools]
        self.vocabulary = max(1, *(recording.vocabulary_size for recording in recordings))
        # Room for the deepest branch, its final answer and the mark behind it.
        self.columns = max(recording.answers.shape[2] for recording in recordings) + 1
        if self.rounds:
            self.actions = len(at.ROUND_ACTIONS)
        else:
            self.actions = at.FIRST + (4 if answer_with_branch else 3) * width

        self.observation_space: spaces.Box
        if self.grid:
            most = np.iinfo(np.int16).max
            self.observation_space = spaces.Box(0, most, (width, self.columns), np.int16)
        else:
            low = np.zeros(at.feature_count(width), dtype=np.float32)
            low[at.G_TREND] = -1.0
            self.observation_space = spaces.Box(low, np.ones_like(low), dtype=np.float32)
        self.action_space = spaces.Discrete(self.actions)

        kernel.prepare()
        self._allocate()
        table = self.table
        table[at.COUNT], table[at.WIDTH] = count, width
        table[at.ENGINE_AT], table[at.COUNTS_AT] = 8 * self._engine, 8 * self._counts
        table[at.COLUMNS], table[at.STRICT] = self.columns, strict
        table[at.ROUNDS], table[at.GRID] = self.rounds, self.grid
        table[at.AUTO_PROBE], table[at.ANSWER_WITH] = auto_probe, answer_with_branch
        table[at.AGGREGATION] = 0 if callable(aggregation) else at.AGGREGATIONS.index(aggregation)
        table[at.PATIENCE] = whole_number("patience", patience, 1)
        table[at.MAX_STEPS] = 0 if max_steps is None else whole_number("max_episode_steps", max_steps, 1)
        table[at.AUTORESET] = autoreset
        self.cost_weights[:] = cost_weight
        blocks = self.slots[:, self._engine :]
        blocks[:, engine.WIDTH] = width
        blocks.view(np.float64)[:, engine.BUDGET] = math.inf if budget is None else budget
        blocks.view(np.float64)[:, engine.PROBE_COST] = probe_cost
        self.slots[:, self._numbers : self._numbers + self.vocabulary] = -1  # no answer has a number yet
        self._bind()

    # --- memory ------------------------------------------------------------------------------------

    def _allocate(self) -> None:
        count, width, vocabulary = self.count, self.width, self.vocabulary
        # In slots of 8 bytes, each part beginning at a cache line.
        self._engine = at.ENV_SLOTS + _lines(-(-width // 4))
        self._numbers = self._engine + engine.HEADER + engine.BRANCH_SLOTS * width
        self._counts = self._numbers + _lines(2 * vocabulary)
        self.slots = _aligned((count, self._counts + _lines(vocabulary)), np.int64)
        self.table = np.zeros(at.TABLE_SLOTS, dtype=np.int64)
        self.observations = _aligned((count, *self.observation_space.shape), self.observation_space.dtype)
        self.masks = _aligned((count, self.actions), np.int8)
        self.rewards, self.cost, self.cost_weights = (np.zeros(count) for _ in range(3))
        self.taken, self.chosen, self.tokens, self.probes = (np.zeros(count, dtype=np.int64) for _ in range(4))
        self.terminated, self.truncated, self.illegal, self.correct = (
            np.zeros(count, dtype=np.bool_) for _ in range(4)
        )
        self.replayed = np.zeros((at.REPLAYED_SLOTS, count), dtype=np.int64)
        self.final = np.zeros((at.FINAL_SLOTS, count), dtype=np.int64)
        self.random = np.zeros((count, 4), dtype=np.uint64)
        same_step = self._made_by["autoreset"] == at.SAME_STEP
        self.final_observations = np.zeros_like(self.observations if same_step else self.observations[:0])
        self.final_masks = np.zeros_like(self.masks if same_step else self.masks[:0])
        # Every branch can be generated and probed at each depth and pruned, each move in a round of its own.
        longest = 2 * (width * (2 * self.columns + 1) + 1)
        self.logs = np.zeros((count, longest if self._made_by["logged"] else 0), dtype=np.int32)
        self._held: dict[int, NDArray[np.int32]] = {}  # permutations that are in no table

    def _bind(self) -> None:
        """Write every address; they hold for this process only."""
        table = self.table
        self.address: int = table.ctypes.data
        table[at.SLOTS], table[at.BLOCKS] = self.slots.shape[1], self.slots.ctypes.data
        row = self.observations[0]
        table[at.OBSERVATION_SIZE], table[at.ACTIONS_PER_ENV] = row.nbytes, self.actions
        most = min(self.width, max(pool.recording.branches for pool in self.pools))  # more votes there cannot be
        self._tables = confidence_table(most), _clogc(most), self.edges
        table[at.CONFIDENCE_ROW] = most + 1
        table[at.CONFIDENCE], table[at.CLOGC], table[at.POOL_EDGES] = (array.ctypes.data for array in self._tables)
        for slot, array in (
            (at.OBSERVATIONS, self.observations), (at.MASKS, self.masks), (at.ACTIONS, self.taken),
            (at.REWARDS, self.rewards), (at.TERMINATED, self.terminated), (at.TRUNCATED, self.truncated),
            (at.COST, self.cost), (at.TOKENS, self.tokens), (at.PROBED, self.probes), (at.ILLEGAL, self.illegal),
            (at.COST_WEIGHTS, self.cost_weights), (at.RANDOM, self.random), (at.REPLAYED, self.replayed),
            (at.FINAL, self.final), (at.CORRECT, self.correct), (at.FINAL_OBSERVATIONS, self.final_observations),
            (at.FINAL_MASKS, self.final_masks),
        ):  # fmt: skip
            table[slot] = array.ctypes.data
        table[at.CHOSEN] = self.chosen.ctypes.data if callable(self.aggregation) else 0

        rows = np.arange(self.count)
        here, blocks = self.slots.ctypes.data + self.slots.strides[0] * rows, self.slots[:, self._engine :]
        blocks[:, engine.NUMBERS] = here + 8 * self._numbers
        blocks[:, engine.REVEALED_CODES] = here + 8 * (self._numbers + self.vocabulary)
        blocks[:, engine.LOG] = self.logs.ctypes.data + self.logs.strides[0] * rows
        blocks[:, engine.LOG_SIZE] = self.logs.shape[1]
        for slot, outputs in ((at.E_OBSERVATION, self.observations), (at.E_MASK, self.masks)):
            self.slots[:, slot] = outputs.ctypes.data + outputs.strides[0] * rows

        self._pool_table = np.zeros((len(self.pools), at.POOL_SLOTS), dtype=np.int64)
        self._alive: list[Any] = []  # the table holds bare addresses
        for row, pool, questions in zip(self._pool_table, self.pools, self.questions, strict=True):
            recording = pool.recording
            correct = np.ascontiguousarray(pool.correct(self._made_by["grading"])).view(np.int8)
            self._alive += [recording, correct, questions]
            row[at.P_ANSWERS], row[at.P_INTERVALS] = recording.answers.ctypes.data, recording.intervals.ctypes.data
            row[at.P_TOKENS], row[at.P_BRANCHES] = recording.tokens.ctypes.data, recording.branches
            row[at.P_COLUMNS], row[at.P_DELTA] = recording.answers.shape[2], recording.delta
            row[at.P_QUESTIONS], row[at.P_QUESTION_COUNT] = questions.ctypes.data, len(questions)
            row[at.P_CORRECT], row[at.P_VOCABULARY] = correct.ctypes.data, correct.shape[1]
        table[at.POOLS], table[at.POOL_COUNT] = self._pool_table.ctypes.data, len(self.pools)

    def restored(self, state: dict[str, Any]) -> Replay:
        """Take over the state of an equal batch, perhaps of another process."""
        for name, value in state.items():
            if name not in ("started", "tabled"):
                getattr(self, name)[...] = value
        self._bind()
        if state["tabled"]:
            self.table_orders()
        for k in np.flatnonzero(state["started"]).tolist():
            block = self.slots[k, self._engine :]
            pool, question, order = self.replayed[:, k].tolist()
            row = self._pool_table[pool]
            branches, columns = int(row[at.P_BRANCHES]), int(row[at.P_COLUMNS])
            block[engine.ANSWERS], block[engine.INTERVALS] = row[at.P_ANSWERS], row[at.P_INTERVALS]
            block[engine.TOKENS] = row[at.P_TOKENS]
            block[engine.Q_ANSWERS] = row[at.P_ANSWERS] + 2 * question * branches * columns
            block[engine.Q_INTERVALS] = row[at.P_INTERVALS] + 2 * question * branches
            block[engine.Q_TOKENS] = row[at.P_TOKENS] + 4 * question * branches
            block[engine.ORDER] = self.order_address(k, pool, order)
        return self

    @property
    def state(self) -> dict[str, Any]:
        """All that ``restored`` needs."""
        names = (
            "slots", "observations", "masks", "rewards", "cost", "cost_weights", "tokens", "probes", "terminated",
            "truncated", "illegal", "correct", "replayed", "final", "random", "logs",
        )  # fmt: skip
        state: dict[str, Any] = {name: getattr(self, name).copy() for name in names}
        state["started"] = self.started
        state["tabled"] = self.has_orders
        return state

    def __deepcopy__(self, memo: dict[int, Any]) -> Replay:
        return Replay(**self._made_by).restored(self.state)

    def __reduce__(self) -> Any:
        return _again, (self._made_by, self.state)

    # --- episodes ------------------------------------------------------------------------------------

    @property
    def started(self) -> NDArray[np.bool_]:
        """bool[K]: which environments were ever reset."""
        return self.slots[:, self._engine + engine.ORDER] != 0

    @property
    def ended(self) -> NDArray[np.bool_]:
        """bool[K]: whose episode has ended and waits for a reset."""
        return self.slots.view(np.int32)[:, at.E_ENDED] != 0

    @property
    def has_orders(self) -> bool:
        """Whether the kernel can draw orders itself."""
        return bool(self._pool_table[0, at.P_ORDERS])

    def table_orders(self) -> None:
        """Lay out every order that a random reset may draw; only the kernel's own resets need that."""
        for row, pool in zip(self._pool_table, self.pools, strict=True):
            table = branch_orders(pool.recording.branches, tuple(self.orders))
            seeds = np.array(self.orders, dtype=np.int64)
            self._alive += [table, seeds]
            row[at.P_ORDERS], row[at.P_ORDER_SEEDS] = table.ctypes.data, seeds.ctypes.data
            row[at.P_ORDER_COUNT] = len(seeds)

    def order_address(self, k: int, pool: int, order: int) -> int:
        """Where the permutation lies; it is kept alive as long as environment k replays it."""
        self._held[k] = branch_order(self.pools[pool].recording.branches, order)
        return self._held[k].ctypes.data

    def begin(self, k: int, pool: int, question: int, order: int) -> None:
        """Start environment k."""
        kernel.begin(self.address, k, pool, question, order, self.order_address(k, pool, order))

    def draw(self, uniform: Callable[[], float], options: Mapping[str, Any]) -> tuple[int, int, int]:
        """Pool, question and order of a new episode: drawn uniformly, then replaced by what ``options`` says.

        Takes the same number of draws whatever the options: one for the question, one for the order, and before
        them one for the pool where there are several.
        """
        check_options(options, RESET_OPTIONS)
        pool = int(np.searchsorted(self.edges[:-1], uniform(), side="right")) if len(self.pools) > 1 else 0
        pool = _index("pool", options.get("pool", pool), len(self.pools))
        some = self.questions[pool]
        question, order = int(some[int(uniform() * len(some))]), self.orders[int(uniform() * len(self.orders))]
        question = _index("question", options.get("question", question), self.pools[pool].recording.questions)
        return pool, question, _index("order", options.get("order", order), None)

    def uniform(self, k: int) -> float:
        """The next draw of environment k's own random numbers, as the kernel takes it."""
        return kernel.uniform(int(self.table[at.RANDOM]), k)

    # --- steps ---------------------------------------------------------------------------------------

    def steps(self, k: int) -> int:
        """Actions taken in environment k's episode."""
        return int(self.slots.view(np.int32)[k, at.E_STEPS])

    def snapshot(self, k: int) -> Snapshot:
        """What an agent may know of environment k."""
        return Snapshot.of(self.slots[k, self._engine :])

    def log(self, k: int) -> list[tuple[Move, int]]:
        """The engine's moves of environment k so far; kept only where asked for."""
        entries = self.logs[k, : int(self.slots[k, self._engine + engine.LOGGED])]
        return [(Move(entry >> 16), _operand(entry)) for entry in entries.tolist()]

    def scene(self, k: int) -> Scene:
        """What a picture of environment k shows; only where moves are logged."""
        if not self.started[k]:
            raise gym.error.ResetNeeded("call reset() before render()")
        number, question, order = self.replayed[:, k].tolist()
        pool = self.pools[number]
        return replayed(
            pool.recording,
            question,
            order,
            self.limits,
            self.log(k),
            pool=pool.name,
            rows=min(self.width, max(pool.recording.branches for pool in self.pools)),
            columns=max(1, self.columns - 2),
            correct=pool.correct(self._made_by["grading"], [question])[0],
        )

    def choose(self) -> None:
        """Ask a callable aggregation for the answers of those that are about to give one (``taken`` says which)."""
        if not callable(self.aggregation):
            return
        self.chosen.fill(-2)
        for k in np.flatnonzero((self.taken == at.ANSWER) & ~self.ended & self.started).tolist():
            seen = self.snapshot(k)
            number = self.aggregation(seen)
            if not (isinstance(number, int | np.integer) and -1 <= number < seen.revealed):
                raise UsageError(
                    f"aggregation should return an answer number from -1 to {seen.revealed - 1}, found {number!r}"
                )
            self.chosen[k] = number

    def refusal(self, k: int, action: int) -> str:
        """Why ``action`` is illegal now, in one sentence; empty if it is legal."""
        if self.masks[k, action]:
            return ""
        if self.rounds:
            return f"{at.ROUND_ACTIONS[action]} is illegal: there is nothing for it to do, or no budget left"
        kind, i = divmod(action - at.FIRST, self.width)
        h = int(self.slots[k, self._engine :].ctypes.data)
        if action == at.BRANCH:
            return refusal_sentence(Move.BRANCH, -1, Refusal(engine.why_not_branch(h)))
        move, ask = ((Move.CONTINUE, engine.why_not_advance), (Move.PROBE, engine.why_not_probe),
                     (Move.PRUNE, engine.why_not_touch), (Move.ANSWER, engine.why_not_touch))[kind]  # fmt: skip
        return refusal_sentence(move, i, Refusal(ask(h, i)))

    def answered_code(self, k: int) -> int:
        """The pool's code of the answer that environment k has given, -1 for none. For the trusted side only."""
        return engine.answered_code(int(self.slots[k, self._engine :].ctypes.data))

    def last(self, k: int) -> dict[str, Any]:
        """What the info of an episode's last step says beside the usual."""
        last = self.final[:, k]
        return {"correct": bool(self.correct[k]), **{name: int(last[slot]) for name, slot in ENDED_WITH.items()}}


def _operand(entry: int) -> int:
    low = entry & 0xFFFF
    return low - 0x10000 if low & 0x8000 else low


ENDED_WITH = {
    "pool": at.F_POOL,
    "question": at.F_QUESTION,
    "order": at.F_ORDER,
    "branches": at.F_BRANCHES,
    "sequential_tokens": at.F_SEQUENTIAL,
    "peak_width": at.F_PEAK_WIDTH,
}
RESET_OPTIONS = ("pool", "question", "order")


def check_options(options: Any, known: Sequence[str]) -> None:
    """Raise UsageError unless ``options`` is a dict with known names only."""
    if not isinstance(options, Mapping):
        raise UsageError(f"options of a reset should be a dict, found {options!r}")
    for name in options:
        if name not in known:
            raise UsageError(f"unknown reset option '{name}'{nearest(str(name), known, 'the options are')}")


def checked_weight(weight: Any) -> float:
    """A cost weight, reward per token."""
    if not _is_number(weight) or not 0 <= weight < math.inf:
        raise UsageError(f"cost_weight should be at least 0 per token, found {weight!r}")
    return float(weight)


def _again(made_by: dict[str, Any], state: dict[str, Any]) -> Replay:
    return Replay(**made_by).restored(state)


# --- arguments -----------------------------------------------------------------------------------------


def _own(value: Any) -> Any:
    """A list as a tuple of its own, through all levels; anything else as it is."""
    return tuple(_own(part) for part in value) if isinstance(value, list | tuple | np.ndarray) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def flag(name: str, value: Any) -> None:
    """Raise UsageError unless ``value`` is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise UsageError(f"{name} should be True or False, found {value!r}")


def _orders(orders: Any) -> Sequence[int]:
    if isinstance(orders, int | np.integer):
        return range(whole_number("orders", orders, 1))
    try:
        return [_index("order", order, None) for order in orders] or _no_orders(orders)
    except (TypeError, UsageError):
        return _no_orders(orders)


def _no_orders(orders: Any) -> NoReturn:
    raise UsageError(f"orders should be how many from 0, or a list of numbers from 0, found {orders!r}") from None


def _name(pool: Any) -> str:
    if pool == "":
        raise UsageError("the pool's name is empty")
    return DEFAULT_POOL if pool is None else str(pool)


def whole_number(name: str, value: Any, least: int) -> int:
    """``value`` as an int of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise UsageError(f"{name} should be a whole number from {least} on, found {value!r}")
    return int(value)


def _index(name: str, value: Any, count: int | None) -> int:
    if isinstance(value, np.ndarray) and value.shape == ():
        value = value[()]
    if not isinstance(value, int | np.integer) or not 0 <= value < (_TOO_LARGE if count is None else count):
        what = "a number from 0 on" if count is None else f"from 0 to {count - 1}"
        raise UsageError(f"{name} should be {what}, found {value!r}")
    return int(value)


def _choice(name: str, value: Any, choices: Sequence[str]) -> int:
    if value not in choices:
        raise UsageError(f"{name} should be one of {', '.join(choices)}, found {value!r}")
    return choices.index(value)


def _pools(pool: PoolSpec | Sequence[PoolSpec] | None, grading: str) -> list[Pool]:
    several = pool if isinstance(pool, list | tuple) else [pool]
    if not several:
        raise UsageError("pool should be a pool, its name or its file, or a list of them; found an empty list")
    return [
        with_grading(each, grading) if isinstance(each, Pool) else _opened(_name(each), grading) for each in several
    ]


def _questions(questions: Any, pools: Sequence[Pool]) -> list[NDArray[np.int64]]:
    if questions is None:
        return [np.arange(pool.recording.questions) for pool in pools]
    if not isinstance(questions, Sequence | np.ndarray):
        raise UsageError(f"questions should be a list of numbers, or one for each pool, found {questions!r}")
    lists = any(isinstance(some, Sequence | np.ndarray) for some in questions)
    several = list(questions) if lists else [questions]
    if len(several) != len(pools) or not all(isinstance(some, Sequence | np.ndarray) for some in several):
        raise UsageError(f"questions should be one list for each of the {len(pools)} pools, found {questions!r}")
    for some, pool in zip(several, pools, strict=True):
        last = pool.recording.questions - 1
        if not len(some) or not all(isinstance(q, int | np.integer) and 0 <= q <= last for q in some):
            raise UsageError(f"questions of pool {pool.name} should be numbers from 0 to {last}, found {some!r}")
    return [np.array(some, dtype=np.int64) for some in several]


def _edges(weights: Sequence[float] | None, pools: Sequence[Pool]) -> NDArray[np.float64]:
    """Cumulative probabilities of the pools."""
    try:
        given = np.ones(len(pools)) if weights is None else np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError):
        given = np.zeros(0)
    if given.shape != (len(pools),) or not np.all(given >= 0) or not 0 < given.sum() < math.inf:
        raise UsageError(f"pool_weights should be {len(pools)} numbers from 0 on, not all 0, found {weights!r}")
    return np.cumsum(given / given.sum())


# --- tables --------------------------------------------------------------------------------------------


def _lines(slots: int) -> int:
    """So many slots, rounded up to whole cache lines."""
    return -(-slots // 8) * 8


def _aligned(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Zeros that begin at a cache line."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.zeros(size + 64, dtype=np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)


@lru_cache(maxsize=8)
def confidence_table(votes: int) -> NDArray[np.float64]:
    """float64[V+1, V+1]: ``programs.confidence(first, second)``, to the last bit where they sum to less than 1000."""
    table = np.zeros((votes + 1, votes + 1))
    factorials = np.array([math.lgamma(k + 1) for k in range(votes + 3)])
    for n in range(2, votes + 2):  # n = first + second + 1
        k = np.arange(n)
        if n <= 1000:
            terms = np.cumprod(np.concatenate([[0.5**n], (n - k[:-1]) / (k[:-1] + 1.0)]))
        else:  # 0.5 ** n is about to underflow
            terms = np.exp(factorials[n] - factorials[k] - factorials[n - k] - n * math.log(2.0))
        sums = np.minimum(1.0, np.cumsum(terms))
        first = np.arange(n // 2, n)
        table[first, n - 1 - first] = sums[first]
    return table


@lru_cache(maxsize=8)
def _clogc(width: int) -> NDArray[np.float64]:
    """float64[W+1]: c log c."""
    return np.array([0.0, *(c * math.log(c) for c in range(1, width + 1))])
