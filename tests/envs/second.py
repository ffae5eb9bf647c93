"""``TTSReplay-v0`` a second time, written from the docstring of ``TTSReplayEnv`` alone: slow, short, plain.

Everything is recomputed at every step from the reference episode and from two lists, so that nothing kept up to
date elsewhere can go wrong in the same way here: the readings, and the moments (what led after each move).
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import log
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tts_gym.engine.moves import branch_order
from tts_gym.engine.reference import Episode
from tts_gym.envs import TTSReplayEnv
from tts_gym.pools.pool import Pool, Recording, Vocabulary
from tts_gym.programs.primitives import confidence, majority, top_two


class Reading(NamedTuple):
    """The answer of a branch became known."""

    branch: int
    column: int  # of the grid: the interval it was read in, counted from 0, or one more at the branch's end
    answer: int  # -1: none
    leader: int  # by the votes right after it
    confidence: float  # likewise


class Moment(NamedTuple):
    """What held right after one atomic move, or at the beginning."""

    leader: int
    readings: int
    cost: float


def names_on_the_page(block: str) -> list[str]:
    """The names in the first column of the table below ``*block*``, in their order."""
    page = inspect.cleandoc(TTSReplayEnv.__doc__ or "")
    table = page.split(f"*{block}*")[1].split("\n\n")[1]
    cells = [line.split("|")[1] for line in table.splitlines()[2:]]
    return [name.strip() for cell in cells for name in cell.split(",")]


def saturated(x: float, c: float) -> float:
    """The docstring's x | c."""
    return x / (x + c) if x else 0.0


def share(part: float, whole: float) -> float:
    """Part of whole; a share of nothing is 0."""
    return part / whole if whole else 0.0


GLOBAL_FEATURES = names_on_the_page("Global")
BRANCH_FEATURES = names_on_the_page("Branches")


