"""The audit lists exactly the answers on which the gradings disagree, and what hangs on them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tts_gym.cli import main
from tts_gym.pools import SyntheticSpec, generate, save_pool
from tts_gym.pools.audit import Disagreement, audit_table, branch_accuracy, disagreements
from tts_gym.pools.autotts import import_json

# Question 0: gold 3/4 written three ways; question 1: all gradings agree.
BRANCHES = [
    [[["0.75", "7"], 900, "0.75"], [["7", "0.75"], 950, r"\frac{3}{4}"], [[r"\dfrac{3}{4}"], 400, "7"]],
    [[["12"], 500, "12"], [["13"], 500, "13"], [["12"], 500, "12"]],
]
GOLD = [r"\frac{3}{4}", "12"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    items = [
        {
            "question": f"question {q}",
            "final_answers_trace": [branch[2] for branch in branches],
            "each_branch": branches,
            "gold_answer": gold,
            "probe_freq": 500,
        }
        for q, (branches, gold) in enumerate(zip(BRANCHES, GOLD, strict=True))
    ]
    path = tmp_path / "pool.json"
    path.write_text(json.dumps(items))
    return path


def test_every_disagreement_with_its_strings_and_what_hangs_on_it(file: Path) -> None:
    pool = import_json(file)
    assert disagreements(pool) == [
        Disagreement(0, r"\frac{3}{4}", "0.75", exact=False, math=True, finals=1, probes=2),
        Disagreement(0, r"\frac{3}{4}", r"\dfrac{3}{4}", exact=False, math=True, finals=0, probes=1),
    ]
    assert branch_accuracy(pool, "exact") == pytest.approx(100 * 3 / 6)
    assert branch_accuracy(pool, "math") == pytest.approx(100 * 4 / 6)


def test_the_command_prints_it(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pools", "audit", str(file)]) == 0
    out = capsys.readouterr().out
    assert "2 of 6 answers are graded differently, in 1 of 2 questions" in out
    assert "50.00% by exact, 66.67% by math" in out
    (line,) = (line for line in out.splitlines() if " 0.75 " in line)
    assert line.split() == ["0", r"\frac{3}{4}", "0.75", "wrong", "right", "1", "2"]


def test_where_nothing_disagrees_it_says_so(tmp_path: Path) -> None:
    pool = generate(SyntheticSpec(questions=2, branches=4), seed=0)
    save_pool(pool, tmp_path / "p.parquet")
    text = audit_table([pool])
    assert "0 of" in text and "in 0 of 2 questions" in text and "wrong" not in text
