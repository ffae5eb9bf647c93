"""The generator of synthetic pools: what each parameter does, and the pool that ships."""

from __future__ import annotations

import dataclasses
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tts_gym.errors import UsageError
from tts_gym.pools.autotts import import_json
from tts_gym.pools.pool import Pool
from tts_gym.pools.statistics import pool_statistics
from tts_gym.pools.storage import load_pool, save_pool
from tts_gym.pools.synthetic import SyntheticSpec, generate

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "envs_data" / "synthetic-aime-v0.parquet"


@cache
def drawn(**changes: float) -> Pool:
    return generate(dataclasses.replace(SyntheticSpec(), **changes), seed=0)


@cache
def measured(**changes: float) -> dict[str, float]:
    return pool_statistics(drawn(**changes))


def test_one_spec_and_seed_give_one_pool() -> None:
    assert generate(seed=3).content_hash == generate(seed=3).content_hash
    assert generate(seed=3).content_hash != generate(seed=4).content_hash


def test_the_default_pool_in_numbers() -> None:
    pool = drawn()
    assert pool.answers.shape[:2] == (30, 128)
    assert pool.recording.delta == 500
    assert pool.questions[7] == "synthetic question 7"
    answers = {answer for q in range(30) for answer in pool.vocabulary[q]}
    assert answers <= {str(number) for number in range(1000)} | {"ERR"}
    assert set(pool.gold) <= {str(number) for number in range(1000)}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"length_median": 2.0},
        {"length_median": 70.0, "closing_tokens": 60.0},
        {"delta": 1, "max_intervals": 3},
        {"closing_tokens": 5000.0},
        {"questions": 1, "branches": 1},
    ],
)
def test_facts_of_recorded_data_hold(changes: dict[str, float]) -> None:
    pool = drawn(**changes)
    spec = dataclasses.replace(SyntheticSpec(), **changes)
    last = np.take_along_axis(pool.answers, pool.intervals[:, :, None].astype(np.int64) - 1, axis=2)[:, :, 0]
    assert np.array_equal(last, pool.final_codes())
    assert pool.intervals.min() >= 3
    assert pool.intervals.max() <= spec.max_intervals
    assert (pool.tokens - spec.delta * pool.intervals.astype(np.int64)).min() > -spec.delta


def test_residual_tokens_are_negative_within_and_above_as_recorded() -> None:
    facts = measured()
    assert min(facts["residual_negative"], facts["residual_within"], facts["residual_above"]) > 0.1
    assert facts["residual_max"] > 2000
    assert facts["intervals_max"] == 80


# parameter, low value, high value, the statistic, and how far it must rise
MOVES: list[tuple[str, float, float, str, float]] = [
    ("difficulty_center", -1.0, 2.5, "accuracy", 0.25),
    ("difficulty_spread", 0.0, 4.0, "accuracy_std", 0.05),
    ("difficulty_spread", 0.0, 4.0, "questions_at_1", 0.05),
    ("unsolved_share", 0.0, 0.5, "questions_at_0", 0.4),
    ("length_median", 10.0, 30.0, "tokens_right", 8000),
    ("length_spread", 0.1, 0.6, "length_spread", 0.3),
    ("length_spread", 0.1, 0.6, "tokens_p95", 2000),
    ("difficulty_length_ratio", 0.8, 1.5, "tokens_wrong", 5000),
    ("wrong_length_ratio", 1.0, 2.0, "wrong_length_ratio", 0.8),
    ("wrong_length_ratio", 1.0, 2.0, "wrong_length_correlation", 0.4),
    ("closing_tokens", 0.0, 60.0, "residual_above", 0.6),
    ("hold_intervals", 3.0, 30.0, "accuracy_at_0.5", 0.2),
    ("hold_intervals", 3.0, 30.0, "held_right", 5),
    ("change_rate", 0.2, 0.9, "changes_mean", 5),
    ("trap_share", 0.0, 0.9, "lead_at_0.1", 0.4),
    ("trap_stay", 0.0, 0.9, "wrong_lead", 0.4),
    ("flicker", 0.0, 0.3, "accuracy_at_0.1", 0.05),
    ("flicker", 0.0, 0.3, "abandoned_right", 0.3),
    ("wrong_answers", 5, 500, "distinct_median", 50),
    ("wrong_concentration", 0.0, 2.5, "wrong_lead", 0.15),
    ("unparsed_probe", 0.0, 0.4, "unparsed_probe", 0.2),
    ("unparsed_final", 0.0, 0.5, "unparsed_final", 0.1),
]


