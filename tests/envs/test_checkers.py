"""The environments keep what Gymnasium and Stable-Baselines3 ask of any environment, whatever they are made with."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import combinations, product
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from envs.vector_checker import check_vector_env
from gymnasium.utils.env_checker import check_env
from gymnasium.utils.passive_env_checker import env_render_passive_checker
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import FlattenObservation

from tts_gym.envs import TTSReplayEnv, TTSReplayVectorEnv
from tts_gym.pools import SyntheticSpec, generate

POOLS = [
    generate(SyntheticSpec(questions=4, branches=70, max_intervals=12, length_median=5.0), seed=1),
    generate(SyntheticSpec(questions=3, branches=5, max_intervals=8, length_median=4.0), seed=2),
]
MODES = list(AutoresetMode)

# --- a grid of settings ------------------------------------------------------------------------------------

CHOICES: dict[str, tuple[Any, ...]] = {
    "actions": ("atomic", "rounds"),
    "observation": ("features", "grid"),
    "budget": (None, 9_000.0),
    "auto_probe": (False, True),
    "answer_with_branch": (False, True),
    "pool": ("one", "several"),
    "questions": (None, "some"),
    "max_branches": (1, 4, 64),
}
Setting = tuple[Any, ...]  # one choice of each


def possible(setting: Setting) -> bool:
    """Rounds read as they go and answer by vote."""
    actions, _, _, auto_probe, answer_with_branch, *_ = setting
    return actions == "atomic" or not (auto_probe or answer_with_branch)


def pairs(setting: Setting) -> set[tuple[int, Any, int, Any]]:
    """Every two choices that meet in a setting."""
    return {(i, setting[i], j, setting[j]) for i, j in combinations(range(len(setting)), 2)}


def pairwise(settings: list[Setting]) -> Iterator[Setting]:
    """Few settings in which every two choices meet that meet in any: always the one with the most new pairs."""
    missing = set().union(*map(pairs, settings))
    while missing:
        best = max(settings, key=lambda setting: len(pairs(setting) & missing))
        missing -= pairs(best)
        yield best


ALL = [setting for setting in product(*CHOICES.values()) if possible(setting)]
SOME = list(pairwise(ALL))


def arguments(setting: Setting) -> dict[str, Any]:
    """What to make an environment with."""
    made = dict(zip(CHOICES, setting))
    several = made["pool"] == "several"
    made["pool"] = POOLS if several else POOLS[0]
    if several:
        made["pool_weights"] = [1, 3]
    if made["questions"]:
        made["questions"] = [[3, 0], [2]] if several else [3, 0]
    if made["budget"]:
        made["probe_cost"] = 130.0
    return made


def named(setting: Setting) -> str:
    """The choices that are not the first."""
    others = [
        f"{name}={chosen}" for (name, choices), chosen in zip(CHOICES.items(), setting) if chosen not in choices[:1]
    ]
    return " ".join(others) or "all first"


def scalar(**chosen: Any) -> gym.Env[Any, Any]:
    return gym.make("TTSReplay-v0", disable_env_checker=True, **chosen)


def native(mode: AutoresetMode, copy: bool, count: int = 3, **chosen: Any) -> TTSReplayVectorEnv:
    made = gym.make_vec("TTSReplay-v0", count, autoreset_mode=mode, copy=copy, **chosen)
    assert isinstance(made, TTSReplayVectorEnv)
    return made


def test_the_grid_has_every_choice_with_every_other() -> None:
    assert len(ALL) == (1 + 4) * 2**4 * 3  # rounds, and atomic with or without two things
    assert set().union(*map(pairs, SOME)) == set().union(*map(pairs, ALL))
    assert len(SOME) < 20
    assert {setting[-1] for setting in SOME} == {1, 4, 64}


# --- the checkers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ALL, ids=named)
def test_gymnasiums_checker_finds_nothing(setting: Setting) -> None:
    check_env(scalar(**arguments(setting)).unwrapped, skip_render_check=True)


@pytest.mark.parametrize("setting", SOME, ids=named)
def test_stable_baselines3s_checker_finds_nothing(setting: Setting) -> None:
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    env = scalar(**arguments(setting))
    if len(env.observation_space.shape or ()) == 2:  # it knows vectors and images
        env = FlattenObservation(env)
    checker.check_env(env, warn=True, skip_render_check=False)


@pytest.mark.parametrize("chosen", [{}, {"actions": "rounds", "budget": 9_000.0}], ids=str)
@pytest.mark.parametrize("mode", ["rgb_array", "ansi"])
def test_gymnasiums_checker_renders(mode: str, chosen: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")  # it renders in every mode that the metadata name, human too
    check_env(scalar(pool=POOLS, max_branches=6, render_mode=mode, **chosen).unwrapped)


@pytest.mark.parametrize(("mode", "kind"), [("rgb_array", np.ndarray), ("ansi", str), (None, type(None))])
def test_gymnasiums_checker_of_frames(mode: str | None, kind: type) -> None:
    env = scalar(pool=POOLS[1], render_mode=mode)
    env.reset(seed=0)
    if mode is None:
        with pytest.warns(UserWarning, match="without a render_mode"):
            assert env.unwrapped.render() is None
        return
    frames = []
    for action in (0, 0, 2, 1):
        env.step(action)
        env_render_passive_checker(env)
        frames.append(env.render())
        assert isinstance(frames[-1], kind)
    assert all(np.any(one != other) for one, other in combinations(frames, 2))


@pytest.mark.parametrize("setting", SOME, ids=named)
def test_the_vector_checker_finds_nothing(setting: Setting) -> None:
    check_vector_env(partial(native, **arguments(setting)))


OTHERS: dict[str, dict[str, Any]] = {
    "truncated": {"max_branches": 4, "max_episode_steps": 5},
    "finished, patience 1": {"max_branches": 4, "aggregation": "finished", "patience": 1, "actions": "rounds"},
    "weighted": {"max_branches": 2, "cost_weight": 0.25, "probe_cost": 7.0, "orders": [5, 9]},
    "callable aggregation": {"max_branches": 4, "aggregation": lambda seen: seen.revealed - 1},
    "rendered": {"max_branches": 4, "render_mode": "ansi"},
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_vector_checker_finds_nothing_elsewhere(name: str) -> None:
    check_vector_env(partial(native, **{"pool": POOLS[1], **OTHERS[name]}))


def test_the_vector_checker_finds_nothing_where_all_episodes_are_alike() -> None:
    chosen: dict[str, Any] = {"pool": POOLS[1], "questions": [2], "orders": [7], "max_branches": 4}
    check_vector_env(partial(native, **chosen), seed_matters=False)
    with pytest.raises(AssertionError, match="whether another seed gives something else: False"):
        check_vector_env(partial(native, **chosen))


@pytest.mark.parametrize("mode", ["rgb_array", "ansi"])
def test_a_vector_environment_renders_each_environment(mode: str) -> None:
    env = native(AutoresetMode.NEXT_STEP, True, pool=POOLS[1], max_branches=4, render_mode=mode)
    env.reset(seed=3)
    env.step(np.array([0, 0, 1]))
    single = [scalar(pool=POOLS[1], max_branches=4, render_mode=mode) for _ in range(3)]
    for k, (one, action) in enumerate(zip(single, (0, 0, 1))):
        one.reset(seed=3 + k)
        one.step(action)
    frames = env.render()
    assert isinstance(frames, tuple)
    assert len(frames) == 3
    for frame, one in zip(frames, single):
        np.testing.assert_array_equal(frame, one.render())


# --- the vector checker itself: it passes what is right, and finds what is wrong ---------------------------


@pytest.mark.parametrize("name", ["CartPole-v1", "Blackjack-v1", "TTSReplay-v0"])
def test_gymnasiums_own_vector_environments_pass(name: str) -> None:
    chosen: dict[str, Any] = {"pool": POOLS[1], "max_branches": 3} if name == "TTSReplay-v0" else {}

    def make(mode: AutoresetMode, copy: bool) -> VectorEnv[Any, Any, Any]:
        one = partial(gym.make, name, disable_env_checker=True, **chosen)
        return SyncVectorEnv([one] * 3, autoreset_mode=mode, copy=copy)

    check_vector_env(make)


class Faulty(TTSReplayVectorEnv):
    """Everything as it should be; the classes below break one thing each."""

    says = ""  # what the checker should say

    @property
    def mode(self) -> AutoresetMode:
        return AutoresetMode(self.metadata["autoreset_mode"])

    def waiting(self) -> np.ndarray[Any, Any]:
        return self.replay.ended.copy()


class SharesObservations(Faulty):
    says = "something returned earlier has changed"

    def step(self, actions: Any) -> Any:
        _, *others = super().step(actions)
        return self.replay.observations, *others


class SharesMasks(Faulty):
    says = "something returned earlier has changed"

    def step(self, actions: Any) -> Any:
        *others, infos = super().step(actions)
        return *others, {**infos, "action_mask": self.replay.masks}


class CopiesAlways(Faulty):
    says = "observations of two calls do not share memory"

    def _kept(self, array: Any) -> Any:
        return array.copy()


class HearsIgnoredActions(Faulty):
    says = "the action of a step that only resets was not ignored"

    def step(self, actions: Any) -> Any:
        for k in np.flatnonzero(self.waiting() & (np.asarray(actions) % 2 == 1)):
            self.replay.uniform(int(k))
        return super().step(actions)


class RewardsResets(Faulty):
    says = "reward at a step that only resets"

    def step(self, actions: Any) -> Any:
        waiting = self.waiting() & (self.mode is AutoresetMode.NEXT_STEP)
        observations, rewards, *others = super().step(actions)
        return observations, rewards + waiting, *others


class ForgetsTheEnd(Faulty):
    says = "_final_info should be"

    def step(self, actions: Any) -> Any:
        *others, infos = super().step(actions)
        return *others, {key: value for key, value in infos.items() if "final_info" not in key}


class TellsTheWrongEnd(Faulty):
    says = "tells something else in SameStep than in Disabled"

    def step(self, actions: Any) -> Any:
        observations, *others, infos = super().step(actions)
        if "final_obs" in infos:
            for k in np.flatnonzero(infos["_final_obs"]):
                infos["final_obs"][k] = observations[k].copy()
        return observations, *others, infos


class TakesSmallRewards(Faulty):
    says = "rewards should be float64"

    def step(self, actions: Any) -> Any:
        observations, rewards, *others = super().step(actions)
        return observations, rewards.astype(np.float32), *others


class TellsWithoutMask(Faulty):
    says = "keys and masks"

    def step(self, actions: Any) -> Any:
        *others, infos = super().step(actions)
        infos.pop("_tokens")
        return *others, infos


class TellsOfOthers(Faulty):
    says = "of which nothing is told"

    def step(self, actions: Any) -> Any:
        *others, infos = super().step(actions)
        if "question" in infos:
            infos["question"] = infos["question"] + 1
        return *others, infos


class IgnoresSeeds(Faulty):
    says = "the same seed gave something else"

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return super().reset(options=options)


class SeedsAllAlike(Faulty):
    says = "is not seed="

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return super().reset(seed=[seed] * self.num_envs if isinstance(seed, int) else seed, options=options)


class ResetsAll(Faulty):
    says = "was not to be reset"

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        mask = (options or {}).get("reset_mask")
        if mask is None:
            return super().reset(seed=seed)
        _, infos = super().reset(seed=seed, options=options)
        others = ~mask if (~mask).any() else mask
        observations, _ = super().reset(seed=seed, options={"reset_mask": others})
        return observations, infos


class ActsAfterTheEnd(Faulty):
    says = "an environment whose episode had ended took an action"

    def step(self, actions: Any) -> Any:
        if self.mode is AutoresetMode.DISABLED and self.waiting().any():
            self.reset(options={"reset_mask": self.waiting()})
        return super().step(actions)


class TakesAnyMask(Faulty):
    says = r"reset_mask=\[True, True, True\] was taken"

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        if options:
            options = {"reset_mask": np.array(options["reset_mask"], dtype=np.bool_)}
        return super().reset(seed=seed, options=options)


class HasAnotherMode(Faulty):
    says = "metadata should say that the autoreset mode is"

    def __init__(self, *arguments: Any, autoreset_mode: Any, **others: Any) -> None:
        super().__init__(*arguments, autoreset_mode=AutoresetMode.DISABLED, **others)


class ClaimsAnotherMode(Faulty):
    says = "final_obs should be told of"

    def __init__(self, *arguments: Any, autoreset_mode: Any, **others: Any) -> None:
        super().__init__(*arguments, autoreset_mode=AutoresetMode.NEXT_STEP, **others)
        self.claimed = {**self.metadata, "autoreset_mode": autoreset_mode}
        self.true, self.metadata = self.metadata, self.claimed

    def step(self, actions: Any) -> Any:
        self.metadata = self.true
        returned = super().step(actions)
        self.metadata = self.claimed
        return returned


class ForgetsThatItClosed(Faulty):
    says = r"closed should be True after close\(\)"

    def close(self, **arguments: Any) -> None:
        self.close_extras(**arguments)


class ReliesOnWhatItReturned(Faulty):
    says = "what was written into returned arrays reached the environment"
    returned: Any = None
    before: Any = None

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.returned = None
        return super().reset(seed=seed, options=options)

    def step(self, actions: Any) -> Any:
        *others, infos = super().step(actions)
        if self.returned is not None:
            infos["probes"] = self.returned + infos["probes"] - self.before
        self.returned, self.before = infos["probes"], self.replay.probes.copy()
        return *others, infos


FAULTS: list[type[Faulty]] = Faulty.__subclasses__()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_vector_checker_finds_a_fault(fault: type[Faulty]) -> None:
    def make(mode: AutoresetMode, copy: bool) -> Faulty:
        return fault(3, POOLS[1], max_branches=3, autoreset_mode=mode, copy=copy)

    with pytest.raises(AssertionError, match=fault.says):
        check_vector_env(make)


def test_the_vector_checker_finds_nothing_without_a_fault() -> None:
    check_vector_env(lambda mode, copy: Faulty(3, POOLS[1], max_branches=3, autoreset_mode=mode, copy=copy))


def test_the_vector_checker_does_not_pass_what_it_has_not_seen() -> None:
    class Endless(Faulty):
        def step(self, actions: Any) -> Any:
            return super().step(np.where(np.asarray(actions) == 1, 0, actions))

    with pytest.raises(AssertionError, match="no episode ended in 40 steps"):
        check_vector_env(lambda mode, copy: Endless(3, POOLS[1], max_branches=3, autoreset_mode=mode, copy=copy))


def test_the_environments_are_made_by_name() -> None:
    """So that what was checked here is what ``gym.make`` gives."""
    assert isinstance(scalar(pool=POOLS[1]).unwrapped, TTSReplayEnv)
    assert isinstance(gym.make_vec("TTSReplay-v0", 2, pool=POOLS[1]), TTSReplayVectorEnv)
