"""What each baseline's file says of itself: its published operating point, its budget knob, its source."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from controllers.playing import play, recording_of, run_both
from hypothesis import given, settings
from hypothesis import strategies as st
from random_pools import steady

from tts_gym.controllers import controller_files
from tts_gym.evaluation import contestant, evaluate, find_program
from tts_gym.pools import import_json
from tts_gym.programs.runner import Limits

# The knob that beta moves, and its values at beta 0, 0.5 and 1.
BUDGET_KNOBS = {
    "asc_entropy": ("max_samples", 2, 32, 64),
    "asc_majority": ("max_samples", 2, 32, 64),
    "bayes_l3": ("max_samples", 2, 32, 64),
    "beta_on_completion": ("n", 1, 32, 64),
    "consol_msprt": ("max_samples", 3, 32, 64),
    "consol_pvalue": ("max_samples", 3, 32, 64),
    "consol_sprt": ("max_samples", 3, 32, 64),
    "depth_capped_sc": ("cap", 1, 40, 80),
    "doubling_batches": ("budget", 2, 32, 64),
    "dynasor_grid": ("n", 1, 32, 64),
    "es_cot_grid": ("n", 1, 32, 64),
    "first_finish": ("n", 1, 32, 64),
    "mars_replay": ("n", 2, 32, 64),
    "probe_st_bon": ("n", 1, 32, 64),
    "short_m_at_k": ("k", 3, 32, 64),
}
BASELINES = sorted(BUDGET_KNOBS)

# spec 8.1, with the branches that the published setting draws or runs
PUBLISHED = {
    "short_m_at_k:m=3,k=8": {"m": 3, "k": 8},
    "first_finish:n=8": {"n": 8},
    "depth_capped_sc:n=64,cap=40": {"n": 64, "cap": 40},
    "asc_entropy:max_samples=40": {"max_samples": 40, "threshold": 0.75},
    "asc_majority:max_samples=40": {"max_samples": 40, "threshold": 0.8},
    "doubling_batches:budget=64": {"budget": 64, "share": 0.75},
    "beta_on_completion:n=64": {"n": 64, "threshold": 0.95},
    "consol_sprt:max_samples=256": {"max_samples": 256, "p1": 0.5001, "alpha": 0.05, "type_2": 0.949976},
    "consol_msprt:max_samples=256": {"max_samples": 256, "alpha": 0.05, "type_2": 0.94994},
    "consol_pvalue:max_samples=40": {"max_samples": 40, "alpha": 0.05},
    "bayes_l3:max_samples=40,delta=0.05": {"max_samples": 40, "delta": 0.05},
    "es_cot_grid:n=1": {"n": 1, "jump": 10, "p": 0.05},
    "dynasor_grid:n=1,window=8": {"n": 1, "window": 8},
    "mars_replay:n=128": {"n": 128, "warm_up": 16, "every": 4},
    "probe_st_bon:n=10": {"n": 10, "depth": 16},
}


@pytest.mark.parametrize("name", BASELINES)
def test_beta_moves_one_knob(name: str) -> None:
    knob, *values = BUDGET_KNOBS[name]
    grid = [find_program(name).knobs(point / 100) for point in range(101)]
    assert [grid[point][knob] for point in (0, 50, 100)] == values
    budgets = [float(knobs.pop(knob)) for knobs in grid]
    assert budgets == sorted(budgets)
    assert all(knobs == grid[0] for knobs in grid)


@pytest.mark.parametrize("spec", PUBLISHED)
def test_the_published_setting_is_reachable_and_documented(spec: str) -> None:
    chosen = contestant(spec)
    assert chosen.knobs(0.3).items() >= PUBLISHED[spec].items()
    assert f"``{spec}``" in " ".join(chosen.program.namespace["__doc__"].split())


@pytest.mark.parametrize("name", BASELINES)
def test_the_docstring_names_source_setting_and_limits(name: str) -> None:
    text = find_program(name).namespace["__doc__"]
    assert re.search(r"^(Source|Analogue of): .*; spec 8\.[12]", " ".join(text.split("\n\n")[-1:]), re.MULTILINE)
    assert re.search(r"arXiv 2\d{3}\.\d{5}|its_hub", text)
    assert re.search(r"^(Published operating points?|Operating point of the spec|Its width)\b.*: ", text, re.MULTILINE)
    assert "Replay" in text
    for mentioned in re.findall(r"``(\w+):([^`]+)``", text):
        contestant(":".join(mentioned)).knobs(1.0)  # raises if a knob is not there


def test_approximations_say_so() -> None:
    """Methods that replay cannot run as published carry it in the name."""
    names = set(controller_files())
    assert {"dynasor_grid", "es_cot_grid", "mars_replay", "probe_st_bon"} <= names
    assert not {"dynasor", "es_cot", "mars", "st_bon"} & names


# --- docs/baselines.md -----------------------------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "baselines.md"
MEASURED = re.findall(r"^\| `([^`]+)` \| ([\d.]+) \| ([\d,]+) \| ([\d,]+) \|", PAGE.read_text(), re.MULTILINE)


def test_the_page_lists_every_controller() -> None:
    methods = PAGE.read_text().split("## Measured")[0]
    for name in controller_files():
        assert re.search(rf"^\|[^|]*`{name}`", methods, re.MULTILINE), name
    assert {spec.partition(":")[0] for spec, *_ in MEASURED} == set(controller_files())


def test_the_page_has_the_numbers_that_come_out(autotts: Path) -> None:
    pool = import_json(autotts / "Qwen3-8B" / "aime24.json")
    quick = [row for row in MEASURED if row[0].partition(":")[0] in BASELINES and row[0] != "mars_replay:n=128"]
    rows = evaluate([spec for spec, *_ in quick], [pool], [1.0]).rows
    found = [(r.contestant, f"{r.accuracy:.2f}", f"{int(r.tokens):,}", f"{int(r.sequential_tokens):,}") for r in rows]
    assert found == quick


# --- compiled equals interpreted, at published settings and at short rules -------------------------------------------

SETTINGS = [
    *PUBLISHED,
    "short_m_at_k:m=1,k=5",
    "bayes_l3:max_samples=20,delta=0.3",
    "beta_on_completion:n=9,threshold=0.8",
    "consol_pvalue:max_samples=40,alpha=0.3",
    "dynasor_grid:n=5,window=2",
    "es_cot_grid:n=5,jump=1,p=0.4",
    "mars_replay:n=12,warm_up=4,every=1",
    "mars_replay:n=40,warm_up=3,every=2",
    "probe_st_bon:n=6,depth=3",
]


@st.composite
def settling_branches(draw: st.DrawFn) -> list[str]:
    """1 to 40 branches of 1 to 40 intervals that keep their answer more often than not."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count, most = draw(st.sampled_from([1, 2, 6, 17, 40])), draw(st.sampled_from([1, 6, 40]))
    letters, stay = draw(st.sampled_from(["A", "AB", "ABC-"])), draw(st.sampled_from([0.5, 0.8, 0.95]))
    branches = []
    for _ in range(count):
        branch = str(generator.choice(list(letters)))
        for _ in range(int(generator.integers(0, most))):
            branch += branch[-1] if generator.random() < stay else str(generator.choice(list(letters)))
        branches.append(branch)
    return branches


