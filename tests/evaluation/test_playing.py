"""One interface: a program's actions, played through the environment, earn what ``evaluate`` computes."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import pytest

from tts_gym.controllers import controller_files
from tts_gym.envs import TTSReplayVectorEnv
from tts_gym.errors import UsageError
from tts_gym.evaluation import Contestant, contestant, evaluate, program_actions
from tts_gym.pools import DEFAULT_POOL, Pool, open_pool
from tts_gym.programs.runner import Limits

WIDTH = 64
WEIGHT = 2.0**-20


def assert_plays(played: Contestant, pool: Pool, betas: list[float], questions: list[int], orders: int) -> None:
    """Action by action, on the scalar environment, with every action legal, and all at once on the vector one."""
    limits = Limits(max_branches=WIDTH)
    results = evaluate(played, pool, betas, orders, questions=questions, limits=limits)
    env = gym.make(
        "TTSReplay-v0", pool=pool, max_branches=WIDTH, answer_with_branch=True, strict=True, disable_env_checker=True
    )
    logs, expected = [], []
    for row in results.episodes.to_pylist():
        env.reset(options={"question": row["question"], "order": row["order"]})
        actions = program_actions(env, played, row["beta"])
        total = 0.0
        for number, action in enumerate(actions):
            _, reward, terminated, _, info = env.step(action)
            total += float(reward)
            assert terminated == (number == len(actions) - 1)
        assert {key: info[key] for key in ("correct", "tokens", "probes", "branches", "peak_width")} == {
            key: row[key] for key in ("correct", "tokens", "probes", "branches", "peak_width")
        }
        assert total == row["correct"] - WEIGHT * row["tokens"]  # to the last bit
        logs.append(actions)
        expected.append((row["question"], row["order"], total))

    together = TTSReplayVectorEnv(
        len(logs), pool, max_branches=WIDTH, answer_with_branch=True, autoreset_mode="NextStep", copy=False
    )
    together.reset(options={"question": [q for q, _, _ in expected], "order": [s for _, s, _ in expected]})
    returns = [0.0] * len(logs)
    for number in range(max(len(log) for log in logs)):
        actions = [log[number] if number < len(log) else 0 for log in logs]
        _, rewards, *_ = together.step(actions)
        for k, log in enumerate(logs):
            if number < len(log):
                returns[k] += float(rewards[k])
    assert returns == [total for _, _, total in expected]


@pytest.mark.parametrize("name", controller_files())
def test_every_shipped_controller_on_the_shipped_pool(name: str) -> None:
    assert_plays(contestant(name), open_pool(DEFAULT_POOL), [0.0, 0.5, 1.0], [2, 15], 1)


@pytest.mark.parametrize("name", controller_files())
def test_every_shipped_controller_on_recorded_data(name: str, autotts: Path) -> None:
    pool = open_pool(str(autotts / "Qwen3-8B" / "aime24.json"))
    assert_plays(contestant(name), pool, [0.25, 0.75], [0, 13, 29], 1)


# --- what cannot be played, and says so -----------------------------------------------------------------

KEEPS_ITS_FIRST = """
from tts_gym.programs import advance, branch, latest, probe

def schedule(beta): return {"n": 1}

def solve(episode, knobs):
    i = branch(episode)
    first = probe(episode, i)
    while latest(episode, i) == first:
        if advance(episode, i):
            return first
        probe(episode, i)
    return first
"""


def test_an_answer_that_no_branch_holds_any_more_is_refused(tmp_path: Path) -> None:
    (tmp_path / "keeps.py").write_text(KEEPS_ITS_FIRST)
    env = gym.make("TTSReplay-v0", answer_with_branch=True)
    env.reset(options={"question": 0, "order": 0})
    with pytest.raises(UsageError, match=r"keeps.py answers number 0, which no branch holds any more"):
        program_actions(env, contestant(tmp_path / "keeps.py"), 0.5)


def test_environments_that_cannot_play_programs_are_named() -> None:
    sc = contestant("sc")
    for settings, says in (
        ({"actions": "rounds"}, "needs actions='atomic' and auto_probe=False"),
        ({"auto_probe": True}, "needs actions='atomic' and auto_probe=False"),
    ):
        env = gym.make("TTSReplay-v0", **settings)
        env.reset()
        with pytest.raises(UsageError, match=says):
            program_actions(env, sc, 0.5)
    with pytest.raises(UsageError, match="call reset"):
        program_actions(gym.make("TTSReplay-v0"), sc, 0.5)
    with pytest.raises(UsageError, match="needs TTSReplay-v0, found"):
        program_actions(gym.make("CartPole-v1"), sc, 0.5)
    plain = gym.make("TTSReplay-v0", aggregation="finished")
    plain.reset()
    with pytest.raises(UsageError, match="sc does not answer with the majority here; make it answer_with_branch=True"):
        program_actions(plain, sc, 0.5)


def test_an_episode_that_has_moved_is_refused() -> None:
    env = gym.make("TTSReplay-v0")
    env.reset(options={"question": 0, "order": 0})
    assert program_actions(env, "sc:n=4", 0.5)[-1] == 1
    env.step(0)
    with pytest.raises(UsageError, match="needs an episode that has just begun"):
        program_actions(env, "sc:n=4", 0.5)
