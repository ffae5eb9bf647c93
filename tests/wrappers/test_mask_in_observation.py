"""``MaskInObservation``: the mask observed is the mask told."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from vector_equality import choose

from tts_gym.envs import TTSReplayVectorEnv
from tts_gym.errors import UsageError
from tts_gym.pools import SyntheticSpec, generate
from tts_gym.wrappers import BetaConditioning, MaskInObservation, vector

POOL = generate(SyntheticSpec(questions=6, branches=8), seed=1)
WIDTH = 3


def test_the_observed_mask_is_the_one_in_info_to_the_end() -> None:
    env = MaskInObservation(gym.make("TTSReplay-v0", pool=POOL, max_branches=WIDTH))
    bare = env.env.observation_space
    assert env.observation_space == spaces.Dict(
        {"observation": bare, "action_mask": spaces.Box(0, 1, (2 + 3 * WIDTH,), np.int8)}
    )
    rng = np.random.default_rng(0)
    for seed in range(5):
        observation, info = env.reset(seed=seed)
        terminated = False
        while not terminated:
            assert env.observation_space.contains(observation)
            np.testing.assert_array_equal(observation["action_mask"], info["action_mask"])
            action = int(choose(observation["action_mask"][None], rng)[0])
            observation, _, terminated, _, info = env.step(action)
        assert observation["action_mask"].tolist() == [0, 1] + [0] * (3 * WIDTH)  # only ANSWER


def test_the_observed_mask_is_the_callers_own() -> None:
    env = MaskInObservation(gym.make("TTSReplay-v0", pool=POOL, max_branches=WIDTH))
    observation, info = env.reset(seed=0)
    told = info["action_mask"].copy()
    observation["action_mask"][:] = 1
    np.testing.assert_array_equal(info["action_mask"], told)
    np.testing.assert_array_equal(env.get_wrapper_attr("action_masks")(), told)


def test_with_beta_in_either_order_the_entries_lie_side_by_side() -> None:
    def grid() -> gym.Env[Any, Any]:
        return gym.make("TTSReplay-v0", pool=POOL, max_branches=WIDTH, observation="grid")

    one, other = MaskInObservation(BetaConditioning(grid())), BetaConditioning(MaskInObservation(grid()))
    assert one.observation_space == other.observation_space
    assert set(one.reset(seed=1)[0]) == set(other.reset(seed=1)[0]) == {"observation", "beta", "action_mask"}


def test_a_final_observation_has_its_own_mask_and_the_next_one_its_own() -> None:
    bare = TTSReplayVectorEnv(4, POOL, autoreset_mode=AutoresetMode.SAME_STEP, max_branches=WIDTH, max_episode_steps=5)
    env = vector.MaskInObservation(bare)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(40):
        observations, _, terminated, truncated, infos = env.step(choose(env.action_masks(), rng))
        np.testing.assert_array_equal(observations["action_mask"], infos["action_mask"])
        assert observations["action_mask"].dtype == np.int8
        for k in np.flatnonzero(terminated | truncated):
            last = infos["final_obs"][k]
            assert env.single_observation_space.contains(last)
            np.testing.assert_array_equal(last["action_mask"], infos["final_info"]["action_mask"][k])
            assert last["action_mask"].tolist() == [0, 1] + [0] * (3 * WIDTH) or not terminated[k]
            assert observations["action_mask"][k].tolist() == [1, 1] + [0] * (3 * WIDTH)  # nothing opened
            ends += 1
    assert ends > 10


@pytest.mark.parametrize("wrap", [MaskInObservation, vector.MaskInObservation], ids=["scalar", "vector"])
def test_a_second_mask_is_refused(wrap: Any) -> None:
    made = gym.make("TTSReplay-v0") if wrap is MaskInObservation else TTSReplayVectorEnv(2)
    with pytest.raises(UsageError, match="already has 'action_mask'"):
        wrap(wrap(made))