@pytest.mark.parametrize(("parameter", "low", "high", "statistic", "rise"), MOVES)
def test_a_parameter_moves_its_statistic(parameter: str, low: float, high: float, statistic: str, rise: float) -> None:
    before, after = measured(**{parameter: low})[statistic], measured(**{parameter: high})[statistic]
    assert after - before > rise


def test_every_parameter_is_tried() -> None:
    elsewhere = {"questions", "branches", "delta", "max_intervals", "question_length_spread"}
    assert {move[0] for move in MOVES} | elsewhere == {field.name for field in dataclasses.fields(SyntheticSpec)}


def test_sizes_and_interval_length() -> None:
    pool = drawn(questions=7, branches=9, delta=250, max_intervals=12)
    assert pool.answers.shape == (7, 9, 13)
    assert pool.recording.delta == 250


def test_question_length_spread_is_between_questions_only() -> None:
    def spread(pool: Pool) -> tuple[float, float]:
        logs = np.log(pool.tokens)
        return float(logs.mean(axis=1).std()), float(logs.std(axis=1).mean())

    one, other = (spread(drawn(question_length_spread=value, wrong_length_ratio=1.0)) for value in (0.0, 0.8))
    assert other[0] - one[0] > 0.3
    assert abs(other[1] - one[1]) < 0.06


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("hold_intervals", 30.0), ("change_rate", 0.9), ("trap_share", 0.0), ("flicker", 0.3), ("unparsed_probe", 0.4)],
)
def test_what_is_shown_on_the_way_changes_neither_lengths_nor_final_answers(parameter: str, value: float) -> None:
    one, other = drawn(), drawn(**{parameter: value})
    assert np.array_equal(one.tokens, other.tokens)
    assert np.array_equal(one.intervals, other.intervals)
    assert final_strings(one) == final_strings(other)
    assert one.content_hash != other.content_hash


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("trap_stay", 0.9), ("wrong_answers", 5), ("wrong_concentration", 0.0), ("unparsed_final", 0.5)],
)
def test_how_branches_are_wrong_changes_neither_lengths_nor_which_are_right(parameter: str, value: float) -> None:
    one, other = drawn(), drawn(**{parameter: value})
    assert np.array_equal(one.tokens, other.tokens)
    assert [[a == g for a in row] for row, g in zip(final_strings(one), one.gold, strict=True)] == [
        [a == g for a in row] for row, g in zip(final_strings(other), other.gold, strict=True)
    ]


@pytest.mark.parametrize("parameter", ["length_median", "length_spread", "wrong_length_ratio", "closing_tokens"])
def test_lengths_do_not_change_final_answers(parameter: str) -> None:
    doubled = 2 * getattr(SyntheticSpec(), parameter)
    assert final_strings(drawn()) == final_strings(drawn(**{parameter: doubled}))


def final_strings(pool: Pool) -> list[list[str]]:
    finals = pool.final_codes()
    return [[pool.vocabulary[q][code] for code in finals[q]] for q in range(len(finals))]


def test_many_branches_start_in_the_trap_and_most_but_not_all_leave_it() -> None:
    pool = drawn()
    starts, finals = pool.answers[:, :, 0], pool.final_codes()
    trap = np.array([np.bincount(row[row >= 0]).argmax() for row in starts])[:, None]
    trapped = starts == trap
    left = trapped & (finals != trap)
    assert trapped.mean() > 0.5
    assert 0.8 < left.sum() / trapped.sum() < 1


def test_early_finishers_are_more_often_right_and_some_questions_go_to_the_minority() -> None:
    facts = measured()
    assert facts["earliest_accuracy"] > facts["accuracy"] + 0.1
    assert facts["minority_right"] > 0
    assert facts["trapped_at_0"] > 0.5


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("trap_share", 1.5, "between 0 and 1"),
        ("trap_share", float("nan"), "between 0 and 1"),
        ("questions", 2.5, "whole number between 1 and 100000"),
        ("branches", 0, "whole number"),
        ("max_intervals", 2, "between 3 and"),
        ("hold_intervals", True, "number between"),
    ],
)
def test_a_bad_parameter_is_named(name: str, value: float, expected: str) -> None:
    with pytest.raises(UsageError, match=f"{name}: expected .*{expected}.*found {value!r}"):
        dataclasses.replace(SyntheticSpec(), **{name: value})


