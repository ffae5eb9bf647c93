"""Bad arguments, options, seeds and actions: one sentence that names what, what was expected and what was found.

And nothing is half done: after an error everything is as it was.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence

from tts_gym.envs import TTSReplayEnv, TTSReplayVectorEnv
from tts_gym.errors import IllegalMove, PoolError, TTSGymError, UsageError
from tts_gym.pools import SyntheticSpec, generate

POOL = generate(SyntheticSpec(questions=4, branches=6, max_intervals=8, length_median=4.0), seed=1)
OTHER = generate(SyntheticSpec(questions=3, branches=5, max_intervals=8, length_median=4.0), seed=2)


def scalar(**chosen: Any) -> TTSReplayEnv:
    return TTSReplayEnv(**{"pool": POOL, "max_branches": 4, **chosen})


def vector(count: Any = 5, **chosen: Any) -> TTSReplayVectorEnv:
    return TTSReplayVectorEnv(count, **{"pool": POOL, "max_branches": 4, **chosen})


def sentence(error: pytest.ExceptionInfo[BaseException]) -> str:
    """What an error says, one line of it without an end mark."""
    text = str(error.value)
    assert "\n" not in text
    assert not text.endswith(".")
    return text


def should_be(name: str, value: Any) -> str:
    """The pattern of a sentence whose wording is free."""
    return rf"^{name} .*should be .+, found {re.escape(repr(value))}$"


# --- what an environment is made with ------------------------------------------------------------------------

BAD: list[Any] = [
    ("max_branches", 0, "max_branches should be a whole number from 1 on, found 0"),
    ("max_branches", -3, "max_branches should be a whole number from 1 on, found -3"),
    ("max_branches", 2.0, "max_branches should be a whole number from 1 on, found 2.0"),
    ("max_branches", None, "max_branches should be a whole number from 1 on, found None"),
    ("max_branches", True, "max_branches should be a whole number from 1 on, found True"),
    ("max_branches", "4", "max_branches should be a whole number from 1 on, found '4'"),
    ("patience", 0, "patience should be a whole number from 1 on, found 0"),
    ("patience", 1.5, "patience should be a whole number from 1 on, found 1.5"),
    ("budget", -1.0, "budget should be at least 0 tokens, found -1.0"),
    ("budget", math.nan, "budget should be at least 0 tokens, found nan"),
    ("probe_cost", -0.5, "probe_cost should be at least 0 tokens, found -0.5"),
    ("probe_cost", math.nan, "probe_cost should be at least 0 tokens, found nan"),
    ("cost_weight", -1e-9, "cost_weight should be at least 0 per token, found -1e-09"),
    ("cost_weight", math.nan, "cost_weight should be at least 0 per token, found nan"),
    ("cost_weight", math.inf, "cost_weight should be at least 0 per token, found inf"),
    ("actions", "atom", "actions should be one of atomic, rounds, found 'atom'"),
    ("actions", None, "actions should be one of atomic, rounds, found None"),
    ("observation", "pixels", "observation should be one of features, grid, found 'pixels'"),
    ("grading", "exat", "grading should be one of exact, math, found 'exat'"),
    ("aggregation", "best", "aggregation should be one of majority, finished, found 'best'"),
    ("aggregation", 3, "aggregation should be one of majority, finished, found 3"),
    ("orders", 0, "orders should be a whole number from 1 on, found 0"),
    ("orders", True, "orders should be a whole number from 1 on, found True"),
    ("orders", [], "orders should be how many from 0, or a list of numbers from 0, found []"),
    ("orders", [3, -1], "orders should be how many from 0, or a list of numbers from 0, found [3, -1]"),
    ("questions", [], "questions of pool synthetic should be numbers from 0 to 3, found []"),
    ("questions", [4], "questions of pool synthetic should be numbers from 0 to 3, found [4]"),
    ("questions", [0, -1], "questions of pool synthetic should be numbers from 0 to 3, found [0, -1]"),
    ("questions", [[0], [1]], "questions should be one list for each of the 1 pools, found [[0], [1]]"),
    ("pool_weights", [1, 2], "pool_weights should be 1 numbers from 0 on, not all 0, found [1, 2]"),
    ("pool_weights", [-1], "pool_weights should be 1 numbers from 0 on, not all 0, found [-1]"),
    ("pool_weights", [0], "pool_weights should be 1 numbers from 0 on, not all 0, found [0]"),
    ("pool_weights", [math.nan], "pool_weights should be 1 numbers from 0 on, not all 0, found [nan]"),
    ("pool", [], "pool should be a pool, its name or its file, or a list of them; found an empty list"),
    ("pool", "synthetic/aime", "unknown pool 'synthetic/aime'; did you mean synthetic/aime-v0?"),
    ("pool", [POOL, "synthetic/aime"], "unknown pool 'synthetic/aime'; did you mean synthetic/aime-v0?"),
    ("pool", "none.parquet", "none.parquet: no such file"),
]
UNCHECKED: dict[str, list[Any]] = {
    "budget": ["x"],
    "probe_cost": ["x", None, math.inf],
    "cost_weight": ["x", None],
    "orders": ["abc", None, 1.5, [1.5], [2**63]],
    "questions": [3, [0.5], [None]],
    "pool_weights": ["ab", ["a"]],
    "auto_probe": ["no", None],
    "answer_with_branch": ["no", None],
    "strict": ["no", None],
}


@pytest.mark.parametrize("make", [scalar, vector], ids=["scalar", "vector"])
@pytest.mark.parametrize(("name", "value", "says"), BAD, ids=lambda value: repr(value)[:40])
def test_a_bad_argument_is_named(make: Callable[..., Any], name: str, value: Any, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        make(**{name: value})
    assert sentence(caught).replace(POOL.name, "synthetic") == says


@pytest.mark.parametrize("make", [scalar, vector], ids=["scalar", "vector"])
@pytest.mark.parametrize("name", UNCHECKED)
def test_an_argument_of_a_wrong_kind_is_named(make: Callable[..., Any], name: str) -> None:
    for value in UNCHECKED[name]:
        with pytest.raises(UsageError, match=should_be(name, value)):
            make(**{name: value})


def test_an_empty_name_is_no_pool() -> None:
    with pytest.raises(UsageError, match="the pool's name is empty"):
        scalar(pool="")


@pytest.mark.parametrize("make", [scalar, vector], ids=["scalar", "vector"])
@pytest.mark.parametrize("name", ["answer_with_branch", "auto_probe"])
def test_what_belongs_to_atomic_actions_is_named(make: Callable[..., Any], name: str) -> None:
    with pytest.raises(UsageError) as caught:
        make(actions="rounds", **{name: True})
    assert sentence(caught) == (
        f"{name} belongs to actions='atomic'; rounds read what they generate and answer by vote"
    )


@pytest.mark.parametrize("make", [scalar, vector], ids=["scalar", "vector"])
def test_lists_for_several_pools_are_checked(make: Callable[..., Any]) -> None:
    bad: list[tuple[str, Any, str]] = [
        ("questions", [0, 1], "questions should be one list for each of the 2 pools, found [0, 1]"),
        ("questions", [[0]], "questions should be one list for each of the 2 pools, found [[0]]"),
        ("questions", [[0], [3]], f"questions of pool {OTHER.name} should be numbers from 0 to 2, found [3]"),
        ("questions", [[0], []], f"questions of pool {OTHER.name} should be numbers from 0 to 2, found []"),
        ("pool_weights", [1], "pool_weights should be 2 numbers from 0 on, not all 0, found [1]"),
        ("pool_weights", [0, 0], "pool_weights should be 2 numbers from 0 on, not all 0, found [0, 0]"),
        ("pool_weights", [1, math.inf], "pool_weights should be 2 numbers from 0 on, not all 0, found [1, inf]"),
    ]
    for name, value, says in bad:
        with pytest.raises(UsageError) as caught:
            make(pool=[POOL, OTHER], **{name: value})
        assert sentence(caught) == says


@pytest.mark.parametrize("make", [scalar, vector], ids=["scalar", "vector"])
def test_a_file_that_is_no_pool_is_named(make: Callable[..., Any], tmp_path: Path) -> None:
    for name, content in (("broken.parquet", b"PAR1 and no more"), ("broken.json", b"{")):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(PoolError) as caught:
            make(pool=path)
        assert sentence(caught).startswith(f"{path}: ")
    with pytest.raises(UsageError, match="is a folder; import it with: tts-gym pools import"):
        make(pool=tmp_path)


@pytest.mark.parametrize("make", [scalar, vector], ids=["scalar", "vector"])
def test_an_unknown_argument_is_named(make: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'max_branch'"):
        make(max_branch=3)


@pytest.mark.parametrize(
    ("make", "mode", "offered"),
    [
        (scalar, "video", "human, rgb_array, ansi"),
        (scalar, 3, "human, rgb_array, ansi"),
        (vector, "human", "rgb_array, ansi"),
        (vector, "video", "rgb_array, ansi"),
    ],
)
def test_a_bad_render_mode_is_named(make: Callable[..., Any], mode: Any, offered: str) -> None:
    with pytest.raises(UsageError) as caught:
        make(render_mode=mode)
    assert sentence(caught) == f"render_mode should be None or one of {offered}, found {mode!r}"


BAD_OF_VECTORS: list[tuple[str, Any, str]] = [
    *(
        (name, value, f"{name} should be a whole number from 1 on, found {value!r}")
        for name in ("count", "num_threads", "max_episode_steps")
        for value in (0, -1, 1.5, "2")
    ),
    ("max_episode_steps", True, "max_episode_steps should be a whole number from 1 on, found True"),
    ("autoreset_mode", "next", "autoreset_mode should be one of NextStep, SameStep, Disabled, found 'next'"),
    ("autoreset_mode", None, "autoreset_mode should be one of NextStep, SameStep, Disabled, found None"),
]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        *BAD_OF_VECTORS,
        ("count", True, "num_envs should be a whole number from 1 on, found True"),
        ("num_threads", True, "num_threads should be a whole number from 1 on, found True"),
        ("copy", "no", "copy should be True or False, found 'no'"),
    ],
)
def test_a_bad_argument_of_the_vector_environment_is_named(name: str, value: Any, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        vector(**{name: value})
    assert sentence(caught) == says.replace("count", "num_envs")


def test_numbers_of_numpy_are_numbers() -> None:
    two = np.int64(2)
    env = scalar(max_branches=two, patience=two, budget=np.float32(9000), questions=np.array([1, 2]), orders=[two, 3])
    plain = scalar(max_branches=2, patience=2, budget=9000.0, questions=[1, 2], orders=[2, 3])
    for option in ({"question": two}, {"question": np.array(2)}, {"order": np.uint8(2)}, {}):
        assert data_equivalence(env.reset(seed=1, options=option), plain.reset(seed=1, options=option), exact=True)
        assert data_equivalence(env.step(np.int8(0)), plain.step(0), exact=True)
        assert data_equivalence(env.step(np.array(1)), plain.step(1), exact=True)
    several = vector(np.int64(3), num_threads=np.int64(1), max_episode_steps=np.int64(9))
    one: Any = np.int64(1)
    several.reset(seed=one, options={"question": np.array([1, 2, 3], dtype=np.uint8)})
    several.step(np.array([1, 1, 1], dtype=np.uint8))
    assert several.replay.final[1].tolist() == [1, 2, 3]


def test_a_number_of_orders_may_be_numpys() -> None:
    assert scalar(orders=np.int64(5)).replay.orders == range(5)


def test_a_bad_weight_is_named_when_it_is_set() -> None:
    env = scalar()
    bad: list[Any] = [-1.0, math.nan, math.inf, "x"]
    for weight in bad:
        with pytest.raises(UsageError, match=r"^cost_weight should be .*, found"):
            env.cost_weight = weight
        assert env.cost_weight == 2.0**-20


# --- resets ----------------------------------------------------------------------------------------------------

BAD_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"pool": 1}, "pool should be from 0 to 0, found 1"),
    ({"pool": -1}, "pool should be from 0 to 0, found -1"),
    ({"pool": None}, "pool should be from 0 to 0, found None"),
    ({"question": 4}, "question should be from 0 to 3, found 4"),
    ({"question": -1}, "question should be from 0 to 3, found -1"),
    ({"question": 1.0}, "question should be from 0 to 3, found 1.0"),
    ({"question": "1"}, "question should be from 0 to 3, found '1'"),
    ({"question": None}, "question should be from 0 to 3, found None"),
    ({"order": -1}, "order should be a number from 0 on, found -1"),
    ({"order": 0.5}, "order should be a number from 0 on, found 0.5"),
    ({"question": 1, "order": "x"}, "order should be a number from 0 on, found 'x'"),
    ({"quesion": 1}, "unknown reset option 'quesion'; did you mean question?"),
    ({"seed": 1}, "unknown reset option 'seed'; the options are order, pool, question"),
]


@pytest.mark.parametrize(("options", "says"), BAD_OPTIONS, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("make", [scalar, vector], ids=["scalar", "vector"])
def test_a_bad_option_is_named(make: Callable[..., Any], options: dict[str, Any], says: str) -> None:
    env = make()
    with pytest.raises(UsageError) as caught:
        env.reset(seed=0, options=options)
    assert sentence(caught).removesuffix(", reset_mask") == says  # which the vector environment has too


@pytest.mark.parametrize("make", [scalar, vector], ids=["scalar", "vector"])
def test_a_question_is_one_of_its_own_pool(make: Callable[..., Any]) -> None:
    env = make(pool=[POOL, OTHER])
    env.reset(options={"pool": 0, "question": 3})
    with pytest.raises(UsageError, match=r"^question should be from 0 to 2, found 3$"):
        env.reset(options={"pool": 1, "question": 3})
    with pytest.raises(UsageError, match=r"^pool should be from 0 to 1, found 2$"):
        env.reset(options={"pool": 2})


@pytest.mark.parametrize("make", [scalar, vector], ids=["scalar", "vector"])
def test_an_order_that_is_too_large_is_named(make: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match=r"^order should be .*, found 9223372036854775808$"):
        make().reset(options={"order": 2**63})


@pytest.mark.parametrize("make", [scalar, vector], ids=["scalar", "vector"])
def test_options_that_are_no_dict_are_named(make: Callable[..., Any]) -> None:
    for options in (5, "x", [1]):
        with pytest.raises(UsageError, match=should_be("options", options)):
            make().reset(options=options)


def test_a_reset_mask_is_for_the_vector_environment() -> None:
    with pytest.raises(UsageError, match=r"^unknown reset option 'reset_mask'"):
        scalar().reset(options={"reset_mask": np.ones(1, dtype=np.bool_)})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"question": [1, 2]}, "option question should be one value or 5 of them, found 2"),
        ({"order": np.arange(6)}, "option order should be one value or 5 of them, found 6"),
        ({"question": [0, 1, 2, 3, 4]}, "question should be from 0 to 3, found 4"),
        ({"question": np.array([0, 1, 2, 3, 4])}, "question should be from 0 to 3, found np.int64(4)"),
        ({"order": [0, 1, 2, 3, -4]}, "order should be a number from 0 on, found -4"),
        ({"question": [[0]] * 5}, "question should be from 0 to 3, found [0]"),
        ({"quesion": [0] * 5}, "unknown reset option 'quesion'; did you mean question?"),
        ({"question": [[0], [0, 1], 0, 0, 0]}, "question should be from 0 to 3, found [0]"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_list_of_options_is_named(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        vector().reset(seed=0, options=options)
    assert sentence(caught) == says


@pytest.mark.parametrize(
    "mask",
    [[True] * 5, np.ones(5), np.ones(4, dtype=np.bool_), np.zeros(5, dtype=np.bool_), np.bool_(True), "all"],
    ids=repr,
)
def test_a_bad_reset_mask_is_named(mask: Any) -> None:
    with pytest.raises(UsageError) as caught:
        vector().reset(options={"reset_mask": mask})
    expected = "reset_mask should be a bool array of shape (5,) with at least one True"
    assert sentence(caught) == f"{expected}, found {mask!r}"


@pytest.mark.parametrize(
    ("seed", "says"),
    [(-1, "Seed must be greater or equal to zero, actual value: -1"), ("a", "Seed must be a python integer")],
)
def test_a_bad_seed_is_gymnasiums_error(seed: Any, says: str) -> None:
    with pytest.raises(gym.error.Error, match=says):
        scalar().reset(seed=seed)
    with pytest.raises(gym.error.Error, match=says):
        vector().reset(seed=[seed] * 5)


def test_a_bad_number_of_seeds_is_named() -> None:
    for seeds in ([1, 2], (1,) * 6, []):
        with pytest.raises(UsageError) as caught:
            vector().reset(seed=seeds)
        assert sentence(caught) == f"seed should be a number or 5 of them, found {len(seeds)}"


def test_a_seed_of_a_wrong_kind_is_named() -> None:
    with pytest.raises(UsageError, match=r"^seed should be a number or 5 of them, found 1\.5$"):
        vector().reset(seed=1.5)  # type: ignore[arg-type]


# --- steps -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "found"),
    [
        (14, "14"), (-1, "-1"), (1.0, "1.0"), (np.float32(0), "0.0"), (None, "None"), (np.array([0]), "[0]"),
        (np.bool_(True), "True"), (2**70, str(2**70)), (np.uint64(2**64 - 1), str(2**64 - 1)), ([0], "[0]"),
        (np.array(1.5), "1.5"),
        (np.array(1.0), "1.0"),
        (np.array("x"), "x"),
        (np.array(math.nan), "nan"),
        ("0", "'0'"),
    ],
    ids=repr,
)  # fmt: skip
def test_an_action_that_is_none_is_named(action: Any, found: str) -> None:
    env = scalar()
    env.reset(seed=0)
    with pytest.raises(UsageError) as caught:
        env.step(action)
    assert sentence(caught) == f"an action should be a whole number from 0 to 13, found {found}"
    assert env.step(0)[4]["cost"] == 500


@pytest.mark.parametrize(
    ("actions", "says"),
    [
        ([0, 0], "actions should be 5 whole numbers, found int64 of shape (2,)"),
        ([0] * 6, "actions should be 5 whole numbers, found int64 of shape (6,)"),
        (0, "actions should be 5 whole numbers, found int64 of shape ()"),
        ([0.0] * 5, "actions should be 5 whole numbers, found float64 of shape (5,)"),
        ([[0]] * 5, "actions should be 5 whole numbers, found int64 of shape (5, 1)"),
        ([True] * 5, "actions should be 5 whole numbers, found bool of shape (5,)"),
        (None, "actions should be 5 whole numbers, found object of shape ()"),
        ([0, 0, 0, 14, 0], "environment 3: an action should be a whole number from 0 to 13, found 14"),
        ([0, 0, 0, 14, 99], "environment 3: an action should be a whole number from 0 to 13, found 14"),
        ([0, 0, 0, 0, -1], "environment 4: an action should be a whole number from 0 to 13, found -1"),
        (
            np.full(5, 2**64 - 1, dtype=np.uint64),
            f"environment 0: an action should be a whole number from 0 to 13, found {2**64 - 1}",
        ),
        ([[0], [0, 1], 0, 0, 0], "actions should be 5 whole numbers, found [[0], [0, 1], 0, 0, 0]"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_actions_are_named(actions: Any, says: str) -> None:
    env = vector()
    env.reset(seed=0)
    with pytest.raises(UsageError) as caught:
        env.step(actions)
    assert sentence(caught) == says


def test_what_has_no_episode_is_named() -> None:
    env = vector()
    with pytest.raises(gym.error.ResetNeeded) as caught:
        env.step([0] * 5)
    assert sentence(caught) == "call reset() before step(): environment 0 has no episode"
    env.reset(options={"reset_mask": np.array([True, True, False, True, False])})
    with pytest.raises(gym.error.ResetNeeded, match=r"environment 2 has no episode$"):
        env.step([0] * 5)
    env.reset(options={"reset_mask": ~np.array([True, True, False, True, False])})
    env.step([0] * 5)


@pytest.mark.parametrize("make", [scalar, vector], ids=["scalar", "vector"])
def test_there_is_nothing_to_render_before_a_reset(make: Callable[..., Any]) -> None:
    with pytest.raises(gym.error.ResetNeeded, match=r"^call reset\(\) before render\(\)$"):
        make(render_mode="ansi").render()


@pytest.mark.parametrize("number", [2, -2, 1.0, None, "0"], ids=repr)
@pytest.mark.parametrize("make", [scalar, vector], ids=["scalar", "vector"])
def test_an_aggregation_that_answers_what_was_not_revealed_is_named(make: Callable[..., Any], number: Any) -> None:
    env = make(aggregation=lambda seen: number)
    env.reset(seed=0, options={"question": 0})
    several = isinstance(env, TTSReplayVectorEnv)
    for action in (0, 2 + 4):
        env.step([action] * 5 if several else action)
    with pytest.raises(UsageError) as caught:
        env.step([1] * 5 if several else 1)
    assert re.fullmatch(
        rf"aggregation should return an answer number from -1 to (-1|0), found {re.escape(repr(number))}",
        sentence(caught),
    )


# --- nothing is half done --------------------------------------------------------------------------------------


def fail(snapshot: Any) -> int:
    raise ZeroDivisionError("an aggregation's own error")


def fails_late(snapshot: Any) -> int:
    """Answers for those that have opened one branch; the fourth environment below has opened two."""
    return -1 if snapshot.opened < 2 else 99


STRICT = {"strict": True}
HALFWAY: dict[str, tuple[dict[str, Any], list[int], type[Exception], str]] = {
    "illegal": (STRICT, [0, 2, 6, 2 + 3, 0], IllegalMove, "environment 3: CONTINUE(3) is illegal: branch 3 was not"),
    "illegal, the last": (STRICT, [1, 1, 1, 1, 2 + 8 + 2], IllegalMove, "environment 4: PRUNE(2) is illegal"),
    "illegal round": (
        {**STRICT, "actions": "rounds"}, [0, 2, 5, 7, 1], IllegalMove,
        "environment 3: PRUNE_DISSENTERS is illegal: there is nothing for it to do, or no budget left",
    ),
    "unknown": ({}, [0, 1, 2, 99, 0], UsageError, "environment 3: an action should be a whole number"),
    "unknown round": ({"actions": "rounds"}, [0, 1, 2, 10, 0], UsageError, "environment 3: an action should be"),
    "unknown and illegal": (STRICT, [0, 1, 5, 99, 0], IllegalMove, "environment 2: CONTINUE(3) is illegal"),
    "too few": ({}, [0, 1, 2, 6], UsageError, "actions should be 5 whole numbers"),
    "an aggregation fails": ({"aggregation": fail}, [0, 2, 6, 1, 0], ZeroDivisionError, "an aggregation's own error"),
    "a late aggregation": ({"aggregation": fails_late}, [1, 1, 0, 1, 0], UsageError, "aggregation should return"),
}  # fmt: skip


def same_state(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert [name for name in one if not np.array_equal(one[name], other[name])] == []


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
@pytest.mark.parametrize("case", HALFWAY)
def test_after_an_error_no_environment_has_moved(case: str, mode: str) -> None:
    chosen, actions, error, says = HALFWAY[case]
    env = vector(autoreset_mode=mode, render_mode="ansi", max_episode_steps=9, **chosen)
    env.reset(seed=3)
    env.step([0] * 5)
    opens = [0, 0, 0, 0, 0] if "rounds" in chosen.values() else [2 + 4, 2 + 4, 2, 0, 0]
    returned = env.step(opens)
    before, twin = env.replay.state, copy.deepcopy(env)
    shown, kept = env.render(), copy.deepcopy(returned)
    for _ in range(2):
        with pytest.raises(error) as caught:
            env.step(actions)
        assert sentence(caught).startswith(says)
        same_state(before, env.replay.state)
        assert env.render() == shown
        assert env.action_masks().tolist() == twin.action_masks().tolist()
    assert data_equivalence(returned, kept, exact=True)
    for _ in range(4):
        masks = env.action_masks()
        masks[:, 1] = False  # no end
        legal = masks.argmax(axis=1)
        assert data_equivalence(env.step(legal), twin.step(legal), exact=True)


def test_after_an_error_no_ended_environment_was_stepped_or_reset() -> None:
    env = vector(autoreset_mode="Disabled")
    env.reset(seed=3)
    env.step([0, 0, 0, 1, 0])
    before = env.replay.state
    with pytest.raises(gym.error.ResetNeeded) as caught:
        env.step([0] * 5)
    assert sentence(caught) == "the episode of environment 3 has ended; reset it with a reset_mask"
    same_state(before, env.replay.state)
    for mode in ("NextStep", "SameStep"):
        env = vector(autoreset_mode=mode, strict=True)
        env.reset(seed=3)
        env.step([0, 0, 0, 1, 0])
        before = env.replay.state
        with pytest.raises(IllegalMove, match=r"^environment 4: PRUNE\(3\)"):
            env.step([0, 0, 0, 0, 2 + 8 + 3])
        same_state(before, env.replay.state)  # environment 3 still waits for its reset, or has had it
        env.step([0] * 5)


def test_after_an_error_in_one_threads_part_nothing_has_moved_in_the_others() -> None:
    env = vector(1024, num_threads=2, strict=True, max_branches=2)
    env.reset(seed=0)
    env.step(np.zeros(1024, dtype=np.int64))
    before = env.replay.state
    actions = np.zeros(1024, dtype=np.int64)
    actions[1000] = 2 + 1
    with pytest.raises(IllegalMove, match=r"^environment 1000: CONTINUE\(1\) is illegal: branch 1 was not opened$"):
        env.step(actions)
    same_state(before, env.replay.state)
    env.close()


STEP_ERRORS: dict[str, tuple[dict[str, Any], Any, type[Exception]]] = {
    "illegal": (STRICT, 2 + 3, IllegalMove),
    "unknown": ({}, 99, UsageError),
    "an aggregation fails": ({"aggregation": fail}, 1, ZeroDivisionError),
    "an aggregation answers what is unknown": ({"aggregation": lambda seen: 99}, 1, UsageError),
}


@pytest.mark.parametrize("case", STEP_ERRORS)
def test_after_an_error_the_episode_goes_on(case: str) -> None:
    chosen, action, error = STEP_ERRORS[case]
    env = scalar(render_mode="ansi", **chosen)
    env.reset(seed=3)
    env.step(0)
    before, twin = env.replay.state, copy.deepcopy(env)
    for _ in range(2):
        with pytest.raises(error):
            env.step(action)
        same_state(before, env.replay.state)
    assert env.render() == twin.render()
    for onward in (2, 6, 0, 2):
        assert data_equivalence(env.step(onward), twin.step(onward), exact=True)


BAD_RESETS: dict[str, dict[str, Any]] = {
    "an option": {"options": {"question": 99}},
    "a name": {"options": {"quesion": 0}},
    "a seed": {"seed": -1},
    "a seed and an option": {"seed": 1, "options": {"order": -1}},
}


@pytest.mark.parametrize("case", BAD_RESETS)
def test_after_an_error_in_reset_the_old_episode_goes_on(case: str) -> None:
    env = scalar()
    env.reset(seed=3)
    env.step(0)
    before, twin = env.replay.state, copy.deepcopy(env)
    with pytest.raises((UsageError, gym.error.Error)):
        env.reset(**BAD_RESETS[case])
    same_state(before, env.replay.state)
    assert data_equivalence(env.step(2), twin.step(2), exact=True)


MASK = np.array([False, True, True, True, True])


@pytest.mark.parametrize("mode", ["NextStep", "Disabled"])
@pytest.mark.parametrize(
    "arguments",
    [
        {"options": {"reset_mask": np.ones(4, dtype=np.bool_)}},
        {"seed": [1, 2]},
        {"options": {"question": [0, 1]}},
        {"options": {"question": [0, 1, 2, 99, 0]}},
        {"options": {"order": [0, 1, 2, -1, 0], "reset_mask": MASK}},
        {"options": {"quesion": [0] * 5}, "seed": 4},
        {"seed": [1, 2, -3, 4, 5]},
    ],
    ids=lambda value: str(value)[:50],
)
def test_after_an_error_in_reset_no_environment_was_reset(arguments: dict[str, Any], mode: str) -> None:
    env = vector(autoreset_mode=mode)
    env.reset(seed=3)
    env.step([0] * 5)
    before, seeds = env.replay.state, env.np_random_seed
    with pytest.raises((TTSGymError, gym.error.Error)):
        env.reset(**arguments)
    same_state(before, env.replay.state)
    assert env.np_random_seed == seeds


def test_without_copies_the_flags_of_a_step_can_be_the_reset_mask() -> None:
    told: list[Any] = []
    for keeps in (True, False):
        env = vector(autoreset_mode="Disabled", copy=keeps)
        env.reset(seed=3)
        terminated = env.step([0, 1, 0, 1, 0])[2]
        observations, infos = env.reset(options={"reset_mask": terminated})
        told.append(copy.deepcopy((observations, infos)))
        assert infos["_cost"].tolist() == [False, True, False, True, False]
    assert data_equivalence(told[0], told[1], exact=True)
