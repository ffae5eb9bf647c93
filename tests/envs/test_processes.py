"""Copies, other processes, memory and threads: an environment is what it was made with, and where it stands."""

from __future__ import annotations

import copy
import gc
import hashlib
import os
import pickle
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from envs.second import pool_of
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import CloudpickleWrapper
from numpy.typing import NDArray

from tts_gym.engine.moves import branch_order
from tts_gym.envs import TTSReplayEnv, TTSReplayVectorEnv, layout
from tts_gym.pools import DEFAULT_POOL, Pool, Recording, SyntheticSpec, generate, open_pool
from tts_gym.programs import active_votes, majority

POOLS = [
    generate(SyntheticSpec(questions=4, branches=9, max_intervals=12, length_median=6.0), seed=1),
    generate(SyntheticSpec(questions=3, branches=5, max_intervals=8, length_median=4.0), seed=2),
]
NAME = "tts_gym:TTSReplay-v0"
TESTS = Path(__file__).parent.parent


def last_revealed(seen: Any) -> int:
    """An aggregation that another process can import."""
    return int(seen.revealed - 1)


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {"pool": POOLS[0]},
    "by name": {"pool": DEFAULT_POOL, "max_branches": 5},
    "grid": {"pool": POOLS[0], "max_branches": 5, "observation": "grid", "answer_with_branch": True},
    "budget, auto_probe": {
        "pool": POOLS[0], "max_branches": 5, "auto_probe": True, "budget": 12_000.0, "probe_cost": 70.0,
    },
    "rounds": {"pool": POOLS[0], "actions": "rounds", "patience": 1},
    "several pools": {"pool": POOLS, "pool_weights": [1, 2], "questions": [[3, 1], [0, 2]], "orders": [4, 9, 2]},
    "callable aggregation": {"pool": POOLS[0], "max_branches": 4, "aggregation": last_revealed},
    "finished": {"pool": POOLS[0], "max_branches": 4, "aggregation": "finished", "cost_weight": 1e-5},
    "rendered": {"pool": POOLS[0], "max_branches": 5, "render_mode": "ansi"},
    "rendered rounds": {"pool": POOLS, "actions": "rounds", "render_mode": "ansi", "max_branches": 4},
}  # fmt: skip
COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda env: pickle.loads(pickle.dumps(env)),
    "cloudpickle": lambda env: pickle.loads(CloudpickleWrapper(env).__getstate__()),
    "deepcopy": copy.deepcopy,
}


def choose(mask: NDArray[Any], generator: np.random.Generator) -> int:
    """Mostly legal, ANSWER now and then."""
    some = np.flatnonzero(mask)
    if len(some) > 1 and generator.random() < 0.9:
        some = some[some != layout.ANSWER]
    return int(generator.choice(some) if generator.random() < 0.95 else generator.integers(len(mask)))


def scalar(**chosen: Any) -> gym.Env[Any, Any]:
    return gym.make("TTSReplay-v0", disable_env_checker=True, **chosen)


def onward(env: gym.Env[Any, Any], seed: int, steps: int = 70) -> list[Any]:
    """What a single environment does next under random actions; later episodes are drawn."""
    generator, seen = np.random.default_rng(seed), list[Any]()
    for _ in range(steps):
        action = choose(env.get_wrapper_attr("action_masks")(), generator)
        *told, info = env.step(action)
        seen.append((action, told, info, env.render() if env.render_mode else None))
        if told[2] or told[3]:
            seen.append(env.reset())
    return seen


def onward_all(env: TTSReplayVectorEnv, seed: int, steps: int = 40) -> list[Any]:
    """The same of a vector environment; where it does not reset by itself, it is reset."""
    generator, seen = np.random.default_rng(seed), list[Any]()
    disabled = env.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    for _ in range(steps):
        if disabled and env.replay.ended.any():
            seen.append(copy.deepcopy(env.reset(options={"reset_mask": env.replay.ended})))
        masks = env.action_masks()
        legal = (masks * generator.random(masks.shape)).argmax(axis=1)
        anything = generator.integers(masks.shape[1], size=len(masks))
        actions = np.where(generator.random(len(masks)) < 0.95, legal, anything)
        seen.append((actions, copy.deepcopy(env.step(actions)), env.render() if env.render_mode else None))
    return seen


def assert_alike(*stories: list[Any]) -> None:
    for story in stories[1:]:
        assert data_equivalence(stories[0], story, exact=True)


