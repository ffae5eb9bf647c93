"""``TTSReplay-v0`` on the shipped pool."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import tts_gym
from tts_gym.envs import TTSReplayEnv
from tts_gym.errors import IllegalMove, UsageError
from tts_gym.evaluation import find_program
from tts_gym.pools import open_pool
from tts_gym.programs.runner import Limits, run_program

WIDTH = 8


@pytest.fixture
def env() -> TTSReplayEnv:
    made = gym.make("TTSReplay-v0", max_branches=WIDTH).unwrapped
    assert isinstance(made, TTSReplayEnv)
    return made


def test_importing_the_package_registers_it() -> None:
    assert tts_gym.__doc__
    assert gym.spec("TTSReplay-v0").entry_point == "tts_gym.envs.tts_replay:TTSReplayEnv"


@pytest.mark.parametrize(
    "kwargs",
    [{}, {"max_branches": 4}, {"budget": 20_000, "probe_cost": 50.0}, {"questions": [3]}, {"render_mode": "ansi"}],
    ids=str,
)
def test_passes_gymnasiums_check_env(kwargs: dict[str, Any]) -> None:
    check_env(gym.make("TTSReplay-v0", **kwargs).unwrapped, skip_render_check="render_mode" not in kwargs)


def test_passes_stable_baselines3s_check_env() -> None:
    env_checker = pytest.importorskip("stable_baselines3.common.env_checker")
    env_checker.check_env(gym.make("TTSReplay-v0").unwrapped, warn=True)


def test_same_seed_same_trajectory() -> None:
    def trajectory() -> list[tuple[Any, ...]]:
        env = gym.make("TTSReplay-v0", max_branches=WIDTH)
        observation, info = env.reset(seed=11)
        env.action_space.seed(11)
        seen: list[tuple[Any, ...]] = [(observation.tolist(),)]
        for _ in range(60):
            observation, reward, terminated, _, info = env.step(env.action_space.sample(info["action_mask"]))
            seen.append((observation.tolist(), reward, terminated, info["cost"]))
            if terminated:
                observation, info = env.reset()
        return seen

    assert trajectory() == trajectory()


def test_the_reward_of_an_episode_is_correctness_minus_weighted_cost(env: TTSReplayEnv) -> None:
    rng = np.random.default_rng(0)
    for question in range(10):
        _, info = env.reset(seed=question, options={"question": question, "order": 5})
        total, terminated = 0.0, False
        while not terminated:
            legal = np.flatnonzero(info["action_mask"])
            action = 1 if rng.random() < 0.01 else rng.choice(legal)
            _, reward, terminated, _, info = env.step(action)
            total += reward
        assert total == pytest.approx(info["correct"] - 1e-6 * info["cost"], abs=1e-12)


def test_reading_branches_to_their_ends_and_answering_is_self_consistency(env: TTSReplayEnv) -> None:
    program = find_program("sc")
    pool = open_pool("synthetic/aime-v0")
    outcome = run_program(program, pool.recording, {"n": WIDTH}, orders=3, limits=Limits(max_branches=WIDTH))
    for question in range(5):
        for order in range(3):
            env.reset(options={"question": question, "order": order})
            for _ in range(WIDTH):
                env.step(0)
            for i in range(WIDTH):
                while env.action_masks()[2 + i]:
                    env.step(2 + i)
            *_, info = env.step(1)
            assert info["tokens"] == outcome.tokens[question, order]
            code = outcome.code[question, order]
            assert info["correct"] == pool.correct()[question, code]


def test_an_illegal_action_is_free_and_flagged(env: TTSReplayEnv) -> None:
    before, _ = env.reset(seed=0, options={"question": 0, "order": 0})
    observation, reward, terminated, truncated, info = env.step(2 + 3)  # CONTINUE a branch that is not open
    assert (reward, terminated, truncated, info["illegal"], info["cost"]) == (0.0, False, False, True, 0)
    np.testing.assert_array_equal(observation, before)


def test_after_its_end_an_episode_takes_no_action(env: TTSReplayEnv) -> None:
    env.reset(seed=0)
    env.step(1)
    with pytest.raises(gym.error.ResetNeeded, match="the episode has ended"):
        env.step(1)


def test_strict_raises_on_an_illegal_action() -> None:
    env = TTSReplayEnv(strict=True)
    env.reset(seed=0)
    with pytest.raises(IllegalMove, match=r"CONTINUE\(3\) is illegal: branch 3 was not opened"):
        env.step(2 + 3)


def test_the_mask_tells_exactly_which_actions_do_something(env: TTSReplayEnv) -> None:
    rng = np.random.default_rng(1)
    _, info = env.reset(seed=1)
    for _ in range(200):
        legal = info["action_mask"]
        np.testing.assert_array_equal(legal, env.action_masks())
        assert legal.any()
        action = int(rng.integers(len(legal)))
        *_, terminated, _, info = env.step(action)
        assert info["illegal"] == (not legal[action])
        if terminated:
            _, info = env.reset()


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"max_branches": 0}, "max_branches should be at least 1, found 0"),
        ({"questions": [99]}, "questions should be indices from 0 to 29"),
        ({"render_mode": "video"}, "render_mode should be None or 'ansi', found 'video'"),
        ({"pool": "synthetic/aime"}, "did you mean synthetic/aime-v0"),
        ({"grading": "exat"}, "exact"),
    ],
)
def test_wrong_arguments_are_named(kwargs: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        TTSReplayEnv(**kwargs)
