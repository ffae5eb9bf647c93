"""``BetaConditioning``: where betas come from, what they set and where they are seen."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from vector_equality import choose

from tts_gym.envs import TTSReplayVectorEnv
from tts_gym.errors import UsageError
from tts_gym.pools import SyntheticSpec, generate
from tts_gym.wrappers import BetaConditioning, cost_weight, vector

POOL = generate(SyntheticSpec(questions=6, branches=8), seed=1)
COUNT = 5


def make(beta: Any = "uniform", **settings: Any) -> BetaConditioning:
    settings = {"pool": POOL, "max_branches": 4, "actions": "rounds", **settings}
    return BetaConditioning(gym.make("TTSReplay-v0", **settings), beta)


def make_vector(mode: AutoresetMode, beta: Any = "uniform", **settings: Any) -> vector.BetaConditioning:
    settings = {"pool": POOL, "max_branches": 4, "actions": "rounds", **settings}
    return vector.BetaConditioning(TTSReplayVectorEnv(COUNT, autoreset_mode=mode, **settings), beta)


def documented_betas(seed: int, count: int) -> list[float]:
    """What the class says of its draws, written again."""
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    return [generator.random() for _ in range(count)]


# --- the map ---------------------------------------------------------------------------------------------


def test_cost_weights_fall_evenly_on_a_logarithmic_scale() -> None:
    assert [cost_weight(beta) for beta in (0, 0.25, 0.5, 0.75, 1)] == [2.0**-14, 2.0**-16, 2.0**-18, 2.0**-20, 2.0**-22]
    assert cost_weight(0.5, low=1e-6, high=1e-2) == pytest.approx(1e-4)
    falling = [cost_weight(beta) for beta in np.linspace(0, 1, 1001)]
    assert all(one > other for one, other in pairwise(falling))


@pytest.mark.parametrize("bounds", [{"low": 0.0}, {"low": 1.0}, {"high": np.inf}, {"high": np.nan}], ids=str)
def test_bounds_that_are_no_cost_weights_are_refused(bounds: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="0 < low < high"):
        cost_weight(0.5, **bounds)
    with pytest.raises(UsageError, match="0 < low < high"):
        BetaConditioning(gym.make("TTSReplay-v0"), **bounds)


@pytest.mark.parametrize("beta", [-0.1, 1.5, np.nan, "0.5", None, [], [0.2, 2.0], ["a"], "log"], ids=str)
def test_a_beta_that_is_none_is_refused(beta: Any) -> None:
    with pytest.raises(UsageError, match="number from 0 to 1"):
        make(beta)


# --- where betas come from ---------------------------------------------------------------------------------


def test_uniform_betas_are_the_documented_draws() -> None:
    env = make()
    betas = [env.reset(seed=11 if number == 0 else None)[1]["beta"] for number in range(6)]
    assert betas == documented_betas(11, 6)
    assert env.reset(seed=11)[1]["beta"] == betas[0]


def test_vector_betas_are_the_documented_draws_of_seed_plus_k() -> None:
    env = make_vector(AutoresetMode.SAME_STEP)
    answers = np.ones(COUNT, dtype=int)
    drawn = [env.reset(seed=30)[1]["beta"], *(env.step(answers)[4]["beta"] for _ in range(3))]
    np.testing.assert_array_equal(np.array(drawn).T, [documented_betas(30 + k, 4) for k in range(COUNT)])


def test_listed_betas_are_drawn_by_the_same_numbers_and_a_fixed_one_is_kept() -> None:
    listed = make([0.0, 0.5, 1.0])
    betas = [listed.reset(seed=3 if number == 0 else None)[1]["beta"] for number in range(40)]
    assert betas == [[0.0, 0.5, 1.0][int(3 * draw)] for draw in documented_betas(3, 40)]
    assert set(betas) == {0.0, 0.5, 1.0}
    fixed = make(0.7)
    assert [fixed.reset(seed=seed)[1]["beta"] for seed in range(3)] == [0.7] * 3


def test_a_beta_asked_for_takes_its_draw_all_the_same() -> None:
    env = make()
    env.reset(seed=5, options={"beta": 1})
    assert env.beta == 1.0
    assert env.unwrapped.cost_weight == 2.0**-22  # type: ignore[attr-defined]
    assert env.reset()[1]["beta"] == documented_betas(5, 2)[1]


def test_betas_without_a_seed_differ() -> None:
    assert len({make().reset()[1]["beta"] for _ in range(5)}) == 5
    assert len(set(make_vector(AutoresetMode.SAME_STEP).reset()[1]["beta"])) == COUNT


def replayed(env: Any, seed: int) -> list[tuple[int, int]]:
    """Questions and orders of a few episodes."""
    seen = []
    for number in range(8):
        env.reset(seed=seed if number == 0 else None)
        info = env.step(1)[4]
        seen.append((info["question"], info["order"]))
    return seen


@pytest.mark.parametrize("beta", ["uniform", 0.5, [0.1, 0.2]], ids=str)
def test_questions_and_orders_are_the_same_without_the_wrapper(beta: Any) -> None:
    env = make(beta)
    assert replayed(env, 9) == replayed(env.env, 9)
    bare = TTSReplayVectorEnv(COUNT, POOL, autoreset_mode="SameStep", actions="rounds", max_branches=4)
    conditioned = make_vector(AutoresetMode.SAME_STEP, beta)
    for each in (bare, conditioned):
        each.reset(seed=9)
    for _ in range(8):
        one, other = (each.step(np.ones(COUNT, dtype=int))[4]["final_info"] for each in (bare, conditioned))
        for key in ("question", "order"):
            np.testing.assert_array_equal(one[key], other[key])


# --- what a beta does --------------------------------------------------------------------------------------


def test_the_return_is_correctness_minus_the_betas_price_of_the_cost() -> None:
    env = make()
    rng = np.random.default_rng(0)
    for seed in range(20):
        _, info = env.reset(seed=seed)
        total, terminated = 0.0, False
        while not terminated:
            action = int(choose(info["action_mask"][None], rng)[0])
            _, reward, terminated, _, info = env.step(action)
            total += reward
        assert total == pytest.approx(info["correct"] - cost_weight(info["beta"]) * info["cost"], abs=1e-12)


@pytest.mark.parametrize("mode", AutoresetMode, ids=lambda mode: mode.value)
def test_each_step_is_priced_by_the_beta_that_was_observed_before_it(mode: AutoresetMode) -> None:
    env = make_vector(mode, max_episode_steps=6)
    rng = np.random.default_rng(2)
    observations, infos = env.reset(seed=1)
    waits, ends = np.zeros(COUNT, dtype=bool), 0
    for _ in range(60):
        betas, costs = infos["beta"], infos["cost"]
        np.testing.assert_array_equal(observations[:, -1], betas.astype(np.float32))
        observations, rewards, terminated, truncated, infos = env.step(choose(env.action_masks(), rng))
        over = terminated | truncated
        last = infos.get("final_info", infos)
        after = np.where(over, last["cost"], infos["cost"])
        correct = last.get("correct", np.zeros(COUNT))
        for k in range(COUNT):
            weight = cost_weight(betas[k])
            want = 0.0 if waits[k] else weight * costs[k] - weight * after[k] + correct[k]
            assert rewards[k] == pytest.approx(want, abs=1e-12)
            begins = waits[k] or (over[k] and mode is AutoresetMode.SAME_STEP)
            assert (infos["beta"][k] != betas[k]) == begins
        if mode is AutoresetMode.SAME_STEP:
            for k in np.flatnonzero(over):
                assert infos["final_info"]["beta"][k] == betas[k]
                assert infos["final_obs"][k][-1] == np.float32(betas[k])
        elif mode is AutoresetMode.NEXT_STEP:
            waits = over
        elif over.any():
            asked = np.linspace(0, 1, COUNT)
            observations, partial = env.reset(options={"reset_mask": over, "beta": asked})
            np.testing.assert_array_equal(partial["_beta"], over)
            np.testing.assert_array_equal(partial["beta"], np.where(over, asked, 0))
            np.testing.assert_array_equal(env.betas, np.where(over, asked, infos["beta"]))
            infos["beta"], infos["cost"] = env.betas, np.where(over, 0, infos["cost"])
        ends += over.sum()
    assert ends > 20


@pytest.mark.parametrize("options", [{"beta": 2.0}, {"beta": None}, {"question": 99}, {"no_such": 1}], ids=str)
def test_a_reset_that_is_refused_leaves_the_running_episode_its_beta(options: dict[str, Any]) -> None:
    env, many = make(), make_vector(AutoresetMode.DISABLED)
    for each in (env, many):
        each.reset(seed=1, options={"beta": 0.25})
        with pytest.raises(UsageError):
            each.reset(seed=2, options=options)
    assert (env.beta, env.unwrapped.cost_weight) == (0.25, 2.0**-16)  # type: ignore[attr-defined]
    assert (many.betas == 0.25).all()
    assert (many.unwrapped.cost_weights == 2.0**-16).all()  # type: ignore[attr-defined]


@pytest.mark.parametrize("mask", [None, [False, True, True, False, False]], ids=["all", "some"])
def test_a_reset_before_the_step_that_would_have_reset_is_the_only_one(mask: list[bool] | None) -> None:
    env = make_vector(AutoresetMode.NEXT_STEP)
    env.reset(seed=1)
    env.step(np.array([0, 1, 0, 0, 0]))  # environment 1 ends, and would begin anew with the next step
    env.reset(options={"beta": 0.5, **({} if mask is None else {"reset_mask": np.array(mask)})})
    betas, weights = env.betas, env.unwrapped.cost_weights.copy()  # type: ignore[attr-defined]
    assert (betas[1], weights[1]) == (0.5, 2.0**-18)
    env.step(np.zeros(COUNT, dtype=int))
    np.testing.assert_array_equal(env.betas, betas)
    np.testing.assert_array_equal(env.unwrapped.cost_weights, weights)  # type: ignore[attr-defined]


def test_as_many_betas_as_environments_are_asked_for() -> None:
    with pytest.raises(UsageError, match="one number or 5 of them, found 2"):
        make_vector(AutoresetMode.DISABLED).reset(options={"beta": [0.1, 0.2]})


def test_a_partial_reset_is_seen_through_wrappers_that_take_the_mask_out() -> None:
    bare = TTSReplayVectorEnv(COUNT, POOL, autoreset_mode="Disabled", actions="rounds")
    env = vector.BetaConditioning(gym.wrappers.vector.RecordEpisodeStatistics(bare))
    betas = env.reset(seed=1)[1]["beta"]
    mask = np.array([True, False, False, False, True])
    env.reset(options={"reset_mask": mask})
    np.testing.assert_array_equal(env.betas != betas, mask)


# --- where a beta is seen ----------------------------------------------------------------------------------


def test_it_is_the_last_feature() -> None:
    env = make()
    assert isinstance(env.observation_space, spaces.Box)
    bare = env.env.observation_space
    assert isinstance(bare, spaces.Box)
    assert env.observation_space == spaces.Box(np.append(bare.low, np.float32(0)), np.append(bare.high, np.float32(1)))
    observation, info = env.reset(seed=4)
    plain, _ = env.env.reset(seed=4)
    np.testing.assert_array_equal(observation, np.append(plain, np.float32(info["beta"])))
    assert observation.dtype == np.float32


def test_beside_a_grid_it_is_an_entry() -> None:
    env = make(observation="grid")
    assert env.observation_space == spaces.Dict(
        {"observation": env.env.observation_space, "beta": spaces.Box(0.0, 1.0, (1,), np.float32)}
    )
    observation, info = env.reset(seed=4)
    assert observation["beta"].tolist() == [np.float32(info["beta"])]
    assert env.observation_space.contains(observation)
    with pytest.raises(UsageError, match="already has 'beta'"):
        BetaConditioning(env)


def test_a_float64_observation_stays_one_and_whole_numbers_become_an_entry() -> None:
    bare = gym.make("TTSReplay-v0", pool=POOL, max_branches=4)
    assert isinstance(bare.observation_space, spaces.Box)
    doubles = spaces.Box(-1.0, 1.0, bare.observation_space.shape, np.float64)
    wide = BetaConditioning(gym.wrappers.TransformObservation(bare, np.float64, doubles))
    assert wide.reset(seed=1)[0].dtype == wide.observation_space.dtype == np.float64
    flat = gym.wrappers.FlattenObservation(gym.make("TTSReplay-v0", pool=POOL, max_branches=4, observation="grid"))
    assert set(BetaConditioning(flat).reset(seed=1)[0]) == {"observation", "beta"}


def test_what_it_reports_is_plain() -> None:
    info = make().reset(seed=1)[1]
    assert type(info["beta"]) is float
    assert json.dumps(info["beta"])


def test_outside_gymnasiums_autoreset_wrapper_new_episodes_have_new_betas() -> None:
    env = gym.wrappers.Autoreset(make())
    betas = [env.reset(seed=1)[1]["beta"]]
    for _ in range(3):
        env.step(1)  # ANSWER
        betas.append(env.step(1)[4]["beta"])
    assert betas == documented_betas(1, 4)