@pytest.mark.parametrize("spec", SETTINGS)
@settings(steady, max_examples=15)
@given(branches=settling_branches(), seed=st.integers(0, 1000), width=st.none() | st.integers(1, 20))
def test_compiled_equals_interpreted(spec: str, branches: list[str], seed: int, width: int | None) -> None:
    tokens = np.random.default_rng(seed).integers(-90, 300, len(branches))
    recording = recording_of(branches, [max(0, 100 * len(b) + int(t)) for b, t in zip(branches, tokens, strict=True)])
    outcomes = run_both(spec, recording, [0, seed], Limits(max_branches=width))
    assert (outcomes.branches >= 1).all()
    assert (outcomes.branches <= min(len(branches), width or len(branches))).all()
    assert (outcomes.sequential_tokens <= outcomes.tokens).all()


@pytest.mark.parametrize("name", BASELINES)
def test_agreement_is_the_answer_and_null_answers_are_none(name: str) -> None:
    assert play(name, ["A" * 9] * 70).answer == "A"
    assert play(name, ["A"]).answer == "A"
    assert play(name, ["-" * 9] * 5).answer == "-"
    assert play(name, ["-"]).answer == "-"


# --- the fitted prior ------------------------------------------------------------------------------------------------


def fitting_script() -> ModuleType:
    path = Path(__file__).parents[2] / "docs" / "fit_bayes_prior.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_prior_is_what_its_script_fits(autotts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTS_GYM_AUTOTTS", str(autotts))
    script, program = fitting_script(), find_program("bayes_l3")
    prior = program.namespace["PRIOR"]
    assert prior.tolist() == script.rows()
    assert prior[:, 0].sum() == 4 * 21
    unseen = [q for q in range(30) if q not in script.QUESTIONS]
    assert f"(all but {', '.join(map(str, unseen))})" in program.namespace["__doc__"]
    assert all(name.endswith("/aime24") for name in script.POOLS)
