"""``TTSReplay-v0`` does what its page says: numbers from arithmetic, from the reference engine, from the programs.

That every step is the page's, down to each feature, is in ``test_second.py``.
"""

from __future__ import annotations

import copy
import gc
import json
import weakref
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from envs.second import pool_of
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import data_equivalence
from numpy.typing import NDArray

import tts_gym
from tts_gym.engine.moves import branch_order
from tts_gym.envs import TTSReplayEnv, TTSReplayVectorEnv, layout
from tts_gym.envs.layout import ROUND_ACTIONS
from tts_gym.envs.snapshot import Snapshot
from tts_gym.errors import IllegalMove
from tts_gym.evaluation import find_program
from tts_gym.pools import DEFAULT_POOL, Recording, SyntheticSpec, generate, open_pool
from tts_gym.programs import primitives as look
from tts_gym.programs.runner import Limits, reference_episode, run_program

# Four branches, opened as 0, 1, 2, 3, intervals of 100 tokens; answers A, B, C are codes 0, 1, 2:
#   branch 0  A A A, then A      3 intervals, 320 tokens
#   branch 1  B A, then A        2 intervals, 180 tokens
#   branch 2  B B B B, then B    4 intervals, 400 tokens
#   branch 3  nothing, then C    1 interval, 90 tokens
# Three times the same question; A is right in question 0, B in 1, C in 2.
A, B, C, NONE = 0, 1, 2, -1
FOUR = Recording(
    answers=np.array([[[A, A, A, A, -1], [B, A, A, -1, -1], [B, B, B, B, B], [NONE, C, -1, -1, -1]]] * 3, np.int16),
    intervals=np.array([[3, 2, 4, 1]] * 3, np.int16),
    tokens=np.array([[320, 180, 400, 90]] * 3, np.int32),
    delta=100,
    vocabulary_size=3,
)
POOL = pool_of(FOUR, gold=[A, B, C], name="four")
IN_TURN = next(order for order in count() if branch_order(4, order).tolist() == [0, 1, 2, 3])
W = 4
BRANCH, ANSWER = 0, 1
OPEN_1, OPEN_2, OPEN_4, OPEN_8 = 0, 2, 3, 4
ADVANCE_ALL, ADVANCE_AGREEING, PRUNE_DISSENTERS, FINISH_NEAREST, FINISH_ALL = 5, 6, 7, 8, 9

SHIPPED: dict[str, dict[str, Any]] = {
    "atomic": {"max_branches": 8},
    "atomic, budget": {"max_branches": 8, "budget": 30_000.0, "probe_cost": 50.0},
    "auto_probe": {"max_branches": 6, "auto_probe": True, "answer_with_branch": True},
    "rounds": {"actions": "rounds", "max_branches": 16},
    "rounds, budget": {"actions": "rounds", "max_branches": 16, "budget": 60_000.0, "probe_cost": 7.0, "patience": 1},
    "grid": {"max_branches": 8, "observation": "grid"},
}


def proceed(i: int) -> int:
    return 2 + i


def probe(i: int) -> int:
    return 2 + W + i


def prune(i: int) -> int:
    return 2 + 2 * W + i


def answer_of(i: int) -> int:
    return 2 + 3 * W + i


def made(pool: Any = POOL, **chosen: Any) -> TTSReplayEnv:
    env = gym.make("TTSReplay-v0", pool=pool, **{"max_branches": W, **chosen}).unwrapped
    assert isinstance(env, TTSReplayEnv)
    return env


def play(env: gym.Env[Any, Any], *actions: int, question: int = 0) -> dict[str, Any]:
    """The last info after these actions, all of them legal."""
    _, info = env.reset(options={"question": question, "order": IN_TURN})
    for action in actions:
        assert info["action_mask"][action], f"{action} is illegal"
        *_, info = env.step(action)
    return info


def answered(*actions: int, **chosen: Any) -> int:
    """Which answer was given, told by which question it is correct for."""
    infos = [play(made(**chosen), *actions, question=question) for question in range(3)]
    right = [question for question, info in enumerate(infos) if info["correct"]]
    assert len(right) <= 1
    return right[0] if right else NONE


def known(env: TTSReplayEnv) -> dict[str, Any]:
    """All that a snapshot shows."""
    return {name: value for name, value in vars(env.replay.snapshot(0)).items() if not name.startswith("_")}


def legal(info: dict[str, Any]) -> list[int]:
    return np.flatnonzero(info["action_mask"]).tolist()


def spending(env: TTSReplayEnv) -> list[int]:
    """The legal actions that spend."""
    first = 10 if env.replay.rounds else 2 + 2 * (env.replay.limits.max_branches or 0)
    return [action for action in np.flatnonzero(env.action_masks()).tolist() if action != ANSWER and action < first]


def wander(env: TTSReplayEnv, generator: np.random.Generator, ending: float = 0.01) -> int:
    """A random legal action. Few of them end the episode or give branches up, where there is something else to do."""
    some, onward, dice = np.flatnonzero(env.action_masks()).tolist(), spending(env), generator.random()
    if dice < ending or not some[1:]:
        return ANSWER
    return int(generator.choice(some if dice > 0.97 or not onward else onward))


