"""Every wrapper's vector twin equals the scalar wrapper in Gymnasium's own vector environment, step for step."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from vector_equality import assert_equal_steps, assert_same, choose

from tts_gym import wrappers
from tts_gym.envs import TTSReplayVectorEnv
from tts_gym.errors import UsageError
from tts_gym.pools import SyntheticSpec, generate
from tts_gym.wrappers import vector

POOLS = [
    generate(SyntheticSpec(questions=4, branches=9), seed=1),
    generate(SyntheticSpec(questions=3, branches=5), seed=2),
]
COUNT = 4
LIMIT = 9
# Made by a function of the module that the wrappers are from: the scalar one or the vector one.
STACKS: dict[str, Callable[[Any, Any], Any]] = {
    "beta": lambda w, env: w.BetaConditioning(env),
    "a listed beta": lambda w, env: w.BetaConditioning(env, [0.25, 0.5, 1.0]),
    "a fixed beta": lambda w, env: w.BetaConditioning(env, 0.3, low=2.0**-20, high=2.0**-12),
    "mask": lambda w, env: w.MaskInObservation(env),
    "traces": lambda w, env: w.RecordTraces(env),
    "mask over beta": lambda w, env: w.MaskInObservation(w.BetaConditioning(env)),
    "beta over mask": lambda w, env: w.BetaConditioning(w.MaskInObservation(env)),
    "traces over mask over beta": lambda w, env: w.RecordTraces(w.MaskInObservation(w.BetaConditioning(env))),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "features": {"actions": "rounds", "max_branches": 6, "pool": POOLS, "pool_weights": [1, 3]},
    "grid": {"max_branches": 3, "observation": "grid", "pool": POOLS[0]},
}


def scalar(stack: str, settings: dict[str, Any]) -> gym.Env[Any, Any]:
    made = gym.make("TTSReplay-v0", max_episode_steps=LIMIT, disable_env_checker=True, **settings)
    return STACKS[stack](wrappers, made)


def native(stack: str, settings: dict[str, Any], mode: AutoresetMode) -> Any:
    made = TTSReplayVectorEnv(COUNT, max_episode_steps=LIMIT, autoreset_mode=mode, **settings)
    return STACKS[stack](vector, made)


def weights(env: SyncVectorEnv[Any, Any]) -> list[float]:
    return [one.unwrapped.cost_weight for one in env.envs]  # type: ignore[attr-defined]


@pytest.mark.parametrize("mode", AutoresetMode, ids=lambda mode: mode.value)
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("stack", STACKS)
def test_the_vector_twin_equals_the_scalar_wrapper(stack: str, settings: str, mode: AutoresetMode) -> None:
    ours = native(stack, SETTINGS[settings], mode)
    theirs: SyncVectorEnv[Any, Any] = SyncVectorEnv(
        [lambda: scalar(stack, SETTINGS[settings])] * COUNT, autoreset_mode=mode
    )
    ends = assert_equal_steps(ours, theirs, steps=60)
    assert (ends > 3).all()
    assert ours.unwrapped.cost_weights.tolist() == weights(theirs)


@pytest.mark.parametrize("mode", AutoresetMode, ids=lambda mode: mode.value)
def test_the_vector_twin_records_the_same_traces(mode: AutoresetMode) -> None:
    stack, settings = "traces over mask over beta", SETTINGS["features"]
    ours = native(stack, settings, mode)
    theirs: SyncVectorEnv[Any, Any] = SyncVectorEnv([lambda: scalar(stack, settings)] * COUNT, autoreset_mode=mode)
    assert_equal_steps(ours, theirs, steps=80)
    for k, one in enumerate(theirs.envs):
        assert len(one.traces) > 5  # type: ignore[attr-defined]
        own = [trace for trace in ours.traces if trace in one.traces]  # type: ignore[attr-defined]
        assert own == list(one.traces), k  # type: ignore[attr-defined]
    assert len(ours.traces) == sum(len(one.traces) for one in theirs.envs)  # type: ignore[attr-defined]


@pytest.mark.parametrize("mode", AutoresetMode, ids=lambda mode: mode.value)
def test_it_makes_no_difference_whether_the_environment_copies(mode: AutoresetMode) -> None:
    settings = SETTINGS["features"]
    one, other = (native("traces over mask over beta", {**settings, "copy": copied}, mode) for copied in (True, False))
    assert_same(one.reset(seed=1), other.reset(seed=1))
    rng = np.random.default_rng(0)
    for _ in range(40):
        actions = choose(one.action_masks(), rng)
        got = one.step(actions)
        assert_same(other.step(actions), got)
        over = got[2] | got[3]
        if mode is AutoresetMode.DISABLED and over.any():
            assert_same(*(each.reset(options={"reset_mask": over}) for each in (one, other)))
    assert one.traces == other.traces


@pytest.mark.parametrize("seed", [3, [5, None, 9, 2]], ids=str)
def test_options_and_lists_of_seeds_are_spread_alike(seed: Any) -> None:
    settings = SETTINGS["features"]
    ours = native("beta", settings, AutoresetMode.DISABLED)
    theirs: SyncVectorEnv[Any, Any] = SyncVectorEnv(
        [lambda: scalar("beta", settings)] * COUNT, autoreset_mode=AutoresetMode.DISABLED
    )
    for env in (ours, theirs):
        env.reset(seed=40)
    options = {"beta": 0.125, "question": 1}
    assert_same(ours.reset(seed=seed, options=options), theirs.reset(seed=seed, options=options))
    mask = np.array([True, False, False, True])
    # Gymnasium's takes the mask out of the dict it is given.
    again = [env.reset(options={"reset_mask": mask.copy(), "order": 3}) for env in (ours, theirs)]
    assert_same(*again)
    assert ours.unwrapped.cost_weights.tolist() == weights(theirs)
    assert options == {"beta": 0.125, "question": 1}


# --- copies and specs -------------------------------------------------------------------------------------


def copies(env: Any) -> list[Any]:
    return [copy.deepcopy(env), pickle.loads(pickle.dumps(env))]


@pytest.mark.parametrize("stack", STACKS)
def test_copies_of_a_scalar_wrapper_go_on_alike(stack: str) -> None:
    env = scalar(stack, SETTINGS["grid"])
    env.reset(seed=3)
    env.step(0)
    others = copies(env)
    rng = np.random.default_rng(1)
    for _ in range(40):
        action = int(choose(env.get_wrapper_attr("action_masks")()[None], rng)[0])
        want = env.step(action)
        for other in others:
            assert_same(other.step(action), want)
        if want[2] or want[3]:
            begun = env.reset()
            for other in others:
                assert_same(other.reset(), begun)


@pytest.mark.parametrize("mode", AutoresetMode, ids=lambda mode: mode.value)
@pytest.mark.parametrize("stack", STACKS)
def test_copies_of_a_vector_wrapper_go_on_alike(stack: str, mode: AutoresetMode) -> None:
    env = native(stack, SETTINGS["features"], mode)
    env.reset(seed=3)
    rng = np.random.default_rng(1)
    others: list[Any] = []
    for number in range(40):
        actions = choose(env.action_masks(), rng)
        want = env.step(actions)
        for other in others:
            assert_same(other.step(actions), want)
        over = want[2] | want[3]
        if mode is AutoresetMode.DISABLED and over.any():
            begun = env.reset(options={"reset_mask": over})
            for other in others:
                assert_same(other.reset(options={"reset_mask": over}), begun)
        if number == 8:  # in the midst of episodes, and with some ended that wait for their reset
            others = copies(env)
            for other in others:  # without its orders a copy would reset into nowhere
                assert other.unwrapped.replay.has_orders == env.unwrapped.replay.has_orders
    if hasattr(env, "traces"):
        for other in others:
            assert other.traces == env.traces


def test_a_stepped_copy_leaves_the_original_alone() -> None:
    env = scalar("traces over mask over beta", SETTINGS["grid"])
    env.reset(seed=3, options={"beta": 0.5})
    other = copy.deepcopy(env)
    other.step(1)
    other.reset(options={"beta": 1.0})
    assert (env.unwrapped.cost_weight, len(env.traces)) == (2.0**-18, 0)  # type: ignore[attr-defined]
    assert (other.unwrapped.cost_weight, len(other.traces)) == (2.0**-22, 1)  # type: ignore[attr-defined]


@pytest.mark.parametrize("stack", STACKS)
def test_the_spec_makes_the_wrapped_environment_again(stack: str) -> None:
    env = scalar(stack, {"max_branches": 3, "observation": "grid"})
    assert env.spec is not None
    for spec in (env.spec, gym.envs.registration.EnvSpec.from_json(env.spec.to_json())):
        again = gym.make(spec)
        assert str(again) == str(env)
        assert again.observation_space == env.observation_space
        assert_same(again.reset(seed=4), env.reset(seed=4))
        assert_same(again.step(0), env.step(0))


@pytest.mark.parametrize("name", wrappers.vector.__all__)
def test_only_the_environment_a_wrapper_knows_is_wrapped(name: str) -> None:
    for other in (gym.make("CartPole-v1"), TTSReplayVectorEnv(2)):
        with pytest.raises(UsageError, match=f"for vector environments take tts_gym.wrappers.vector.{name}"):
            getattr(wrappers, name)(other)
    for other in (gym.make("TTSReplay-v0"), SyncVectorEnv([lambda: gym.make("TTSReplay-v0")]), None):
        with pytest.raises(UsageError, match=f"for scalar environments take tts_gym.wrappers.{name}"):
            getattr(vector, name)(other)
