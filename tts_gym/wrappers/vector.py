"""The wrappers for the native vector environment: as those of ``tts_gym.wrappers`` do to each environment alone.

Each equals, step for step and in every autoreset mode, ``SyncVectorEnv`` over scalar environments in the scalar
wrapper of that name: observations, rewards, flags, infos, ``final_obs`` and ``final_info``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from tts_gym.envs.vector import TTSReplayVectorEnv
from tts_gym.errors import UsageError
from tts_gym.wrappers.base import dict_space, joined
from tts_gym.wrappers.beta_conditioning import HIGH, LOW, Betas, appends, checked_beta, conditioned, conditioned_space
from tts_gym.wrappers.mask_in_observation import mask_space
from tts_gym.wrappers.record_traces import TraceLog, make_trace

__all__ = ["BetaConditioning", "MaskInObservation", "RecordTraces"]

_Stepped = tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]


class _NativeWrapper(VectorWrapper[Any, Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Wraps :class:`TTSReplayVectorEnv`, perhaps wrapped already; keeps its ``action_masks`` at hand."""

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        base = getattr(env, "unwrapped", env)
        if not isinstance(base, TTSReplayVectorEnv):
            raise UsageError(
                f"{type(self).__name__} wraps TTSReplayVectorEnv, found {base}; "
                f"for scalar environments take tts_gym.wrappers.{type(self).__name__}"
            )
        VectorWrapper.__init__(self, env)
        self._base = base
        self._mode = AutoresetMode(env.metadata["autoreset_mode"])

    def action_masks(self) -> NDArray[np.bool_]:
        """bool[K, A]: which actions are legal now."""
        return self._base.action_masks()

    def _set_space(self, single: gym.Space[Any]) -> None:
        self.single_observation_space = single
        self.observation_space = batch_space(single, self.num_envs)

    def _reset(
        self, seed: int | Sequence[int | None] | None, options: dict[str, Any] | None
    ) -> tuple[Any, dict[str, Any], NDArray[np.bool_]]:
        """Reset what is below; returns also bool[K], the environments that this was of."""
        mask = (options or {}).get("reset_mask")  # looked up first: some wrappers of Gymnasium's take it out
        observations, infos = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        return observations, infos, np.ones(self.num_envs, dtype=np.bool_) if mask is None else mask.copy()


