"""The native vector environment: equal, step for step, to Gymnasium's own over scalar environments."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tts_gym.envs import TTSReplayVectorEnv
from tts_gym.pools import SyntheticSpec, generate

POOLS = [
    generate(SyntheticSpec(questions=4, branches=9), seed=1),
    generate(SyntheticSpec(questions=3, branches=5), seed=2),
]
MODES = list(AutoresetMode)
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "truncated": {"max_branches": 3, "max_episode_steps": 7},
    "auto_probe": {"max_branches": 5, "auto_probe": True},
    "budget": {"max_branches": 6, "budget": 9_000.0, "probe_cost": 130.0},
    "budget and auto_probe": {"max_branches": 4, "auto_probe": True, "budget": 5_200.0, "probe_cost": 70.0},
    "answer_with_branch": {"max_branches": 4, "answer_with_branch": True, "aggregation": "finished"},
    "callable aggregation": {"max_branches": 4, "aggregation": lambda seen: seen.revealed - 1},
    "grid": {"max_branches": 4, "observation": "grid"},
    "grid, some questions": {
        "max_branches": 4,
        "observation": "grid",
        "auto_probe": True,
        "questions": [2, 0],
        "orders": [5, 8],
    },
    "rounds": {"actions": "rounds"},
    "rounds, budget": {
        "actions": "rounds",
        "budget": 40_000.0,
        "probe_cost": 10.0,
        "patience": 1,
        "max_episode_steps": 9,
    },
    "rounds, grid": {"actions": "rounds", "observation": "grid", "max_branches": 8},
    "two pools": {"pool": POOLS, "pool_weights": [1, 3], "max_branches": 9},
    "two pools, rounds": {"pool": POOLS, "questions": [[3, 1], [0]], "actions": "rounds"},
}
COUNT, STEPS = 5, 120


def make_both(settings: dict[str, Any], mode: AutoresetMode) -> tuple[SyncVectorEnv, TTSReplayVectorEnv]:
    settings = {"pool": POOLS[0], **settings}
    limit = settings.pop("max_episode_steps", None)

    def one() -> gym.Env[Any, Any]:
        return gym.make("TTSReplay-v0", max_episode_steps=limit, disable_env_checker=True, **settings)

    native = gym.make_vec(
        "TTSReplay-v0",
        COUNT,
        "vector_entry_point",
        autoreset_mode=mode.value,
        **settings,
        **({"max_episode_steps": limit} if limit else {}),
    )
    assert isinstance(native, TTSReplayVectorEnv)
    return SyncVectorEnv([one] * COUNT, autoreset_mode=mode), native


def assert_same(ours: Any, theirs: Any, where: str = "") -> None:
    """Equal to the bit, through dicts and object arrays."""
    assert type(ours) is type(theirs), (where, ours, theirs)
    if isinstance(ours, dict):
        assert set(ours) == set(theirs), where
        for key in ours:
            assert_same(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(ours, tuple | list) or (isinstance(ours, np.ndarray) and ours.dtype == object):
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other, where)
    elif isinstance(ours, np.ndarray):
        assert ours.dtype == theirs.dtype, (where, ours.dtype, theirs.dtype)
        np.testing.assert_array_equal(ours, theirs, err_msg=where)
    else:
        assert ours == theirs, where


def choose(masks: np.ndarray, rng: np.random.Generator, legal: float = 0.95) -> np.ndarray:
    """Mostly legal actions, ANSWER now and then."""
    actions = []
    for mask in masks:
        some = np.flatnonzero(mask)
        if len(some) > 1 and rng.random() < 0.93:
            some = some[some != 1]
        actions.append(rng.choice(some) if rng.random() < legal else rng.integers(len(mask)))
    return np.array(actions)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
@pytest.mark.parametrize("name", SETTINGS)
def test_equals_gymnasiums_vector_of_scalar_environments(name: str, mode: AutoresetMode) -> None:
    settings = SETTINGS[name]
    theirs, ours = make_both(settings, mode)
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    rng = np.random.default_rng(0)
    got, want = ours.reset(seed=7), theirs.reset(seed=7)
    assert_same(got, want, "reset")
    ends = np.zeros(2, dtype=int)
    for number in range(STEPS):
        masks = ours.action_masks()
        np.testing.assert_array_equal(masks, np.stack(theirs.call("action_masks")))
        assert masks.any(axis=1).all()
        actions = choose(masks, rng)
        got, want = ours.step(actions), theirs.step(actions)
        assert_same(list(got), list(want), f"step {number}")
        assert ours.observation_space.contains(got[0])
        ends += got[2].sum(), got[3].sum()
        over = got[2] | got[3]
        if mode is AutoresetMode.DISABLED and over.any():
            assert_same(
                ours.reset(options={"reset_mask": over.copy()}), theirs.reset(options={"reset_mask": over}), "partial"
            )
    assert ends[0] > 0
    assert (ends[1] > 0) == ("max_episode_steps" in settings)