@pytest.mark.parametrize("seed", [-1, 1.5, True])
def test_a_bad_seed_is_refused(seed: int) -> None:
    with pytest.raises(UsageError, match="seed: expected a whole number"):
        generate(seed=seed)


def test_settings_as_written_on_a_command_line() -> None:
    spec = SyntheticSpec.from_settings({"questions": "4", "trap_share": ".25"})
    assert spec == SyntheticSpec(questions=4, trap_share=0.25)
    with pytest.raises(UsageError, match="no parameter 'traps'; there are questions, branches"):
        SyntheticSpec.from_settings({"traps": "1"})
    with pytest.raises(UsageError, match=r"questions: expected a whole number between 1 and 100000, found '4\.5'"):
        SyntheticSpec.from_settings({"questions": "4.5"})


def test_the_extremes_of_every_parameter_generate() -> None:
    small = {"questions": 3, "branches": 4, "max_intervals": 5}
    for field in dataclasses.fields(SyntheticSpec):
        for text in ("0", "1", "5", "100000"):
            try:
                spec = SyntheticSpec.from_settings({**{key: str(n) for key, n in small.items()}, field.name: text})
            except UsageError:
                continue
            if spec.questions * spec.branches <= 1000:
                assert generate(spec).recording.tokens.min() > 0


def test_the_shipped_pool_is_the_default_one(tmp_path: Path) -> None:
    shipped = load_pool(SHIPPED)
    made = generate(SyntheticSpec(), seed=0, name="synthetic/aime-v0")
    assert made.content_hash == shipped.content_hash
    assert (made.name, dict(made.provenance)) == (shipped.name, dict(shipped.provenance))
    assert SHIPPED.stat().st_size <= 2_000_000
    save_pool(made, tmp_path / "again.parquet")
    assert load_pool(tmp_path / "again.parquet").content_hash == shipped.content_hash


# how far the default pool may lie outside the range of the recorded AIME24 pools
TOLERANCES = {
    "tokens_mean": 500,
    "tokens_median": 500,
    "tokens_p95": 2000,
    "tokens_max": 100,
    "tokens_right": 500,
    "tokens_wrong": 500,
    "intervals_mean": 0.5,
    "residual_negative": 0.02,
    "residual_within": 0.02,
    "residual_above": 0.02,
    "accuracy": 0.0,
    "sc64_accuracy": 0.0,
    "pass_accuracy": 0.0,
    "minority_right": 0.02,
    "accuracy_std": 0.0,
    "earliest_accuracy": 0.02,
    "vote_margin": 0.0,
    "unparsed_final": 0.001,
    "unparsed_probe": 0.0,
    "distinct_mean": 0.0,
    "wrong_lead": 0.02,
    "wrong_length_ratio": 0.05,
    "wrong_length_correlation": 0.02,
    "question_length_correlation": 0.0,
    "length_spread": 0.02,
    "accuracy_at_0.1": 0.0,
    "accuracy_at_0.25": 0.0,
    "accuracy_at_0.5": 0.0,
    "accuracy_at_0.75": 0.0,
    "accuracy_at_0.9": 0.0,
    "held_right": 1.0,
    "held_wrong": 2.0,
    "changes_mean": 0.5,
    "abandoned_right": 0.02,
    "lead_at_0": 0.02,
    "lead_at_0.1": 0.05,
    "lead_at_0.25": 0.02,
    "lead_at_0.5": 0.02,
    "trapped_at_0": 0.02,
    "trapped_at_0.1": 0.02,
    "trapped_at_0.25": 0.15,
    "trapped_at_0.5": 0.02,
}


@pytest.fixture(scope="module")
def recorded() -> list[dict[str, float]]:
    folder = Path(os.environ.get("TTS_GYM_AUTOTTS") or ROOT.parent / "shared" / "data" / "autotts")
    files = sorted(folder.glob("*/aime24.json"))
    if len(files) < 4:
        pytest.skip(f"the four recorded AIME24 pools are not in {folder}; set TTS_GYM_AUTOTTS to where they are")
    return [pool_statistics(import_json(file)) for file in files]


@pytest.mark.parametrize("statistic", TOLERANCES)
def test_the_default_lies_within_the_recorded_range(recorded: list[dict[str, float]], statistic: str) -> None:
    found = [facts[statistic] for facts in recorded]
    tolerance = TOLERANCES[statistic]
    assert min(found) - tolerance <= measured()[statistic] <= max(found) + tolerance