def trajectory(env: gym.Env[Any, Any], seed: int | None = None, steps: int = 100, **reset: Any) -> list[Any]:
    """Random legal actions and all they lead to; further episodes are drawn."""
    generator = np.random.default_rng(0)
    observation, info = env.reset(seed=seed, **reset)
    seen: list[Any] = [(observation.tolist(), info["action_mask"].tolist())]
    for _ in range(steps):
        action = wander(env.unwrapped, generator, ending=0.03)  # type: ignore[arg-type]
        observation, reward, terminated, truncated, info = env.step(action)
        plain = {key: value.tolist() if key == "action_mask" else value for key, value in info.items()}
        seen.append((action, observation.tolist(), reward, terminated, truncated, plain))
        if terminated or truncated:
            observation, info = env.reset()
            seen.append(observation.tolist())
    return seen


# --- made by name ------------------------------------------------------------------------------------------


def test_importing_the_package_registers_it() -> None:
    assert tts_gym.__doc__
    spec = gym.spec("TTSReplay-v0")
    assert spec.entry_point == "tts_gym.envs.tts_replay:TTSReplayEnv"
    assert spec.vector_entry_point == "tts_gym.envs.vector:TTSReplayVectorEnv"


def test_the_package_can_be_named_in_the_id() -> None:
    env = gym.make("tts_gym:TTSReplay-v0", max_branches=3)
    assert isinstance(env.unwrapped, TTSReplayEnv)
    assert env.unwrapped.replay.pools[0].name == DEFAULT_POOL  # the shipped one, without a pool
    several = gym.make_vec("tts_gym:TTSReplay-v0", 2, max_branches=3)
    assert isinstance(several, TTSReplayVectorEnv)


PLAIN: list[dict[str, Any]] = [
    {},
    {
        "pool": [DEFAULT_POOL, DEFAULT_POOL],
        "max_branches": 3,
        "budget": 30_000.0,
        "probe_cost": 2.5,
        "cost_weight": 1e-5,
        "observation": "grid",
        "questions": [[1, 2], [29]],
        "orders": [4, 8],
        "pool_weights": [1, 2],
        "auto_probe": True,
        "answer_with_branch": True,
        "aggregation": "finished",
        "strict": True,
        "render_mode": "ansi",
    },
    {"actions": "rounds", "grading": "math", "questions": [0, 5], "orders": 3, "patience": 2, "max_episode_steps": 9},
]


@pytest.mark.parametrize("chosen", PLAIN, ids=["nothing", "atomic", "rounds"])
def test_a_spec_survives_json(chosen: dict[str, Any]) -> None:
    env = gym.make("TTSReplay-v0", **chosen)
    assert env.spec is not None
    text = env.spec.to_json()
    assert json.loads(text)["kwargs"] == {name: value for name, value in chosen.items() if name != "max_episode_steps"}
    spec = EnvSpec.from_json(text)
    again = gym.make(spec)
    assert again.spec is not None
    assert spec == env.spec == again.spec
    assert again.observation_space == env.observation_space
    assert again.action_space == env.action_space
    assert trajectory(again, seed=3) == trajectory(env, seed=3)


@pytest.mark.parametrize("chosen", PLAIN, ids=["nothing", "atomic", "rounds"])
def test_a_vector_spec_survives_json(chosen: dict[str, Any]) -> None:
    env = gym.make_vec("TTSReplay-v0", 3, autoreset_mode="SameStep", **chosen)
    assert env.spec is not None
    spec = EnvSpec.from_json(env.spec.to_json())
    assert spec == env.spec
    again = gym.make_vec(spec)
    assert isinstance(again, TTSReplayVectorEnv)
    assert again.num_envs == 3
    assert again.metadata == env.metadata
    assert again.replay.max_steps == chosen.get("max_episode_steps")
    told = []
    for each in (env, again):
        each.reset(seed=3)
        told.append([each.step(each.unwrapped.action_masks().argmax(axis=1)) for _ in range(70)])  # type: ignore
    assert data_equivalence(told[0], told[1], exact=True)
    assert any(step[2].any() or step[3].any() for step in told[0])


# --- rewards -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_rewards_sum_to_correctness_minus_weighted_cost_to_the_last_bit(name: str) -> None:
    env = made(DEFAULT_POOL, **SHIPPED[name])
    assert env.cost_weight == 1 / 1_048_576
    generator = np.random.default_rng(0)
    right, costs = [], []
    for episode in range(30):
        env.reset(seed=episode)
        rewards: list[float] = []
        terminated = False
        while not terminated:
            _, reward, terminated, _, info = env.step(wander(env, generator))
            rewards.append(reward)
        assert sum(rewards) == info["correct"] - info["cost"] / 1_048_576
        assert rewards[-1] == info["correct"]
        assert all(reward <= 0 for reward in rewards[:-1])
        assert info["cost"] == info["tokens"] + env.replay.limits.probe_cost * info["probes"]
        right.append(info["correct"])
        costs.append(info["cost"])
    assert 0 < sum(right) < 30
    assert max(costs) > 20_000


