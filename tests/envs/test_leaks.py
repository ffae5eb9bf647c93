"""Nothing unrevealed leaks: where all that was not revealed is different, everything shown is the same, bit for bit.

Random actions are played on a pool. Then a changed pool is built that has in common with it only what these actions
revealed, and the same actions are played there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pytest
from envs.second import SecondEnv, choose, pool_of, random_recording
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from random_pools import steady

from tts_gym.engine.moves import Move, branch_order
from tts_gym.engine.reference import Episode
from tts_gym.envs import TTSReplayEnv, TTSReplayVectorEnv
from tts_gym.pools import Pool, Recording, Vocabulary
from tts_gym.programs.primitives import active_votes, majority

STEPS, EVERY = 50, {"atomic": 9, "rounds": 2}  # actions at most, and between two changed pools
FACES = {
    "atomic": {"actions": "atomic"},
    "atomic grid": {"actions": "atomic", "observation": "grid"},
    "auto_probe": {"actions": "atomic", "auto_probe": True},
    "rounds": {"actions": "rounds"},
    "rounds grid": {"actions": "rounds", "observation": "grid"},
}
Shown: TypeAlias = dict[str, Any]
"""What one call returned and what the mask and the agent's aggregation saw then, arrays as bytes."""


# --- what an episode has revealed ----------------------------------------------------------------------


def bounds_of_tokens(moves: Sequence[int], delta: int, length: int, tokens: int) -> tuple[int, int | None]:
    """The least and the most tokens (None: no most) that a branch may have, by what these moves on it were billed."""
    depth, spent, least, most = 0, 0, 0, None
    for move in moves:
        before = spent
        if move == Move.PROBE:  # bills to the end of the interval, however many tokens there are
            spent = max(spent, delta * depth)
        elif move in (Move.BRANCH, Move.CONTINUE):
            depth += 1
            limit = delta * depth if depth <= length else None
            spent = max(spent, tokens if limit is None else min(limit, tokens))
            if spent == before:
                most = before if most is None else min(most, before)
            elif spent == limit:
                least = max(least, spent)
            else:
                least = most = spent
    return least, most


def moves_by_branch(episode: Episode) -> list[list[int]]:
    return [
        [move for move, j in episode.log if j == i and move not in (Move.ANSWER, Move.END_ROUND)]
        for i in range(episode.opened)
    ]


# --- a question that has only that in common -----------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """One question's arrays in opening order (so that no order has to be known), and how its codes are renamed."""

    answers: NDArray[np.int16]
    intervals: NDArray[np.int16]
    tokens: NDArray[np.int32]


def another(generator: np.random.Generator, low: int, high: int, but: int) -> int:
    """A number from low to high other than ``but`` where there is another."""
    others = [number for number in {low, high, *generator.integers(low, high + 1, 4).tolist()} if number != but]
    return int(generator.choice(others)) if others else but


def changed_question(
    generator: np.random.Generator, second: SecondEnv, deepest: int, renamed: NDArray[np.int16]
) -> Question:
    """Change all that ``second``'s episode has not revealed. ``renamed`` maps codes to new ones; there are more new."""
    recording, episode = second.pools[second.pool].recording, second.episode
    rows = branch_order(recording.branches, second.order)
    old = Question(*(x[second.question][rows] for x in (recording.answers, recording.intervals, recording.tokens)))
    answers = np.full((len(rows), deepest + 1), -1, dtype=np.int16)
    intervals, tokens = old.intervals.copy(), old.tokens.copy()
    moves = moves_by_branch(episode)
    for i in range(len(rows)):
        opened, length = i < episode.opened, int(old.intervals[i])
        least, most = bounds_of_tokens(moves[i], recording.delta, length, int(old.tokens[i])) if opened else (0, None)
        tokens[i] = another(generator, least, least + 20 * recording.delta if most is None else most, int(tokens[i]))
        if not (opened and episode.finished[i]):
            intervals[i] = another(generator, episode.depth[i] if opened else 0, deepest, length)
            assert intervals[i] != length or (opened and episode.depth[i] == deepest)
        assert tokens[i] != old.tokens[i] or (opened and least == most)
        read = {reading.column for reading in second.of_branch(i)}
        for column in range(intervals[i] + 1):
            code = int(old.answers[i, column]) if column <= length else -1
            same = renamed[code] if code >= 0 else -1
            answers[i, column] = same if column in read else another(generator, -1, len(renamed) + 1, same)
            assert (answers[i, column] == same) == (column in read)
        assert all(column <= intervals[i] for column in read)
    return Question(answers, intervals, tokens)


