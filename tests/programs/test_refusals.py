"""What a program, its knobs and its limits may not be; each refused by name, compiled and interpreted alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tts_gym.engine import compiled as engine
from tts_gym.engine.reference import Episode
from tts_gym.errors import ProgramError, UsageError
from tts_gym.evaluation import evaluate
from tts_gym.pools.pool import Recording
from tts_gym.programs import confidence
from tts_gym.programs.compilation import compiled_driver
from tts_gym.programs.program import Program, load_program
from tts_gym.programs.runner import Limits, run_program

# One branch of one interval, 300 tokens, answer 0.
ONE = Recording(np.zeros((1, 1, 2), np.int16), np.ones((1, 1), np.int16), np.full((1, 1), 300, np.int32), 500, 1)

both_ways = pytest.mark.parametrize("interpreted", [False, True], ids=["compiled", "interpreted"])


def program(folder: Path, end: str, knobs: str = "{'n': 1}") -> Program:
    path = folder / "p.py"
    path.write_text(
        "from tts_gym.programs import *\n"
        "import numpy as np\n"
        f"def schedule(beta): return {knobs}\n"
        "def solve(episode, knobs):\n"
        "    i = branch(episode)\n"
        "    a = probe(episode, i)\n"
        f"    {end}\n"
    )
    return load_program(path)


def test_a_probe_that_fits_the_budget_by_a_rounding_error_fits_in_both_engines() -> None:
    third = 1 / 3
    episode = Episode([[0, 0]], [1], [300], [0], budget=500 + third, probe_cost=third)
    block = engine.Block(ONE, budget=500 + third, probe_cost=third)
    order = np.zeros(1, np.int32)
    engine.reset(block.address, 0, order.ctypes.data)
    episode.branch()
    engine.branch(block.address)
    assert episode.why_not_probe(0) == engine.why_not_probe(block.address, 0)


def test_confidence_is_a_probability() -> None:
    assert max(confidence(first, second) for first in range(200) for second in range(0, 200, 7)) <= 1.0


@both_ways
@pytest.mark.parametrize("look", ["latest", "is_finished", "is_pruned", "is_live", "depth", "spent_on"])
def test_no_branch_has_a_negative_index(tmp_path: Path, look: str, interpreted: bool) -> None:
    p = program(tmp_path, f"return -1 - int({look}(episode, -1)) * 0")
    with pytest.raises(ProgramError, match=r"p\.py: question 0, order 0 in line 7: IndexError"):
        run_program(p, ONE, p.knobs(0.5), orders=1, interpreted=interpreted)


@both_ways
def test_a_depth_can_be_probed_once(tmp_path: Path, interpreted: bool) -> None:
    p = program(tmp_path, "return -1 if can_probe(episode, i) else a")  # it was probed in the line above
    assert run_program(p, ONE, p.knobs(0.5), orders=1, interpreted=interpreted).code.tolist() == [[0]]


@both_ways
@pytest.mark.parametrize("returned", ["0.5", "None", "(0, 1)", "'a'", "True"])
def test_solve_returns_a_whole_number(tmp_path: Path, returned: str, interpreted: bool) -> None:
    p = program(tmp_path, f"return {returned}")
    with pytest.raises(ProgramError, match="solve should always return an answer number or -1, found"):
        run_program(p, ONE, p.knobs(0.5), orders=1, interpreted=interpreted)


@both_ways
def test_a_numpy_integer_is_an_answer_number(tmp_path: Path, interpreted: bool) -> None:
    p = program(tmp_path, "return np.argmax(np.array([2, 1]))")
    assert run_program(p, ONE, p.knobs(0.5), orders=1, interpreted=interpreted).code.tolist() == [[0]]


@pytest.mark.parametrize("value", ["2**70", "10**400", "__import__('numpy').arange(2)", "float('inf')", "'3'", "None"])
def test_a_knob_is_a_finite_number_of_64_bits(tmp_path: Path, value: str) -> None:
    p = program(tmp_path, "return -1", f"{{'n': {value}}}")
    with pytest.raises(ProgramError, match="knob 'n'"):
        p.knobs(0.5)


@pytest.mark.parametrize("value", ["1e30", "inf", "nan", "2.5", "many", ""])
def test_so_is_an_override(tmp_path: Path, value: str) -> None:
    p = program(tmp_path, "return -1")
    with pytest.raises(UsageError, match=f"knob 'n' should be a whole number, found '{value}'"):
        p.knobs(0.5, {"n": value})


@pytest.mark.parametrize(
    ("end", "line"),
    [
        ("import math; return -1", 7),
        ("global Z; Z = 1; return -1", 7),
        ("return undefined_name", 7),
    ],
)
def test_what_numba_does_not_compile_is_named_with_its_line(tmp_path: Path, end: str, line: int) -> None:
    p = program(tmp_path, end)
    with pytest.raises(ProgramError, match=rf"p\.py, line {line}: outside the subset of Python that Numba compiles"):
        run_program(p, ONE, p.knobs(0.5), orders=1)


@both_ways
@pytest.mark.parametrize("question", [-1, 1])
def test_a_question_that_is_not_there(tmp_path: Path, question: int, interpreted: bool) -> None:
    p = program(tmp_path, "return -1")
    with pytest.raises(UsageError, match=rf"questions should be from 0 to 0, found \[{question}\]"):
        run_program(p, ONE, p.knobs(0.5), questions=[question], orders=1, interpreted=interpreted)


@both_ways
@pytest.mark.parametrize(
    "spec", ["cmc:max_branch=128", "ibc:n_init=100", "scr:max_branch=70", "dgcc:n_init=70", "sdgv:cohort=128"]
)
def test_controllers_follow_their_knobs_past_64_branches(spec: str, interpreted: bool) -> None:
    (row,) = evaluate([spec], ["synthetic/aime-v0"], [1.0], orders=1, questions=[0, 1], interpreted=interpreted).rows
    assert row.tokens > 0


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken").write_text("")
    p = program(tmp_path, "return -1")
    monkeypatch.setattr("tts_gym.programs.compilation.code_cache", lambda: tmp_path / "taken")
    with pytest.raises(UsageError, match=r"taken.*cannot be created.*set TTS_GYM_CACHE to a writable folder"):
        run_program(p, ONE, p.knobs(0.5), orders=1)


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"max_branches": -1}, "max_branches should be at least 1, found -1"),
        ({"max_branches": 0}, "max_branches should be at least 1, found 0"),
        ({"budget": float("nan")}, "budget should be at least 0 tokens, found nan"),
        ({"budget": -1.0}, "budget should be at least 0 tokens, found -1"),
        ({"probe_cost": -1.0}, "probe_cost should be at least 0 tokens, found -1"),
    ],
)
def test_limits_are_checked(limits: dict[str, float], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Limits(**limits)  # type: ignore[arg-type]


def test_a_run_needs_nothing_but_what_was_compiled_ahead(tmp_path: Path) -> None:
    p = program(tmp_path, "return a")
    knobs = p.knobs(0.5)
    run_program(p, ONE, knobs, orders=1)
    assert len(compiled_driver(p, knobs).signatures) == 1  # type: ignore[attr-defined]
