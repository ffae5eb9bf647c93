"""``RecordTraces``: a trace says what was done, and replayed gives its rewards again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from vector_equality import choose

from tts_gym.envs import TTSReplayVectorEnv
from tts_gym.errors import UsageError
from tts_gym.pools import SyntheticSpec, generate
from tts_gym.wrappers import BetaConditioning, RecordTraces, vector

POOLS = [
    generate(SyntheticSpec(questions=6, branches=8), seed=1, name="one"),
    generate(SyntheticSpec(questions=4, branches=5), seed=2, name="two"),
]
SETTINGS: dict[str, Any] = {"pool": POOLS, "max_branches": 4, "budget": 30_000.0, "probe_cost": 20.0}
COUNT, LIMIT = 4, 12
KEYS = {
    "pool", "question", "order", "pool_name", "actions", "rewards", "cost", "tokens", "probes", "correct",
    "terminated", "truncated",
}  # fmt: skip


def make(limit: int | None = LIMIT, **arguments: Any) -> RecordTraces:
    return RecordTraces(BetaConditioning(gym.make("TTSReplay-v0", max_episode_steps=limit, **SETTINGS)), **arguments)


def make_vector(mode: AutoresetMode, limit: int | None = LIMIT, **arguments: Any) -> vector.RecordTraces:
    bare = TTSReplayVectorEnv(COUNT, autoreset_mode=mode, max_episode_steps=limit, **SETTINGS)
    return vector.RecordTraces(vector.BetaConditioning(bare), **arguments)


def play(env: RecordTraces, episodes: int, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    for number in range(episodes):
        _, info = env.reset(seed=seed if number == 0 else None)
        over = False
        while not over:
            _, _, terminated, truncated, info = env.step(choose(info["action_mask"][None], rng)[0])
            over = terminated or truncated


def play_vector(env: vector.RecordTraces, steps: int, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    env.reset(seed=seed)
    for _ in range(steps):
        _, _, terminated, truncated, _ = env.step(choose(env.action_masks(), rng))
        over = terminated | truncated
        if env.metadata["autoreset_mode"] is AutoresetMode.DISABLED and over.any():
            env.reset(options={"reset_mask": over})


def assert_replays(traces: Iterable[dict[str, Any]]) -> None:
    env = BetaConditioning(gym.make("TTSReplay-v0", max_episode_steps=LIMIT, **SETTINGS))
    for trace in traces:
        asked = {key: trace[key] for key in ("pool", "question", "order", "beta")}
        env.reset(options=asked)
        for action, reward in zip(trace["actions"], trace["rewards"], strict=True):
            assert not env.unwrapped.replay.ended[0]  # type: ignore[attr-defined]
            _, again, terminated, truncated, info = env.step(action)
            assert again == reward
        assert (terminated, truncated) == (trace["terminated"], trace["truncated"])
        assert [info[key] for key in ("cost", "tokens", "probes")] == [
            trace[key] for key in ("cost", "tokens", "probes")
        ]
        assert info.get("correct") == trace["correct"]
        assert trace["pool_name"] == POOLS[trace["pool"]].name


def test_a_trace_replayed_gives_its_rewards_again() -> None:
    env = make()
    play(env, 30)
    assert len(env.traces) == 30
    assert {trace["terminated"] for trace in env.traces} == {True, False}  # the others were truncated
    assert all(set(trace) == KEYS | {"beta"} for trace in env.traces)
    assert all((trace["correct"] is None) == (not trace["terminated"]) for trace in env.traces)
    assert {trace["pool"] for trace in env.traces} == {0, 1}
    assert_replays(env.traces)


@pytest.mark.parametrize("mode", AutoresetMode, ids=lambda mode: mode.value)
def test_a_trace_of_many_environments_replayed_gives_its_rewards_again(mode: AutoresetMode) -> None:
    env = make_vector(mode)
    play_vector(env, 120)
    assert len(env.traces) > 20
    assert {trace["truncated"] for trace in env.traces} == {True, False}
    assert_replays(env.traces)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP], ids=lambda mode: mode.value)
def test_lengths_and_returns_are_those_of_gymnasiums_statistics(mode: AutoresetMode) -> None:
    inner = make_vector(mode)
    env = RecordEpisodeStatistics(inner, buffer_length=1000)
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    for _ in range(100):
        env.step(choose(inner.action_masks(), rng))
    assert len(inner.traces) > 20
    assert [len(trace["actions"]) for trace in inner.traces] == list(env.length_queue)
    np.testing.assert_allclose([sum(trace["rewards"]) for trace in inner.traces], env.return_queue)


def test_without_beta_a_trace_has_none() -> None:
    env = RecordTraces(gym.make("TTSReplay-v0", **SETTINGS))
    env.reset(seed=0, options={"pool": 1, "question": 2, "order": 7})
    env.step(np.int64(1))
    (trace,) = env.traces
    assert set(trace) == KEYS
    assert (trace["pool"], trace["question"], trace["order"], trace["actions"]) == (1, 2, 7, [1])


def test_an_episode_longer_than_its_buffer_is_whole() -> None:
    env = make_vector(AutoresetMode.SAME_STEP, limit=300)
    env.reset(seed=0)
    rewards = [env.step(np.full(COUNT, 2))[1] for _ in range(300)]  # CONTINUE what is not open: illegal, for ever
    assert [trace["actions"] for trace in env.traces] == [[2] * 300] * COUNT
    np.testing.assert_array_equal([trace["rewards"] for trace in env.traces], np.transpose(rewards))


def test_an_episode_that_is_given_up_leaves_no_trace() -> None:
    env = make()
    env.reset(seed=0)
    env.step(0)
    env.reset()
    env.step(1)
    assert [trace["actions"] for trace in env.traces] == [[1]]
    many = make_vector(AutoresetMode.NEXT_STEP)
    many.reset(seed=0)
    many.step(np.array([0, 1, 0, 0]))  # environment 1 ends, and waits
    many.reset(options={"reset_mask": np.array([True, True, False, False])})
    many.step(np.array([1, 0, 0, 1]))
    many.step(np.array([0, 1, 1, 0]))  # environments 0 and 3 ended with the step before, and are reset
    assert [trace["actions"] for trace in many.traces] == [[1], [1], [0, 1], [0, 1], [0, 0, 1]]


def test_an_episode_that_had_begun_before_is_not_recorded_in_part() -> None:
    inner = gym.make("TTSReplay-v0", **SETTINGS)
    inner.reset(seed=0)
    inner.step(0)
    env = RecordTraces(inner)
    env.step(1)
    assert not env.traces
    bare = TTSReplayVectorEnv(COUNT, autoreset_mode="SameStep", **SETTINGS)
    bare.reset(seed=0)
    bare.step(np.zeros(COUNT, dtype=int))
    many = vector.RecordTraces(bare)
    many.step(np.ones(COUNT, dtype=int))
    assert not many.traces
    many.step(np.ones(COUNT, dtype=int))
    assert len(many.traces) == COUNT


def test_after_an_end_nothing_is_recorded_until_the_next_reset() -> None:
    env = RecordTraces(gym.wrappers.Autoreset(gym.make("TTSReplay-v0", **SETTINGS)))  # whose resets it cannot see
    env.reset(seed=0)
    for _ in range(4):
        env.step(1)
    assert len(env.traces) == 1
    env.reset()
    env.step(1)
    assert [trace["actions"] for trace in env.traces] == [[1], [1]]


def test_only_the_latest_are_kept() -> None:
    env = make(keep=3)
    play(env, 10)
    every = make()
    play(every, 10)
    assert list(env.traces) == list(every.traces)[-3:]
    assert len(every.traces) == 10


# --- files -------------------------------------------------------------------------------------------------


def lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_the_file_has_a_line_for_each_trace_as_soon_as_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    env, other = make(path=path), make(path=str(path), keep=0)
    for number in range(1, 6):
        play(env, 1, seed=number)
        assert lines(path)[-1] == env.traces[-1]
        play(other, 1, seed=100 + number)
    assert len(lines(path)) == 10
    assert lines(path)[::2] == list(env.traces)
    assert not other.traces
    many = make_vector(AutoresetMode.SAME_STEP, path=path)
    play_vector(many, 30)
    assert lines(path)[10:] == list(many.traces)
    assert_replays(lines(path))


def test_a_relative_path_is_meant_from_where_the_wrapper_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    env = make(path="traces.jsonl")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    play(env, 1)
    assert lines(tmp_path / "traces.jsonl") == list(env.traces)


@pytest.mark.parametrize("wrapped", [make, lambda **a: make_vector(AutoresetMode.SAME_STEP, **a)], ids=["one", "many"])
def test_a_path_that_cannot_be_written_is_refused_at_once(wrapped: Any, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none" / "traces.jsonl"):
        with pytest.raises(UsageError, match=f"traces cannot be written to {path}"):
            wrapped(path=path)
    half = tmp_path / "half.jsonl"
    half.write_text('{"pool": 0}\n{"po')
    with pytest.raises(UsageError, match=r"half\.jsonl: its last line is not whole"):
        wrapped(path=half)
    assert half.read_text() == '{"pool": 0}\n{"po'


@pytest.mark.parametrize("keep", [-1, 2.5, "all"], ids=str)
def test_a_number_to_keep_that_is_none_is_refused(keep: Any) -> None:
    with pytest.raises(UsageError, match="keep should be a whole number from 0 on"):
        make(keep=keep)
