"""The action mask as part of the observation, where RLlib and PettingZoo look for it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from tts_gym.errors import UsageError
from tts_gym.wrappers.base import dict_space, joined


class MaskInObservation(gym.Wrapper[dict[str, Any], Any, Any, Any], gym.utils.RecordConstructorArgs):
    """The observation becomes ``{"observation": ..., "action_mask": int8[A]}``; the mask stays in ``info`` too.

    The space is a ``Dict`` of the old space and ``Box(0, 1, (A,), int8)``. An observation that already is a dict, as
    :class:`BetaConditioning` makes of a grid, gains the entry ``action_mask`` beside its others.

    The twin for the vector environment is ``tts_gym.wrappers.vector.MaskInObservation``.

    Args:
        env: an environment with ``action_masks()``, itself or in one of its wrappers.

    Raises:
        UsageError: there are no masks, or the observation has an ``action_mask`` already.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        if not isinstance(env, gym.Env) or not env.has_wrapper_attr("action_masks"):
            raise UsageError(
                f"MaskInObservation wraps an environment with action_masks(), found {env}; "
                "for vector environments take tts_gym.wrappers.vector.MaskInObservation"
            )
        gym.utils.RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)
        self.observation_space = dict_space(env.observation_space, "action_mask", mask_space(env.action_space))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._joined(observation), info

    def step(self, action: Any) -> tuple[dict[str, Any], Any, bool, bool, dict[str, Any]]:
        """Take one action."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._joined(observation), reward, terminated, truncated, info

    def _joined(self, observation: Any) -> dict[str, Any]:
        mask = self.env.get_wrapper_attr("action_masks")()
        return joined(observation, "action_mask", mask.astype(np.int8))


def mask_space(actions: spaces.Space[Any]) -> spaces.Box:
    """Where the masks of ``actions`` lie."""
    if not isinstance(actions, spaces.Discrete):
        raise UsageError(f"MaskInObservation needs a Discrete action space, found {actions}")
    return spaces.Box(0, 1, (int(actions.n),), np.int8)
