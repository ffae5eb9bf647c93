"""``TTSReplay-v0``: one question after another, replayed from recorded branches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from tts_gym.envs import kernel
from tts_gym.envs.replay import Aggregation, PoolSpec, Replay
from tts_gym.errors import IllegalMove, UsageError


class TTSReplayEnv(gym.Env[NDArray[Any], np.int64]):
    """DOCSTRING"""

    metadata: dict[str, Any] = {  # noqa: RUF012 (as Gymnasium declares it)
        "render_modes": ["human", "rgb_array", "ansi"],
        "render_fps": 8,
    }

    def __init__(
        self,
        pool: PoolSpec | Sequence[PoolSpec] | None = None,
        *,
        max_branches: int = 64,
        budget: float | None = None,
        probe_cost: float = 0.0,
        cost_weight: float = 2.0**-20,
        actions: str = "atomic",
        observation: str = "features",
        grading: str = "exact",
        questions: Sequence[int] | Sequence[Sequence[int]] | None = None,
        orders: int | Sequence[int] = 1024,
        pool_weights: Sequence[float] | None = None,
        auto_probe: bool = False,
        answer_with_branch: bool = False,
        aggregation: Aggregation = "majority",
        patience: int = 3,
        strict: bool = False,
        render_mode: str | None = None,
    ) -> None:
        check_render_mode(render_mode, self.metadata["render_modes"])
        self.replay = Replay(
            1,
            pool,
            max_branches=max_branches,
            budget=budget,
            probe_cost=probe_cost,
            cost_weight=cost_weight,
            actions=actions,
            observation=observation,
            grading=grading,
            questions=questions,
            orders=orders,
            pool_weights=pool_weights,
            auto_probe=auto_probe,
            answer_with_branch=answer_with_branch,
            aggregation=aggregation,
            patience=patience,
            strict=strict,
            logged=render_mode is not None,
        )
        self.action_space = self.replay.action_space
        self.observation_space = self.replay.observation_space
        self.render_mode = render_mode
        self._running = False
        self._window: Any = None

    @property
    def cost_weight(self) -> float:
        """γ, reward lost per token. May be set between episodes."""
        return float(self.replay.cost_weights[0])

    @cost_weight.setter
    def cost_weight(self, weight: float) -> None:
        self.replay.cost_weights[0] = weight

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Begin an episode; see the class for ``options``."""
        super().reset(seed=seed)
        self.replay.begin(0, *self.replay.draw(self.np_random.random, options or {}))
        self._running = True
        if self.render_mode == "human":
            self.render()
        return self.replay.observations[0].copy(), self._info()

    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        """Take one action; see the class."""
        replay = self.replay
        if not self._running:
            raise gym.error.ResetNeeded("call reset() before step(): no episode has begun, or it has ended")
        action = check_action(action, replay.actions)
        if replay.strict and not replay.masks[0, action]:
            raise IllegalMove(replay.refusal(0, action))
        replay.taken[0] = action
        replay.choose()
        kernel.step_one(replay.address, 0)
        terminated = bool(replay.terminated[0])
        info = self._info()
        if terminated:
            self._running = False
            info.update(replay.last(0))
        if self.render_mode == "human":
            self.render()
        return replay.observations[0].copy(), float(replay.rewards[0]), terminated, False, info

    def action_masks(self) -> NDArray[np.bool_]:
        """bool[A]: which actions are legal now; at least one always is."""
        return self.replay.masks[0].astype(np.bool_)

    def render(self) -> Any:
        """The branches opened so far; see the class for what each mode returns."""
        if self.render_mode is None:
            gym.logger.warn("render() was called without a render_mode; give one to gym.make, e.g. 'rgb_array'")
            return None
        return None

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            self._window.close()
            self._window = None

    def _info(self) -> dict[str, Any]:
        replay = self.replay
        return {
            "action_mask": replay.masks[0].copy(),
            "cost": float(replay.cost[0]),
            "tokens": int(replay.tokens[0]),
            "probes": int(replay.probes[0]),
            "illegal": bool(replay.illegal[0]),
        }


def check_render_mode(mode: str | None, modes: Sequence[str]) -> None:
    """Raise UsageError for a render mode that is not offered."""
    if mode is not None and mode not in modes:
        raise UsageError(f"render_mode should be None or one of {', '.join(modes)}, found {mode!r}")


def check_action(action: Any, count: int) -> int:
    """``action`` as an int in the action space."""
    if isinstance(action, int | np.integer) or (isinstance(action, np.ndarray) and action.shape == ()):
        number = int(action)
        if 0 <= number < count:
            return number
    raise UsageError(f"an action should be a whole number from 0 to {count - 1}, found {action!r}")