def test_rewards_by_hand() -> None:
    env = made(cost_weight=0.25, probe_cost=3.0)
    env.reset(options={"question": 0, "order": IN_TURN})
    rewards = [env.step(action)[1] for action in (BRANCH, proceed(0), probe(0), prune(0), ANSWER)]
    assert rewards == [-25.0, -25.0, -0.75, 0.0, 0.0]  # nothing votes, so the answer is none, which is wrong
    env.reset(options={"question": 0, "order": IN_TURN})
    assert [env.step(action)[1] for action in (BRANCH, probe(0), ANSWER)] == [-25.0, -0.75, 1.0]


def test_the_weight_of_costs_is_an_attribute() -> None:
    env = gym.make("TTSReplay-v0", pool=POOL, max_branches=W, cost_weight=0.5)
    assert env.get_wrapper_attr("cost_weight") == 0.5
    totals = []
    for weight in (0.5, 0.125, 0.0):
        env.set_wrapper_attr("cost_weight", weight)
        assert env.unwrapped.cost_weight == weight  # type: ignore[attr-defined]
        env.reset(options={"question": 0, "order": IN_TURN})
        totals.append(sum(float(env.step(action)[1]) for action in (BRANCH, probe(0), ANSWER)))
    assert totals == [1 - 50.0, 1 - 12.5, 1.0]


# --- the rules ---------------------------------------------------------------------------------------------


def test_reading_branches_to_their_ends_and_answering_is_self_consistency() -> None:
    pool, width = open_pool(DEFAULT_POOL), 8
    outcome = run_program(find_program("sc"), pool.recording, {"n": width}, orders=3, limits=Limits(width))
    atomic, rounds = (made(DEFAULT_POOL, max_branches=width, actions=actions) for actions in ("atomic", "rounds"))
    right = []
    for question in range(8):
        for order in range(3):
            expected = {
                "tokens": outcome.tokens[question, order],
                "correct": pool.correct()[question, outcome.code[question, order]],
                "branches": width,
                "peak_width": width,
            }
            atomic.reset(options={"question": question, "order": order})
            for _ in range(width):
                atomic.step(BRANCH)
            for i in range(width):
                while atomic.action_masks()[2 + i]:
                    atomic.step(2 + i)
            *_, info = atomic.step(ANSWER)
            assert {key: info[key] for key in expected} == expected
            assert info["probes"] == 0
            right.append(info["correct"])

            rounds.reset(options={"question": question, "order": order})
            rounds.step(OPEN_8)
            rounds.step(FINISH_ALL)
            *_, info = rounds.step(ANSWER)
            assert info["probes"] == width  # one more cost than self-consistency has: OPEN reads
            del expected["tokens"]
            assert {key: info[key] for key in expected} == expected
    assert 0 < sum(right) < len(right)


@pytest.mark.parametrize("name", SHIPPED)
def test_moves_cost_what_the_reference_engine_says(name: str) -> None:
    """Atomic moves, replayed one by one from the log that a render mode keeps."""
    env = made(DEFAULT_POOL, **SHIPPED[name], render_mode="ansi")
    generator = np.random.default_rng(1)
    pool, kept = env.replay.pools[0], 0
    for question in range(4):
        env.reset(options={"question": question, "order": 7})
        episode = reference_episode(pool.recording, question, 7, env.replay.limits)
        done = 0
        for _ in range(40):
            *_, terminated, _, info = env.step(wander(env, generator))
            log = env.replay.log(0)
            for move, operand in log[done:]:
                plays: tuple[Callable[..., Any], ...] = (
                    lambda _, episode=episode: episode.branch(),
                    episode.advance,
                    episode.probe,
                    episode.prune,
                    episode.answer,
                    lambda _, episode=episode: episode.end_round(),
                )
                plays[move](operand)
            done = len(log)
            assert (info["cost"], info["tokens"], info["probes"]) == (episode.cost, episode.tokens, episode.probes)
            if terminated:
                break
        kept += done
    assert kept > 100


@pytest.mark.parametrize("actions", ["atomic", "rounds"])
def test_the_mask_tells_exactly_which_actions_do_something(actions: str) -> None:
    """Every action tried in every state on the way: a legal one changes the episode, another changes nothing."""
    chosen: dict[str, Any] = {"actions": actions, "patience": 1, "budget": 700.0, "probe_cost": 10.0}
    if actions == "atomic":
        chosen["answer_with_branch"] = True
    env = made(**chosen)
    generator = np.random.default_rng(3)
    was_legal, was_illegal = Counter[int](), Counter[int]()
    for _ in range(12):
        observation, info = env.reset(seed=int(generator.integers(100)), options={"order": IN_TURN})
        terminated = False
        while not terminated:
            mask = env.action_masks()
            assert mask.dtype == np.bool_
            assert mask.tolist() == info["action_mask"].tolist()
            assert mask[ANSWER]
            before = known(env)
            for action, allowed in enumerate(mask.tolist()):
                other = copy.deepcopy(env)
                seen, reward, ended, truncated, after = other.step(action)
                changed = ended or known(other) != before
                assert (changed, after["illegal"]) == (allowed, not allowed), action
                (was_legal if allowed else was_illegal)[action] += 1
                if not allowed:
                    assert (reward, truncated, after["cost"]) == (0.0, False, info["cost"])
                    assert after["action_mask"].tolist() == mask.tolist()
                    assert np.flatnonzero(seen != observation).tolist() == [8]  # only "steps" has grown
            observation, _, terminated, _, info = env.step(wander(env, generator, ending=0.02))
        assert info["action_mask"].tolist() == [action == ANSWER for action in range(len(mask))]
        assert env.action_masks().tolist() == [action == ANSWER for action in range(len(mask))]
    every = set(range(len(mask)))
    assert set(was_legal) == every
    assert set(was_illegal) == every - {ANSWER}


