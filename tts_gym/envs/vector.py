"""The native vector environment of ``TTSReplay-v0``: many episodes at a time on the compiled engine."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any, Unpack

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from tts_gym.envs import kernel, rendering
from tts_gym.envs import layout as at
from tts_gym.envs.replay import (
    ENDED_WITH,
    RESET_OPTIONS,
    SETTINGS,
    PoolSpec,
    Replay,
    Settings,
    check_options,
    flag,
    whole_number,
)
from tts_gym.envs.scene import text
from tts_gym.envs.tts_replay import check_render_mode, unknown_action
from tts_gym.errors import IllegalMove, UsageError
from tts_gym.names import nearest

_MODES = {
    AutoresetMode.NEXT_STEP: at.NEXT_STEP,
    AutoresetMode.SAME_STEP: at.SAME_STEP,
    AutoresetMode.DISABLED: at.DISABLED,
}
_LEAST_PER_THREAD = 512  # fewer environments are stepped sooner than a thread wakes up


class TTSReplayVectorEnv(VectorEnv[NDArray[Any], NDArray[np.int64], NDArray[Any]]):
    """K environments ``TTSReplay-v0``, stepped together; what one of them does is said in :class:`TTSReplayEnv`.

    Equal, step for step, to ``SyncVectorEnv`` over K scalar environments: observations, rewards, flags and
    infos (every key with its ``_key`` mask), seeds (environment k is seeded with ``seed + k``), all three
    autoreset modes and ``options={"reset_mask": bool[K]}``. The options ``pool``, ``question`` and ``order``
    may also be arrays with one entry per environment.

    Args:
        num_envs: K.
        pool: as in :class:`TTSReplayEnv`, like all further settings. All K environments share one copy.
        autoreset_mode: ``NextStep`` (the step after an end resets, and does nothing with its action), ``SameStep`` (the
            step that ends resets; the end is in ``infos["final_obs"]`` and ``infos["final_info"]``) or
            ``Disabled`` (``reset`` with a ``reset_mask``; stepping an ended environment raises ``ResetNeeded``).
        max_episode_steps: steps after which an episode is truncated, None for never; what the ``TimeLimit``
            wrapper is for the scalar environment.
        copy: whether observations, masks and all else that ``step`` returns are the caller's to keep. False is
            faster: the arrays are then this environment's own and change with the next step.
        num_threads: threads that step together; each takes at least 512 environments.
        render_mode: ``rgb_array`` or ``ansi``; ``render`` returns one frame per environment.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (as Gymnasium declares it)
        "render_modes": ["rgb_array", "ansi"],
        "render_fps": 8,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        pool: PoolSpec | Sequence[PoolSpec] | None = None,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        copy: bool = True,
        num_threads: int = 1,
        render_mode: str | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        try:
            mode = AutoresetMode(autoreset_mode)
        except ValueError:
            modes = ", ".join(each.value for each in AutoresetMode)
            raise UsageError(f"autoreset_mode should be one of {modes}, found {autoreset_mode!r}") from None
        check_render_mode(render_mode, self.metadata["render_modes"])
        for name, value in (("num_envs", num_envs), ("num_threads", num_threads)):
            whole_number(name, value, 1)
        flag("copy", copy)
        for name in settings:
            if name not in SETTINGS:
                hint = nearest(name, SETTINGS, "there are")
                raise TypeError(f"TTSReplayVectorEnv() got an unexpected keyword argument '{name}'{hint}")
        self.metadata = {**self.metadata, "autoreset_mode": mode}
        self.num_envs, self.render_mode, self.copy, self.num_threads = num_envs, render_mode, copy, num_threads
        self.replay = Replay(
            num_envs,
            pool,
            autoreset=_MODES[mode],
            max_steps=max_episode_steps,
            logged=render_mode is not None,
            **settings,
        )
        if mode is not AutoresetMode.DISABLED:
            self.replay.table_orders()
        self.single_observation_space = self.replay.observation_space
        self.single_action_space = self.replay.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._seeds: list[int | None] = [None] * num_envs
        self._begun = False  # whether every environment has had a reset
        self._all = np.ones(num_envs, dtype=np.bool_)
        self._threads: ThreadPoolExecutor | None = None

    # --- random numbers ----------------------------------------------------------------------------

    @property
    def np_random_seed(self) -> tuple[int | None, ...]:  # type: ignore[override]
        """The seed of each environment, None where it was never given."""
        return tuple(self._seeds)

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """A copy of each environment's random number generator, in its present state."""
        return tuple(_generator(words) for words in self.replay.random)

    def _seed(self, seed: int | Sequence[int | None] | None, wanted: NDArray[np.bool_]) -> None:
        random = self.replay.random
        fresh = wanted & ~random.any(axis=1)
        if seed is None:
            if fresh.any():  # PCG64 takes any state and any odd increment
                words = np.random.SeedSequence().generate_state(4 * int(fresh.sum()), np.uint64).reshape(-1, 4)
                words[:, 2] |= np.uint64(1)
                random[fresh] = words
            return
        if isinstance(seed, int | np.integer):
            seeds: Sequence[int | None] = [int(seed) + k for k in range(self.num_envs)]
        else:
            if not isinstance(seed, Sequence | np.ndarray):
                raise UsageError(f"seed should be a number or {self.num_envs} of them, found {seed!r}")
            seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise UsageError(f"seed should be a number or {self.num_envs} of them, found {len(seeds)}")
        for k in np.flatnonzero(wanted).tolist():
            own = seeds[k]
            if own is not None or fresh[k]:
                generator, _ = gym.utils.seeding.np_random(own)
                random[k] = _words(generator)
                self._seeds[k] = own

    # --- the two calls -------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Begin episodes in all environments, or in those that ``options["reset_mask"]`` (bool[K]) names."""
        options = {} if options is None else options
        check_options(options, (*RESET_OPTIONS, "reset_mask"))
        wanted = _reset_mask(options.get("reset_mask"), self.num_envs)
        asked = {name: _each(name, options[name], self.num_envs) for name in RESET_OPTIONS if name in options}
        replay = self.replay
        random, seeds = replay.random.copy(), list(self._seeds)
        try:
            self._seed(seed, wanted)
            if asked or not replay.has_orders:
                rows = np.flatnonzero(wanted).tolist()
                drawn = [
                    replay.draw(partial(replay.uniform, k), {name: values[k] for name, values in asked.items()})
                    for k in rows
                ]
        except Exception:
            replay.random[:], self._seeds = random, seeds
            raise
        if asked or not replay.has_orders:
            for k, episode in zip(rows, drawn, strict=True):
                replay.begin(k, *episode)
        else:
            kernel.begin_many(replay.address, wanted.ctypes.data)
        for array in (replay.terminated, replay.truncated, replay.correct, replay.final.T):
            array[wanted] = 0
        self._begun = self._begun or bool(replay.started.all())
        infos = self._infos()
        if not wanted.all():
            infos = {key: wanted.copy() if key[0] == "_" else _only(array, wanted) for key, array in infos.items()}
        return self._kept(replay.observations), infos

    def step(
        self, actions: NDArray[np.integer[Any]] | Sequence[int]
    ) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """One action in each environment."""
        replay = self.replay
        try:
            taken = np.asarray(actions)
        except ValueError:  # lists of several lengths
            raise UsageError(f"actions should be {self.num_envs} whole numbers, found {actions!r}") from None
        if taken.shape != (self.num_envs,) or taken.dtype.kind not in "iu":
            raise UsageError(
                f"actions should be {self.num_envs} whole numbers, found {taken.dtype} of shape {taken.shape}"
            )
        if taken.dtype == np.uint64 and (k := int(taken.argmax())) >= 0 and taken[k] >= replay.actions:
            raise UsageError(f"environment {k}: {unknown_action(taken[k], replay.actions)}")
        replay.taken[:] = taken
        if not self._begun or (problem := kernel.refused(replay.address)):
            raise self._refusal(problem if self._begun else 0)
        replay.choose()
        ended = self._step_all()
        infos = self._infos()
        if ended:
            self._add_ends(infos)
        kept = self._kept
        return (
            kept(replay.observations), kept(replay.rewards), kept(replay.terminated), kept(replay.truncated), infos
        )  # fmt: skip

    def action_masks(self) -> NDArray[np.bool_]:
        """bool[K, A]: which actions are legal now; in each environment at least one is."""
        return self.replay.masks.astype(np.bool_)

    @property
    def cost_weights(self) -> NDArray[np.float64]:
        """float64[K], γ of each environment, reward lost per token. May be written between episodes."""
        return self.replay.cost_weights

    def render(self) -> tuple[Any, ...] | None:
        """One frame per environment; see :class:`TTSReplayEnv`."""
        if self.render_mode is None:
            gym.logger.warn("render() was called without a render_mode; give one to gym.make_vec, e.g. 'rgb_array'")
            return None
        show = text if self.render_mode == "ansi" else rendering.picture
        return tuple(show(self.replay.scene(k)) for k in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """End the threads."""
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_threads": None}

    # --- parts of a step -----------------------------------------------------------------------------

    def _refusal(self, problem: int) -> Exception:
        """What is wrong with the first action that cannot be taken; ``problem`` is what ``kernel.refused`` said."""
        replay = self.replay
        k, what = divmod(problem, kernel.PROBLEMS)
        if not self._begun:
            k = int(np.argmin(replay.started))
            return gym.error.ResetNeeded(f"call reset() before step(): environment {k} has no episode")
        if what == kernel.UNKNOWN_ACTION:
            return UsageError(f"environment {k}: {unknown_action(replay.taken[k], replay.actions)}")
        if what == kernel.WAITS_FOR_RESET:
            return gym.error.ResetNeeded(f"the episode of environment {k} has ended; reset it with a reset_mask")
        return IllegalMove(f"environment {k}: {replay.refusal(k, int(replay.taken[k]))}")

    def _step_all(self) -> int:
        count, address = self.num_envs, self.replay.address
        parts = min(self.num_threads, count // _LEAST_PER_THREAD)
        if parts < 2:
            return kernel.step(address, 0, count)
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self.num_threads - 1, thread_name_prefix="tts-gym")
        cuts = [count * part // parts for part in range(parts + 1)]
        others = [self._threads.submit(kernel.step, address, *cut) for cut in pairwise(cuts[1:])]
        return kernel.step(address, cuts[0], cuts[1]) + sum(other.result() for other in others)

    def _kept(self, array: NDArray[Any]) -> NDArray[Any]:
        return array.copy() if self.copy else array

    def _infos(self) -> dict[str, Any]:
        """What every step tells of every environment."""
        replay, kept = self.replay, self._kept
        infos: dict[str, Any] = {}
        for key, array in (
            ("action_mask", replay.masks), ("cost", replay.cost), ("tokens", replay.tokens), ("probes", replay.probes),
            ("illegal", replay.illegal),
        ):  # fmt: skip
            infos[key], infos[f"_{key}"] = kept(array), kept(self._all)
        return infos

    def _add_ends(self, infos: dict[str, Any]) -> None:
        """What is told of the episodes that ended: beside the usual, or in ``final_info`` where they were reset."""
        replay, kept = self.replay, self._kept
        ends: dict[str, Any] = {}
        if replay.terminated.any():
            ends["correct"], ends["_correct"] = kept(replay.correct), kept(replay.terminated)
            for key, slot in ENDED_WITH.items():
                told = replay.final[slot]
                ends[key] = kept(told) if replay.max_steps is None else np.where(replay.terminated, told, 0)
                ends[f"_{key}"] = kept(replay.terminated)
        if self.metadata["autoreset_mode"] is not AutoresetMode.SAME_STEP:
            infos.update(ends)
            return
        done = replay.terminated | replay.truncated
        for key, array in (
            ("action_mask", np.where(done[:, None], replay.final_masks, np.int8(0))),
            ("cost", replay.final[at.F_COST].view(np.float64)),
            ("tokens", replay.final[at.F_TOKENS]),
            ("probes", replay.final[at.F_PROBES]),
            ("illegal", replay.final[at.F_ILLEGAL] != 0),
        ):
            ends[key], ends[f"_{key}"] = kept(array), done.copy()
        last = np.full(self.num_envs, None, dtype=object)
        for k in np.flatnonzero(done):
            last[k] = replay.final_observations[k].copy()
        infos["final_obs"], infos["_final_obs"] = last, done
        infos["final_info"], infos["_final_info"] = ends, done.copy()


def _only(array: NDArray[Any], given: NDArray[np.bool_]) -> NDArray[Any]:
    """A copy that is 0 where nothing is given, as Gymnasium's infos are."""
    kept = np.zeros(array.shape, dtype=array.dtype)
    kept[given] = array[given]
    return kept


def _reset_mask(mask: Any, count: int) -> NDArray[np.bool_]:
    if mask is None:
        return np.ones(count, dtype=np.bool_)
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (count,) or not mask.any():
        raise UsageError(
            f"reset_mask should be a bool array of shape ({count},) with at least one True, found {mask!r}"
        )
    return mask.copy()  # it may be one of our own arrays, which a reset clears


def _each(name: str, value: Any, count: int) -> Sequence[Any]:
    """A reset option as one value per environment."""
    if (
        isinstance(value, str)
        or not isinstance(value, list | tuple | np.ndarray)
        or (isinstance(value, np.ndarray) and value.ndim == 0)
    ):
        return [value] * count
    if len(value) != count:
        raise UsageError(f"option {name} should be one value or {count} of them, found {len(value)}")
    return list(value)


# --- PCG64 as four words: state and increment, low half first -----------------------------------------------

_LOW = (1 << 64) - 1


def _words(generator: np.random.Generator) -> NDArray[np.uint64]:
    inner = generator.bit_generator.state["state"]
    numbers = (inner["state"] & _LOW, inner["state"] >> 64, inner["inc"] & _LOW, inner["inc"] >> 64)
    return np.array(numbers, dtype=np.uint64)


def _generator(words: NDArray[np.uint64]) -> np.random.Generator:
    low, high, low_increment, high_increment = (int(word) for word in words)
    bits = np.random.PCG64()
    state = bits.state
    state["state"] = {"state": (high << 64) | low, "inc": (high_increment << 64) | low_increment}
    bits.state = state
    return np.random.Generator(bits)