# --- copies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("name", SETTINGS)
def test_a_copy_goes_on_exactly_and_independently(name: str, how: str) -> None:
    env = scalar(max_episode_steps=25, **SETTINGS[name])
    env.reset(seed=8)
    onward(env, seed=0, steps=33)  # somewhere in a later episode
    one, other = COPIES[how](env), COPIES[how](env)
    first = onward(one, seed=1)  # each of them stays where it is while another goes on
    second = onward(env, seed=1)
    again = COPIES[how](one)
    third = onward(other, seed=1)
    assert_alike(first, second, third)
    assert_alike(onward(again, seed=2), onward(one, seed=2), onward(other, seed=2))
    assert sum(len(event) == 2 for event in first) > 1  # resets that drew


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_shares_nothing_but_what_is_never_written(how: str) -> None:
    env = TTSReplayEnv(POOLS[0], max_branches=5, render_mode="ansi")
    env.reset(seed=0)
    env.step(0)
    other = COPIES[how](env)
    for name, array in vars(env.replay).items():
        if isinstance(array, np.ndarray):
            assert not np.shares_memory(array, getattr(other.replay, name)), name
    assert env.np_random is not other.np_random
    if how == "deepcopy":
        assert other.replay.pools[0].recording is env.replay.pools[0].recording is POOLS[0].recording


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_is_made_anywhere_in_an_episode(how: str) -> None:
    env = scalar(pool=POOLS[0], max_branches=3)
    env.action_space.seed(0)
    fresh = COPIES[how](env)  # before the first reset
    with pytest.raises(gym.error.ResetNeeded):
        fresh.step(0)
    assert data_equivalence(fresh.reset(seed=4), env.reset(seed=4), exact=True)
    assert_alike(onward(fresh, 0), onward(env, 0))
    env.reset()
    begun = COPIES[how](env)  # before the first step
    assert_alike(onward(begun, 1), onward(env, 1))
    env.reset()
    env.step(1)
    ended = COPIES[how](env)  # after the end
    with pytest.raises(gym.error.ResetNeeded):
        ended.unwrapped.step(0)
    assert data_equivalence(ended.reset(), env.reset(), exact=True)
    assert_alike(onward(ended, 2), onward(env, 2))


def test_a_copy_keeps_a_weight_that_was_set() -> None:
    env = TTSReplayEnv(POOLS[0], max_branches=3)
    env.cost_weight = 0.5
    for how in COPIES.values():
        assert how(env).cost_weight == 0.5
    several = TTSReplayVectorEnv(3, POOLS[0], max_branches=3)
    several.cost_weights[1] = 0.25
    for how in COPIES.values():
        assert how(several).cost_weights.tolist() == [2.0**-20, 0.25, 2.0**-20]


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("mode", AutoresetMode, ids=lambda mode: mode.value)
@pytest.mark.parametrize("name", SETTINGS)
def test_a_copy_of_a_vector_environment_goes_on(name: str, mode: AutoresetMode, how: str) -> None:
    env = TTSReplayVectorEnv(3, max_episode_steps=25, autoreset_mode=mode, **SETTINGS[name])
    env.reset(seed=8)
    onward_all(env, seed=0, steps=33)
    while not env.replay.ended.any() and mode is not AutoresetMode.SAME_STEP:
        env.step(np.array([1, 0, 0]))  # so that one waits for its reset
    one, other = COPIES[how](env), COPIES[how](env)
    first = onward_all(one, seed=1)
    second = onward_all(env, seed=1)
    third = onward_all(other, seed=1)
    assert_alike(first, second, third)
    assert one.np_random_seed == env.np_random_seed == (8, 9, 10)


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_a_large_vector_environment_has_threads_of_its_own(how: str) -> None:
    env = TTSReplayVectorEnv(1024, POOLS[0], max_branches=2, num_threads=2, copy=False)
    env.reset(seed=0)
    env.step(np.zeros(1024, dtype=np.int64))
    other = COPIES[how](env)
    assert_alike(onward_all(env, 1, steps=6), onward_all(other, 1, steps=6))
    env.close()
    assert threads() == 1
    onward_all(other, 2, steps=2)
    other.close()
    assert threads() == 0


