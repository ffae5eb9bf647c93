"""The native vector environment for Stable-Baselines3 and sb3-contrib, as the ``VecEnv`` they expect."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Unpack

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from tts_gym.envs.replay import PoolSpec, Settings, checked_weight
from tts_gym.envs.vector import TTSReplayVectorEnv
from tts_gym.errors import UsageError

try:
    from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvObs, VecEnvStepReturn
except ModuleNotFoundError as error:
    raise UsageError(
        "tts_gym.wrappers.sb3 needs stable-baselines3, not installed here: pip install 'tts-gym[agents]'"
    ) from error

# What one environment has, and where the vector environment has it.
_PER_ENVIRONMENT = {
    "cost_weight": "cost_weights",
    "beta": "betas",
    "np_random": "np_random",
    "np_random_seed": "np_random_seed",
}
_SHARED = {"action_space": "single_action_space", "observation_space": "single_observation_space"}
_METHODS = ("action_masks", "render")


class SB3VecEnv(VecEnv):
    """K environments ``TTSReplay-v0`` on the compiled engine, as a ``VecEnv``.

    ::

        from sb3_contrib import MaskablePPO
        from stable_baselines3.common.vec_env import VecMonitor
        from tts_gym.wrappers.sb3 import SB3VecEnv

        env = VecMonitor(SB3VecEnv.make(64, actions="rounds", max_episode_steps=200))
        MaskablePPO("MlpPolicy", env).learn(100_000)

    As ``DummyVecEnv`` over K scalar environments, but for what would cost time at every step: the info of a running
    episode is an empty dict. That of an episode's last step has

    | key | value |
    |---|---|
    | the scalar environment's info | its Python values; ``action_mask`` int8[A] |
    | ``terminal_observation`` | the last observation, before the reset |
    | ``TimeLimit.truncated`` | bool, truncated and not terminated |
    | ``is_success`` | bool, answered and correct; what Stable-Baselines3 logs as ``rollout/success_rate`` |

    Rewards are float32[K], dones bool[K]. ``reset_infos`` has the info of each environment's latest reset.
    ``set_options`` takes what ``reset`` does, one dict for all or one for each.

    ``env_method`` knows ``action_masks`` and ``render``. ``get_attr`` finds ``cost_weight``, ``beta`` (under
    ``BetaConditioning``), ``np_random`` and ``np_random_seed`` of each environment, and for all of them alike
    whatever the vector environment or its wrappers have. ``set_attr`` sets ``cost_weight``, best between episodes.

    Args:
        env: a :class:`TTSReplayVectorEnv` in ``SameStep`` mode with ``copy=True``, perhaps in wrappers like those of
            ``tts_gym.wrappers.vector``.

    Raises:
        UsageError: another environment or mode.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        base = getattr(env, "unwrapped", env)
        if not isinstance(base, TTSReplayVectorEnv):
            raise UsageError(f"SB3VecEnv takes a TTSReplayVectorEnv, perhaps wrapped; found {env}")
        mode = AutoresetMode(base.metadata["autoreset_mode"])
        if mode is not AutoresetMode.SAME_STEP:
            raise UsageError(f"SB3VecEnv needs autoreset_mode='SameStep', found '{mode.value}'")
        if not base.copy:
            raise UsageError("SB3VecEnv needs copy=True: algorithms keep observations while the next step is taken")
        self.env = env
        self._base = base
        self._actions: Any = None
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    @classmethod
    def make(
        cls,
        num_envs: int = 1,
        pool: PoolSpec | Sequence[PoolSpec] | None = None,
        *,
        max_episode_steps: int | None = None,
        num_threads: int = 1,
        render_mode: str | None = None,
        **settings: Unpack[Settings],
    ) -> SB3VecEnv:
        """K unwrapped environments; all arguments are those of :class:`TTSReplayVectorEnv`."""
        return cls(
            TTSReplayVectorEnv(
                num_envs,
                pool,
                autoreset_mode=AutoresetMode.SAME_STEP,
                max_episode_steps=max_episode_steps,
                num_threads=num_threads,
                render_mode=render_mode,
                **settings,
            )
        )

    # --- episodes ------------------------------------------------------------------------------------

    def reset(self) -> VecEnvObs:
        """Begin episodes everywhere, with the seeds and options set for it; both are used once."""
        seeds = None if all(seed is None for seed in self._seeds) else self._seeds
        alike: dict[frozenset[str], list[int]] = {}  # a reset takes an option for all of its environments or for none
        for k, options in enumerate(self._options):
            alike.setdefault(frozenset(options), []).append(k)
        for names, some in alike.items():
            options = {name: self._spread(name, some) for name in names}
            if len(some) < self.num_envs:
                options["reset_mask"] = np.isin(np.arange(self.num_envs), some)
            observations, infos = self.env.reset(seed=seeds, options=options or None)  # type: ignore[arg-type]
            for k, info in zip(some, _rows(infos, np.array(some)), strict=True):
                self.reset_infos[k] = info
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: NDArray[Any]) -> None:
        """Note the actions, int[K], of the next ``step_wait``."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Take the noted actions; ended episodes are followed by their next at once."""
        observations, rewards, terminated, truncated, infos = self.env.step(self._actions)
        dones = terminated | truncated
        # New dicts each step: wrappers like VecNormalize write into them.
        told: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if "final_info" in infos:
            self._tell_ends(told, np.flatnonzero(dones), truncated & ~terminated, infos)
        return observations, rewards.astype(np.float32), dones, told

    def close(self) -> None:
        """Close the environments."""
        self.env.close()

    def _spread(self, name: str, some: list[int]) -> list[Any]:
        """One value of an option per environment; those of no matter get any."""
        values = [self._options[some[0]][name]] * self.num_envs
        for k in some:
            values[k] = self._options[k][name]
        return values

    def _tell_ends(
        self, told: list[dict[str, Any]], ended: NDArray[np.intp], cut: NDArray[np.bool_], infos: dict[str, Any]
    ) -> None:
        ends = infos["final_info"]
        for key in ("episode", "_episode"):  # where Gymnasium's RecordEpisodeStatistics tells of an end
            if key in infos:
                ends[key] = infos.pop(key)
        for k, end, beginning in zip(ended.tolist(), _rows(ends, ended), _rows(infos, ended), strict=True):
            if cut[k]:  # nothing was answered
                end = {key: value for key, value in end.items() if ends[f"_{key}"][k]}
            end["terminal_observation"] = infos["final_obs"][k]
            end["TimeLimit.truncated"] = bool(cut[k])
            end["is_success"] = end.get("correct", False)
            told[k], self.reset_infos[k] = end, beginning

    # --- attributes and methods of the environments ----------------------------------------------------

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of each environment; AttributeError if there is none of that name."""
        some = list(self._get_indices(indices))
        if attr_name in _METHODS:
            return [partial(self._call_one, k, attr_name) for k in some]
        if attr_name in _PER_ENVIRONMENT:
            values = self._found(_PER_ENVIRONMENT[attr_name])
            return [values[k] for k in some]
        return [self._found(_SHARED.get(attr_name, attr_name))] * len(some)

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set ``cost_weight``, reward per token; everything else is shared and fixed."""
        if attr_name != "cost_weight":
            raise UsageError(f"only cost_weight can be set for each environment, found '{attr_name}'")
        self._base.cost_weights[list(self._get_indices(indices))] = checked_weight(value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """``action_masks`` (bool[A] each) or ``render`` of each environment, in one call for all of them."""
        if method_name not in _METHODS:
            raise AttributeError(f"env_method knows {' and '.join(_METHODS)}, found '{method_name}'")
        values = self._found(method_name)(*method_args, **method_kwargs)
        if values is None:
            values = [None] * self.num_envs
        return list(values) if indices is None else [values[k] for k in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """Whether a wrapper of the vector environment is a ``wrapper_class``; the same for each environment."""
        return [any(isinstance(layer, wrapper_class) for layer in self._layers())] * len(
            list(self._get_indices(indices))
        )

    def get_images(self) -> list[Any]:
        """The frame of each environment, uint8[height, width, 3]; None unless ``render_mode`` is ``rgb_array``."""
        return self.env_method("render") if self.render_mode == "rgb_array" else [None] * self.num_envs

    def _layers(self) -> list[Any]:
        layers: list[Any] = [self.env]
        while layers[-1] is not self._base:
            layers.append(layers[-1].env)
        return layers

    def _found(self, name: str) -> Any:
        """The attribute of the outermost layer that has it."""
        for layer in self._layers():
            if hasattr(layer, name):
                return getattr(layer, name)
        raise AttributeError(f"neither the vector environment nor its wrappers have '{name}'")

    def _call_one(self, k: int, name: str, *args: Any, **kwargs: Any) -> Any:
        return self.env_method(name, *args, indices=k, **kwargs)[0]


def _rows(infos: dict[str, Any], some: NDArray[np.intp]) -> list[dict[str, Any]]:
    """The infos of some environments, all of which have every key, as dicts of Python values."""
    keys = [key for key in infos if not key.startswith(("_", "final_"))]
    columns = (_values(infos[key], some) for key in keys)
    return [dict(zip(keys, row)) for row in zip(*columns, strict=True)]


def _values(column: Any, some: NDArray[np.intp]) -> list[Any]:
    if isinstance(column, dict):
        return _rows(column, some)
    part = column[some]
    return part.tolist() if part.ndim == 1 else list(part)
