"""Statistics of pools, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from tts_gym.errors import PoolError
from tts_gym.pools.pool import Pool, pool_from_cells
from tts_gym.pools.statistics import pool_statistics, statistics_table


def build(gold: list[str], branches: list[tuple[list[str | None], int, str | None]], delta: int = 100) -> Pool:
    """A pool of (probe answers, tokens, final answer) triples, question after question."""
    return pool_from_cells(
        name="hand",
        questions=[f"q{i}" for i in range(len(gold))],
        gold=gold,
        probe_counts=np.array([len(probes) for probes, _, _ in branches]),
        probe_answers=pa.array([a for probes, _, _ in branches for a in probes], pa.string()).dictionary_encode(),
        final_answers=pa.array([final for _, _, final in branches], pa.string()).dictionary_encode(),
        tokens=np.array([tokens for _, tokens, _ in branches], dtype=np.int32),
        delta=delta,
        provenance={},
    )


@pytest.fixture
def hand() -> Pool:
    return build(
        ["1", "2"],
        [
            (["7", "7", "1", "1"], 390, "1"),
            (["7", "1"], 210, "1"),
            (["7", "ERR", "7", "7"], 800, "7"),
            (["ERR", "7", "1", "1"], 400, "1"),
            (["5", "5"], 150, "5"),
            (["2", "6"], 300, "6"),
            (["5", "ERR"], 250, "ERR"),
            (["5", "5", "2", "5"], 450, "5"),
        ],
    )


# by hand from the eight branches above
EXPECTED = {
    "questions": 2,
    "branches": 4,
    "delta": 100,
    "tokens_mean": 2950 / 8,
    "tokens_median": (300 + 390) / 2,
    "tokens_max": 800,
    "intervals_mean": 24 / 8,
    "intervals_min": 2,
    "intervals_max": 4,
    # residuals -10, 10, 400, 0, -50, 100, 50, 50
    "residual_negative": 2 / 8,
    "residual_within": 4 / 8,
    "residual_above": 2 / 8,
    "residual_min": -50,
    "residual_max": 400,
    "accuracy": 3 / 8,
    "sc64_accuracy": 1 / 2,
    "majority_accuracy": 1 / 2,
    "pass_accuracy": 1 / 2,
    "minority_right": 0,
    "accuracy_std": 3 / 8,
    "questions_at_0": 1 / 2,
    "questions_between": 1 / 2,
    "questions_at_1": 0,
    "vote_margin": (2 / 4 + 1 / 4) / 2,
    "unparsed_final": 1 / 8,
    "unparsed_probe": 3 / 24,
    "unparsed_probe_question_max": 2 / 14,
    "distinct_mean": (3 + 4) / 2,
    "wrong_lead": (1 / 1 + 2 / 4) / 2,
    "tokens_right": 1000 / 3,
    "tokens_wrong": 1950 / 5,
    # only question 0 has both kinds of branch
    "wrong_length_ratio": 800 / (390 * 210 * 400) ** (1 / 3),
    "accuracy_at_0.1": 1 / 8,
    "accuracy_at_0.25": 1 / 8,
    "accuracy_at_0.5": 4 / 8,
    "accuracy_at_0.75": 3 / 8,
    "accuracy_at_0.9": 3 / 8,
    "held_right": (2 + 1 + 2) / 3,
    "held_wrong": (2 + 2 + 1 + 1 + 1) / 5,
    "changes_mean": (1 + 1 + 2 + 2 + 0 + 1 + 1 + 2) / 8,
    "abandoned_right": 2 / 5,
    "lead_at_0": (3 / 4 + 3 / 4) / 2,
    "trapped_at_0": 1 / 2,
    "trapped_at_0.1": 1 / 2,
}


@pytest.mark.parametrize("key", EXPECTED)
def test_every_number_of_a_pool_worked_by_hand(hand: Pool, key: str) -> None:
    assert pool_statistics(hand)[key] == pytest.approx(EXPECTED[key])


def test_correlation_within_a_question_ignores_that_questions_differ(hand: Pool) -> None:
    tokens, wrong = np.array([390, 210, 800, 400]), np.array([0, 0, 1, 0])
    assert pool_statistics(hand)["wrong_length_correlation"] == pytest.approx(np.corrcoef(tokens, wrong)[0, 1])


def test_a_tied_vote_goes_to_the_first_in_the_list() -> None:
    tied = [(["3"], 90, "3"), (["1"], 90, "1"), (["1"], 90, "1"), (["3"], 90, "3")]
    assert pool_statistics(build(["1"], tied))["majority_accuracy"] == 0
    assert pool_statistics(build(["3"], tied))["majority_accuracy"] == 1


def test_only_the_first_64_branches_vote_in_sc64() -> None:
    branches: list[tuple[list[str | None], int, str | None]] = [(["1"], 90, "1")] * 40 + [(["3"], 90, "3")] * 60
    facts = pool_statistics(build(["1"], branches))
    assert (facts["sc64_accuracy"], facts["majority_accuracy"], facts["minority_right"]) == (1, 0, 1)


def test_the_eight_shortest_branches_are_the_earliest() -> None:
    branches: list[tuple[list[str | None], int, str | None]] = [(["3"], 90, "3")] * 8 + [(["1"], 80, "1")] * 6
    assert pool_statistics(build(["1"], branches))["earliest_accuracy"] == 6 / 8


def test_what_a_pool_cannot_show_is_nan_and_no_answer_is_no_vote() -> None:
    facts = pool_statistics(build(["1"], [(["1"], 90, "1"), ([], 40, None), ([None, "1"], 190, "1")]))
    assert facts["majority_accuracy"] == 1
    assert facts["accuracy"] == pytest.approx(2 / 3)
    assert facts["wrong_lead"] == 0
    assert facts["accuracy_at_0.1"] == 1 / 2
    all_right = pool_statistics(build(["1"], [(["1"], 90, "1")]))
    for key in ("tokens_wrong", "wrong_length_ratio", "wrong_length_correlation", "wrong_lead", "abandoned_right"):
        assert math.isnan(all_right[key])


def test_an_unknown_grading_is_refused(hand: Pool) -> None:
    with pytest.raises(PoolError, match="grading"):
        pool_statistics(hand, "math")


def test_table_has_a_column_per_pool_and_a_row_per_statistic(hand: Pool) -> None:
    facts = pool_statistics(hand)
    table = statistics_table({"a": facts, "b": {**facts, "tokens_max": math.nan}}, ["tokens_max", "accuracy"])
    assert table.splitlines() == [
        "|  | a | b |",
        "|---|---:|---:|",
        "| tokens per branch, maximum | 800 | - |",
        "| single-branch accuracy | 37.5 % | 37.5 % |",
    ]
    assert len(statistics_table({"a": facts}).splitlines()) == 2 + len(facts)