def test_a_copy_does_not_hang_on_the_callers_lists() -> None:
    questions, orders = [0, 1], [3, 4]
    env = TTSReplayEnv(POOLS[0], max_branches=3, questions=questions, orders=orders)
    questions[:], orders[:] = [2], [8]
    env.reset(seed=0)
    other = copy.deepcopy(env)
    assert_alike(onward(other, 0), onward(env, 0))


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_is_made_while_a_window_is_open(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = TTSReplayEnv(POOLS[0], max_branches=3, render_mode="human")
    env.metadata["render_fps"] = 1000
    env.reset(seed=0)
    try:
        other = COPIES[how](env)
        assert data_equivalence(other.step(0), env.step(0), exact=True)
        other.close()
    finally:
        env.close()


# --- other processes -------------------------------------------------------------------------------------------

SEED = 21
EPISODE: dict[str, Any] = {"pool": DEFAULT_POOL, "max_branches": 5, "max_episode_steps": 25}


def digests(kind: str) -> list[str]:
    """One sha256 for each of three environments of all they return in 60 steps, resets not counted."""
    mine = [hashlib.sha256() for _ in range(3)]
    generators = [np.random.default_rng(k) for k in range(3)]

    def note(k: int, *told: Any) -> None:
        mine[k].update(b"".join(np.asarray(each).astype(np.float64).tobytes() for each in told))

    if kind == "scalar":
        for k in range(3):
            env = gym.make(NAME, **EPISODE)
            observation, info = env.reset(seed=SEED + k)
            note(k, observation, info["action_mask"])
            for _ in range(60):
                observation, reward, ended, cut, info = env.step(choose(info["action_mask"], generators[k]))
                note(k, observation, reward, ended, cut, info["action_mask"], info["cost"], info.get("question", -1))
                if ended or cut:
                    observation, info = env.reset()
                    note(k, observation, info["action_mask"])
        return [each.hexdigest() for each in mine]
    several = gym.make_vec(NAME, 3, autoreset_mode="Disabled", **EPISODE)
    observations, infos = several.reset(seed=SEED)
    masks = infos["action_mask"]
    for k in range(3):
        note(k, observations[k], masks[k])
    for _ in range(60):
        actions = np.array([choose(masks[k], generators[k]) for k in range(3)])
        observations, rewards, terminated, truncated, infos = several.step(actions)
        masks, ended = infos["action_mask"], terminated | truncated
        for k in range(3):
            told = observations[k], rewards[k], terminated[k], truncated[k], masks[k], infos["cost"][k]
            note(k, *told, infos["question"][k] if terminated[k] else -1)
        if ended.any():
            observations, infos = several.reset(options={"reset_mask": ended})
            for k in np.flatnonzero(ended).tolist():
                masks[k] = infos["action_mask"][k]
                note(k, observations[k], masks[k])
    return [each.hexdigest() for each in mine]


def test_the_same_seed_is_the_same_trajectory_in_every_process() -> None:
    here = digests("scalar")
    assert len(set(here)) == 3
    assert digests("vector") == here
    code = (
        f"import sys; sys.path.insert(0, {str(TESTS)!r}); from envs.test_processes import digests; "
        "print(*digests('scalar'), *digests('vector'))"
    )
    for hash_seed in ("1", "2"):  # of Python's own, which orders sets and dicts of strings
        ran = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert ran.stdout.split() == here * 2


@pytest.mark.parametrize("pool", [DEFAULT_POOL, POOLS[0]], ids=["by name", "a pool"])
def test_gymnasiums_processes(pool: Any) -> None:
    """Two spawned processes do what the native environment does."""
    chosen: dict[str, Any] = {"pool": pool, "max_branches": 4}
    theirs = gym.make_vec(NAME, 2, vectorization_mode="async", vector_kwargs={"context": "spawn"}, **chosen)
    ours = gym.make_vec(NAME, 2, **chosen)
    try:
        assert theirs.single_observation_space == ours.single_observation_space
        assert data_equivalence(theirs.reset(seed=5), ours.reset(seed=5), exact=True)
        generator = np.random.default_rng(0)
        ended = 0
        for _ in range(50):
            masks = ours.unwrapped.action_masks()  # type: ignore[attr-defined]
            np.testing.assert_array_equal(masks, np.stack(theirs.call("action_masks")))  # type: ignore[attr-defined]
            actions = np.array([choose(mask, generator) for mask in masks])
            told = ours.step(actions)
            assert data_equivalence(theirs.step(actions), told, exact=True)
            ended += int(told[2].sum())
        assert ended > 1
    finally:
        theirs.close()


def test_stable_baselines3s_processes() -> None:
    vec_env = pytest.importorskip("stable_baselines3.common.vec_env")
    makers = [partial(gym.make, NAME, pool=POOLS[0], max_branches=4, observation="grid")] * 2
    theirs, ours = vec_env.SubprocVecEnv(makers, start_method="spawn"), vec_env.DummyVecEnv(makers)
    try:
        for env in (theirs, ours):
            env.seed(5)
        np.testing.assert_array_equal(theirs.reset(), ours.reset())
        generator = np.random.default_rng(0)
        ended = 0
        for _ in range(50):
            masks = ours.env_method("action_masks")
            np.testing.assert_array_equal(theirs.env_method("action_masks"), masks)
            actions = np.array([choose(mask, generator) for mask in masks])
            (*found, infos), (*expected, own) = theirs.step(actions), ours.step(actions)
            np.testing.assert_equal(found, expected)
            assert data_equivalence(list(infos), list(own), exact=True)
            ended += int(expected[2].sum())
        assert ended > 1
    finally:
        theirs.close()


# --- memory ----------------------------------------------------------------------------------------------------


LEAK = 30_000  # bytes; a thousand resets that left but one small object each would leave more


@contextmanager
def traced() -> Iterator[Callable[[], int]]:
    """A function that tells how many bytes are held that were allocated since.

    Not counted is the cache of orders, which all environments share; it is bounded, see below.
    """

    def held() -> int:
        branch_order.cache_clear()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    gc.collect()
    tracemalloc.start()
    try:
        yield held
    finally:
        tracemalloc.stop()


def pool_of_size(questions: int, branches: int = 64, intervals: int = 63) -> Pool:
    """Each question takes 8 KiB, and 384 bytes more; there are two answers, whatever the size."""
    shape = (questions, branches)
    return pool_of(
        Recording(
            np.zeros((*shape, intervals + 1), np.int16),
            np.full(shape, intervals, np.int16),
            np.full(shape, 100 * intervals, np.int32),
            100,
            2,
        )
    )


def test_thousands_of_environments_share_one_recording() -> None:
    sizes = []
    for questions in (10, 4000):  # 82 KiB and 34 MB
        pool = pool_of_size(questions)
        with traced() as held:
            env = TTSReplayVectorEnv(8192, pool, max_branches=4, orders=8)
            env.reset(seed=0)
            env.step(np.zeros(8192, dtype=np.int64))
            sizes.append((held(), tracemalloc.get_traced_memory()[1]))
    recording = pool.recording
    assert recording.answers.nbytes > 32_000_000
    # The larger pool takes no more than its list of questions, and a byte for each answer that may be correct.
    for small, large in zip(*sizes):
        assert abs(large - small) < 4000 * (8 + 2) + 200_000
        assert large < 8192 * 4000
    assert env.replay.pools[0].recording is recording
    table = env.replay._pool_table[0]
    assert table[layout.P_ANSWERS] == recording.answers.ctypes.data
    assert table[layout.P_INTERVALS] == recording.intervals.ctypes.data
    assert table[layout.P_TOKENS] == recording.tokens.ctypes.data
    assert len(set(env.replay.replayed[layout.R_QUESTION].tolist())) > 3000  # they do replay different questions


def test_environments_made_apart_share_one_recording_too() -> None:
    envs: list[Any] = [TTSReplayEnv(POOLS[0], max_branches=4) for _ in range(20)]
    envs += [scalar(pool=POOLS[0]).unwrapped for _ in range(3)]
    assert {id(env.replay.pools[0].recording) for env in envs} == {id(POOLS[0].recording)}
    named: list[Any] = [TTSReplayEnv(DEFAULT_POOL), TTSReplayEnv(), TTSReplayVectorEnv(3, DEFAULT_POOL)]
    assert len({id(env.replay.pools[0].recording) for env in named}) == 1
    assert named[0].replay.pools[0].content_hash == open_pool(DEFAULT_POOL).content_hash


def test_resets_and_steps_leak_nothing() -> None:
    env, generator = TTSReplayEnv(POOLS, max_branches=4), np.random.default_rng(0)
    env.reset(seed=0)

    def play(orders: Iterable[int | None]) -> None:
        for order in orders:
            env.reset(options={} if order is None else {"order": order})
            for _ in range(3):
                if env.step(choose(env.action_masks(), generator))[2]:
                    break

    for orders in (range(5000), [None] * 1000):
        with traced() as held:
            play([*orders][:300])
            before = held()
            play(orders)
            assert held() - before < LEAK


def test_orders_that_are_kept_are_bounded() -> None:
    """Ever new orders fill a cache of bounded size, which all environments share."""
    env = TTSReplayEnv(pool_of_size(1, branches=50), max_branches=2)
    with traced() as held:
        assert held() < 10_000
        for order in range(5000):
            env.reset(options={"order": order})
        assert 4096 * 4 * 50 < tracemalloc.get_traced_memory()[0] < 4096 * (4 * 50 + 500)
    assert branch_order.cache_info().currsize <= 4096


@pytest.mark.parametrize("mode", AutoresetMode, ids=lambda mode: mode.value)
def test_resets_and_steps_of_a_vector_environment_leak_nothing(mode: AutoresetMode) -> None:
    env = TTSReplayVectorEnv(16, POOLS, max_branches=4, autoreset_mode=mode, max_episode_steps=9)
    generator = np.random.default_rng(0)

    def play(resets: int, first: int | None = None) -> None:
        for n in range(resets):
            env.reset(options=None if first is None else {"order": first + 16 * n + np.arange(16)})
            for _ in range(3):
                actions = generator.integers(0, 14, 16)
                if mode is AutoresetMode.DISABLED:
                    actions[actions == layout.ANSWER] = layout.BRANCH
                env.step(actions)

    env.reset(seed=0)
    for resets, first in ((90, 0), (1000, None)):  # ever new orders, and random ones
        with traced() as held:
            play(60, first)
            before = held()
            play(resets, first)
            assert held() - before < LEAK


def test_environments_made_and_dropped_leave_nothing() -> None:
    def make_and_drop(times: int) -> None:
        for k in range(times):
            env = TTSReplayEnv(POOLS[k % 2], max_branches=4, render_mode="ansi")
            env.reset(seed=0)
            env.step(0)
            env.render()
            copy.deepcopy(env).step(0)
            several = TTSReplayVectorEnv(1024, POOLS, max_branches=2, num_threads=2, orders=20)
            several.reset(seed=0)
            several.step(np.zeros(1024, dtype=np.int64))
            if k % 2:
                several.close()

    make_and_drop(2)
    resident = resident_bytes()
    with traced() as held:
        make_and_drop(2)
        before = held()
        make_and_drop(20)
        assert held() - before < LEAK
    assert resident_bytes() - resident < 20_000_000  # one of them takes 2 MB
    assert threads() == 0


def resident_bytes() -> int:
    """Memory of this process that is in use, 0 where that cannot be told."""
    told = Path("/proc/self/statm")
    return int(told.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if told.exists() else 0


# --- threads ---------------------------------------------------------------------------------------------------


def threads() -> int:
    """Threads of vector environments."""
    gc.collect()
    found = [thread for thread in threading.enumerate() if thread.name.startswith("tts-gym")]
    for thread in found:
        thread.join(timeout=0.05)
    return sum(thread.is_alive() for thread in found)


def test_closing_ends_the_threads() -> None:
    assert threads() == 0
    env = TTSReplayVectorEnv(1024, POOLS[0], max_branches=2, num_threads=2)
    env.reset(seed=0)
    assert threads() == 0
    for _ in range(3):
        env.step(np.zeros(1024, dtype=np.int64))
        assert threads() == 1  # the caller is the second
    env.close()
    assert threads() == 0
    env.close()
    few = TTSReplayVectorEnv(1023, POOLS[0], max_branches=2, num_threads=2)
    few.reset(seed=0)
    few.step(np.zeros(1023, dtype=np.int64))
    assert threads() == 0  # each takes at least 512


@pytest.mark.parametrize("mode", AutoresetMode, ids=lambda mode: mode.value)
@pytest.mark.parametrize(
    "aggregation", ["majority", lambda seen: majority(active_votes(seen))], ids=["built in", "own"]
)
def test_threads_change_nothing(mode: AutoresetMode, aggregation: Any) -> None:
    chosen: dict[str, Any] = {
        "pool": POOLS, "max_branches": 2, "autoreset_mode": mode, "aggregation": aggregation, "max_episode_steps": 6,
    }  # fmt: skip
    stories = []
    for num_threads in (1, 2, 3):
        env = TTSReplayVectorEnv(1600, num_threads=num_threads, **chosen)
        env.reset(seed=4)
        stories.append(onward_all(env, seed=0, steps=12))
        assert threads() == num_threads - 1
        env.close()
    assert_alike(*stories)
