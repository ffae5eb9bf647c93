"""Steps per second of the environments on this machine, beside CartPole's. Printed, never asserted."""

from __future__ import annotations

import importlib
import os
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv
from numba import uint64
from numpy.typing import NDArray
from tabulate import tabulate

from tts_gym import registration as registration
from tts_gym.engine.jit import cached_njit
from tts_gym.envs import TTSReplayVectorEnv, kernel
from tts_gym.pools import DEFAULT_POOL, at_hand, open_pool

_RECORDED = "autotts/Qwen3-8B/aime24"
_COUNTS = (1, 64, 1024, 8192)
_ROUNDS, _BLOCK_S = 7, 0.15
# Episodes of the second kind go on until one in so many actions is ANSWER.
_RARELY = 500

Step = Callable[[], tuple[float, int]]
"""Takes some steps; returns the seconds spent stepping and how many single steps that were."""


def bench_env() -> None:
    """Measure the vector environment, Gymnasium's and EnvPool's CartPole, and the scalar ones, in turns."""
    pool = open_pool(_RECORDED if at_hand(_RECORDED) else DEFAULT_POOL)
    cores = os.cpu_count() or 1
    print(
        f"TTSReplay-v0 on pool {pool.name}, 64 branches, atomic actions, {64 * 18 + 32:,} features; {cores} cores\n"
        "actions are random and legal, chosen outside the clock; masks, infos and autoreset (NextStep) are on\n"
        f"medians of {_ROUNDS} rounds in which all rows take turns; million steps a second\n"
    )
    rows: dict[str, dict[int, Step]] = {}
    for kind, rarely in (("uniformly random", False), (f"ANSWER one in {_RARELY}", True)):
        for threads in dict.fromkeys((1, cores)):
            label = f"TTSReplay-v0, {kind}, {_threads(threads)}"
            rows[label] = {
                count: _ours(TTSReplayVectorEnv(count, pool, copy=False, num_threads=threads), rarely)
                for count in _COUNTS
            }
        copied = {count: _ours(TTSReplayVectorEnv(count, pool), rarely) for count in _COUNTS}
        rows[f"TTSReplay-v0, {kind}, 1 thread, copy=True"] = copied
    rows["of the first row, the compiled step alone"] = {
        count: _ours(TTSReplayVectorEnv(count, pool, copy=False), False, kernel_only=True) for count in _COUNTS
    }
    rows["the same with the grid observation"] = {
        count: _ours(TTSReplayVectorEnv(count, pool, copy=False, observation="grid"), False, kernel_only=True)
        for count in _COUNTS
    }
    cartpole = "Gymnasium CartPole-v1, vector entry point"
    rows[cartpole] = {
        count: _theirs(gym.make_vec("CartPole-v1", count, "vector_entry_point"), count) for count in _COUNTS
    }
    envpools = {f"EnvPool CartPole-v1, {_threads(threads)}": threads for threads in dict.fromkeys((1, cores))}
    try:
        envpool = importlib.import_module("envpool")
    except ImportError:
        envpool = None
        print("(EnvPool is not installed: pip install envpool puts its CartPole beside ours)\n")
    if envpool is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for label, threads in envpools.items():
                rows[label] = {
                    count: _theirs(envpool.make_gymnasium("CartPole-v1", num_envs=count, num_threads=threads), count)
                    for count in _COUNTS
                }
    rates = _measured(rows)
    first = next(iter(rows))
    table = [[label, *(rates[label][count] / 1e6 for count in _COUNTS)] for label in rows]
    for label in (cartpole, *(label for label in envpools if label in rates)):
        ratios = [rates[first][count] / rates[label][count] for count in _COUNTS]
        table.append([f"first row / {label}", *ratios])
    print(tabulate(table, headers=["million steps a second", *(f"{n:,} envs" for n in _COUNTS)], floatfmt=".3g"), "\n")

    scalar: dict[str, dict[int, Step]] = {
        "TTSReplay-v0": {1: _scalar(gym.make("TTSReplay-v0", pool=pool), masked=True)},
        "TTSReplay-v0, no wrappers": {1: _scalar(gym.make("TTSReplay-v0", pool=pool).unwrapped, masked=True)},
        "Gymnasium CartPole-v1": {1: _scalar(gym.make("CartPole-v1"), masked=False)},
        "Gymnasium CartPole-v1, no wrappers": {1: _scalar(gym.make("CartPole-v1").unwrapped, masked=False)},
    }
    rates = _measured(scalar)
    print(
        tabulate(
            [[label, rate[1] / 1e6] for label, rate in rates.items()],
            headers=["scalar, resets counted", "million steps a second"],
            floatfmt=".3g",
        )
    )


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _measured(rows: dict[str, dict[int, Step]]) -> dict[str, dict[int, float]]:
    """Median steps per second of each, all taking turns in every round."""
    found: dict[tuple[str, int], list[float]] = {}
    for number in range(_ROUNDS + 1):
        for label, steps in rows.items():
            for count, step in steps.items():
                seconds, taken, began = 0.0, 0, time.perf_counter()
                while seconds < _BLOCK_S and time.perf_counter() - began < 4 * _BLOCK_S:
                    spent, some = step()
                    seconds, taken = seconds + spent, taken + some
                if number:  # the first round warms up
                    found.setdefault((label, count), []).append(taken / seconds)
    return {label: {count: statistics.median(found[label, count]) for count in steps} for label, steps in rows.items()}


