"""One policy for the whole frontier: beta sets what an episode's tokens cost, and is observed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from tts_gym.errors import UsageError
from tts_gym.wrappers.base import dict_space, joined, replay_env

LOW, HIGH = 2.0**-22, 2.0**-14


def cost_weight(beta: float, *, low: float = LOW, high: float = HIGH) -> float:
    """The cost weight γ of a beta: ``high * (low / high) ** beta``, in reward per token.

    Falls from ``high`` at beta 0 to ``low`` at beta 1, evenly on a logarithmic scale: the larger beta, the less a
    token costs, the larger the token envelope. By default one right answer weighs as much as 16,384 tokens at 0,
    262,144 at 0.5 and 4,194,304 at 1.

    Raises:
        UsageError: beta is not from 0 to 1, or not ``0 < low < high``.
    """
    if not 0 < low < high < math.inf:
        raise UsageError(f"low and high should be cost weights with 0 < low < high, found {low} and {high}")
    return float(high * (low / high) ** checked_beta(beta))


class BetaConditioning(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Each episode has a beta in [0, 1]; it sets the environment's cost weight and is observed.

    A policy trained so learns the whole frontier, and is asked for a point of it by ``reset(options={"beta": 0.3})``.

    Observation: where it is a one-dimensional ``Box`` of floats, beta is appended as the last number; any other
    becomes ``{"observation": ..., "beta": float32[1]}``, and a dict gains the entry ``beta``. ``info["beta"]`` is a
    float, always. The cost weight is ``cost_weight(beta, low=low, high=high)`` and only ever changes at a reset.

    Randomness: betas come from a generator of their own, ``np.random.default_rng`` of the first child of the seed
    sequence that the environment's generator is made from (``SeedSequence(seed, spawn_key=(0,))``). Every reset
    takes one ``random()`` u from it, whatever is asked: beta is u, or entry ``int(u * n)`` of a list of n. So the
    same seed gives the same questions and orders with and without this wrapper, and the same betas whatever the
    environment draws. Environment k of the vector twin (``tts_gym.wrappers.vector.BetaConditioning``) with the seed
    s draws what this one draws with s + k.

    It belongs inside ``gymnasium.wrappers.Autoreset``, whose resets it would not see from outside.

    Args:
        env: ``TTSReplay-v0``, perhaps wrapped.
        beta: ``"uniform"``; a number, for that beta always; or a list of numbers to draw from.
        low: cost weight at beta 1, reward per token.
        high: cost weight at beta 0, reward per token.

    Raises:
        UsageError: another environment, or a bad argument or ``beta`` option.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        beta: str | float | Sequence[float] = "uniform",
        *,
        low: float = LOW,
        high: float = HIGH,
    ) -> None:
        self._base = replay_env(env, "BetaConditioning")
        self._betas = Betas(1, beta, low, high)
        gym.utils.RecordConstructorArgs.__init__(self, beta=self._betas.source, low=low, high=high)
        gym.Wrapper.__init__(self, env)
        self._appended = appends(env.observation_space)
        self.observation_space = conditioned_space(env.observation_space)

    @property
    def beta(self) -> float:
        """Beta of the present episode; 0 before the first."""
        return float(self._betas.now[0])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; ``options["beta"]`` asks for its beta, the others go on to the environment."""
        options = dict(options or {})
        asked = checked_beta(options.pop("beta")) if "beta" in options else None
        observation, info = self.env.reset(seed=seed, options=options or None)
        self._betas.seed(0, seed)
        self._base.cost_weight = self._betas.begin(0, asked)
        return self._with_beta(observation, info)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take one action."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        observation, info = self._with_beta(observation, info)
        return observation, reward, terminated, truncated, info

    def _with_beta(self, observation: Any, info: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        info["beta"] = self.beta
        return conditioned(observation, self.beta, self._appended), info


class Betas:
    """The betas of ``count`` environments: where they come from, and which holds now.

    Attributes:
        source: ``"uniform"``, a float or a list of floats.
        now: float64[K], beta of each environment's present episode; 0 before its first.
    """

    def __init__(self, count: int, source: str | float | Sequence[float], low: float, high: float) -> None:
        cost_weight(0.0, low=low, high=high)  # bad bounds are refused here
        if isinstance(source, str):
            if source != "uniform":
                raise UsageError(f"beta should be 'uniform', a number from 0 to 1 or a list of them, found {source!r}")
            self.source: str | float | list[float] = source
        elif np.ndim(source) == 0:
            self.source = checked_beta(source)
        else:
            self.source = [checked_beta(beta) for beta in source]  # type: ignore[union-attr]
            if not self.source:
                raise UsageError(
                    "beta should be 'uniform', a number from 0 to 1 or a list of them, found an empty list"
                )
        self.low, self.high = low, high
        self.now = np.zeros(count)
        self._generators: dict[int, np.random.Generator] = {}

    def seed(self, k: int, seed: int | None) -> None:
        """A new generator for environment k if it is given a seed, or has none yet."""
        if seed is not None or k not in self._generators:
            self._generators[k] = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))

    def begin(self, k: int, asked: float | None) -> float:
        """The beta of a new episode of environment k, drawn unless asked for; returns its cost weight."""
        draw = self._generators[k].random()
        if asked is not None:
            beta = asked
        elif isinstance(self.source, list):
            beta = self.source[int(draw * len(self.source))]
        else:
            beta = self.source if isinstance(self.source, float) else draw
        self.now[k] = beta
        return cost_weight(beta, low=self.low, high=self.high)


def checked_beta(beta: Any) -> float:
    """``beta`` as a float from 0 to 1."""
    if isinstance(beta, np.ndarray) and beta.ndim == 0:
        beta = beta.item()
    if not isinstance(beta, int | float | np.integer | np.floating) or not 0 <= beta <= 1:
        raise UsageError(f"beta should be a number from 0 to 1, found {beta!r}")
    return float(beta)


# --- beta in the observation ---------------------------------------------------------------------------


def appends(space: spaces.Space[Any]) -> bool:
    """Whether beta is appended to an observation of ``space``, not an entry of its own."""
    return isinstance(space, spaces.Box) and len(space.shape) == 1 and np.issubdtype(space.dtype, np.floating)


def conditioned_space(space: spaces.Space[Any]) -> spaces.Box | spaces.Dict:
    """The space of what :func:`conditioned` returns."""
    if isinstance(space, spaces.Box) and appends(space):
        low, high = (_appended(bound, beta) for bound, beta in ((space.low, 0.0), (space.high, 1.0)))
        return spaces.Box(low, high, dtype=low.dtype.type)
    return dict_space(space, "beta", spaces.Box(0.0, 1.0, (1,), np.float32))


def conditioned(observation: Any, beta: float, append: bool) -> Any:
    """One environment's observation with its beta."""
    if append:
        return _appended(observation, beta)
    return joined(observation, "beta", np.array([beta], dtype=np.float32))


def _appended(values: NDArray[np.floating[Any]], last: float) -> NDArray[np.floating[Any]]:
    longer = np.empty(len(values) + 1, dtype=values.dtype)
    longer[:-1], longer[-1] = values, last
    return longer
