"""``evaluate`` from Python: what a row and an episode say, and that how it is run changes nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from tts_gym.engine.moves import Move, branch_order
from tts_gym.errors import PoolError, ProgramError, UsageError
from tts_gym.evaluation import Row, evaluate, find_program
from tts_gym.pools import SyntheticSpec, generate, merge_equivalent, open_pool
from tts_gym.programs.runner import Limits, trace_program

POOL = generate(SyntheticSpec(questions=5, branches=16), seed=3, name="small")


def _numbers(row: Row) -> tuple[object, ...]:
    return (row.contestant, row.beta, row.accuracy, row.tokens, row.sequential_tokens, row.peak_width, row.probes)


def test_one_branch_is_the_mean_over_first_branches_by_hand() -> None:
    (row,) = evaluate(["sc:n=1"], [POOL], [0.0], orders=16).rows
    first = [np.arange(16)] * 5
    opened = np.array([branch_order(16, s)[0] for s in range(16)])
    finals = POOL.final_codes()[:, opened]
    right = POOL.correct()[np.arange(5)[:, None], finals]
    assert len(first) == row.questions == 5
    assert row.orders == 16
    assert row.accuracy == 100 * right.mean()
    assert row.tokens == POOL.tokens[:, opened].mean()
    assert (row.peak_width, row.probes) == (1.0, 0.0)


def test_all_branches_are_the_same_under_every_order_but_for_ties() -> None:
    table = evaluate(["sc:n=16"], [POOL], [0.0], orders=5).episodes
    for question in range(5):
        tokens = table.filter(pc.equal(table["question"], question))["tokens"].unique().to_pylist()
        assert tokens == [int(POOL.tokens[question].sum())]


def test_how_it_is_run_changes_nothing() -> None:
    specs, betas = ["sc", "cmc", "parallel_probe", "esc"], [0.0, 0.5]
    base = evaluate(specs, [POOL], betas, orders=7)
    for other in (
        evaluate(specs, [POOL], betas, orders=list(range(7)), workers=1),
        evaluate(specs, [POOL], betas, orders=7, workers=5),
        evaluate(specs, [POOL], betas, orders=7, interpreted=True),
    ):
        assert [_numbers(row) for row in other.rows] == [_numbers(row) for row in base.rows]
        assert other.episodes.equals(base.episodes)


def test_a_large_evaluation_is_cut_into_parts_that_join_again(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluate(["cmc"], [POOL], [0.5], orders=9)
    monkeypatch.setattr("tts_gym.evaluation.running._EPISODES_PER_TASK", 20)  # two questions a part
    assert evaluate(["cmc"], [POOL], [0.5], orders=9).episodes.equals(whole.episodes)


def test_questions_are_evaluated_alone_as_among_all() -> None:
    every = evaluate(["cmc"], [POOL], [0.5], orders=6).episodes
    some = evaluate(["cmc"], [POOL], [0.5], orders=6, questions=[3, 1]).episodes
    wanted = [every.filter(pc.equal(every["question"], q)).select(["question", "order", "tokens"]) for q in (3, 1)]
    assert some["tokens"].to_pylist() == [n for table in wanted for n in table["tokens"].to_pylist()]
    assert some["question"].to_pylist() == [3] * 6 + [1] * 6


def test_betas_with_equal_knobs_give_equal_rows_for_one_run() -> None:
    rows = evaluate(["sc:n=4"], [POOL], [0.0, 0.3, 1.0], orders=4).rows
    assert [row.beta for row in rows] == [0.0, 0.3, 1.0]
    assert len({_numbers(row)[2:] for row in rows}) == 1
    assert len({row.seconds for row in rows}) == 1


def test_limits_hold() -> None:
    (row,) = evaluate(["sc:n=16"], [POOL], [0.0], orders=4, limits=Limits(max_branches=3)).rows
    assert row.peak_width == 3.0
    table = evaluate(["sc:n=16"], [POOL], [0.0], orders=4, limits=Limits(budget=20_000.0)).episodes
    assert max(table["tokens"].to_pylist()) < 20_000 + 5_000  # the end of a branch may pass it once


def test_math_grading_and_merging_are_options() -> None:
    exact, math = (evaluate(["sc"], [POOL], [0.2], orders=5, grading=g) for g in ("exact", "math"))
    assert math.rows[0].tokens == exact.rows[0].tokens  # grading never touches a vote
    assert math.rows[0].accuracy >= exact.rows[0].accuracy
    merged = evaluate(["sc"], [POOL], [0.2], orders=5, merge=True)
    direct = evaluate(["sc"], [merge_equivalent(POOL)], [0.2], orders=5)
    assert _numbers(merged.rows[0]) == _numbers(direct.rows[0])
    assert (merged.provenance["merged"], exact.provenance["merged"]) == (True, False)


def test_provenance_names_content_and_programs() -> None:
    provenance = evaluate(["sc:n=2"], [POOL], [0.0], orders=2).provenance
    assert provenance["pools"] == {"small": POOL.content_hash}
    assert set(provenance["programs"]) == {"sc:n=2"}
    assert provenance["grading"] == "exact"


@pytest.mark.parametrize(
    ("contestants", "pools", "betas", "orders", "says"),
    [
        ([], [POOL], [0.0], 1, "at least one contestant"),
        (["sc"], [], [0.0], 1, "at least one contestant, one pool"),
        (["sc"], [POOL], [], 1, "one beta"),
        (["sc"], [POOL], [0.0], 0, "orders should be at least 1, found 0"),
        (["sc"], [POOL], [1.5], 1, "beta should be between 0 and 1, found 1.5"),
        (["sc", "sc"], [POOL], [0.0], 1, "the contestant 'sc' is given twice"),
        (["sc"], [POOL, POOL], [0.0], 1, "the pool 'small' is given twice"),
        (["cmd"], [POOL], [0.0], 1, "unknown controller 'cmd'; did you mean cmc"),
        (["sc:m=3"], [POOL], [0.0], 1, "sc has no knob 'm'"),
        (["sc:n"], [POOL], [0.0], 1, "unknown controller 'sc:n'"),
        (["sc:n=2.5"], [POOL], [0.0], 1, "knob 'n' should be a whole number, found '2.5'"),
        (["sc"], ["synthetic/aime-v1"], [0.0], 1, "did you mean synthetic/aime-v0"),
    ],
)
def test_wrong_requests_are_named(
    contestants: list[str], pools: list[object], betas: list[float], orders: int, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        evaluate(contestants, pools, betas, orders)  # type: ignore[arg-type]


def test_a_failing_program_fails_the_evaluation(tmp_path: Path) -> None:
    program = tmp_path / "bad.py"
    program.write_text(
        "from tts_gym.programs import read, step\n"
        "def schedule(beta): return {'n': 1}\n"
        "def solve(episode, knobs):\n"
        "    i = read(episode)\n"
        "    return step(episode, i)\n"
    )
    for interpreted in (False, True):
        with pytest.raises(ProgramError, match=r"bad\.py: question 0, order 0 in line 5: .*branch 0 is finished"):
            evaluate(["sc", program.as_posix()], [POOL], [0.0], orders=2, interpreted=interpreted)


def test_a_pool_is_not_graded_by_a_mode_it_was_not_graded_by() -> None:
    with pytest.raises(PoolError, match="no 'math' grading"):
        open_pool("synthetic/aime-v0").correct("math")


def test_interpreted_programs_run_where_a_debugger_sees_them(tmp_path: Path) -> None:
    program = tmp_path / "own.py"
    program.write_text(
        "from tts_gym.programs import latest, read\n"
        "def schedule(beta): return {}\n"
        "def solve(episode, knobs):\n"
        "    i = read(episode)\n"
        "    return latest(episode, i)\n"
    )
    commands = f"b {program}:5\nc\np ('at', i, spent(episode))\np ('at', i, episode.opened)\nq\n"
    debugged = [
        sys.executable,
        "-m",
        "pdb",
        "-m",
        "tts_gym.cli",
        "evaluate",
        "--interpreted",
        "--controller",
        str(program),
    ]
    done = subprocess.run(
        [*debugged, "--orders", "1", "--beta", "0"], input=commands, capture_output=True, text=True, timeout=100
    )
    assert "('at', 0, 1)" in done.stdout


def test_a_single_contestant_and_pool_need_no_list() -> None:
    (row,) = evaluate("sc:n=1", POOL, [0.0], orders=1).rows
    assert (row.contestant, row.pool) == ("sc:n=1", "small")


def test_the_log_of_an_episode_is_its_trace() -> None:
    program = find_program("sc")
    trace = trace_program(program, POOL.recording, {"n": 2}, question=1, order=4)
    first, second = branch_order(16, 4)[:2]
    continues = int(POOL.intervals[1, first] + POOL.intervals[1, second])
    assert [move for move, _ in trace] == [*[Move.BRANCH] * 2, *[Move.CONTINUE] * continues, Move.ANSWER]
    assert {i for move, i in trace if move == Move.CONTINUE} == {0, 1}
