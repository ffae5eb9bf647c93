"""The native vector environment: equal, step for step, to Gymnasium's own over scalar environments."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from vector_equality import assert_equal_steps

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


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
@pytest.mark.parametrize("name", SETTINGS)
def test_equals_gymnasiums_vector_of_scalar_environments(name: str, mode: AutoresetMode) -> None:
    settings = SETTINGS[name]
    theirs, ours = make_both(settings, mode)
    assert ours.action_space == theirs.action_space
    ends = assert_equal_steps(ours, theirs, STEPS)
    assert ends[0] > 0
    assert (ends[1] > 0) == ("max_episode_steps" in settings)
