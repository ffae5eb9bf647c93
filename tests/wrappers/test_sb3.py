"""``SB3VecEnv``: what ``DummyVecEnv`` over scalar environments is, and what the algorithms make of it."""

from __future__ import annotations

import copy
import importlib
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from vector_equality import assert_same, choose

from tts_gym import wrappers
from tts_gym.envs import TTSReplayVectorEnv, layout
from tts_gym.errors import UsageError
from tts_gym.pools import SyntheticSpec, generate
from tts_gym.wrappers import cost_weight, vector

torch = pytest.importorskip("torch")
pytest.importorskip("sb3_contrib")

from sb3_contrib import MaskablePPO  # noqa: E402
from sb3_contrib.common.maskable.evaluation import evaluate_policy  # noqa: E402
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported  # noqa: E402
from stable_baselines3 import DQN, PPO  # noqa: E402
from stable_baselines3.common.monitor import Monitor  # noqa: E402
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor, VecNormalize  # noqa: E402

from tts_gym.wrappers.sb3 import SB3VecEnv  # noqa: E402

POOL = generate(SyntheticSpec(questions=6, branches=8), seed=1)
COUNT, LIMIT = 4, 7
ROUNDS: dict[str, Any] = {"pool": POOL, "actions": "rounds", "max_branches": 8}
ATOMIC: dict[str, Any] = {"pool": POOL, "actions": "atomic", "max_branches": 4, "auto_probe": True}
GRID: dict[str, Any] = {"pool": POOL, "max_branches": 3, "observation": "grid"}
# Made by a function of the module that the wrappers are from: the scalar one or the vector one.
STACKS: dict[str, tuple[dict[str, Any], Callable[[Any, Any], Any]]] = {
    "rounds": (ROUNDS, lambda w, env: env),
    "atomic": (ATOMIC, lambda w, env: env),
    "beta": (ROUNDS, lambda w, env: w.BetaConditioning(env)),
    "mask over beta over a grid": (GRID, lambda w, env: w.MaskInObservation(w.BetaConditioning(env))),
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def native(count: int = COUNT, limit: int | None = LIMIT, **settings: Any) -> TTSReplayVectorEnv:
    return TTSReplayVectorEnv(count, autoreset_mode="SameStep", max_episode_steps=limit, **settings)


def make(stack: str) -> SB3VecEnv:
    settings, wrap = STACKS[stack]
    return SB3VecEnv(wrap(vector, native(**settings)))


def make_dummy(stack: str) -> DummyVecEnv:
    settings, wrap = STACKS[stack]

    def one() -> gym.Env[Any, Any]:
        made = gym.make("TTSReplay-v0", max_episode_steps=LIMIT, disable_env_checker=True, **settings)
        return wrap(wrappers, made)  # type: ignore[no-any-return]

    return DummyVecEnv([one] * COUNT)


def masks_of(env: VecEnv) -> Any:
    return np.stack(env.env_method("action_masks"))


# --- as DummyVecEnv -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stack", STACKS)
def test_equals_stable_baselines3s_own_over_scalar_environments(stack: str) -> None:
    ours, theirs = make(stack), make_dummy(stack)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert [env.seed(5) for env in (ours, theirs)] == [[5, 6, 7, 8]] * 2
    assert_same(ours.reset(), as_dict(theirs.reset()))
    assert_same(ours.reset_infos, theirs.reset_infos)
    rng = np.random.default_rng(0)
    kinds = []
    for _ in range(60):
        masks = masks_of(ours)
        np.testing.assert_array_equal(masks, masks_of(theirs))
        actions = choose(masks, rng)
        (observations, rewards, dones, infos), want = ours.step(actions), theirs.step(actions)
        assert_same([observations, rewards, dones], [as_dict(want[0]), *want[1:3]])
        for done, info, wanted in zip(dones, infos, want[3], strict=True):
            if done:
                assert info.pop("is_success") == wanted.get("correct", False)
                assert_same(info, as_dict(wanted))
                kinds.append(info["TimeLimit.truncated"])
            else:
                assert info == {}
        assert_same(ours.reset_infos, theirs.reset_infos)
    assert set(kinds) == {True, False}


def as_dict(value: Any) -> Any:
    """Without the ``OrderedDict`` that DummyVecEnv returns."""
    return {key: as_dict(part) for key, part in value.items()} if isinstance(value, dict) else value


def test_what_is_written_into_one_steps_infos_is_not_in_the_next() -> None:
    env = make("rounds")
    env.reset()
    rng = np.random.default_rng(0)
    kept: list[list[dict[str, Any]]] = []
    for _ in range(20):
        _, _, dones, infos = env.step(choose(masks_of(env), rng))
        assert all(bool(info) == done and "mine" not in info for info, done in zip(infos, dones, strict=True))
        for k, info in enumerate(infos):
            info["mine"] = (len(kept), k)
        kept.append(infos)
    assert all(info["mine"] == (number, k) for number, infos in enumerate(kept) for k, info in enumerate(infos))


def test_seeds_and_options_are_for_the_next_reset_only_and_options_may_differ() -> None:
    env = make("beta")
    env.seed(1)
    env.set_options({"question": 3, "beta": 0.5})
    env.reset()
    assert env.get_attr("beta") == [0.5] * COUNT
    answer = np.ones(COUNT, dtype=int)
    assert [info["question"] for info in env.step(answer)[3]] == [3] * COUNT
    drawn = []
    for _ in range(2):
        env.reset()
        drawn.append(env.get_attr("beta"))
    assert len({*drawn[0], *drawn[1], 0.5}) == 2 * COUNT + 1
    options: list[dict[str, Any]] = [{"question": 1, "beta": 0.25}, {}, {"question": 2, "beta": 1.0}, {"order": 9}]
    env.seed(2)
    env.set_options(options)
    env.reset()
    drawn = env.get_attr("beta")
    infos = env.step(answer)[3]
    assert [infos[0]["question"], infos[2]["question"], infos[3]["order"]] == [1, 2, 9]
    assert [infos[0]["beta"], infos[2]["beta"]] == [0.25, 1.0]
    other = make("beta")
    other.seed(2)
    other.reset()
    assert other.get_attr("beta")[1::2] == drawn[1::2]  # not asked for: as without options


def test_attributes_of_each_environment() -> None:
    env = make("rounds")
    assert env.get_attr("cost_weight") == [2.0**-20] * COUNT
    env.set_attr("cost_weight", 2.0**-18, indices=[1, 3])
    env.set_attr("cost_weight", 2.0**-10, indices=0)
    assert env.get_attr("cost_weight", indices=[0, 1, 2]) == [2.0**-10, 2.0**-18, 2.0**-20]
    env.reset()
    before = env.get_attr("replay")[0].tokens.copy()
    _, rewards, _, _ = env.step(np.zeros(COUNT, dtype=int))
    tokens = env.get_attr("replay")[0].tokens - before
    np.testing.assert_array_equal(rewards, np.float32(-tokens * np.array([2.0**-10, 2.0**-18, 2.0**-20, 2.0**-18])))
    assert env.get_attr("action_space", indices=2) == [gym.spaces.Discrete(10)]
    assert env.get_attr("observation_space")[0] == env.observation_space
    env.seed(8)
    env.reset()
    assert env.get_attr("np_random_seed") == [8, 9, 10, 11]
    one = env.get_attr("action_masks", indices=1)[0]()
    np.testing.assert_array_equal(one, masks_of(env)[1])
    assert (env.has_attr("action_masks"), env.has_attr("beta"), env.has_attr("no_such")) == (True, False, False)
    assert make("beta").has_attr("beta")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [("budget", 3.0, "only cost_weight"), ("cost_weight", -1.0, "at least 0"), ("cost_weight", "much", "at least 0")],
)
def test_attributes_that_cannot_be_set(name: str, value: Any, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        make("rounds").set_attr(name, value)


def test_methods_of_each_environment() -> None:
    env = make("atomic")
    env.reset()
    rows = env.env_method("action_masks", indices=[2, 0])
    assert [row.dtype for row in rows] == [np.bool_] * 2
    assert [row.shape for row in rows] == [(2 + 3 * 4,)] * 2
    with pytest.raises(AttributeError, match="action_masks and render"):
        env.env_method("fly")


def test_wrappers_of_the_vector_environment_are_known() -> None:
    env = make("mask over beta over a grid")
    assert env.env_is_wrapped(vector.BetaConditioning) == [True] * COUNT
    assert env.env_is_wrapped(vector.RecordTraces, indices=[0, 1]) == [False] * 2
    assert env.env_is_wrapped(Monitor, indices=0) == [False]


class Painted(TTSReplayVectorEnv):
    """Frames that say which environment they are of."""

    def render(self) -> tuple[Any, ...]:
        return tuple(np.full((2, 3, 3), k, dtype=np.uint8) for k in range(self.num_envs))


def test_frames_are_tiled() -> None:
    env = SB3VecEnv(Painted(COUNT, POOL, autoreset_mode="SameStep", render_mode="rgb_array"))
    assert env.render_mode == "rgb_array"
    assert [int(frame[0, 0, 0]) for frame in env.get_images()] == [0, 1, 2, 3]
    tiled = env.render("rgb_array")
    assert tiled is not None
    assert tiled[::2, ::3, 0].tolist() == [[0, 1], [2, 3]]
    assert make("rounds").get_images() == [None] * COUNT


def test_gymnasiums_statistics_are_those_of_the_end() -> None:
    env = SB3VecEnv(RecordEpisodeStatistics(native(**ROUNDS)))
    env.reset()
    total = np.zeros(COUNT)
    rng = np.random.default_rng(0)
    ended = 0
    for _ in range(20):
        _, rewards, dones, infos = env.step(choose(masks_of(env), rng))
        total += rewards
        for k in np.flatnonzero(dones):
            assert infos[k]["episode"]["r"] == pytest.approx(total[k], abs=1e-6)
            assert "episode" not in env.reset_infos[k]
            ended += 1
        total[dones] = 0
    assert ended > 5


def test_copies_go_on_alike() -> None:
    env = make("mask over beta over a grid")
    env.seed(3)
    env.reset()
    for other in (copy.deepcopy(env), pickle.loads(pickle.dumps(env))):
        actions = np.zeros(COUNT, dtype=int)
        assert_same(other.step(actions), copy.deepcopy(env).step(actions))


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        (TTSReplayVectorEnv(2), "autoreset_mode='SameStep', found 'NextStep'"),
        (TTSReplayVectorEnv(2, autoreset_mode="SameStep", copy=False), "copy=True"),
        (gym.make_vec("CartPole-v1", 2, "sync"), "takes a TTSReplayVectorEnv"),
    ],
    ids=["mode", "copy", "another"],
)
def test_an_environment_that_cannot_serve_is_refused(env: Any, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        SB3VecEnv(env)


def test_without_stable_baselines3_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tts_gym.wrappers.sb3")
    monkeypatch.setitem(sys.modules, "stable_baselines3.common.vec_env.base_vec_env", None)
    with pytest.raises(UsageError, match=r"pip install 'tts-gym\[agents\]'"):
        importlib.import_module("tts_gym.wrappers.sb3")


# --- under Stable-Baselines3's wrappers ----------------------------------------------------------------------


def test_masks_are_found_through_wrappers() -> None:
    env = VecNormalize(VecMonitor(make("rounds")))
    env.reset()
    assert is_masking_supported(env)
    np.testing.assert_array_equal(get_action_masks(env), env.get_attr("replay")[0].masks != 0)


def test_normalized_observations_and_rewards_have_the_moments_of_what_was_seen() -> None:
    env = VecNormalize(make("rounds"), gamma=0.9)
    bare = make("rounds")
    for each in (env, bare):
        each.seed(1)
    env.reset()
    seen, discounted, returns = [bare.reset()], np.zeros(COUNT), []
    rng, ends = np.random.default_rng(0), 0
    for _ in range(30):
        actions = choose(masks_of(env), rng)
        (normal, scaled, dones, infos), (plain, rewards, _, told) = env.step(actions), bare.step(actions)
        seen.append(plain)
        discounted = 0.9 * discounted + rewards
        returns.append(discounted.copy())
        discounted[dones] = 0
        np.testing.assert_allclose(env.obs_rms.mean, np.mean(np.concatenate(seen), 0), atol=1e-4)  # type: ignore[union-attr]
        np.testing.assert_allclose(env.obs_rms.var, np.var(np.concatenate(seen), 0), atol=1e-4)  # type: ignore[union-attr]
        np.testing.assert_allclose(normal, env.normalize_obs(plain))  # type: ignore[arg-type]
        assert env.ret_rms.var == pytest.approx(np.var(returns), abs=1e-4)
        np.testing.assert_allclose(scaled, np.clip(rewards / np.sqrt(env.ret_rms.var + 1e-8), -10, 10), rtol=1e-5)
        for k in np.flatnonzero(dones):
            want = env.normalize_obs(told[k]["terminal_observation"])
            np.testing.assert_array_equal(infos[k]["terminal_observation"], want)
            ends += 1
    assert ends > 5


def test_normalizing_a_dict_leaves_the_mask_alone() -> None:
    env = VecNormalize(make("mask over beta over a grid"), norm_obs_keys=["observation"])
    observations = env.reset()
    assert isinstance(observations, dict)
    np.testing.assert_array_equal(observations["action_mask"], masks_of(env))
    assert observations["beta"].tolist() == [[np.float32(beta)] for beta in env.get_attr("beta")]


def traced(settings: dict[str, Any], count: int = 8, limit: int = 12) -> tuple[vector.RecordTraces, VecMonitor]:
    """Environments whose episodes are counted twice: by VecMonitor and by their traces."""
    traces = vector.RecordTraces(native(count, limit, **settings))
    return traces, VecMonitor(SB3VecEnv(traces), info_keywords=("cost", "is_success"))


def assert_counted_alike(infos: list[dict[str, Any]], traces: list[dict[str, Any]]) -> None:
    assert len(infos) == len(traces) > 30
    assert [info["l"] for info in infos] == [len(trace["actions"]) for trace in traces]
    assert [info["cost"] for info in infos] == [trace["cost"] for trace in traces]
    assert [info["is_success"] for info in infos] == [trace["correct"] is True for trace in traces]
    np.testing.assert_allclose([info["r"] for info in infos], [sum(t["rewards"]) for t in traces], atol=1e-5)


# --- learning ------------------------------------------------------------------------------------------------

SMALL: dict[str, Any] = {
    "n_steps": 64,
    "batch_size": 128,
    "n_epochs": 2,
    "policy_kwargs": {"net_arch": [16]},
    "device": "cpu",
    "seed": 0,
    "stats_window_size": 100_000,
}


def weights_of(model: Any) -> Any:
    return torch.cat([part.detach().flatten() for part in model.policy.parameters()])


@pytest.mark.parametrize("settings", [ROUNDS, ATOMIC], ids=["rounds", "atomic"])
@pytest.mark.parametrize("algorithm", [PPO, MaskablePPO])
def test_it_trains(algorithm: Any, settings: dict[str, Any]) -> None:
    masked = algorithm is MaskablePPO
    traces, env = traced({**settings, "strict": masked})  # strict: an illegal action would raise
    model = algorithm("MlpPolicy", env, **SMALL)
    before = weights_of(model)
    model.learn(4096)
    assert model.num_timesteps == 4096
    assert torch.isfinite(weights_of(model)).all()
    assert not torch.equal(weights_of(model), before)
    assert_counted_alike(list(model.ep_info_buffer), list(traces.traces))
    success = [trace["correct"] is True for trace in traces.traces]
    assert list(model.ep_success_buffer) == success
    if not masked:
        assert any(trace["truncated"] for trace in traces.traces)


def test_it_trains_on_dicts_normalized_and_conditioned() -> None:
    base = vector.MaskInObservation(vector.BetaConditioning(native(8, 12, **GRID, strict=True)))
    env = VecNormalize(VecMonitor(SB3VecEnv(base)), norm_obs_keys=["observation"])
    model = MaskablePPO("MultiInputPolicy", env, **SMALL)
    model.learn(1024)
    assert model.num_timesteps == 1024
    assert env.ret_rms.count > 1000
    weights, betas = env.get_attr("cost_weight"), env.get_attr("beta")
    assert weights == [cost_weight(beta) for beta in betas]


def test_an_algorithm_off_the_policy_takes_it_too() -> None:
    env = SB3VecEnv.make(4, max_episode_steps=12, **ROUNDS)
    model = DQN("MlpPolicy", env, learning_starts=64, train_freq=4, buffer_size=1000, device="cpu", seed=0)
    model.learn(400)
    assert model.num_timesteps == 400
    # The buffer has the last observation of an ended episode, not the first of the next, which has opened nothing.
    buffer = model.replay_buffer
    assert buffer is not None
    dones = buffer.dones[: buffer.pos].astype(bool)
    assert dones.any()
    assert (buffer.next_observations[: buffer.pos][dones][:, layout.G_STEPS] > 0).all()


def test_a_saved_policy_predicts_with_masks_what_it_did(tmp_path: Path) -> None:
    _, env = traced(ROUNDS)
    model = MaskablePPO("MlpPolicy", env, **SMALL)
    model.learn(512)
    observations = env.reset()
    masks = get_action_masks(env)
    model.save(tmp_path / "policy.zip")
    again = MaskablePPO.load(tmp_path / "policy.zip", env=env, device="cpu")
    actions, _ = model.predict(observations, deterministic=True, action_masks=masks)
    np.testing.assert_array_equal(again.predict(observations, deterministic=True, action_masks=masks)[0], actions)
    assert masks[np.arange(len(masks)), actions].all()
    only = np.zeros_like(masks)
    only[:, 3] = True
    assert (again.predict(observations, action_masks=only)[0] == 3).all()
    again.learn(512, reset_num_timesteps=False)
    assert again.num_timesteps == 1024
    returns, lengths = evaluate_policy(again, VecMonitor(make("rounds")), 12, return_episode_rewards=True)
    assert len(returns) == 12  # type: ignore[arg-type]
    assert max(lengths) <= LIMIT  # type: ignore[arg-type, type-var]