def changed_pool(
    generator: np.random.Generator, seconds: Sequence[SecondEnv], deepest: int
) -> tuple[list[Pool], list[dict[str, int]]]:
    """Pools with another version of what each of ``seconds`` replays, and the options to replay it there.

    The questions stand elsewhere, in another pool, are opened in another order; their texts and names are others,
    answers have other codes, and what was correct is not.
    """
    old = seconds[0].pools[0]
    branches, size = old.recording.branches, old.recording.vocabulary_size
    count = len(seconds) + 2
    answers = np.zeros((count, branches, deepest + 1), dtype=np.int16)
    intervals = np.full((count, branches), deepest, dtype=np.int16)
    tokens = np.ones((count, branches), dtype=np.int32)
    strings = [[f"new {q} {code}" for code in range(size + 2)] for q in range(count)]
    correct = generator.random((count, size + 2)) < 0.5
    gold = ["nothing says this"] * count
    options = []
    for at, second in zip(generator.permutation(count), seconds):
        words, right = old.vocabulary[second.question], old.correct("math", [second.question])[0]
        shift = int(generator.integers(1, size + 2))
        renamed = ((np.arange(size) + shift) % (size + 2)).astype(np.int16)
        order = second.order + 1 + int(generator.integers(0, 50))
        rows = branch_order(branches, order)
        question = changed_question(generator, second, deepest, renamed)
        answers[at, rows], intervals[at, rows] = question.answers, question.intervals
        tokens[at, rows] = question.tokens
        for code, word in enumerate(words):
            strings[at][renamed[code]] = word
            correct[at, renamed[code]] = not right[code]
        wrong = [word for word in words if word != old.gold[second.question]]
        gold[at] = str(generator.choice(wrong or gold))
        options.append({"pool": 1, "question": int(at), "order": order})
    pool = Pool(
        name="another name",
        recording=Recording(answers, intervals, tokens, old.recording.delta, size + 2),
        questions=tuple(f"Another question, the {q}th?" for q in range(count)),
        gold=tuple(gold),
        vocabulary=Vocabulary(
            pa.array([word for words in strings for word in words], pa.string()), np.arange(count + 1) * (size + 2)
        ),
        graded={"math": correct.ravel()},
    )
    return [replace(pool, name="a decoy", gold=pool.gold[::-1]), pool], options


# --- the two faces of the environment ------------------------------------------------------------------


class Scalar:
    """The environment, and all that it lets an agent see."""

    def __init__(self, pools: list[Pool], chosen: dict[str, Any], count: int) -> None:
        assert count == 1
        self.snapshots: list[str] = []
        self.env = TTSReplayEnv(pools, aggregation=self.aggregation, **chosen)

    def aggregation(self, snapshot: Any) -> int:
        """The majority, by an agent that looks at all it is given."""
        self.snapshots.append(repr(snapshot))
        return majority(active_votes(snapshot))

    def reset(self, options: list[dict[str, int]]) -> Shown:
        observation, info = self.env.reset(options=options[0])
        return self.shown(observation, 0.0, False, False, info)

    def step(self, actions: list[int]) -> Shown:
        return self.shown(*self.env.step(actions[0]))

    def masks(self) -> NDArray[np.bool_]:
        return np.atleast_2d(self.env.action_masks())

    def shown(self, observation: Any, reward: Any, terminated: Any, truncated: Any, info: dict[str, Any]) -> Shown:
        info = {f"info {key}": np.asarray(value).tolist() for key, value in sorted(info.items())}
        return {
            "observation": np.asarray(observation).tobytes(),
            "reward": np.asarray(reward).tolist(),
            "flags": np.asarray([terminated, truncated]).tolist(),
            "masks": self.masks().tolist(),
            "snapshots": tuple(self.snapshots),
            **info,
        }