class SecondEnv:
    """See ``TTSReplayEnv`` for the settings; pools are given as a list of Pool objects."""

    def __init__(
        self,
        pools: Sequence[Pool],
        *,
        max_branches: int = 64,
        budget: float | None = None,
        probe_cost: float = 0.0,
        cost_weight: float = 2.0**-20,
        actions: str = "atomic",
        observation: str = "features",
        grading: str = "exact",
        questions: Sequence[Sequence[int]] | None = None,
        orders: int | Sequence[int] = 1024,
        pool_weights: Sequence[float] | None = None,
        auto_probe: bool = False,
        answer_with_branch: bool = False,
        aggregation: str | Callable[[Any], int] = "majority",
        patience: int = 3,
    ) -> None:
        self.pools, self.width = list(pools), max_branches
        self.budget, self.probe_cost, self.cost_weight = budget, probe_cost, cost_weight
        self.rounds, self.observation, self.grading = actions == "rounds", observation, grading
        self.questions = questions or [range(pool.recording.questions) for pool in pools]
        self.orders = list(range(orders)) if isinstance(orders, int) else list(orders)
        self.pool_weights = pool_weights or [1.0] * len(self.pools)
        self.auto_probe, self.answer_with_branch = auto_probe, answer_with_branch
        self.aggregation, self.patience = aggregation, patience
        self.most_intervals = max(pool.answers.shape[2] - 1 for pool in pools)  # D, padding of a Recording included
        if self.rounds:
            self.actions = 10
        else:
            self.actions = 2 + (4 if answer_with_branch else 3) * max_branches

    # --- the two calls of Gymnasium ---------------------------------------------------------------

    def reset(
        self, options: dict[str, int] | None = None, generator: np.random.Generator | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Begin an episode; what ``options`` leaves out is drawn from ``generator`` (None: nothing is left out)."""
        self.pool, self.question, self.order = self._drawn(options or {}, generator)
        recording = self.pools[self.pool].recording
        self.episode = Episode(
            recording.answers[self.question].tolist(),
            recording.intervals[self.question].tolist(),
            recording.tokens[self.question].tolist(),
            branch_order(recording.branches, self.order).tolist(),
            delta=recording.delta,
            max_branches=self.width,
            budget=self.budget,
            probe_cost=self.probe_cost,
        )
        self.readings: list[Reading] = []
        self.moments = [Moment(-1, 0, 0.0)]
        self.steps = 0
        self.illegal = False
        return self.observed(), self.info()

    def step(self, action: int) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        """Take one action."""
        before = self.episode.cost
        self.illegal = not self.mask()[action]
        self.steps += 1
        if not self.illegal:
            if self.rounds:
                self._play_round(action)
            else:
                self._play_atomic(action)
        reward = self.cost_weight * before - self.cost_weight * self.episode.cost
        ended = self.episode.answered is not None
        if ended and self.correct():
            reward += 1.0
        return self.observed(), reward, ended, False, self.info()

    def observed(self) -> NDArray[Any]:
        """What the agent sees."""
        if self.observation == "grid":
            return self.grid()
        return np.array([value for _, value in self.features()], dtype=np.float32)

    def info(self) -> dict[str, Any]:
        """The information that goes with it."""
        e = self.episode
        info: dict[str, Any] = {
            "action_mask": np.array(self.mask(), dtype=np.int8),
            "cost": float(e.cost),
            "tokens": e.tokens,
            "probes": e.probes,
            "illegal": self.illegal,
        }
        if e.answered is not None:
            info |= {
                "correct": self.correct(),
                "pool": self.pool,
                "question": self.question,
                "order": self.order,
                "branches": e.opened,
                "peak_width": e.peak_width,
                "sequential_tokens": e.sequential_tokens,
            }
        return info

    def correct(self) -> bool:
        """Whether the given answer is correct."""
        number = self.episode.answered
        if number is None or number < 0:
            return False
        pool, code = self.pools[self.pool], self.episode.revealed[number]
        if self.grading == "exact":
            return pool.vocabulary[self.question][code] == pool.gold[self.question]
        return bool(pool.graded[self.grading][int(pool.vocabulary.offsets[self.question]) + code])

    # --- starting state ---------------------------------------------------------------------------

    def _drawn(self, options: dict[str, int], generator: np.random.Generator | None) -> tuple[int, int, int]:
        """As many draws whatever is given: one for the pool where there are several, one each for the others."""
        if generator is None:
            return options["pool"], options["question"], options["order"]
        pool = 0
        if len(self.pools) > 1:
            left = generator.random() * sum(self.pool_weights)
            while pool < len(self.pools) - 1 and left >= self.pool_weights[pool]:
                left -= self.pool_weights[pool]
                pool += 1
        pool = options.get("pool", pool)
        questions = self.questions[pool]
        question = int(questions[int(generator.random() * len(questions))])
        order = self.orders[int(generator.random() * len(self.orders))]
        return pool, options.get("question", question), options.get("order", order)

    # --- atomic moves: each leaves a moment, and a reading where it revealed something -------------

    def _after_move(self, read: int = -1) -> None:
        e = self.episode
        leader, first, second = top_two(self.votes())
        if read >= 0:
            column = e.depth[read] if e.finished[read] else e.depth[read] - 1
            self.readings.append(Reading(read, column, e.latest[read], leader, confidence(first, second)))
        self.moments.append(Moment(leader, len(self.readings), e.cost))

    def _branch(self) -> int:
        i = self.episode.branch()
        self._after_move(i if self.episode.finished[i] else -1)
        return i

    def _continue(self, i: int) -> None:
        self.episode.advance(i)
        self._after_move(i if self.episode.finished[i] else -1)

    def _probe(self, i: int) -> None:
        self.episode.probe(i)
        self._after_move(i)

    def _prune(self, i: int) -> None:
        self.episode.prune(i)
        self._after_move()

    def _probe_if_legal(self, i: int) -> None:
        if not self.episode.why_not_probe(i):
            self._probe(i)

    # --- what an action does ----------------------------------------------------------------------

    def _play_atomic(self, action: int) -> None:
        if action == 0:
            i = self._branch()
            if self.auto_probe:
                self._probe_if_legal(i)
            return
        if action == 1:
            self.episode.answer(self.aggregated())
            return
        kind, i = divmod(action - 2, self.width)
        if kind == 0:
            self._continue(i)
            if self.auto_probe:
                self._probe_if_legal(i)
        elif kind == 1:
            self._probe(i)
        elif kind == 2:
            self._prune(i)
        else:
            self.episode.answer(self.episode.latest[i] if i < self.episode.opened else -1)

    def _play_round(self, action: int) -> None:
        e = self.episode
        if action == 1:
            e.answer(self.aggregated())
            return
        if action in (0, 2, 3, 4):
            for _ in range({0: 1, 2: 2, 3: 4, 4: 8}[action]):
                if not e.why_not_branch():
                    self._probe_if_legal(self._branch())
        elif action in (5, 6):
            for i in e.live_branches() if action == 5 else self.agreeing():
                if not e.why_not_advance(i):
                    self._continue(i)
                    self._probe_if_legal(i)
        elif action == 7:
            for i in self.stubborn():
                self._prune(i)
        else:
            live = e.live_branches()
            for i in live if action == 9 else [max(live, key=lambda i: (e.depth[i], -i))]:
                while not e.why_not_advance(i):
                    self._continue(i)
        e.end_round()

    def aggregated(self) -> int:
        """The answer that action 1 gives."""
        if self.aggregation == "majority":
            return majority(self.votes())
        if self.aggregation == "finished":
            finals = majority([v for v, finished in zip(self.votes(), self.episode.finished) if finished])
            return finals if finals >= 0 else majority(self.votes())
        assert callable(self.aggregation)
        return self.aggregation(self.episode)

    def mask(self) -> list[bool]:
        """Which actions are legal."""
        e, w = self.episode, self.width
        if e.answered is not None:
            return [action == 1 for action in range(self.actions)]
        can_branch = not e.why_not_branch()
        if not self.rounds:
            legal = [can_branch, True]
            legal += [not e.why_not_advance(i) for i in range(w)]
            legal += [not e.why_not_probe(i) for i in range(w)]
            legal += [i in e.live_branches() for i in range(w)]
            return legal + [i < e.opened for i in range(w)] * self.answer_with_branch
        can_advance = any(not e.why_not_advance(i) for i in range(w))
        return [
            can_branch,
            True,
            can_branch,
            can_branch,
            can_branch,
            can_advance,
            can_advance and bool(self.agreeing()),
            bool(self.stubborn()),
            can_advance,
            can_advance,
        ]

    # --- what is known of the branches ------------------------------------------------------------

    def votes(self) -> list[int]:
        """One entry per opened branch, -1 where it does not vote."""
        return [-1 if pruned else latest for latest, pruned in zip(self.episode.latest, self.episode.pruned)]

    def agreeing(self) -> list[int]:
        """The live branches that vote for the leader."""
        votes = self.votes()
        return [i for i in self.episode.live_branches() if votes[i] >= 0 and votes[i] == majority(votes)]

    def stubborn(self) -> list[int]:
        """The live branches whose last ``patience`` readings or more were against the leader."""
        return [i for i in self.episode.live_branches() if self.dissent(i) >= self.patience]

    def of_branch(self, i: int) -> list[Reading]:
        """The readings of one branch."""
        return [reading for reading in self.readings if reading.branch == i]

    def streak(self, i: int) -> int:
        """Its latest readings in a row with one answer."""
        answers = [reading.answer for reading in self.of_branch(i)]
        return next((n for n, answer in enumerate(reversed(answers)) if answer != answers[-1]), len(answers))

    def dissent(self, i: int) -> int:
        """Its latest readings in a row against the leader."""
        against = [reading.answer != reading.leader for reading in self.of_branch(i)]
        return next((n for n, dissents in enumerate(reversed(against)) if not dissents), len(against))

    def read_here(self, i: int) -> bool:
        """Whether the answer at its depth is known."""
        return self.episode.finished[i] or self.episode.probed[i] == self.episode.depth[i]

    # --- observations -----------------------------------------------------------------------------

    def features(self) -> list[tuple[str, float]]:
        """Names and values, in the order of the observation."""
        votes = self.votes()
        leader = majority(votes)
        counts = Counter(v for v in votes if v >= 0)
        cast = sum(counts.values())
        features = self._global_features()
        assert set(features) == set(GLOBAL_FEATURES)
        named = [(name, features[name]) for name in GLOBAL_FEATURES]
        for i in range(self.width):
            answer = votes[i] if i < len(votes) else -1
            named.append((f"share of branch {i}", share(counts[answer], cast) if answer >= 0 else 0.0))
            named.append((f"agreement of branch {i}", float(answer >= 0 and answer == leader)))
        for i in range(self.width):
            features = self._branch_features(i) if i < self.episode.opened else dict.fromkeys(BRANCH_FEATURES, 0.0)
            assert set(features) == set(BRANCH_FEATURES)
            named += [(f"{name} of branch {i}", features[name]) for name in BRANCH_FEATURES]
        return named

    def _global_features(self) -> dict[str, float]:
        e, w = self.episode, self.width
        votes, live = self.votes(), e.live_branches()
        leader, first, second = top_two(votes)
        counts = Counter(v for v in votes if v >= 0)
        cast = sum(counts.values())
        left = None if self.budget is None else max(0.0, self.budget - e.cost)
        sure = confidence(first, second)
        average = 0.0
        for n, reading in enumerate(self.readings):
            average = reading.confidence if n == 0 else average + 0.1 * (reading.confidence - average)
        entropy = -sum(n / cast * log(n / cast) for n in counts.values())
        began = len(self.moments) - 1
        while began > 0 and self.moments[began - 1].leader == leader:
            began -= 1
        replaced = [a for a, b in pairwise(self.moments) if a.leader >= 0 and a.leader != b.leader]
        final_votes = [v for v, finished in zip(votes, e.finished) if finished and v >= 0]
        read = [i for i in range(e.opened) if self.of_branch(i) and not e.pruned[i]]
        return {
            "opened": e.opened / w,
            "live": len(live) / w,
            "finished": sum(e.finished) / w,
            "pruned": sum(e.pruned) / w,
            "cost": saturated(e.cost, 100_000),
            "budget_left_share": 1.0 if left is None or self.budget is None else share(left, self.budget),
            "budget_left": 1.0 if left is None else saturated(left, 100_000),
            "probes": saturated(e.probes, 64),
            "steps": saturated(self.steps, 256),
            "votes": cast / w,
            "leader_share": share(first, cast),
            "runner_up_share": share(second, cast),
            "margin": share(first, cast) - share(second, cast),
            "confidence": sure,
            "confidence_average": average,
            "confidence_trend": sure - average,
            "entropy": entropy / log(cast) if cast >= 2 else 0.0,
            "distinct_answers": saturated(len(counts), 4),
            "leader_age": saturated(len(self.readings) - self.moments[began].readings, 16),
            "leader_changes": saturated(len(replaced), 4),
            "cost_since_leader": saturated(e.cost - self.moments[began].cost, 100_000),
            "finished_votes": len(final_votes) / w,
            "leader_share_of_finished": share(final_votes.count(leader), len(final_votes)),
            "agreeing_share": share(len(self.agreeing()), len(live)),
            "unread_share": share(sum(not self.read_here(i) for i in live), len(live)),
            "unparsed_share": share(sum(e.latest[i] < 0 for i in read), len(read)),
            "stable_share": share(sum(self.streak(i) >= 2 for i, vote in enumerate(votes) if vote >= 0), cast),
            "deepest": saturated(max(e.depth, default=0), 16),
            "mean_depth": saturated(share(sum(e.depth[i] for i in live), len(live)), 16),
            "answers_seen": saturated(len(e.revealed), 8),
            "stubborn_share": share(len(self.stubborn()), len(live)),
            "tokens_per_branch": saturated(share(e.tokens, e.opened), 8_000),
        }

    def _branch_features(self, i: int) -> dict[str, float]:
        e = self.episode
        answers = [reading.answer for reading in self.of_branch(i)]
        return {
            "opened": 1.0,
            "live": float(i in e.live_branches()),
            "finished": float(e.finished[i]),
            "pruned": float(e.pruned[i]),
            "depth": saturated(e.depth[i], 16),
            "read_here": float(self.read_here(i)),
            "has_answer": float(e.latest[i] >= 0),
            "unparsed": float(bool(answers) and e.latest[i] < 0),
            "streak": saturated(self.streak(i), 4),
            "changes": saturated(sum(a != b for a, b in pairwise(answers)), 4),
            "readings": saturated(len(answers), 16),
            "dissent": saturated(self.dissent(i), 4),
            "tokens": saturated(e.spent[i], 8_000),
            "unread_intervals": 0.0 if e.finished[i] else saturated(e.depth[i] - e.probed[i], 4),
            "answer": 1.0 / (1 + e.latest[i]) if e.latest[i] >= 0 else 0.0,
            "position": (i + 1) / self.width,
        }

    def grid(self) -> NDArray[np.int16]:
        """The branch x depth grid."""
        e = self.episode
        grid = np.zeros((self.width, self.most_intervals + 2), dtype=np.int16)
        for i in range(e.opened):
            grid[i, : e.depth[i]] = 1
            if e.finished[i]:
                grid[i, e.depth[i] + 1] = 2
            if e.pruned[i]:
                grid[i, e.depth[i]] = 3
        for reading in self.readings:
            grid[reading.branch, reading.column] = 5 + reading.answer
        return grid


# --- what the tests play it on, and with ---------------------------------------------------------------


def pool_of(recording: Recording, *, gold: Sequence[int] | None = None, name: str = "random") -> Pool:
    """A pool around a recording. ``gold`` are codes, one without a string where no answer is to be correct.

    Under ``math`` every third string is correct: a grading that no gold answer explains.
    """
    size, count = recording.vocabulary_size, recording.questions
    return Pool(
        name=name,
        recording=recording,
        questions=tuple(f"question {q}" for q in range(count)),
        gold=tuple(f"answer {code}" for code in gold or [0] * count),
        vocabulary=Vocabulary(
            pa.array([f"answer {code}" for code in range(size)] * count, pa.string()), np.arange(count + 1) * size
        ),
        graded={"math": np.arange(size * count) % 3 == 0},
    )


def random_recording(generator: np.random.Generator) -> Recording:
    """Every edge: L = 0, null answers, tokens far below, at and far above delta * L; some answers settle."""
    questions, branches, most = (int(generator.integers(low, 12)) for low in (1, 2, 1))
    delta, vocabulary = int(generator.integers(1, 500)), int(generator.integers(1, 6))
    intervals = generator.integers(0, most + 1, (questions, branches))
    whole = delta * intervals
    near = whole + generator.integers(-delta, delta + 1, whole.shape)
    far = generator.integers(0, 12 * delta, whole.shape)
    tokens = np.maximum(0, np.choose(generator.integers(0, 4, whole.shape), [whole, near, near, far]))
    answers = generator.integers(-1, vocabulary, (questions, branches, most + 1)).astype(np.int16)
    kept = generator.random(answers.shape) < generator.choice([0.0, 0.5, 0.8])
    for column in range(1, most + 1):
        answers[:, :, column] = np.where(kept[:, :, column], answers[:, :, column - 1], answers[:, :, column])
    answers[np.arange(most + 1) > intervals[:, :, None]] = -1
    return Recording(answers, intervals.astype(np.int16), tokens.astype(np.int32), delta, vocabulary)


def choose(mask: Sequence[int] | NDArray[Any], width: int, rounds: bool, number: int) -> int:
    """An action, mostly a legal one; most moves extend or read a branch, some give one up, and ANSWER is rare."""
    number, dice = divmod(number, 32)
    if dice in (0, 31):
        return number % len(mask)
    legal = [action for action, allowed in enumerate(mask) if allowed]
    if dice == 1:
        return legal[number % len(legal)]
    first = 7 if rounds else 2 + 2 * width  # of the actions that give branches up, or run them to their end
    last = len(mask) if rounds else 2 + 3 * width
    moves = [action for action in legal if action != 1 and action < last]
    wanted = [action for action in moves if (action >= first) == (dice < 6)]
    return next(some[number % len(some)] for some in (wanted, moves, legal) if some)
