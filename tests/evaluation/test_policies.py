"""Policies as contestants: found, loaded, played, and in the same table as programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from numpy.typing import NDArray

from tts_gym.cli import main
from tts_gym.envs import layout
from tts_gym.errors import PolicyError, UsageError
from tts_gym.evaluation import Policy, evaluate, policy
from tts_gym.pools import SyntheticSpec, generate
from tts_gym.programs.runner import Limits

POOL = generate(SyntheticSpec(questions=5, branches=10), seed=3)


def self_consistency(observations: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
    """SC in round actions: open all, run all to their ends, answer."""
    some = np.where(masks[:, layout.FINISH_ALL], layout.FINISH_ALL, layout.ANSWER)
    return np.where(masks[:, layout.OPEN_8], layout.OPEN_8, some)


def test_a_policy_that_does_what_a_program_does_gets_its_row() -> None:
    mine = Policy("mine", lambda seed: self_consistency, {"actions": "rounds", "max_branches": 8})
    results = evaluate([mine, "sc:n=8"], POOL, [0.0, 1.0], 4, limits=Limits(max_branches=8))
    rows = {(row.contestant, row.beta): row for row in results.rows}
    for beta in (0.0, 1.0):
        ours, theirs = rows["mine", beta], rows["sc:n=8", beta]
        assert (ours.accuracy, ours.tokens, ours.peak_width) == (theirs.accuracy, theirs.tokens, theirs.peak_width)
        # The first interval of each branch is read, in a round that the rest waits for.
        assert (ours.probes, theirs.probes) == (8, 0)
    by_name: dict[str, list[Any]] = {"mine": [], "sc:n=8": []}
    for row in results.episodes.to_pylist():
        by_name[row["contestant"]].append(
            (row["question"], row["order"], row["correct"], row["tokens"], row["branches"])
        )
    assert by_name["mine"] == by_name["sc:n=8"]
    assert results.provenance["policies"] == {"mine": ""}


WIDTH = 64


def adaptive(observations: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
    """ASC in round actions: open one, run it to its end, until the leader is confident."""
    finished = np.rint(observations[:, layout.G_FINISHED] * WIDTH)
    sure = (observations[:, layout.G_CONFIDENCE] > 0.95) & (finished >= 2) & (observations[:, layout.G_LIVE] == 0)
    more = np.where(masks[:, layout.BRANCH], layout.BRANCH, layout.ANSWER)
    return np.where(sure, layout.ANSWER, np.where(masks[:, layout.FINISH_NEAREST], layout.FINISH_NEAREST, more))


def early_stopping(observations: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
    """ESC in round actions: eight at a time to their ends, until a window agrees."""
    opened = np.rint(observations[:, layout.G_OPENED] * WIDTH).astype(int)
    branches = observations[:, layout.GLOBALS + 2 * WIDTH :].reshape(-1, WIDTH, layout.PER_BRANCH)
    windows = [branch[max(0, n - 8) : n, layout.B_ANSWER] for branch, n in zip(branches, opened)]
    agree = np.array([len(window) > 0 and bool((window == window[0]).all()) for window in windows])
    agree &= observations[:, layout.G_LIVE] == 0
    more = np.where(masks[:, layout.OPEN_8], layout.OPEN_8, layout.ANSWER)
    return np.where(agree, layout.ANSWER, np.where(masks[:, layout.FINISH_ALL], layout.FINISH_ALL, more))


def test_round_actions_express_published_controllers_to_the_last_token(autotts: Path) -> None:
    file = autotts / "Qwen3-8B" / "aime24.json"
    twins = {"sc": self_consistency, "asc": adaptive, "esc": early_stopping}
    policies = [
        Policy(f"{name} in rounds", lambda seed, act=act: act, {"actions": "rounds"}) for name, act in twins.items()
    ]
    episodes = evaluate([*policies, *twins], file, [1.0], 6).episodes.to_pylist()
    found: dict[str, list[Any]] = {}
    for row in episodes:
        found.setdefault(row["contestant"], []).append((row["correct"], row["tokens"], row["branches"]))
    for name in twins:
        assert found[f"{name} in rounds"] == found[name]


def test_random_is_the_same_every_time_and_has_no_beta() -> None:
    first, again = (evaluate(policy("random"), POOL, [0.0, 1.0], 20).episodes for _ in range(2))
    assert first.equals(again)
    halves = [first.filter(pc.equal(first["beta"], beta)).drop_columns(["beta"]) for beta in (0.0, 1.0)]
    assert halves[0].equals(halves[1])
    assert first["tokens"].to_pylist() != [0] * len(first)


def test_limits_bind_policies_too() -> None:
    greedy = Policy("greedy", lambda seed: self_consistency, {"actions": "rounds"})
    free = evaluate(greedy, POOL, [1.0], 3).rows[0].tokens
    bound = evaluate(greedy, POOL, [1.0], 3, limits=Limits(budget=20_000.0, max_branches=4))
    assert bound.rows[0].tokens < free
    assert max(bound.episodes["branches"].to_pylist()) == 4
    assert max(bound.episodes["tokens"].to_pylist()) < 20_000 + 4_300  # the last end may pass the budget once


def test_a_policy_file_and_its_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy as np\n"
        "def act(observations, masks):\n"
        "    assert observations.shape[1:] == (32 + 18 * 4,), observations.shape\n"
        "    return np.where(masks[:, 3], 3, np.where(masks[:, 9], 9, 1))\n"
    )
    out = tmp_path / "out.json"
    spec = f"{file}:act:actions=rounds,max_branches=4"
    assert (
        main(
            ["evaluate", "--policy", spec, "--controller", "sc:n=4", "--beta", "1", "--orders", "3", "--json", str(out)]
        )
        == 0
    )
    mine, sc = json.loads(out.read_text())["rows"]
    if mine["contestant"] != spec:
        mine, sc = sc, mine
    assert (mine["accuracy"], mine["tokens"]) == (sc["accuracy"], sc["tokens"])
    assert spec in capsys.readouterr().out
    assert len(json.loads(out.read_text())["provenance"]["policies"][spec]) == 64


# --- networks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["MaskablePPO", "PPO", "A2C", "DQN"])
def test_a_stable_baselines3_model(algorithm: str, tmp_path: Path) -> None:
    module = pytest.importorskip("sb3_contrib" if algorithm == "MaskablePPO" else "stable_baselines3")
    from tts_gym.wrappers.sb3 import SB3VecEnv

    env = SB3VecEnv.make(2, POOL, actions="rounds", max_branches=4)
    model = getattr(module, algorithm)("MlpPolicy", env, seed=0, device="cpu")
    model.save(tmp_path / "model.zip")
    spec = f"{tmp_path / 'model.zip'}:actions=rounds,max_branches=4" + (",algorithm=A2C" if algorithm == "A2C" else "")
    loaded = policy(spec)
    assert (loaded.conditioned, loaded.settings) == (False, {"actions": "rounds", "max_branches": 4})
    first, again = (evaluate(loaded, POOL, [0.5], 3).episodes for _ in range(2))
    assert first.equals(again)
    # The same actions as the model's own, legal ones only.
    env = SB3VecEnv.make(1, POOL, actions="rounds", max_branches=4)
    env.set_options({"question": 2, "order": 1})
    observation, done = env.reset(), False
    act = loaded.begin(0)
    while not done:
        masks = np.stack(env.env_method("action_masks"))
        action = act(observation, masks)
        assert masks[0, action[0]]
        if algorithm == "MaskablePPO":
            own, _ = model.predict(observation, action_masks=masks, deterministic=True)
            np.testing.assert_array_equal(own, action)
        observation, _, (done,), infos = env.step(action)
    (row,) = (row for row in first.to_pylist() if (row["question"], row["order"]) == (2, 1))
    assert (infos[0]["tokens"], infos[0]["correct"]) == (row["tokens"], row["correct"])


def test_a_model_that_was_given_beta_is_played_at_each_beta(tmp_path: Path) -> None:
    sb3 = pytest.importorskip("sb3_contrib")
    from tts_gym.envs import TTSReplayVectorEnv
    from tts_gym.wrappers.sb3 import SB3VecEnv
    from tts_gym.wrappers.vector import BetaConditioning

    for observation, kind in (("features", "MlpPolicy"), ("grid", "MultiInputPolicy")):
        settings: dict[str, Any] = {"actions": "rounds", "max_branches": 4, "observation": observation}
        env = SB3VecEnv(BetaConditioning(TTSReplayVectorEnv(2, POOL, autoreset_mode="SameStep", **settings)))
        sb3.MaskablePPO(kind, env, seed=0, device="cpu").save(tmp_path / "model.zip")
        loaded = policy(f"{tmp_path / 'model.zip'}:actions=rounds,max_branches=4,observation={observation}")
        assert loaded.conditioned
        assert loaded.knobs(0.25) == {"beta": 0.25}
        results = evaluate(loaded, POOL, [0.0, 1.0], 2)
        assert [row.knobs for row in results.rows] == [{"beta": 0.0}, {"beta": 1.0}]


def test_a_conditioned_policy_sees_its_beta() -> None:
    seen: list[float] = []

    def act(observations: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
        seen.extend(observations[:, -1].tolist())
        return np.ones(len(masks), dtype=np.int64)

    told = Policy("told", lambda seed: act, {"max_branches": 2}, conditioned=True)
    evaluate(told, POOL, [0.25, 0.75], 1, workers=1)
    assert seen == [0.25] * 5 + [0.75] * 5


def test_a_torch_module(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    torch.save(torch.nn.Linear(32 + 18 * 4, 10), tmp_path / "net.pt")
    loaded = policy(f"{tmp_path / 'net.pt'}:actions=rounds,max_branches=4")
    results = evaluate(loaded, POOL, [0.0], 2)
    assert results.rows[0].questions == 5
    wrong = policy(f"{tmp_path / 'net.pt'}:actions=rounds,max_branches=8")
    with pytest.raises(PolicyError, match="mat1 and mat2 shapes cannot be multiplied"):
        evaluate(wrong, POOL, [0.0], 2)


# --- what goes wrong ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("nothing.zip", "nothing.zip: no such policy file"),
        ("randm", "randm: no such policy file"),
        ("random:orders", "random:orders: no such module|no such policy file|has no"),
        ("random:max_branches=", "expected setting=value, found 'max_branches='"),
        ("no.such.module:act", "no.such.module: no such module"),
        ("missing.py:act", "missing.py: no such policy file"),
        ("tts_gym.names:nothing", "tts_gym.names: has no 'nothing'"),
        ("tts_gym.errors:__doc__", "a policy should be callable, found str"),
    ],
)
def test_a_policy_that_is_not_there_is_named(spec: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        policy(spec)


def test_a_file_of_another_kind_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_text("x")
    with pytest.raises(UsageError, match=r"a policy file is a \.zip of Stable-Baselines3, a \.pt, or FILE\.py:NAME"):
        policy(tmp_path / "model.txt")
    (tmp_path / "model.zip").write_text("not a zip")
    with pytest.raises(PolicyError, match=r"model\.zip: cannot be loaded: BadZipFile"):
        policy(tmp_path / "model.zip")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(PolicyError, match=r"broken\.py: cannot be loaded: ZeroDivisionError"):
        policy(f"{tmp_path / 'broken.py'}:act")


def test_a_model_for_another_environment_is_named(tmp_path: Path) -> None:
    module = pytest.importorskip("stable_baselines3")
    from tts_gym.wrappers.sb3 import SB3VecEnv

    env = SB3VecEnv.make(2, POOL, actions="rounds", max_branches=4)
    module.PPO("MlpPolicy", env, device="cpu").save(tmp_path / "model.zip")
    with pytest.raises(
        UsageError, match=r"takes observations of shape \(104,\), but \(1184,\) is what the environment"
    ):
        policy(tmp_path / "model.zip")


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda o, m: np.zeros(3), r"bad: should return \d+ actions as whole numbers, found float64 of shape \(3,\)"),
        (lambda o, m: np.full(len(m), 99), "actions should be from 0 to 9"),
        (lambda o, m: o["x"], "bad: IndexError"),
        (
            lambda o, m: np.full(len(m), layout.PRUNE_DISSENTERS),
            r"bad: question 0, order 0: no answer after [\d,]+ actions",
        ),
    ],
)
def test_a_policy_that_fails_is_named(act: Any, says: str) -> None:
    bad = Policy("bad", lambda seed: act, {"actions": "rounds", "max_branches": 2})
    with pytest.raises(PolicyError, match=says):
        evaluate(bad, POOL, [0.5], 2)


def test_evaluate_needs_someone_to_evaluate(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate"]) == 2
    assert capsys.readouterr().err == "tts-gym: evaluate needs a --controller or a --policy\n"


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("max_branch=3", "unknown setting 'max_branch'; did you mean max_branches"),
        ("grading=math", "unknown setting 'grading'; there are"),
        ("max_episode_steps=3", "unknown setting 'max_episode_steps'; there are"),
        ("copy=true", "unknown setting 'copy'; there are"),
    ],
)
def test_a_setting_that_is_not_the_policys_is_named(setting: str, says: str) -> None:
    with pytest.raises(UsageError, match=says.replace("?", r"\?")):
        policy(f"random:{setting}")


def test_a_class_is_no_policy(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("class Net: pass\n")
    with pytest.raises(UsageError, match="found the class Net: give an instance"):
        policy(f"{tmp_path / 'net.py'}:Net")