class Vector(Scalar):
    """The native vector environment."""

    def __init__(self, pools: list[Pool], chosen: dict[str, Any], count: int) -> None:
        self.snapshots = []
        self.env: Any = TTSReplayVectorEnv(
            count, pools, autoreset_mode="Disabled", aggregation=self.aggregation, **chosen
        )

    def reset(self, options: list[dict[str, int]]) -> Shown:
        arrays = {name: np.array([each[name] for each in options]) for name in options[0]}
        observation, infos = self.env.reset(options=arrays)
        return self.shown(observation, 0.0, False, False, infos)

    def step(self, actions: list[int]) -> Shown:
        return self.shown(*self.env.step(np.array(actions)))


Face: TypeAlias = Callable[[list[Pool], dict[str, Any], int], Scalar]


def assert_same(found: Shown, expected: Shown, but: Sequence[str] = ()) -> None:
    different = [name for name in {**found, **expected} if found.get(name) != expected.get(name) and name not in but]
    assert not different, different


# --- the proof -------------------------------------------------------------------------------------------

TOLD_AT_THE_END = ("info pool", "info question", "info order")
GRADED = ("info correct", "reward")


class Proof:
    """Plays random actions, and compares with changed pools on the way."""

    def __init__(self, face: Face, pool: Pool, chosen: dict[str, Any], options: list[dict[str, int]]) -> None:
        self.face, self.pool, self.chosen, self.options = face, pool, chosen, options
        self.deepest = int(pool.intervals.max())
        self.player = face([pool], chosen, len(options))
        self.seconds = [SecondEnv([pool], **chosen) for _ in options]
        self.shown = [self.player.reset(options)]
        for second, asked in zip(self.seconds, options):
            second.reset(asked)
        self.actions: list[list[int]] = []

    def step(self, numbers: Sequence[int]) -> None:
        """One action each; never ANSWER, so that all go on."""
        masks = [second.mask() for second in self.seconds]
        taken = [
            choose(mask, second.width, second.rounds, int(number))
            for mask, second, number in zip(masks, self.seconds, numbers)
        ]
        taken = [0 if action == 1 else action for action in taken]
        self.shown.append(self.player.step(taken))
        self.actions.append(taken)
        for second, action in zip(self.seconds, taken):
            second.step(action)

    def again(self) -> Scalar:
        """Another player of the same pool that stands where this one stands."""
        player = self.face([self.pool], self.chosen, len(self.options))
        for shown in [player.reset(self.options), *map(player.step, self.actions)]:
            last = shown
        assert_same(last, self.shown[-1])
        return player

    def changed(self, generator: np.random.Generator) -> Scalar:
        """A player of a changed pool that has been shown all the same."""
        pools, options = changed_pool(generator, self.seconds, self.deepest)
        player = self.face(pools, self.chosen, len(options))
        assert_same(player.reset(options), self.shown[0])
        for actions, expected in zip(self.actions, self.shown[1:], strict=True):
            assert_same(player.step(actions), expected)
        return player

    def check(self, generator: np.random.Generator, counts: Counter[str]) -> None:
        """Compare, then ANSWER; and go on from here, to see that the pools do differ."""
        state, counts["checks"] = generator.bit_generator.state, counts["checks"] + 1
        answered = [[1] * len(self.options)]
        ends = [player.step(*answered) for player in (self.changed(generator), self.again())]
        assert_same(*ends, but=TOLD_AT_THE_END + GRADED)
        voted = [majority(second.votes()) >= 0 for second in self.seconds]
        correct = [np.atleast_1d(end["info correct"]) for end in ends]
        rewards = [np.atleast_1d(end["reward"]) for end in ends]
        assert (rewards[0] - correct[0] == rewards[1] - correct[1]).all()
        flipped = correct[0] != correct[1]
        counts["votes"] += sum(voted)
        counts["flipped"] += int(flipped.sum())
        if self.chosen["grading"] == "math":
            assert flipped.tolist() == voted

        generator.bit_generator.state = state  # the same changed pool once more
        other, own = self.changed(generator), self.again()
        if not any(map(self.hides, self.seconds)):
            return
        counts["goes on"] += 1
        for _ in range(12):
            masks = own.masks()
            onward = [
                choose(mask, second.width, second.rounds, int(generator.integers(6, 32)) + 32 * int(number))
                for mask, second, number in zip(masks, self.seconds, generator.integers(0, 2**16, len(masks)))
            ]
            onward = [0 if action == 1 else action for action in onward]
            if own.step(onward) != other.step(onward):
                counts["differs later"] += 1
                return

    @staticmethod
    def hides(second: SecondEnv) -> bool:
        """Whether there is more to reveal."""
        mask = second.mask()
        return any(mask[action] for action in ((0, 5) if second.rounds else (0, *range(2, 2 + 2 * second.width))))


