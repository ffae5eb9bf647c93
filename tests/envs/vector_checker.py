"""What Gymnasium promises of any vector environment, checked of one: ``check_vector_env``.

The checkers of Gymnasium and of Stable-Baselines3 know single environments only. This one plays the same actions in
every autoreset mode and writes down what each environment told: how it began, and what came of each action. All
modes must tell the same story; they differ only in when a reset happens and where an end is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Any, TypeAlias

import numpy as np
from gymnasium import Space
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate
from numpy.typing import NDArray

Make: TypeAlias = Callable[[AutoresetMode, bool], VectorEnv[Any, Any, Any]]
"""Makes a vector environment with an autoreset mode; the flag is ``copy``."""
Event: TypeAlias = tuple[Any, ...]
"""A beginning (observation, info), or a step (observation, reward, terminated, truncated, info)."""
LEGAL = 0.9  # share of actions that are drawn from ``infos["action_mask"]``, where there is one


def check_vector_env(make: Make, *, steps: int = 40, seed: int = 11, seed_matters: bool = True) -> None:
    """Raise AssertionError where a vector environment breaks a promise.

    Args:
        make: makes it; every environment has to be equal, and to end an episode now and then under random actions.
        steps: calls of ``step`` in each of a dozen runs.
        seed: of the first environment; the others have the next ones.
        seed_matters: whether episodes depend on the seed.
    """
    stories: dict[AutoresetMode, list[list[Event]]] = {}
    for mode in AutoresetMode:
        env = make(mode, True)
        check_attributes(env, mode)
        played = Run(env, seed, steps)
        assert played.ends, f"{mode.value}: no episode ended in {steps} steps, so that nothing can be said"
        stories[mode] = played.stories
        where = f"{mode.value}: "
        same(played, Run(make(mode, True), seed, steps), where + "the same seed gave something else")
        seeds = range(seed, seed + env.num_envs)
        same(played, Run(make(mode, True), list(seeds), steps), where + f"seed={seed} is not seed={list(seeds)}")
        differs = not told_alike(played, Run(make(mode, True), seed + 1000, steps))
        assert differs == seed_matters, f"{where}whether another seed gives something else: {differs}"
        again = Run(make(mode, True), seed, steps, ignored=2)
        same(played, again, where + "the action of a step that only resets was not ignored")
        written = Run(make(mode, True), seed, steps, overwrites=True)
        same(played, written, where + "what was written into returned arrays reached the environment")
        unfinished = make(mode, True)
        Run(unfinished, seed + 1, steps, until_end=True)
        same(played, Run(unfinished, seed, steps), where + "reset(seed=...) did not begin everything anew")
        shared = Run(make(mode, False), seed, steps, keeps=False)
        same(played, shared, where + "copy=False gave something else")
        assert shared.one_memory, where + "copy=False, but observations of two calls do not share memory"
        check_close(env, where)
    for mode, told in stories.items():
        for k, (one, other) in enumerate(zip(told, stories[AutoresetMode.DISABLED], strict=True)):
            both = min(len(one), len(other))
            assert both > steps // 3
            assert data_equivalence(one[:both], other[:both], exact=True), (
                f"environment {k} tells something else in {mode.value} than in Disabled: {first_difference(one, other)}"
            )
    check_disabled(make(AutoresetMode.DISABLED, True), seed)
    for mode in AutoresetMode:
        check_reset_mask(make(mode, True), seed)


# --- one run ---------------------------------------------------------------------------------------------


class Run:
    """Plays random actions, the same ones whatever the mode, and checks the form of all that is returned.

    Args:
        until_end: stop at the first end, its environment not yet reset.
        ignored: seed of the actions given where they should be ignored.
        overwrites: overwrite everything returned at once.
        keeps: keep everything returned, and find it unchanged at the end.

    Attributes:
        stories: for each environment, its events.
        ends: how many episodes ended.
        one_memory: whether all observations shared memory.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        seed: int | list[int],
        steps: int,
        *,
        until_end: bool = False,
        ignored: int = 1,
        overwrites: bool = False,
        keeps: bool = True,
    ) -> None:
        self.env, self.mode = env, env.metadata["autoreset_mode"]
        self.overwrites, self.keeps = overwrites, keeps
        self.ends, self.one_memory = 0, True
        self._kept: list[tuple[Any, Any]] = []
        self._memory: list[NDArray[Any]] = []
        space = env.single_action_space
        self._elsewhere = seeded(space, ignored)
        self._players = [(seeded(space, 100 + k), np.random.default_rng(k)) for k in range(env.num_envs)]

        self.rows, self.infos = self._reset(seed=seed)
        self.stories: list[list[Event]] = [[begun] for begun in zip(self.rows, self.infos, strict=True)]
        waits = np.zeros(env.num_envs, dtype=np.bool_)  # whose next step only resets
        for _ in range(steps):
            ended = self._play_step(waits)
            self.ends += int(ended.sum())
            if until_end and ended.any():
                break
            if self.mode is AutoresetMode.DISABLED and ended.any():
                self._reset_some(ended)
            elif self.mode is AutoresetMode.NEXT_STEP:
                waits = ended
        for now, then in self._kept:
            assert data_equivalence(now, then, exact=True), "something returned earlier has changed"

    def _choose(self, k: int) -> Any:
        (space, dice), mask = self._players[k], self.infos[k].get("action_mask")
        return space.sample() if mask is None or dice.random() >= LEGAL else space.sample(mask=mask)

    def _play_step(self, waits: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """One step, written down. Returns whose episodes ended."""
        chosen = [self._elsewhere.sample() if waiting else self._choose(k) for k, waiting in enumerate(waits)]
        self.rows, rewards, terminated, truncated, self.infos, finals = self._step(chosen)
        for flags, what in ((rewards != 0, "reward"), (terminated, "terminated"), (truncated, "truncated")):
            assert not (flags & waits).any(), f"{what} at a step that only resets"
        ended: NDArray[np.bool_] = terminated | truncated
        expected = np.flatnonzero(ended).tolist() if self.mode is AutoresetMode.SAME_STEP else []
        assert [*finals] == expected, f"{self.mode.value}: final_obs should be told of {expected}, found {[*finals]}"
        for k, story in enumerate(self.stories):
            now = (self.rows[k], self.infos[k])
            if not waits[k]:
                observation, info = finals.get(k, now)
                story.append((observation, rewards[k], terminated[k], truncated[k], info))
            if waits[k] or k in finals:
                story.append(now)
        return ended

    def _reset_some(self, wanted: NDArray[np.bool_]) -> None:
        """Reset those that ended, and see that no other was."""
        before, old = self.rows, self.infos
        self.rows, self.infos = self._reset(options={"reset_mask": wanted.copy()})
        for k, story in enumerate(self.stories):
            if wanted[k]:
                story.append((self.rows[k], self.infos[k]))
            else:
                assert data_equivalence(before[k], self.rows[k], exact=True), f"environment {k} was not to be reset"
                assert self.infos[k] == {}, f"environment {k} was not reset, but there are infos of it"
                self.infos[k] = old[k]

    def _reset(self, **arguments: Any) -> tuple[list[Any], list[dict[str, Any]]]:
        returned = self.env.reset(**arguments)
        assert isinstance(returned, tuple) and len(returned) == 2, "reset should return (observations, infos)"
        told = self._rows(returned[0]), self._infos(returned[1])
        self._keep(returned)
        return told

    def _step(self, chosen: Sequence[Any]) -> tuple[list[Any], Any, Any, Any, list[dict[str, Any]], dict[int, Any]]:
        """What a step returned: rows, arrays, infos by environment, and (observation, info) of those that ended."""
        space, count = self.env.single_action_space, self.env.num_envs
        returned = self.env.step(concatenate(space, chosen, empty(space, count)))
        assert isinstance(returned, tuple) and len(returned) == 5, "step should return five things"
        observations, *arrays, infos = returned
        dtypes = (np.float64, np.bool_, np.bool_)
        for array, name, dtype in zip(arrays, ("rewards", "terminated", "truncated"), dtypes, strict=True):
            assert isinstance(array, np.ndarray), f"{name} should be an array, found {array!r}"
            found = (array.dtype, array.shape)
            assert found == (dtype, (count,)), f"{name} should be {dtype.__name__}[{count}], found {found}"
        rows, told = self._rows(observations), self._infos(infos)
        rewards, terminated, truncated = (array.copy() for array in arrays)
        ended = terminated | truncated
        finals = {}
        if "final_obs" in infos:
            for key in ("_final_obs", "_final_info"):
                assert key in infos and (infos[key] == ended).all(), f"{key} should be {ended}, found {infos.get(key)}"
            space = self.env.single_observation_space
            for k in np.flatnonzero(ended).tolist():
                last = told[k].pop("final_obs")
                assert space.contains(last), f"final_obs of environment {k} is not in {space}"
                finals[k] = (as_row(space, last), told[k].pop("final_info"))
        self._keep(returned)
        return rows, rewards, terminated, truncated, told, finals

    def _rows(self, observations: Any) -> list[Any]:
        space, memory = self.env.observation_space, list(arrays_in(observations))
        assert space.contains(observations), f"observations are not in {space}"
        rows = deepcopy(list(iterate(space, observations)))
        for array, like in zip(memory, arrays_in(empty(self.env.single_observation_space, len(rows))), strict=True):
            assert (array.dtype, array.shape) == (like.dtype, like.shape)
        if self._memory:
            self.one_memory &= all(map(np.shares_memory, memory, self._memory))
        self._memory = memory
        return rows

    def _infos(self, infos: Any) -> list[dict[str, Any]]:
        check_infos(infos, np.ones(self.env.num_envs, dtype=np.bool_))
        return [deepcopy(info_of(infos, k)) for k in range(self.env.num_envs)]

    def _keep(self, returned: Any) -> None:
        if self.overwrites:
            for array in arrays_in(returned):
                array[...] = array.dtype.type(1)
        elif self.keeps:
            self._kept.append((returned, deepcopy(returned)))


def empty(space: Space[Any], count: int) -> Any:
    """A batch to write into."""
    return create_empty_array(space, count)


def as_row(space: Space[Any], observation: Any) -> Any:
    """One observation as it would stand in a batch: with the dtypes of the space."""
    batch = concatenate(space, [observation], empty(space, 1))
    return deepcopy(next(iter(iterate(batch_space(space, 1), batch))))


def seeded(space: Space[Any], seed: int) -> Space[Any]:
    """A copy of a space with random numbers of its own."""
    own = deepcopy(space)
    own.seed(seed)
    return own


def arrays_in(value: Any) -> Iterator[NDArray[Any]]:
    """Every array of numbers in nested tuples, dicts and arrays of objects."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        yield value
    elif isinstance(value, dict | tuple | list | np.ndarray):
        for part in value.values() if isinstance(value, dict) else value:
            yield from arrays_in(part)


# --- infos -----------------------------------------------------------------------------------------------


def check_infos(infos: Any, possible: NDArray[np.bool_]) -> None:
    """Every key has its mask ``_key``, says something where that is True, and nothing (0, None) elsewhere."""
    assert isinstance(infos, dict), f"infos should be a dict, found {type(infos)}"
    count = len(possible)
    keys = {key for key in infos if not key.startswith("_")}
    assert {key for key in infos if key.startswith("_")} == {f"_{key}" for key in keys}, f"keys and masks: {[*infos]}"
    for key in keys:
        value, told = infos[key], infos[f"_{key}"]
        assert isinstance(told, np.ndarray) and told.dtype == np.bool_ and told.shape == (count,), f"_{key}: {told!r}"
        assert told.any(), f"{key} is told of no environment"
        assert not (told & ~possible).any(), f"{key} is told of too many environments"
        if isinstance(value, dict):
            check_infos(value, told)
            continue
        assert isinstance(value, np.ndarray) and len(value) == count, f"{key} should be an array of {count}"
        for k in range(count):
            if value.dtype == object:
                assert told[k] == (value[k] is not None), f"{key} of environment {k}: {value[k]!r}"
            else:
                assert told[k] or not np.any(value[k]), f"{key} of environment {k}, of which nothing is told"


def info_of(infos: dict[str, Any], k: int) -> dict[str, Any]:
    """What was told of environment k."""
    return {
        key: info_of(value, k) if isinstance(value, dict) else value[k]
        for key, value in infos.items()
        if not key.startswith("_") and infos[f"_{key}"][k]
    }


# --- the other checks ------------------------------------------------------------------------------------


def check_attributes(env: VectorEnv[Any, Any, Any], mode: AutoresetMode) -> None:
    """Spaces are those of one environment, batched; the mode is the one asked for."""
    assert isinstance(env, VectorEnv)
    named = env.metadata["autoreset_mode"]
    assert named is mode, f"metadata should say that the autoreset mode is {mode}, found {named}"
    assert env.num_envs > 1, "make more than one environment, or little can be told"
    assert env.observation_space == batch_space(env.single_observation_space, env.num_envs)
    assert env.action_space == batch_space(env.single_action_space, env.num_envs)
    assert not env.closed


def check_disabled(env: VectorEnv[Any, Any, Any], seed: int) -> None:
    """Without automatic resets an environment that has ended takes no action."""
    assert Run(env, seed, 10_000, until_end=True).ends
    try:
        env.step(env.action_space.sample())
    except Exception:
        env.close()
        return
    raise AssertionError("an environment whose episode had ended took an action")


def check_reset_mask(env: VectorEnv[Any, Any, Any], seed: int) -> None:
    """In every mode ``reset_mask`` resets those it names, with their seeds, and is refused if it is no mask."""
    count = env.num_envs
    observations, infos = env.reset(seed=seed)
    begun = [(row, info_of(infos, k)) for k, row in enumerate(iterate(env.observation_space, deepcopy(observations)))]
    for _ in range(3):
        before, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if env.metadata["autoreset_mode"] is AutoresetMode.DISABLED and (terminated | truncated).any():
            break  # no further without a reset
    before = deepcopy(before)
    wanted = np.arange(count) % 2 == 1
    after, infos = env.reset(seed=seed, options={"reset_mask": wanted.copy()})
    check_infos(infos, wanted)
    rows = zip(iterate(env.observation_space, before), iterate(env.observation_space, after), strict=True)
    for k, (old, new) in enumerate(rows):
        if wanted[k]:
            assert data_equivalence((new, info_of(infos, k)), begun[k], exact=True), f"environment {k} was not reset"
        else:
            assert data_equivalence(new, old, exact=True), f"environment {k} was reset"
    for bad in ([True] * count, np.ones(count), np.ones(count + 1, dtype=np.bool_), np.zeros(count, dtype=np.bool_)):
        try:
            env.reset(options={"reset_mask": bad})
        except Exception:
            continue
        raise AssertionError(f"reset_mask={bad!r} was taken")
    env.close()


def check_close(env: VectorEnv[Any, Any, Any], where: str) -> None:
    """Closing twice is fine."""
    env.close()
    assert env.closed, where + "closed should be True after close()"
    env.close()


# --- stories ---------------------------------------------------------------------------------------------


def told_alike(one: Run, other: Run) -> bool:
    """Whether two runs told the same of every environment."""
    return data_equivalence(one.stories, other.stories, exact=True)


def same(one: Run, other: Run, otherwise: str) -> None:
    """Two runs told the same."""
    if not told_alike(one, other):
        differences = map(first_difference, one.stories, other.stories)
        k, difference = next((k, found) for k, found in enumerate(differences) if found)
        raise AssertionError(f"{otherwise}; environment {k}, {difference}")


def first_difference(one: Sequence[Event], other: Sequence[Event]) -> str:
    """Where two stories part, empty if nowhere."""
    for at, (a, b) in enumerate(zip(one, other)):
        if not data_equivalence(a, b, exact=True):
            return f"event {at}: {a} and {b}"
    return "" if len(one) == len(other) else f"{len(one)} and {len(other)} events"