@pytest.mark.parametrize("name", SHIPPED)
def test_an_action_is_always_legal(name: str) -> None:
    """Also when nothing fits in the budget any more, and after the end."""
    env = made(DEFAULT_POOL, **SHIPPED[name])
    generator = np.random.default_rng(2)
    stuck = 0
    for seed in range(5):
        _, info = env.reset(seed=seed)
        terminated = False
        while not terminated:
            assert info["action_mask"].dtype == np.int8
            assert info["action_mask"][ANSWER]
            stuck += not spending(env)
            *_, terminated, _, info = env.step(wander(env, generator, ending=0.0))
        assert legal(info) == [ANSWER]
    assert stuck > 0


def test_after_the_end_only_a_reset_helps() -> None:
    env = made()
    with pytest.raises(gym.error.ResetNeeded, match=r"call reset\(\) before step\(\): no episode has begun"):
        env.step(BRANCH)
    for _ in range(2):
        env.reset(seed=0)
        assert env.step(ANSWER)[2]
        for action in (ANSWER, BRANCH):
            with pytest.raises(gym.error.ResetNeeded, match="or it has ended"):
                env.step(action)


# --- illegal actions -----------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], list[int], int, str]] = {
    "not opened": ({}, [], proceed(3), "CONTINUE(3) is illegal: branch 3 was not opened"),
    "not opened, PRUNE": ({}, [BRANCH], prune(1), "PRUNE(1) is illegal: branch 1 was not opened"),
    "finished": ({}, [BRANCH, *[proceed(0)] * 3], proceed(0), "CONTINUE(0) is illegal: branch 0 is finished"),
    "finished, PROBE": ({}, [BRANCH, *[proceed(0)] * 3], probe(0), "PROBE(0) is illegal: branch 0 is finished"),
    "pruned": ({}, [BRANCH, prune(0)], prune(0), "PRUNE(0) is illegal: branch 0 was pruned"),
    "probed": ({}, [BRANCH, probe(0)], probe(0), "PROBE(0) is illegal: branch 0 was probed at this depth already"),
    "wide": ({"max_branches": 1}, [BRANCH], BRANCH, "BRANCH is illegal: max_branches branches are open already"),
    "all open": ({}, [BRANCH] * 4, BRANCH, "BRANCH is illegal: every recorded branch is open already"),
    "budget": (
        {"budget": 199.0},
        [BRANCH],
        proceed(0),
        "CONTINUE(0) is illegal: its cost does not fit in the remaining budget",
    ),
    "budget, PROBE": (
        {"budget": 105.0, "probe_cost": 5.5},
        [BRANCH],
        probe(0),
        "PROBE(0) is illegal: its cost does not fit in the remaining budget",
    ),
    "answer": ({"answer_with_branch": True}, [BRANCH], answer_of(2), "ANSWER(2) is illegal: branch 2 was not opened"),
    **{
        f"round {action}": (
            {"actions": "rounds"},
            [],
            action,
            f"{ROUND_ACTIONS[action]} is illegal: there is nothing for it to do, or no budget left",
        )
        for action in (ADVANCE_ALL, ADVANCE_AGREEING, PRUNE_DISSENTERS, FINISH_NEAREST, FINISH_ALL)
    },
    "round, no branch left": (
        {"actions": "rounds"},
        [OPEN_8],
        OPEN_2,
        "OPEN_2 is illegal: there is nothing for it to do, or no budget left",
    ),
    "round, budget": (
        {"actions": "rounds", "budget": 150.0},
        [OPEN_8],
        ADVANCE_ALL,
        "ADVANCE_ALL is illegal: there is nothing for it to do, or no budget left",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_illegal_action_is_free_and_flagged_or_raises_if_strict(case: str) -> None:
    chosen, before, action, sentence = REFUSED[case]
    env, strict = made(**chosen), made(**chosen, strict=True)
    info = play(env, *before)
    observation, reward, terminated, truncated, after = env.step(action)
    assert (reward, terminated, truncated, after["illegal"]) == (0.0, False, False, True)
    assert {**after, "action_mask": 0, "illegal": 0} == {**info, "action_mask": 0, "illegal": 0}
    assert not env.step(action)[4]["action_mask"][action]

    play(strict, *before)
    for _ in range(2):
        with pytest.raises(IllegalMove) as caught:
            strict.step(action)
        assert str(caught.value) == sentence
    assert strict.step(ANSWER)[2]
    assert observation.shape == env.observation_space.shape


# --- starting states -----------------------------------------------------------------------------------------


def replayed(env: gym.Env[Any, Any], **reset: Any) -> tuple[int, int, int]:
    """What a reset chose, as the last info tells it."""
    env.reset(**reset)
    info = env.step(ANSWER)[4]
    return info["pool"], info["question"], info["order"]


@pytest.mark.parametrize("name", SHIPPED)
def test_options_replay_exactly(name: str) -> None:
    options = {"pool": 0, "question": 3, "order": 12345}
    first, second = (
        trajectory(made(DEFAULT_POOL, **SHIPPED[name], questions=questions, orders=4), options=options, seed=seed)
        for questions, seed in (([3], 5), ([4, 3], 6))
    )
    one, other = (next(k for k, event in enumerate(story) if len(event) == 6 and event[3]) for story in (first, second))
    assert one == other > 2
    assert first[: one + 1] == second[: one + 1]
    assert [first[one][5][key] for key in options] == [*options.values()]
    changed = trajectory(made(DEFAULT_POOL, **SHIPPED[name]), options={**options, "order": 12346})
    assert changed[: one + 1] != first[: one + 1]


def test_random_draws_are_restricted_and_options_are_not() -> None:
    pool = generate(SyntheticSpec(questions=9, branches=4), seed=0)
    env = made(pool, questions=[7, 2, 5], orders=[3, 40, 1000])
    drawn = {replayed(env, seed=0 if n == 0 else None) for n in range(300)}
    assert drawn == {(0, question, order) for question in (7, 2, 5) for order in (3, 40, 1000)}
    assert replayed(env, options={"question": 8, "order": 77}) == (0, 8, 77)
    assert {order for *_, order in (replayed(made(pool, orders=4), seed=n) for n in range(60))} == {0, 1, 2, 3}
    assert max(order for *_, order in (replayed(made(pool), seed=n) for n in range(60))) in range(900, 1024)


def test_several_pools_restrict_their_own_questions() -> None:
    pools = [generate(SyntheticSpec(questions=n, branches=4), seed=n) for n in (5, 8)]
    env = made(pools, questions=[[4], [7, 0]], orders=1)
    assert {replayed(env, seed=n) for n in range(100)} == {(0, 4, 0), (1, 7, 0), (1, 0, 0)}
    assert replayed(env, options={"pool": 1, "question": 3}) == (1, 3, 0)


def chi_square(found: list[int], expected: list[float]) -> float:
    return sum((f - e) ** 2 / e for f, e in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("weights", "shares"), [(None, [1 / 3] * 3), ([1, 0, 3], [0.25, 0, 0.75]), ([7, 2, 1], [0.7, 0.2, 0.1])]
)
def test_pools_are_drawn_by_their_weights(weights: list[float] | None, shares: list[float]) -> None:
    """2,000 draws each way, by one environment and by as many; 13.8 is passed by chance once in a thousand seeds."""
    pools = [generate(SyntheticSpec(questions=n, branches=4), seed=n) for n in (5, 4, 3)]
    chosen: dict[str, Any] = {"pool_weights": weights, "max_branches": 1}
    env = made(pools, **chosen)
    one = [replayed(env, seed=5 if n == 0 else None)[:2] for n in range(2000)]
    vector = TTSReplayVectorEnv(2000, pools, **chosen)
    vector.reset(seed=5)
    infos = vector.step(np.full(2000, ANSWER))[4]
    assert infos["_pool"].all()
    for drawn in (one, [*zip(infos["pool"].tolist(), infos["question"].tolist())]):
        counts = Counter(pool for pool, _ in drawn)
        assert set(counts) == {k for k, share in enumerate(shares) if share}
        some = [k for k, share in enumerate(shares) if share]
        assert chi_square([counts[k] for k in some], [2000 * shares[k] for k in some]) < 13.8
        for k in some:  # and each question of a pool equally often
            questions = Counter(question for pool, question in drawn if pool == k)
            size = 5 - k
            assert chi_square([questions[q] for q in range(size)], [counts[k] / size] * size) < 18.5


# --- answers -------------------------------------------------------------------------------------------------


def test_the_majority_is_answered() -> None:
    opened = [BRANCH] * 4
    assert answered(*opened, ANSWER) == NONE  # nothing was read
    assert answered(*opened, probe(1), probe(0), ANSWER) == A  # one vote each: the first branch's
    assert answered(*opened, probe(1), probe(0), probe(2), ANSWER) == B
    assert answered(*opened, probe(1), probe(0), probe(2), prune(1), ANSWER) == A  # the pruned do not vote
    assert answered(*opened, probe(3), ANSWER) == NONE


def test_the_majority_of_finished_branches_is_answered() -> None:
    # Branch 3 ends with C; 1 and 2 show B, and 0 shows A.
    moves = [BRANCH] * 4 + [proceed(3), probe(0), probe(1), probe(2)]
    assert answered(*moves, ANSWER) == B
    assert answered(*moves, ANSWER, aggregation="finished") == C
    unfinished = [move for move in moves if move != proceed(3)]
    assert answered(*unfinished, ANSWER, aggregation="finished") == B  # no finished branch votes
    more = [*moves, *[proceed(0)] * 3]  # branch 0 ends with A: one finished vote each, the first branch's
    assert answered(*more, ANSWER, aggregation="finished") == A


def test_a_branch_can_be_answered_with() -> None:
    chosen = {"answer_with_branch": True}
    moves = [BRANCH] * 4 + [probe(0), probe(1), probe(2), probe(3), proceed(3)]
    assert [answered(*moves, answer_of(i), **chosen) for i in range(4)] == [A, B, B, C]
    assert answered(*moves, prune(0), answer_of(0), **chosen) == A  # pruned or not
    assert answered(BRANCH, BRANCH, probe(1), answer_of(0), **chosen) == NONE  # not read
    info = play(made(**chosen), *moves)
    assert legal(info)[-4:] == [answer_of(i) for i in range(4)]
    assert made(**chosen).action_space.n == 2 + 4 * W  # type: ignore[attr-defined]
    assert made().action_space.n == 2 + 3 * W  # type: ignore[attr-defined]
    assert made(actions="rounds").action_space.n == 10  # type: ignore[attr-defined]


def test_a_callable_is_given_a_snapshot_to_look_at() -> None:
    seen: list[Any] = []

    def aggregation(snapshot: Any) -> int:
        assert isinstance(snapshot, Snapshot)
        every = range(look.opened(snapshot))
        seen.append({
            "opened": look.opened(snapshot), "width": look.width(snapshot), "live": look.live(snapshot),
            "latest": [look.latest(snapshot, i) for i in every],
            "is_finished": [look.is_finished(snapshot, i) for i in every],
            "is_pruned": [look.is_pruned(snapshot, i) for i in every],
            "is_live": [look.is_live(snapshot, i) for i in every],
            "depth": [look.depth(snapshot, i) for i in every],
            "spent": look.spent(snapshot), "spent_on": [look.spent_on(snapshot, i) for i in every],
            "active_votes": look.active_votes(snapshot), "majority": look.majority(look.active_votes(snapshot)),
            "top_two": look.top_two(look.active_votes(snapshot)),
        })  # fmt: skip
        with pytest.raises(AttributeError):
            look.branch(snapshot)  # it can be looked at, not played
        return snapshot.revealed - 1

    # Revealed in this order: B (0), A (1), C (2).
    moves = [BRANCH] * 4 + [probe(1), probe(2), probe(0), proceed(0), proceed(3), prune(2)]
    assert answered(*moves, ANSWER, aggregation=aggregation) == C
    assert seen == [{
        "opened": 4, "width": 2, "live": [0, 1], "latest": [1, 0, 0, 2], "is_finished": [False, False, False, True],
        "is_pruned": [False, False, True, False], "is_live": [True, True, False, False], "depth": [2, 1, 1, 1],
        "spent": 200 + 100 + 100 + 90, "spent_on": [200, 100, 100, 90], "active_votes": [1, 0, 2], "majority": 1,
        "top_two": (1, 1, 1),
    }] * 3  # fmt: skip


def test_a_callable_can_ask_what_is_legal() -> None:
    asked: list[tuple[bool, ...]] = []

    def aggregation(snapshot: Any) -> int:
        can = (look.can_branch(snapshot), *(look.can_advance(snapshot, i) for i in range(3)))
        asked.append((*can, *(look.can_probe(snapshot, i) for i in range(3))))
        return -1

    chosen = {"aggregation": aggregation, "budget": 320.0, "probe_cost": 20.0, "max_branches": 3}
    play(made(**chosen), BRANCH, BRANCH, 2 + 3, 2 + 6 + 1, ANSWER)  # of the first two 0 is probed, 1 is pruned
    assert asked == [(True, True, False, False, False, False, False)]
    play(made(**chosen), BRANCH, BRANCH, 2 + 3, BRANCH, ANSWER)  # 320 are spent
    assert asked[1:] == [(False,) * 7]


def test_a_snapshot_keeps_the_memory_it_looks_at() -> None:
    env = made()
    play(env, BRANCH)
    memory = weakref.ref(env.replay.slots.base)
    snapshot = env.replay.snapshot(0)
    del env
    gc.collect()
    assert memory() is not None  # else the next line reads what was freed
    assert look.can_branch(snapshot)


def test_equal_states_have_equal_snapshots() -> None:
    one, other = made(), made()
    play(one, BRANCH, probe(0))
    play(other, BRANCH, probe(0))
    assert one.replay.snapshot(0) == other.replay.snapshot(0)


# --- auto_probe ------------------------------------------------------------------------------------------------


def test_auto_probe_reads_each_interval() -> None:
    env = made(auto_probe=True)
    infos = [play(env, *[BRANCH] * n) for n in range(5)]
    assert [(info["tokens"], info["probes"]) for info in infos] == [(0, 0), (100, 1), (200, 2), (300, 3), (400, 4)]
    assert not any(play(env, BRANCH, proceed(0))["action_mask"][2 + W : 2 + 2 * W])  # nothing left to probe
    # Branch 1: two intervals, both read, so that the last one is billed in full; then its end, which needs no probe.
    infos = [play(env, BRANCH, BRANCH, *[proceed(1)] * n) for n in range(3)]
    assert [(info["tokens"], info["probes"]) for info in infos] == [(200, 2), (300, 3), (300, 3)]
    assert answered(BRANCH, BRANCH, proceed(1), proceed(1), prune(0), ANSWER, auto_probe=True) == A
    plain = play(made(), BRANCH, BRANCH, proceed(1), proceed(1))
    assert (plain["tokens"], plain["probes"]) == (280, 0)


def test_auto_probe_leaves_out_a_probe_that_does_not_fit() -> None:
    env = made(auto_probe=True, budget=110.0, probe_cost=11.0)
    info = play(env, BRANCH)
    assert (info["tokens"], info["probes"], info["illegal"]) == (100, 0, False)
    fits = play(made(auto_probe=True, budget=111.0, probe_cost=11.0), BRANCH)
    assert (fits["cost"], fits["probes"]) == (111.0, 1)


# --- rounds ----------------------------------------------------------------------------------------------------


def rounds(*actions: int, **chosen: Any) -> tuple[Snapshot, dict[str, Any]]:
    env = made(actions="rounds", **chosen)
    info = play(env, *actions)
    return env.replay.snapshot(0), info


def test_rounds_open_branches_and_read_them() -> None:
    for action, opened in ((OPEN_1, 1), (OPEN_2, 2), (OPEN_4, 4)):
        seen, info = rounds(action)
        assert (seen.opened, seen.depth, seen.probed) == (opened, [1] * opened, [1] * opened)
        assert (info["tokens"], info["probes"]) == (100 * opened, opened)
    assert seen.latest == [0, 1, 1, -1]  # A is answer 0, B is 1, branch 3 says nothing
    assert seen.spent == [100, 100, 100, 100]  # branch 3 has 90 tokens, and a probe bills its interval in full


def test_rounds_open_as_many_as_are_allowed() -> None:
    assert rounds(OPEN_8)[0].opened == 4  # all there are
    assert rounds(OPEN_8, max_branches=3)[0].opened == 3
    assert rounds(OPEN_2, OPEN_4)[0].opened == 4
    seen, info = rounds(OPEN_4, budget=250.0)
    assert (seen.opened, seen.tokens) == (2, 200)
    assert legal(info) == [ANSWER]
    # 100 and a probe of 30, then 100 more: 230, and a second probe would not fit. Nor would a third branch.
    seen, info = rounds(OPEN_4, budget=250.0, probe_cost=30.0)
    assert (seen.opened, seen.probed, seen.cost) == (2, [1, 0], 230.0)


def test_a_round_advances_all_live_branches() -> None:
    seen, info = rounds(OPEN_4, ADVANCE_ALL)
    # Branch 3 is found to have ended, with C (answer 2), and needs no probe; branch 1 says A now.
    assert (seen.depth, seen.finished, seen.latest) == ([2, 2, 2, 1], [False] * 3 + [True], [0, 0, 1, 2])
    assert (seen.spent, info["probes"]) == ([200, 200, 200, 100], 4 + 3)
    seen, info = rounds(OPEN_4, ADVANCE_ALL, ADVANCE_ALL)
    # Branch 1 ends: its 180 tokens are paid for, the probe at depth 2 billed 200.
    assert (seen.depth, seen.spent, info["probes"]) == ([3, 2, 3, 1], [300, 200, 300, 100], 7 + 2)


def test_a_round_leaves_out_what_no_longer_fits() -> None:
    # 400 for opening; 100 more fit for branch 0 and for branch 1, not for branch 2.
    seen, info = rounds(OPEN_4, ADVANCE_ALL, budget=650.0)
    assert (seen.depth, seen.tokens) == ([2, 2, 1, 1], 600)
    assert legal(info) == [ANSWER]


def test_a_round_advances_those_who_agree_as_it_begins() -> None:
    # B leads with two votes. Branch 1 turns to A, which now leads, and branch 2 is advanced all the same.
    seen, _ = rounds(OPEN_4, ADVANCE_AGREEING)
    assert (seen.depth, seen.latest) == ([1, 2, 2, 1], [0, 0, 1, -1])
    # Now A leads: branches 0 and 1, of which 1 ends.
    seen, _ = rounds(OPEN_4, ADVANCE_AGREEING, ADVANCE_AGREEING)
    assert (seen.depth, seen.finished) == ([2, 2, 2, 1], [False, True, False, False])
    # Nobody agrees who is live: branch 0 ends, its A leads, as the first branch's vote does, and 2 says B.
    _, info = rounds(OPEN_1, FINISH_ALL, OPEN_2, FINISH_NEAREST)
    assert [info["action_mask"][action] for action in (ADVANCE_ALL, ADVANCE_AGREEING)] == [1, 0]


def test_a_round_prunes_those_who_dissent() -> None:
    # Against the leader, by the votes after each reading: branch 1 once (A led when it said B), then not (it said A);
    # branch 2 not, then once, then twice; branch 3 once, then, ending, twice. Branch 0 never.
    moves = [OPEN_4, ADVANCE_AGREEING, ADVANCE_ALL]
    seen, info = rounds(*moves, patience=2)
    assert (seen.live_branches(), info["action_mask"][PRUNE_DISSENTERS]) == ([0, 2], 1)
    seen, info = rounds(*moves, PRUNE_DISSENTERS, patience=2)
    assert (seen.pruned, seen.finished) == ([False, False, True, False], [False, True, False, True])
    assert (seen.tokens, info["probes"], info["action_mask"][PRUNE_DISSENTERS]) == (800, 8, 0)
    assert not rounds(*moves, patience=3)[1]["action_mask"][PRUNE_DISSENTERS]
    assert rounds(OPEN_4, PRUNE_DISSENTERS, patience=1)[0].pruned == [False, True, False, True]


def test_a_round_finishes_the_deepest() -> None:
    # Two at depth 1: the first. It generates 200 more tokens and 20 at its end, unread.
    seen, info = rounds(OPEN_2, FINISH_NEAREST)
    assert (seen.finished, seen.spent, info["probes"]) == ([True, False], [320, 100], 2)
    seen, info = rounds(OPEN_2, FINISH_NEAREST, FINISH_NEAREST)
    assert (seen.finished, seen.spent, info["probes"]) == ([True, True], [320, 180], 2)
    # After agreeing, 1 and 2 are at depth 2 and the others at 1.
    seen, _ = rounds(OPEN_4, ADVANCE_AGREEING, FINISH_NEAREST)
    assert seen.finished == [False, True, False, False]
    # 200 spent, 320 wanted for branch 0: two more intervals fit in 400, the end then does not.
    seen, info = rounds(OPEN_2, FINISH_NEAREST, budget=400.0)
    assert (seen.finished, seen.depth, seen.spent) == ([False, False], [3, 1], [300, 100])


def test_a_round_finishes_all() -> None:
    seen, info = rounds(OPEN_4, FINISH_ALL)
    assert seen.finished == [True] * 4
    assert seen.spent == [320, 180, 400, 100]
    assert (info["tokens"], info["probes"]) == (1000, 4)
    assert legal(info) == [ANSWER]
    assert answered(OPEN_4, FINISH_ALL, ANSWER, actions="rounds") == A  # A, A, B, C


def test_rounds_add_up_to_sequential_tokens() -> None:
    # The longest branch of each round: 100, 100, 100, nothing, and 120 to finish branch 0.
    moves = (OPEN_4, ADVANCE_AGREEING, ADVANCE_ALL, PRUNE_DISSENTERS, FINISH_NEAREST, ANSWER)
    info = play(made(actions="rounds", patience=2), *moves, question=1)
    ends = {"correct": False, "pool": 0, "question": 1, "order": IN_TURN, "branches": 4, "peak_width": 4}
    assert {key: info[key] for key in ends} == ends
    assert info["sequential_tokens"] == 100 + 100 + 100 + 0 + 120
    assert info["tokens"] == 920
    # Atomic actions close no round: the longest branch of all.
    atomic = play(made(), BRANCH, BRANCH, proceed(0), ANSWER)
    assert (atomic["sequential_tokens"], atomic["peak_width"], atomic["branches"]) == (200, 2, 2)


# --- in Gymnasium ------------------------------------------------------------------------------------------------


def test_a_time_limit_truncates() -> None:
    env = gym.make("TTSReplay-v0", pool=POOL, max_branches=W, max_episode_steps=3)
    env.reset(seed=0)
    assert [env.step(action)[2:4] for action in (BRANCH, prune(3), BRANCH)] == [(False, False)] * 2 + [(False, True)]
    env.reset(seed=0)
    assert [env.step(action)[2:4] for action in (BRANCH, BRANCH, ANSWER)][-1] == (True, True)
    endless = made()
    endless.reset(seed=0)
    assert not any(endless.step(prune(3))[2] or endless.step(prune(3))[3] for _ in range(500))


def test_masks_are_found_through_wrappers() -> None:
    env = gym.make("TTSReplay-v0", pool=POOL, max_branches=W, max_episode_steps=9)
    env = gym.wrappers.RecordEpisodeStatistics(gym.wrappers.FlattenObservation(env))
    _, info = env.reset(seed=0)
    for action in (BRANCH, probe(0), BRANCH, prune(0), ANSWER):
        masks: NDArray[np.bool_] = env.get_wrapper_attr("action_masks")()
        assert (masks.dtype.name, masks.shape) == ("bool", (2 + 3 * W,))
        assert masks.tolist() == info["action_mask"].astype(bool).tolist()
        *_, info = env.step(action)
    maskable = pytest.importorskip("sb3_contrib.common.maskable.utils")
    assert maskable.is_masking_supported(env)
    assert maskable.get_action_masks(env).tolist() == info["action_mask"].astype(bool).tolist()


def test_same_seed_same_trajectory() -> None:
    for name in SHIPPED:
        env = made(DEFAULT_POOL, **SHIPPED[name])
        first = trajectory(env, seed=11)
        assert first == trajectory(made(DEFAULT_POOL, **SHIPPED[name]), seed=11) == trajectory(env, seed=11)
        assert first != trajectory(env, seed=12)


def test_the_confidence_table_is_programs_confidence() -> None:
    from tts_gym.envs.replay import confidence_table
    from tts_gym.programs import confidence

    small = confidence_table(40)
    for first in range(1, 41):
        for second in range(min(first, 40 - first) + 1):
            assert small[first, second] == confidence(first, second)  # to the last bit
    large = confidence_table(1500)
    for first, second in ((1000, 0), (700, 690), (750, 750), (1200, 299)):
        assert large[first, second] == pytest.approx(confidence(first, second), abs=1e-12)
    assert TTSReplayEnv(max_branches=20_000).replay.table[layout.CONFIDENCE_ROW] == 129  # the pool has 128 branches