def pool_with_room(recording: Recording, gold: Sequence[int]) -> Pool:
    """With one more question, never asked, that keeps the grid as wide as the longest branch of any changed pool."""
    count, branches, columns = recording.answers.shape
    deepest = columns + 1
    answers = np.full((count + 1, branches, deepest + 1), -1, dtype=np.int16)
    answers[:count, :, :columns] = recording.answers
    intervals = np.concatenate([recording.intervals, np.full((1, branches), deepest, np.int16)])
    tokens = np.concatenate([recording.tokens, np.ones((1, branches), np.int32)])
    return pool_of(replace(recording, answers=answers, intervals=intervals, tokens=tokens), gold=[*gold, 0])


def prove(face: Face, count: int, chosen: dict[str, Any], budgeted: bool, seed: int, counts: Counter[str]) -> None:
    """Play one random pool with random settings."""
    generator = np.random.default_rng(seed)
    recording = random_recording(generator)
    budget = float(generator.integers(1, 90) * recording.delta + generator.integers(-1, 2))
    chosen = {
        "max_branches": int(generator.integers(2, 12)),
        "budget": budget if budgeted else None,
        "probe_cost": float(generator.choice([0.0, 0.0, 1.0, 2.5])),
        "grading": str(generator.choice(["exact", "math"])),
        **chosen,
    }
    pool = pool_with_room(recording, generator.integers(0, recording.vocabulary_size, recording.questions).tolist())
    options = [
        {"pool": 0, "question": int(generator.integers(recording.questions)), "order": int(order)}
        for order in generator.integers(0, 1000, count)
    ]
    proof = Proof(face, pool, chosen, options)
    every = EVERY[chosen["actions"]]
    phase = int(generator.integers(every))
    for step in range(STEPS):
        if not any(map(proof.hides, proof.seconds)):
            break
        if step % every == phase:
            proof.check(generator, counts)
        calm = np.where(generator.random(count) < 0.7, 8, 0)  # little is pruned, or run to its end
        proof.step((generator.integers(0, 2**16, count) | calm).tolist())
    proof.check(generator, counts)


@pytest.mark.parametrize("budgeted", [False, True], ids=["free", "budgeted"])
@pytest.mark.parametrize("chosen", FACES.values(), ids=FACES)
@pytest.mark.parametrize(("face", "count"), [(Scalar, 1), (Vector, 3)], ids=["scalar", "vector"])
def test_nothing_unrevealed_is_shown(face: type[Scalar], count: int, chosen: dict[str, Any], budgeted: bool) -> None:
    counts: Counter[str] = Counter()
    for seed in range(16):
        prove(face, count, chosen, budgeted, seed, counts)
    assert counts["checks"] > 45
    assert counts["flipped"] > 0.7 * counts["votes"] > 25
    assert counts["differs later"] > 0.9 * counts["goes on"] > 0.5 * counts["checks"]


