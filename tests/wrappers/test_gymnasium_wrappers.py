"""Gymnasium's own wrappers do over ``TTSReplay-v0``, one or many, what they say they do."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import vector as of_many
from numpy.typing import NDArray
from vector_equality import assert_same, choose

from tts_gym.envs import TTSReplayEnv, TTSReplayVectorEnv, layout
from tts_gym.pools import SyntheticSpec, generate

POOL = generate(SyntheticSpec(questions=6, branches=8), seed=1)
COUNT, LIMIT = 4, 9
FEATURES: dict[str, Any] = {"pool": POOL, "actions": "rounds", "max_branches": 4}
GRID: dict[str, Any] = {"pool": POOL, "max_branches": 3, "observation": "grid"}


def make(**settings: Any) -> gym.Env[Any, Any]:
    return gym.make("TTSReplay-v0", disable_env_checker=True, **{**FEATURES, **settings})


def play(env: gym.Env[Any, Any], count: int, seed: int = 0) -> list[tuple[Any, ...]]:
    """What reset and steps returned, in order; a reset as an observation and an info."""
    rng = np.random.default_rng(seed)
    seen: list[tuple[Any, ...]] = [env.reset(seed=seed)]
    for _ in range(count):
        if len(seen[-1]) == 5 and (seen[-1][2] or seen[-1][3]):
            seen.append(env.reset())
        seen.append(env.step(choose(env.get_wrapper_attr("action_masks")()[None], rng)[0]))
    return seen


def both(wrap: Callable[[Any], Any], count: int = 60, **settings: Any) -> tuple[list[Any], list[Any], Any]:
    """The same episodes bare and wrapped, and the wrapper."""
    wrapped = wrap(make(**settings))
    return play(make(**settings), count), play(wrapped, count), wrapped


def observations(seen: list[tuple[Any, ...]]) -> list[Any]:
    return [each[0] for each in seen]


def steps(seen: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [each for each in seen if len(each) == 5]


# --- one environment: episodes --------------------------------------------------------------------------------


def test_time_limit_truncates_at_its_step_and_no_other() -> None:
    env = gym.wrappers.TimeLimit(make(), 5)
    env.reset(seed=0)
    assert [env.step(0)[2:4] for _ in range(5)] == [(False, False)] * 4 + [(False, True)]
    env.reset()
    assert [env.step(0)[3] for _ in range(4)] == [False] * 4
    assert env.step(1)[2:4] == (True, True)  # an answer in the last step is still one


def test_record_episode_statistics_counts_steps_and_sums_rewards() -> None:
    env = gym.wrappers.RecordEpisodeStatistics(make())
    total, length, ends = 0.0, 0, 0
    for each in play(env, 80):
        if len(each) == 2:
            total, length = 0.0, 0
            continue
        total, length = total + each[1], length + 1
        assert ("episode" in each[4]) == each[2]
        if each[2]:
            assert (each[4]["episode"]["r"], each[4]["episode"]["l"]) == (pytest.approx(total), length)
            ends += 1
    assert ends == env.episode_count > 5


def test_autoreset_resets_with_the_step_after_an_end_whose_action_is_ignored() -> None:
    env = gym.wrappers.Autoreset(make())
    env.reset(seed=0)
    assert env.step(1)[2]
    observation, reward, terminated, truncated, info = env.step(1)
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert observation[layout.G_STEPS] == 0
    assert info["cost"] == 0
    assert env.step(0)[4]["tokens"] > 0


def test_order_enforcing_asks_for_a_reset_first() -> None:
    env = gym.wrappers.OrderEnforcing(TTSReplayEnv(**FEATURES))
    with pytest.raises(gym.error.ResetNeeded):
        env.step(0)
    env.reset(seed=0)
    env.step(0)


def test_the_passive_checker_finds_nothing_to_warn_of() -> None:
    for settings in (FEATURES, GRID):
        env = gym.wrappers.PassiveEnvChecker(TTSReplayEnv(**settings))
        play(env, 40)  # warnings are errors
        assert env.checked_reset
        assert env.checked_step
        assert env.checked_data_reuse


# --- one environment: observations ------------------------------------------------------------------------------


def test_flatten_observation_lays_the_rows_of_a_grid_one_after_another() -> None:
    bare, wrapped, env = both(gym.wrappers.FlattenObservation, **GRID)
    for grid, flat in zip(observations(bare), observations(wrapped), strict=True):
        np.testing.assert_array_equal(flat, grid.reshape(-1))
        assert env.observation_space.contains(flat)


def test_normalize_observation_centers_by_what_was_seen() -> None:
    bare, wrapped, env = both(gym.wrappers.NormalizeObservation)
    seen = np.array(observations(bare))
    np.testing.assert_allclose(env.obs_rms.mean, seen.mean(0), atol=1e-3)
    np.testing.assert_allclose(env.obs_rms.var, seen.var(0), atol=1e-3)
    last = (seen[-1] - env.obs_rms.mean) / np.sqrt(env.obs_rms.var + env.epsilon)
    np.testing.assert_allclose(observations(wrapped)[-1], last, rtol=1e-5)


def test_transform_observation_applies_its_function() -> None:
    space = spaces.Box(-1.0, 1.0, (32,), np.float32)
    bare, wrapped, env = both(lambda e: gym.wrappers.TransformObservation(e, lambda x: x[:32], space))
    assert_same(observations(wrapped), [each[:32] for each in observations(bare)])
    assert all(env.observation_space.contains(each) for each in observations(wrapped))


def test_dtype_observation_casts() -> None:
    bare, wrapped, env = both(lambda e: gym.wrappers.DtypeObservation(e, np.int32), **GRID)
    assert_same(observations(wrapped), [each.astype(np.int32) for each in observations(bare)])
    assert env.observation_space.dtype == np.int32


def test_rescale_observation_stretches_each_feature_from_its_own_bounds() -> None:
    bare, wrapped, env = both(lambda e: gym.wrappers.RescaleObservation(e, np.float32(0), np.float32(2)))
    space = env.env.observation_space
    for plain, scaled in zip(observations(bare), observations(wrapped), strict=True):
        # [0, 1] doubles, the one feature in [-1, 1] moves up
        np.testing.assert_allclose(scaled, np.where(space.low < 0, plain + 1, 2 * plain), atol=1e-6)


def test_frame_stack_keeps_the_latest_observations_of_the_episode() -> None:
    bare, wrapped, _ = both(lambda e: gym.wrappers.FrameStackObservation(e, 3))
    frames: list[Any] = []
    for plain, stacked in zip(bare, wrapped, strict=True):
        frames = [plain[0]] * 3 if len(plain) == 2 else [*frames[1:], plain[0]]
        np.testing.assert_array_equal(stacked[0], frames)


def test_time_aware_observation_appends_the_steps_of_the_episode() -> None:
    wrap = gym.wrappers.TimeAwareObservation
    bare, wrapped, env = both(wrap, max_episode_steps=LIMIT)
    now = 0
    for plain, timed in zip(bare, wrapped, strict=True):
        now = 0 if len(plain) == 2 else now + 1
        np.testing.assert_array_equal(timed[0], np.append(plain[0].astype(np.float64), now))
        assert plain[0][layout.G_STEPS] == pytest.approx(now / (now + 256))
        assert env.observation_space.contains(timed[0])


# --- one environment: rewards -----------------------------------------------------------------------------------


def test_clip_reward_clips() -> None:
    bare, wrapped, _ = both(lambda e: gym.wrappers.ClipReward(e, -0.002, 0.5))
    plain = [each[1] for each in steps(bare)]
    assert min(plain) < -0.002
    assert max(plain) > 0.5
    assert [each[1] for each in steps(wrapped)] == np.clip(plain, -0.002, 0.5).tolist()


def test_normalize_reward_divides_by_the_spread_of_discounted_returns() -> None:
    bare, wrapped, env = both(lambda e: gym.wrappers.NormalizeReward(e, gamma=0.9), count=100)
    discounted, seen = 0.0, []
    for _, reward, terminated, *_ in steps(bare):
        discounted = discounted * 0.9 * (1 - terminated) + reward
        seen.append(discounted)
    assert env.return_rms.var == pytest.approx(np.var(seen), rel=0.01)
    want = steps(bare)[-1][1] / np.sqrt(env.return_rms.var + env.epsilon)
    assert float(steps(wrapped)[-1][1]) == pytest.approx(want)


# --- one environment: all ---------------------------------------------------------------------------------------

SCALAR: dict[str, tuple[Callable[[Any], Any], dict[str, Any]]] = {
    "TimeLimit": (lambda e: gym.wrappers.TimeLimit(e, 5), FEATURES),
    "Autoreset": (gym.wrappers.Autoreset, FEATURES),
    "PassiveEnvChecker": (gym.wrappers.PassiveEnvChecker, FEATURES),
    "OrderEnforcing": (gym.wrappers.OrderEnforcing, FEATURES),
    "RecordEpisodeStatistics": (gym.wrappers.RecordEpisodeStatistics, FEATURES),
    "FlattenObservation": (gym.wrappers.FlattenObservation, GRID),
    "NormalizeObservation": (gym.wrappers.NormalizeObservation, FEATURES),
    "DtypeObservation": (lambda e: gym.wrappers.DtypeObservation(e, np.int32), GRID),
    "RescaleObservation": (lambda e: gym.wrappers.RescaleObservation(e, np.float32(0), np.float32(2)), FEATURES),
    "FrameStackObservation": (lambda e: gym.wrappers.FrameStackObservation(e, 3), FEATURES),
    "TimeAwareObservation": (gym.wrappers.TimeAwareObservation, {**FEATURES, "max_episode_steps": LIMIT}),
    "ClipReward": (lambda e: gym.wrappers.ClipReward(e, -0.1, 0.1), FEATURES),
    "NormalizeReward": (gym.wrappers.NormalizeReward, FEATURES),
}


@pytest.mark.parametrize("name", SCALAR)
def test_masks_are_found_through_it(name: str) -> None:
    wrap, settings = SCALAR[name]
    env = wrap(make(**settings))
    rng = np.random.default_rng(0)
    _, info = env.reset(seed=0)
    for _ in range(5):
        masks = env.get_wrapper_attr("action_masks")()
        assert masks.dtype == np.bool_
        np.testing.assert_array_equal(masks, info["action_mask"] != 0)
        info = env.step(choose(masks[None, :], rng, legal=1.0)[0] if masks[2:].any() else 0)[4]


# A spec says whether there is a checker and an order enforcer, not how often.
@pytest.mark.parametrize("name", sorted(set(SCALAR) - {"PassiveEnvChecker", "OrderEnforcing"}))
def test_its_spec_makes_it_again(name: str) -> None:
    wrap, settings = SCALAR[name]
    named = {key: value for key, value in settings.items() if key != "pool"}  # what JSON can hold
    env = wrap(gym.make("TTSReplay-v0", **named))
    assert env.spec is not None
    again = gym.make(env.spec)
    assert str(again) == str(env)
    assert_same(again.reset(seed=2), env.reset(seed=2))


# --- many environments ------------------------------------------------------------------------------------------


def native(mode: AutoresetMode = AutoresetMode.NEXT_STEP, **settings: Any) -> TTSReplayVectorEnv:
    return TTSReplayVectorEnv(COUNT, autoreset_mode=mode, max_episode_steps=LIMIT, **{**FEATURES, **settings})


def play_many(env: Any, count: int = 60) -> list[tuple[Any, ...]]:
    """What a reset and steps returned."""
    rng = np.random.default_rng(0)
    seen = [env.reset(seed=0)]
    for _ in range(count):
        seen.append(env.step(choose(env.unwrapped.action_masks(), rng)))  # noqa: PERF401 (the env changes meanwhile)
    return seen


def both_many(
    wrap: Callable[[Any], Any], mode: AutoresetMode = AutoresetMode.NEXT_STEP, **settings: Any
) -> tuple[list[Any], list[Any], Any]:
    """The same episodes bare and wrapped, and the wrapper."""
    wrapped = wrap(native(mode, **settings))
    return play_many(native(mode, **settings)), play_many(wrapped), wrapped


@pytest.mark.parametrize("mode", AutoresetMode, ids=lambda mode: mode.value)
def test_statistics_of_many_count_steps_and_sum_rewards(mode: AutoresetMode) -> None:
    env = of_many.RecordEpisodeStatistics(native(mode))
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    totals, lengths, over, ends = np.zeros(COUNT), np.zeros(COUNT, dtype=int), np.zeros(COUNT, dtype=bool), 0
    for _ in range(60):
        actions = choose(env.unwrapped.action_masks(), rng)  # type: ignore[attr-defined]
        _, rewards, terminated, truncated, infos = env.step(actions)
        totals += rewards
        lengths += ~over if mode is AutoresetMode.NEXT_STEP else 1
        over = terminated | truncated
        if over.any():
            np.testing.assert_array_equal(infos["_episode"], over)
            np.testing.assert_allclose(infos["episode"]["r"], np.where(over, totals, 0), atol=1e-12)
            np.testing.assert_array_equal(infos["episode"]["l"], np.where(over, lengths, 0))
            totals[over], lengths[over], ends = 0, 0, ends + over.sum()
            if mode is AutoresetMode.DISABLED:
                env.reset(options={"reset_mask": over})
    assert ends == env.episode_count > 20


def test_normalize_observation_of_many_centers_by_what_was_seen() -> None:
    bare, wrapped, env = both_many(of_many.NormalizeObservation)
    seen = np.concatenate(observations(bare))
    np.testing.assert_allclose(env.obs_rms.mean, seen.mean(0), atol=1e-3)
    np.testing.assert_allclose(env.obs_rms.var, seen.var(0), atol=1e-3)
    last = (observations(bare)[-1] - env.obs_rms.mean) / np.sqrt(env.obs_rms.var + env.epsilon)
    np.testing.assert_allclose(observations(wrapped)[-1], last, rtol=1e-5)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP], ids=lambda mode: mode.value)
def test_normalize_reward_of_many_divides_by_the_spread_of_discounted_returns(mode: AutoresetMode) -> None:
    bare, wrapped, env = both_many(lambda e: of_many.NormalizeReward(e, gamma=0.9), mode)
    discounted, over, seen = np.zeros(COUNT), np.zeros(COUNT, dtype=bool), []
    for _, rewards, terminated, truncated, _ in steps(bare):
        active = np.ones(COUNT, dtype=bool) if mode is AutoresetMode.SAME_STEP else ~over
        discounted[active] = (0.9 * discounted * ~terminated + rewards)[active]
        seen += discounted[active].tolist()
        over = terminated | truncated
        if mode is AutoresetMode.SAME_STEP:
            discounted[over] = 0
    assert env.return_rms.var == pytest.approx(np.var(seen), rel=0.01)
    want = steps(bare)[-1][1] / np.sqrt(env.return_rms.var + env.epsilon)
    np.testing.assert_allclose(steps(wrapped)[-1][1], want)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP], ids=lambda mode: mode.value)
def test_rewards_of_many_are_clipped_and_transformed(mode: AutoresetMode) -> None:
    bare, clipped, _ = both_many(lambda e: of_many.ClipReward(e, -0.002, 0.5), mode)
    plain = [each[1] for each in steps(bare)]
    assert_same([each[1] for each in steps(clipped)], [np.clip(each, -0.002, 0.5) for each in plain])
    for wrap in (
        lambda e: of_many.TransformReward(e, lambda rewards: 3 * rewards),
        lambda e: of_many.VectorizeTransformReward(e, gym.wrappers.TransformReward, func=lambda reward: 3 * reward),
    ):
        tripled = play_many(wrap(native(mode)))
        assert_same([each[1] for each in steps(tripled)], [3 * each for each in plain])


def test_flatten_observation_of_many_lays_the_rows_of_grids_one_after_another() -> None:
    bare, wrapped, env = both_many(of_many.FlattenObservation, **GRID)
    assert_same(observations(wrapped), [each.reshape(COUNT, -1) for each in observations(bare)])
    assert env.observation_space.contains(observations(wrapped)[-1])


def test_transform_observation_of_many_applies_its_function() -> None:
    space = spaces.Box(-1.0, 1.0, (32,), np.float32)
    bare, wrapped, env = both_many(
        lambda e: of_many.TransformObservation(e, lambda x: x[:, :32], single_observation_space=space)
    )
    assert_same(observations(wrapped), [each[:, :32] for each in observations(bare)])
    assert env.observation_space.contains(observations(wrapped)[-1])
    one_by_one = of_many.VectorizeTransformObservation(
        native(), gym.wrappers.TransformObservation, func=lambda x: x[:32], observation_space=space
    )
    assert_same(observations(play_many(one_by_one)), [each[:, :32] for each in observations(bare)])


def test_dict_info_to_list_gives_the_infos_of_scalar_environments() -> None:
    env = of_many.DictInfoToList(native())
    scalars: list[gym.Env[Any, Any]] = [make(max_episode_steps=LIMIT) for _ in range(COUNT)]
    _, infos = env.reset(seed=4)
    assert_infos(infos, [one.reset(seed=4 + k)[1] for k, one in enumerate(scalars)])
    rng = np.random.default_rng(0)
    over = np.zeros(COUNT, dtype=bool)
    for _ in range(40):
        actions = choose(np.stack([one.get_wrapper_attr("action_masks")() for one in scalars]), rng)
        _, _, terminated, truncated, infos = env.step(actions)
        wanted = [
            one.reset()[1] if waits else one.step(action)[4]
            for one, waits, action in zip(scalars, over, actions, strict=True)
        ]
        assert_infos(infos, wanted)
        over = terminated | truncated


def assert_infos(found: Any, wanted: list[dict[str, Any]]) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert set(one) == set(other)
        for key, value in other.items():
            np.testing.assert_array_equal(one[key], value, err_msg=key)


def test_numpy_to_torch_gives_the_same_numbers_as_tensors() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("array_api_compat")
    bare, env = native(), of_many.NumpyToTorch(native())
    rng = np.random.default_rng(0)
    want, got = bare.reset(seed=0), env.reset(seed=0)
    for _ in range(40):
        assert_tensors(got, want, torch)
        actions = choose(bare.action_masks(), rng)
        want, got = bare.step(actions), env.step(torch.from_numpy(actions))


def assert_tensors(found: Any, wanted: Any, torch: Any) -> None:
    if isinstance(wanted, dict):
        assert set(found) == set(wanted)
        for key, value in wanted.items():
            assert_tensors(found[key], value, torch)
    elif isinstance(wanted, tuple):
        for one, other in zip(found, wanted, strict=True):
            assert_tensors(one, other, torch)
    else:
        assert isinstance(found, torch.Tensor)
        np.testing.assert_array_equal(found.numpy(), wanted)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP], ids=lambda mode: mode.value)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda e: of_many.ClipReward(e, -0.1, 0.1),
        lambda e: of_many.NormalizeReward(e),
        lambda e: of_many.TransformReward(e, lambda rewards: rewards + 1),
    ],
    ids=["ClipReward", "NormalizeReward", "TransformReward"],
)
def test_it_does_to_ours_what_it_does_to_gymnasiums(wrap: Callable[[Any], Any], mode: AutoresetMode) -> None:
    ours = wrap(native(mode))
    theirs = wrap(SyncVectorEnv([lambda: make(max_episode_steps=LIMIT)] * COUNT, autoreset_mode=mode))
    rng = np.random.default_rng(0)
    assert_same(ours.reset(seed=0), theirs.reset(seed=0))
    for _ in range(40):
        actions: NDArray[np.int64] = choose(ours.unwrapped.action_masks(), rng)
        assert_same(list(ours.step(actions)), list(theirs.step(actions)))


# --- rendering ------------------------------------------------------------------------------------------


def test_record_video_writes_one_frame_for_each_observation(tmp_path: Path) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    inner = make(render_mode="rgb_array")
    env = gym.wrappers.RecordVideo(inner, str(tmp_path / "video"), episode_trigger=lambda number: number == 0)
    env.reset(seed=0)
    for action in (layout.OPEN_4, layout.ADVANCE_ALL, layout.FINISH_ALL, layout.ANSWER):
        env.step(action)
    last = inner.render()
    env.close()
    (video,) = (tmp_path / "video").glob("*.mp4")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(video), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    assert isinstance(last, np.ndarray)
    frames = np.frombuffer(raw, dtype=np.uint8).reshape(-1, *last.shape)
    assert len(frames) == 5
    assert np.abs(frames[-1].astype(int) - last).mean() < 12  # but for the loss of compression
    assert np.abs(frames[0].astype(int) - last).mean() > 1.5 * np.abs(frames[-1].astype(int) - last).mean()


def test_human_rendering_shows_what_rgb_array_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pygame = pytest.importorskip("pygame")
    inner = make(render_mode="rgb_array")
    env = gym.wrappers.HumanRendering(inner)
    env.reset(seed=0)
    env.step(layout.OPEN_4)
    drawn = inner.render()
    assert isinstance(drawn, np.ndarray)
    assert pygame.display.get_surface().get_size() == drawn.shape[1::-1]
    shown = np.transpose(pygame.surfarray.array3d(pygame.display.get_surface()), (1, 0, 2))
    np.testing.assert_array_equal(shown, drawn)
    env.close()