class BetaConditioning(_NativeWrapper):
    """Each episode of each environment has a beta in [0, 1]; see :class:`tts_gym.wrappers.BetaConditioning`.

    ``options["beta"]`` of a reset is a number or K of them. ``infos["beta"]`` is float64[K].

    A new beta comes with a new episode: in ``NextStep`` mode with the step that resets, in ``SameStep`` mode with the
    step that ends, whose ``final_obs`` and ``final_info`` have the old one.

    Args:
        env: :class:`TTSReplayVectorEnv`, perhaps wrapped.
        beta: ``"uniform"``; a number, for that beta always; or a list of numbers to draw from.
        low: cost weight at beta 1, reward per token.
        high: cost weight at beta 0, reward per token.

    Raises:
        UsageError: another environment, or a bad argument or ``beta`` option.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        beta: str | float | Sequence[float] = "uniform",
        *,
        low: float = LOW,
        high: float = HIGH,
    ) -> None:
        super().__init__(env)
        self._betas = Betas(env.num_envs, beta, low, high)
        gym.utils.RecordConstructorArgs.__init__(self, beta=self._betas.source, low=low, high=high)
        self._appended = appends(env.single_observation_space)
        self._set_space(conditioned_space(env.single_observation_space))
        self._over = np.zeros(self.num_envs, dtype=np.bool_)  # whose next step only resets

    @property
    def betas(self) -> NDArray[np.float64]:
        """float64[K]: beta of each environment's present episode; 0 before its first."""
        return self._betas.now.copy()

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin episodes; ``options["beta"]`` asks for their betas, the others go on to the environment."""
        options = dict(options or {})
        asked = self._asked(options.pop("beta")) if "beta" in options else None
        observations, infos, wanted = self._reset(seed, options or None)
        for k in np.flatnonzero(wanted).tolist():
            self._betas.seed(k, _seed_of(seed, k))
        self._begin(wanted, asked)
        self._over[wanted] = False
        infos["beta"], infos["_beta"] = np.where(wanted, self._betas.now, 0.0), wanted
        return self._conditioned(observations), infos

    def step(self, actions: Any) -> _Stepped:
        """One action in each environment."""
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        done = terminated | truncated
        if self._mode is AutoresetMode.SAME_STEP:
            if done.any():
                self._condition_ends(done, infos)
                self._begin(done, None)
        elif self._mode is AutoresetMode.NEXT_STEP:
            self._begin(self._over, None)
            self._over = done
        infos["beta"], infos["_beta"] = self.betas, np.ones(self.num_envs, dtype=np.bool_)
        return self._conditioned(observations), rewards, terminated, truncated, infos

    def _asked(self, betas: Any) -> list[float]:
        if np.ndim(betas) == 0:
            return [checked_beta(betas)] * self.num_envs
        if len(betas) != self.num_envs:
            raise UsageError(f"option beta should be one number or {self.num_envs} of them, found {len(betas)}")
        return [checked_beta(beta) for beta in betas]

    def _begin(self, fresh: NDArray[np.bool_], asked: list[float] | None) -> None:
        """Betas and cost weights for the episodes that have just begun."""
        weights = self._base.cost_weights
        for k in np.flatnonzero(fresh).tolist():
            weights[k] = self._betas.begin(k, None if asked is None else asked[k])

    def _condition_ends(self, done: NDArray[np.bool_], infos: dict[str, Any]) -> None:
        last, now = infos["final_obs"], self._betas.now
        for k in np.flatnonzero(done).tolist():
            last[k] = conditioned(last[k], now[k], self._appended)
        infos["final_info"]["beta"], infos["final_info"]["_beta"] = np.where(done, now, 0.0), done.copy()

    def _conditioned(self, observations: Any) -> Any:
        now = self._betas.now
        if not self._appended:
            return joined(observations, "beta", now.astype(np.float32)[:, None])
        wider = np.empty((self.num_envs, observations.shape[1] + 1), dtype=observations.dtype)
        wider[:, :-1], wider[:, -1] = observations, now
        return wider


class MaskInObservation(_NativeWrapper):
    """Observations become ``{"observation": ..., "action_mask": int8[K, A]}``.

    See :class:`tts_gym.wrappers.MaskInObservation`. The masks stay in ``infos`` too; each of ``final_obs`` has the
    mask of its episode's end.

    Args:
        env: :class:`TTSReplayVectorEnv`, perhaps wrapped.

    Raises:
        UsageError: another environment, or the observation has an ``action_mask`` already.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self._set_space(dict_space(env.single_observation_space, "action_mask", mask_space(env.single_action_space)))

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin episodes."""
        observations, infos, _ = self._reset(seed, options)
        return self._joined(observations), infos

    def step(self, actions: Any) -> _Stepped:
        """One action in each environment."""
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        if "final_obs" in infos:
            last, masks = infos["final_obs"], infos["final_info"]["action_mask"]
            for k in np.flatnonzero(infos["_final_obs"]).tolist():
                last[k] = joined(last[k], "action_mask", masks[k].copy())
        return self._joined(observations), rewards, terminated, truncated, infos

    def _joined(self, observations: Any) -> dict[str, Any]:
        return joined(observations, "action_mask", self.action_masks().view(np.int8))


class RecordTraces(_NativeWrapper):
    """Records every finished episode of every environment; see :class:`tts_gym.wrappers.RecordTraces` for a trace.

    Traces are in the order in which episodes end; those of one step in the order of their environments. The actions
    that a reset ignores (``NextStep`` mode) are in none.

    Args:
        env: :class:`TTSReplayVectorEnv`, perhaps wrapped.
        path: a JSON-lines file to append traces to, as they end. None for no file.
        keep: how many of the latest traces to keep in ``traces``; None for all.

    Attributes:
        traces: the kept traces, oldest first.

    Raises:
        UsageError: another environment, a bad ``keep``, or a ``path`` that cannot be written or whose last line is
            not whole.
    """

    def __init__(
        self, env: VectorEnv[Any, Any, Any], path: str | os.PathLike[str] | None = None, *, keep: int | None = None
    ) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, path=None if path is None else os.fspath(path), keep=keep)
        super().__init__(env)
        self._log = TraceLog(path, keep)
        self.traces = self._log.traces
        count = self.num_envs
        self._actions: NDArray[np.int64] = np.zeros((count, 64), dtype=np.int64)
        self._rewards: NDArray[np.float64] = np.zeros((count, 64))
        self._lengths = np.zeros(count, dtype=np.int64)
        self._episodes = np.zeros((3, count), dtype=np.int64)  # pool, question and order
        self._recording = np.zeros(count, dtype=np.bool_)
        self._over = np.zeros(count, dtype=np.bool_)  # whose next step only resets

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin episodes, and their traces."""
        observations, infos, wanted = self._reset(seed, options)
        self._begin(wanted)
        self._over[wanted] = False
        return observations, infos

    def step(self, actions: Any) -> _Stepped:
        """One action in each environment, noted."""
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        self._note(np.asarray(actions), rewards)
        done = terminated | truncated
        if done.any():
            last = infos["final_info"] if self._mode is AutoresetMode.SAME_STEP else infos
            ended = np.flatnonzero(done & self._recording).tolist()
            self._log.add([self._trace(k, bool(terminated[k]), bool(truncated[k]), last) for k in ended])
        if self._mode is AutoresetMode.SAME_STEP:
            self._begin(done)
        elif self._mode is AutoresetMode.NEXT_STEP:
            self._begin(self._over)
            self._over = done
        return observations, rewards, terminated, truncated, infos

    def _begin(self, fresh: NDArray[np.bool_]) -> None:
        if fresh.any():
            self._episodes[:, fresh] = self._base.replay.replayed[:, fresh]
            self._lengths[fresh] = 0
            self._recording |= fresh

    def _note(self, actions: NDArray[np.integer[Any]], rewards: NDArray[np.float64]) -> None:
        rows = np.flatnonzero(self._recording)
        at = self._lengths[rows]
        if len(rows) and at.max() == self._actions.shape[1]:
            twice = ((0, 0), (0, self._actions.shape[1]))
            self._actions, self._rewards = np.pad(self._actions, twice), np.pad(self._rewards, twice)
        self._actions[rows, at], self._rewards[rows, at] = actions[rows], rewards[rows]
        self._lengths[rows] += 1

    def _trace(self, k: int, terminated: bool, truncated: bool, last: dict[str, Any]) -> dict[str, Any]:
        length = int(self._lengths[k])
        info: dict[str, Any] = {
            key: last[key][k].item()
            for key in ("beta", "cost", "tokens", "probes", "correct")
            if key in last and last[f"_{key}"][k]
        }
        actions, rewards = self._actions[k, :length].tolist(), self._rewards[k, :length].tolist()
        return make_trace(self._base.replay, self._episodes[:, k], actions, rewards, terminated, truncated, info)


def _seed_of(seed: int | Sequence[int | None] | None, k: int) -> int | None:
    """The seed of environment k, as Gymnasium spreads one over many."""
    if seed is None:
        return None
    return int(seed) + k if isinstance(seed, int | np.integer) else seed[k]
