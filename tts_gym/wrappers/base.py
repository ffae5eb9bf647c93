"""What the wrappers have in common: the environment below them, and observations that are dicts."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium import spaces

from tts_gym.envs.tts_replay import TTSReplayEnv
from tts_gym.errors import UsageError


def replay_env(env: gym.Env[Any, Any], wrapper: str) -> TTSReplayEnv:
    """The environment under all wrappers."""
    base = getattr(env, "unwrapped", env)
    if not isinstance(base, TTSReplayEnv):
        raise UsageError(
            f"{wrapper} wraps TTSReplay-v0, found {base}; "
            f"for vector environments take tts_gym.wrappers.vector.{wrapper}"
        )
    return base


def dict_space(space: spaces.Space[Any], key: str, entry: spaces.Box) -> spaces.Dict:
    """The space of what :func:`joined` returns."""
    parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {"observation": space}
    if key in parts:
        raise UsageError(f"the observation already has '{key}': {space}")
    return spaces.Dict({**parts, key: entry})


def joined(observation: Any, key: str, entry: Any) -> dict[str, Any]:
    """A dict observation with one more entry, or a new dict with the key ``observation`` for any other."""
    parts = observation if isinstance(observation, dict) else {"observation": observation}
    return {**parts, key: entry}