# --- what the proof stands on ----------------------------------------------------------------------------


@settings(steady, max_examples=200)
@given(
    delta=st.integers(1, 4),
    length=st.integers(0, 4),
    tokens=st.integers(0, 20),
    wishes=st.lists(st.sampled_from([Move.CONTINUE, Move.PROBE])),
)
def test_bounds_of_tokens_are_exact(delta: int, length: int, tokens: int, wishes: list[Move]) -> None:
    """Exactly the numbers of tokens within the bounds are billed alike, move by move."""

    def bills(total: int) -> tuple[list[int], list[int]]:
        episode = Episode([[0] * (length + 1)], [length], [total], [0], delta=delta)
        episode.branch()
        billed = [episode.tokens]
        plays: dict[Move, tuple[Callable[[int], Any], Callable[[int], Any]]] = {
            Move.CONTINUE: (episode.why_not_advance, episode.advance),
            Move.PROBE: (episode.why_not_probe, episode.probe),
        }
        for wish in wishes:
            refused, play = plays[wish]
            if not refused(0):
                play(0)
            billed.append(episode.tokens)
        return billed, moves_by_branch(episode)[0]

    expected, moves = bills(tokens)
    least, most = bounds_of_tokens(moves, delta, length, tokens)
    alike = [total for total in range(40) if bills(total)[0] == expected]
    assert alike == list(range(least, 40 if most is None else most + 1))


class Leaky(Scalar):
    """A face that shows one thing too many."""

    def __init__(self, leak: Callable[[SecondEnv], Any], pools: list[Pool], chosen: dict[str, Any], count: int) -> None:
        self.leak, self.snapshots = leak, []
        self.env: Any = SecondEnv(pools, **chosen)

    def reset(self, options: list[dict[str, int]]) -> Shown:
        observation, info = self.env.reset(options[0])
        return self.shown(observation, 0.0, False, False, info)

    def masks(self) -> NDArray[np.bool_]:
        return np.atleast_2d(self.env.mask())

    def shown(self, *returned: Any) -> Shown:
        return super().shown(*returned) | {"leak": self.leak(self.env)}


def first_row(second: SecondEnv) -> int:
    return int(branch_order(second.pools[second.pool].recording.branches, second.order)[0])


def hidden(array: str) -> Callable[[SecondEnv], Any]:
    return lambda second: getattr(second.pools[second.pool], array)[second.question, first_row(second)].tolist()


def correct_so_far(second: SecondEnv) -> bool:
    """Whether the leader is correct."""
    leader, pool = majority(second.votes()), second.pools[second.pool]
    codes = second.episode.revealed
    return leader >= 0 and bool(pool.correct("math", [second.question])[0, codes[leader]])


def next_is_read(second: SecondEnv) -> bool:
    """Whether an answer could be parsed in the first cell of the first branch that was not generated."""
    codes = hidden("answers")(second)
    return bool(codes[max(second.episode.depth[:1], default=0)] >= 0)


LEAKS: dict[str, Callable[[SecondEnv], Any]] = {
    "nothing": lambda second: 0,
    "length": hidden("intervals"),
    "tokens": hidden("tokens"),
    "next answer": next_is_read,
    "codes": lambda second: second.episode.revealed[:1],
    "gold": correct_so_far,
    "question": lambda second: second.question,
    "order": lambda second: second.order,
    "pool": lambda second: second.pools[second.pool].name,
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_leak_is_found(leak: str) -> None:
    found, counts = 0, Counter[str]()
    for seed in range(10):
        try:
            prove(partial(Leaky, LEAKS[leak]), 1, {"actions": "atomic"}, False, seed, counts)
        except AssertionError as error:
            assert "leak" in str(error)
            found += 1
    assert found > 2 if leak != "nothing" else found == 0