def _ours(env: TTSReplayVectorEnv, rarely: bool, kernel_only: bool = False) -> Step:
    env.reset(seed=0)
    actions, address, count = env.replay.taken, env.replay.address, env.num_envs
    seed, masks = 1, env.replay.masks

    def step() -> tuple[float, int]:
        nonlocal seed
        seed = _sample(masks, actions, _RARELY if rarely else 0, seed)
        began = time.perf_counter()
        if kernel_only:
            kernel.step(address, 0, count)
        else:
            env.step(actions)
        return time.perf_counter() - began, count

    return step


def _theirs(env: VectorEnv[Any, Any, Any], count: int) -> Step:
    env.reset()
    random = np.random.default_rng(0)
    choices = [random.integers(0, 2, count) for _ in range(16)]
    number = 0

    def step() -> tuple[float, int]:
        nonlocal number
        number += 1
        actions = choices[number % len(choices)]
        began = time.perf_counter()
        env.step(actions)
        return time.perf_counter() - began, count

    return step


def _scalar(env: gym.Env[Any, Any], masked: bool) -> Step:
    _, info = env.reset(seed=0)
    random = np.random.default_rng(0)

    def step() -> tuple[float, int]:
        nonlocal info
        action = int(random.choice(np.flatnonzero(info["action_mask"])) if masked else random.integers(2))
        began = time.perf_counter()
        *_, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            _, info = env.reset()
        return time.perf_counter() - began, 1

    return step


@cached_njit()
def _sample(masks: NDArray[np.int8], actions: NDArray[np.int64], rarely: int, seed: int) -> int:
    """Random legal actions (splitmix64); with ``rarely`` one in so many is ANSWER, otherwise all are as likely."""
    for k in range(masks.shape[0]):
        seed += 1
        z = uint64(seed) * uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> uint64(27))) * uint64(0x94D049BB133111EB)
        draw = int((z ^ (z >> uint64(31))) >> uint64(33))
        legal = 0
        for action in range(masks.shape[1]):
            legal += masks[k, action]
        skip = legal > 1 and rarely > 0
        if skip and draw % rarely == 0:
            actions[k] = 1
            continue
        rest = (draw // rarely) % (legal - 1) if skip else draw % legal
        for action in range(masks.shape[1]):
            if masks[k, action] and not (skip and action == 1):
                if rest == 0:
                    actions[k] = action
                    break
                rest -= 1
    return seed
