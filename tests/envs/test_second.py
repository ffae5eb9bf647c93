"""The environment does what its page says: it equals a second implementation written from that page alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from envs.second import BRANCH_FEATURES, GLOBAL_FEATURES, SecondEnv, choose, pool_of, random_recording
from gymnasium.utils.seeding import np_random
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from random_pools import recordings, steady

from tts_gym.engine.moves import branch_order
from tts_gym.envs import TTSReplayEnv, layout
from tts_gym.errors import IllegalMove
from tts_gym.pools import Pool, Recording, SyntheticSpec, generate
from tts_gym.programs import primitives as look

# --- settings ----------------------------------------------------------------------------------------


def by_every_look(snapshot: Any) -> int:
    """An aggregation that hangs on everything a snapshot shows, so that any difference changes the answer."""
    seen: list[Any] = [look.opened(snapshot), look.width(snapshot), look.spent(snapshot)]
    seen += [look.live(snapshot), look.active_votes(snapshot)]
    of_one: tuple[Callable[[Any, int], Any], ...] = (
        look.latest,
        look.depth,
        look.spent_on,
        look.is_finished,
        look.is_pruned,
        look.is_live,
    )
    seen += [one(snapshot, i) for i in range(look.opened(snapshot)) for one in of_one]
    answers = sorted({look.latest(snapshot, i) for i in range(look.opened(snapshot))} | {-1})
    return int(answers[sum(map(ord, str(seen))) % len(answers)])


def no_answer(snapshot: Any) -> int:
    """Never answers."""
    return -1


@dataclass(frozen=True)
class Case:
    """Pools, and settings that both environments are made with."""

    pools: list[Pool]
    settings: dict[str, Any] = field(default_factory=dict)

    def env(self) -> TTSReplayEnv:
        asked = dict(self.settings)
        if len(self.pools) == 1:
            if "questions" in asked:
                asked["questions"] = asked["questions"][0]
            return TTSReplayEnv(self.pools[0], **asked)
        return TTSReplayEnv(self.pools, **asked)

    def second(self) -> SecondEnv:
        return SecondEnv(self.pools, **{name: value for name, value in self.settings.items() if name != "strict"})


def random_case(generator: np.random.Generator, recordings: list[Recording] | None = None, whole: bool = False) -> Case:
    """Settings in every combination; budgets often lie exactly on a boundary, or just beside it.

    ``whole``: whole costs, and weights that are powers of two.
    """

    def one_of(*choices: Any) -> Any:
        return choices[generator.integers(len(choices))]

    if recordings is None:
        recordings = [random_recording(generator) for _ in range(one_of(1, 1, 1, 2, 3))]
    pools = [
        pool_of(
            recording,
            gold=generator.integers(0, recording.vocabulary_size + 1, recording.questions).tolist(),
            name=f"random {index}",
        )
        for index, recording in enumerate(recordings)
    ]
    delta = recordings[0].delta
    probe_cost = one_of(0.0, 0.0, 1.0, float(delta), 3000.0, *[0.25, 2.5, 0.1] * (not whole))
    budget = one_of(20, 150) * generator.random() ** 2 // 1 * delta + generator.integers(one_of(3, 15)) * probe_cost
    budget += one_of(0.0, 0.0, -1.0, 1.0, *[-0.25, 0.5] * (not whole))
    rounds = one_of(False, True)
    chosen: dict[str, Any] = {
        "actions": "rounds" if rounds else "atomic",
        "max_branches": int(generator.integers(1, 10)),
        "budget": one_of(None, 1e9, *[max(0.0, budget)] * 4),
        "probe_cost": probe_cost,
        "cost_weight": one_of(2.0**-20, 2.0**-7, 1.0, *[1e-4, 0.3, 0.0] * (not whole)),
        "observation": one_of("features", "features", "grid"),
        "grading": one_of("exact", "math"),
        "aggregation": one_of("majority", "finished", by_every_look, no_answer),
        "patience": int(generator.integers(1, 5)),
        "strict": one_of(False, False, False, not whole),
    }
    if not rounds:
        chosen |= {"auto_probe": one_of(False, True), "answer_with_branch": one_of(False, True)}
    return Case(pools, chosen)


def random_episode(case: Case, pair: Pair, generator: np.random.Generator) -> tuple[list[float], dict[str, Any]]:
    """Play one question, from a few steps on until little is left to do."""
    pool = int(generator.integers(len(case.pools)))
    question = int(generator.integers(case.pools[pool].recording.questions))
    pair.reset(pool=pool, question=question, order=int(generator.integers(10**6)))
    calm = np.where(generator.random(60) < 0.5, 8, 0)  # little is pruned, or run to its end
    script = generator.integers(0, 2**16, 60) | calm
    rewards, info = pair.play(script[: generator.integers(5, 60)].tolist())
    assert (info["pool"], info["question"]) == (pool, question)
    return rewards, info


# --- holding the two equal ---------------------------------------------------------------------------


class Pair:
    """The environment and the second one, held equal after every call."""

    def __init__(self, case: Case) -> None:
        self.env, self.second = case.env(), case.second()
        self.strict = bool(case.settings.get("strict"))
        assert self.env.action_space.n == self.second.actions  # type: ignore[attr-defined]

    def reset(self, **options: int) -> None:
        observation, info = self.env.reset(options=options)
        self.agree(observation, info, *self.second.reset(options))

    def step(self, action: int) -> tuple[float, bool, dict[str, Any]]:
        """One action; where it raises for being illegal, nothing has happened."""
        if self.strict and not self.second.mask()[action]:
            with pytest.raises(IllegalMove):
                self.env.step(action)
            return 0.0, False, {}
        observation, reward, terminated, truncated, info = self.env.step(action)
        seen, expected, ended, cut, known = self.second.step(action)
        assert abs(reward - expected) <= 1e-12
        assert (terminated, truncated) == (ended, cut)
        self.agree(observation, info, seen, known)
        return float(reward), terminated, info

    def play(self, script: list[int]) -> tuple[list[float], dict[str, Any]]:
        """Play until ANSWER or the end of the script, then ANSWER. Returns the rewards and the last info."""
        rewards = []
        for number in [*script, None]:
            mask, width = self.env.action_masks(), self.second.width
            action = 1 if number is None else choose(mask, width, self.second.rounds, number)
            reward, terminated, info = self.step(action)
            rewards.append(reward)
            if terminated:
                return rewards, info
        raise AssertionError("ANSWER did not end the episode")

    def agree(
        self, observation: NDArray[Any], info: dict[str, Any], expected: NDArray[Any], known: dict[str, Any]
    ) -> None:
        assert info.keys() == known.keys()
        for key, value in known.items():
            if key == "action_mask":
                assert info[key].dtype == np.int8
                assert info[key].tolist() == value.tolist(), key
            else:
                assert (key, type(info[key]), info[key]) == (key, type(value), value)
        assert self.env.action_masks().tolist() == known["action_mask"].astype(bool).tolist()
        assert self.env.observation_space.contains(observation)
        assert observation.shape == expected.shape
        if self.second.observation == "grid":
            assert observation.tolist() == expected.tolist()
        elif not np.allclose(observation, expected, rtol=0, atol=1e-6):
            pairs = zip(observation.tolist(), self.second.features(), strict=True)
            wrong = {name: (found, value) for found, (name, value) in pairs if not abs(found - value) <= 1e-6}
            raise AssertionError(f"{{field: (found, expected)}}: {wrong}")


# --- equality ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", range(4))
def test_every_step_is_the_page_s(part: int) -> None:
    for seed in range(part, 600, 4):
        generator = np.random.default_rng(seed)
        case = random_case(generator)
        pair = Pair(case)
        for _ in range(2):  # the second episode finds the memory of the first
            random_episode(case, pair, generator)


@settings(steady, max_examples=150)
@given(recordings=st.lists(recordings(), min_size=1, max_size=2), seed=st.integers(0, 2**32 - 1))
def test_every_step_on_the_smallest_pools(recordings: list[Recording], seed: int) -> None:
    generator = np.random.default_rng(seed)
    case = random_case(generator, recordings)
    random_episode(case, Pair(case), generator)


def test_rewards_sum_to_the_last_bit() -> None:
    for seed in range(150):
        generator = np.random.default_rng(seed)
        case = random_case(generator, whole=True)
        rewards, info = random_episode(case, Pair(case), generator)
        assert sum(rewards) == info["correct"] - case.settings["cost_weight"] * info["cost"]


LONG: dict[str, dict[str, Any]] = {
    "atomic": {"max_branches": 20, "patience": 2},
    "auto_probe": {"max_branches": 16, "auto_probe": True, "answer_with_branch": True, "budget": 200_000.0},
    "rounds": {"max_branches": 24, "actions": "rounds"},
    "tight": {"max_branches": 20, "actions": "rounds", "budget": 90_000.0, "probe_cost": 37.0},
    "grid": {"max_branches": 24, "observation": "grid"},
}


@pytest.mark.parametrize("chosen", LONG.values(), ids=LONG)
def test_long_episodes(chosen: dict[str, Any]) -> None:
    """Branches as long and answers as settled as recorded ones, with dozens of readings of each."""
    pool = generate(SyntheticSpec(questions=3, branches=24), seed=5)
    pair = Pair(Case([pool], chosen))
    generator, steps, readings, changes = np.random.default_rng(3), 0, 0, 0
    for question in range(3):
        pair.reset(pool=0, question=question, order=11)
        script = generator.integers(2, 2**16, 250)
        script = script & ~16 | np.where(
            generator.random(250) < 0.9, 8, 2
        )  # all legal, ANSWER last; little is given up
        steps += len(pair.play(script.tolist())[0])
        changes += len({moment.leader for moment in pair.second.moments})
        readings += len(pair.second.readings)
    assert steps > 60
    assert readings > 150
    assert changes > 6


# One branch has 2 intervals and ends inside the second, one has 1 of 4 tokens, one ends as it is opened.
SMALL = Recording(
    answers=np.array([[[0, 1, 1], [1, -1, -1], [1, -1, -1]]], dtype=np.int16),
    intervals=np.array([[2, 1, 0]], dtype=np.int16),
    tokens=np.array([[130, 4, 50]], dtype=np.int32),
    delta=100,
    vocabulary_size=2,
)
IN_TURN = next(s for s in range(100) if branch_order(3, s).tolist() == [0, 1, 2])


@pytest.mark.parametrize("probe_cost", [0.0, 1.0, 150.0])
@pytest.mark.parametrize("room", [-1.0, 0.0, 1.0])
def test_a_probe_may_cost_more_than_an_interval(probe_cost: float, room: float) -> None:
    """With the budget at what two probes cost, give or take a token, the mask knows what the first one left."""
    case = Case([pool_of(SMALL)], {"max_branches": 3, "probe_cost": probe_cost, "budget": 200 + 2 * probe_cost + room})
    pair = Pair(case)
    pair.reset(pool=0, question=0, order=IN_TURN)
    for action in (0, 0, 2 + 3 + 0, 2 + 3 + 1, 1):  # open two, probe both, ANSWER
        pair.step(action)
    assert pair.second.episode.probes == (1 if room < 0 else 2)


def test_the_page_and_the_code_name_the_same_features() -> None:
    assert tuple(GLOBAL_FEATURES) == layout.GLOBAL_FEATURES
    assert tuple(BRANCH_FEATURES) == layout.BRANCH_FEATURES


# --- starting state ------------------------------------------------------------------------------------


def many_questions(name: str, questions: int, branches: int) -> Pool:
    shape = (questions, branches)
    return pool_of(
        Recording(np.zeros((*shape, 1), np.int16), np.zeros(shape, np.int16), np.ones(shape, np.int32), 5, 1), name=name
    )


POOLS = [many_questions("few", 3, 2), many_questions("many", 50, 4), many_questions("some", 7, 1)]
DRAWN = {
    "one pool": Case(POOLS[1:2], {}),
    "several": Case(POOLS, {}),
    "weighted": Case(POOLS, {"pool_weights": [1.0, 0.0, 2.5], "orders": 7}),
    "chosen": Case(POOLS, {"questions": [[2], [4, 49, 9], [6, 0]], "orders": [5, 900, 3, 3]}),
    "chosen of one": Case(POOLS[1:2], {"questions": [[4, 49, 9]], "orders": [0, 70]}),
}


def replayed(env: TTSReplayEnv) -> tuple[int, int, int]:
    info = env.step(1)[4]
    return info["pool"], info["question"], info["order"]


@pytest.mark.parametrize("case", DRAWN.values(), ids=DRAWN)
def test_draws_are_the_page_s(case: Case) -> None:
    env, second = case.env(), case.second()
    seen = set()
    for seed in range(40):
        generator = np_random(seed)[0]
        for n in range(4):  # resets without a seed go on in the same stream
            env.reset(seed=seed if n == 0 else None)
            second.reset({}, generator)
            assert replayed(env) == (second.pool, second.question, second.order)
            seen.add((second.pool, second.question))
    assert len(seen) > 2
    assert {pool for pool, _ in seen} == ({0, 2} if "pool_weights" in case.settings else set(range(len(case.pools))))


@pytest.mark.parametrize(
    "given_", [["pool"], ["question"], ["order"], ["pool", "order"], ["pool", "question", "order"]]
)
@pytest.mark.parametrize("case", DRAWN.values(), ids=DRAWN)
def test_what_is_not_given_is_drawn(case: Case, given_: list[str]) -> None:
    """Also questions and orders outside those to draw from; and later draws do not hang on what was given."""
    asked = {"pool": len(case.pools) - 1, "question": 1, "order": 12345}
    options = {name: asked[name] for name in given_}
    env, second = case.env(), case.second()
    for seed in range(10):
        generator = np_random(seed)[0]
        env.reset(seed=seed, options=options)
        second.reset(options, generator)
        assert replayed(env) == (second.pool, second.question, second.order)
        assert {name: getattr(second, name) for name in options} == options
        env.reset()
        second.reset({}, generator)
        assert replayed(env) == (second.pool, second.question, second.order)


def test_cost_weight_may_change_between_episodes() -> None:
    case = Case([pool_of(SMALL)], {"max_branches": 3, "cost_weight": 0.5})
    pair = Pair(case)
    totals = []
    for weight in (0.5, 0.25):
        pair.env.cost_weight = pair.second.cost_weight = weight
        pair.reset(pool=0, question=0, order=IN_TURN)
        totals.append(sum(pair.step(action)[0] for action in (0, 2, 2, 0, 1)))
    assert totals == [-0.5 * 134, -0.25 * 134]  # branch 0 ends with answer 1; gold is 0
