"""Programs as files: their knobs, what compiles and what is said when it does not, and machine code on disk."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tts_gym.controllers import controller_files
from tts_gym.errors import ProgramError, UsageError
from tts_gym.files import user_cache, written_whole
from tts_gym.pools.pool import Recording
from tts_gym.programs.compilation import compiled_driver, is_compiled
from tts_gym.programs.program import Number, Program, load_program
from tts_gym.programs.runner import run_program

# One question of three branches of one interval; final answers 0, 1, 1, of 100 tokens each.
THREE = Recording(
    answers=np.array([[[0, 0], [1, 1], [1, 1]]], dtype=np.int16),
    intervals=np.array([[1, 1, 1]], dtype=np.int16),
    tokens=np.array([[100, 100, 100]], dtype=np.int32),
    delta=100,
    vocabulary_size=2,
)

KNOBS = '''"""Knobs of every kind."""


def schedule(beta):
    return {"whole": round(10 * beta), "real": 2.5 * beta, "switch": beta > 0.5, "window_size": 8}


def solve(episode, knobs):
    return -1 if knobs.switch and knobs.whole == 7 and knobs.real == 0.5 and knobs.window_size == -3 else 5
'''


def written(folder: Path, source: str, name: str = "program.py") -> Path:
    path = folder / name
    path.write_text(source)
    return path


def program_of(folder: Path, source: str) -> Program:
    return load_program(written(folder, source))


def kept_program(source: str) -> Program:
    """A program whose file stays where it is, so that its machine code is found again in the next run."""
    path = user_cache("test-programs") / f"kept_{hashlib.sha256(source.encode()).hexdigest()[:12]}.py"
    if not path.exists():
        with written_whole(path) as temporary:
            temporary.write_text(source)
    return load_program(path)


def solving(body: str, head: str = "from tts_gym.programs import *") -> str:
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return f"{head}\n\n\ndef schedule(beta):\n    return {{'n': 3}}\n\n\ndef solve(episode, knobs):\n{lines}\n"


def line_of(source: str, text: str) -> int:
    (line,) = [number for number, line in enumerate(source.splitlines(), 1) if text in line]
    return line


# --- knobs -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def knobs_program() -> Program:
    return kept_program(KNOBS)


def test_knobs_follow_beta(knobs_program: Program) -> None:
    assert knobs_program.knobs(0.25) == {"whole": 2, "real": 0.625, "switch": False, "window_size": 8}
    assert knobs_program.knobs(1) == {"whole": 10, "real": 2.5, "switch": True, "window_size": 8}


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ({"whole": "7"}, 7),
        ({"whole": 7.0}, 7),
        ({"whole": "-3"}, -3),
        ({"whole": "1e3"}, 1000),
        ({"real": "3"}, 3.0),
        ({"real": 0.5}, 0.5),
        ({"switch": "true"}, True),
        ({"switch": "False"}, False),
        ({"switch": "1"}, True),
        ({"switch": 0}, False),
        ({"switch": True}, True),
    ],
)
def test_an_override_takes_the_type_of_its_knob(
    knobs_program: Program, override: dict[str, str | Number], found: Number
) -> None:
    (name,) = override
    knobs = knobs_program.knobs(0.5, override)
    assert (knobs[name], type(knobs[name])) == (found, type(found))
    assert {k: v for k, v in knobs.items() if k != name} == {
        k: v for k, v in knobs_program.knobs(0.5).items() if k != name
    }


@pytest.mark.parametrize("interpreted", [False, True], ids=["compiled", "interpreted"])
def test_overridden_knobs_reach_the_program(knobs_program: Program, interpreted: bool) -> None:
    knobs = knobs_program.knobs(0.0, {"whole": 7, "real": 0.5, "switch": 1, "window_size": "-3"})
    outcomes = run_program(knobs_program, THREE, knobs, orders=2, interpreted=interpreted)
    assert outcomes.code.tolist() == [[-1, -1]]
    with pytest.raises(ProgramError, match=r"ANSWER\(5\)"):
        run_program(knobs_program, THREE, knobs | {"switch": False}, orders=2, interpreted=interpreted)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ({"windw_size": 3}, "has no knob 'windw_size'; did you mean window_size?"),
        ({"n": 3}, "has no knob 'n'; its knobs are real, switch, whole, window_size"),
        ({"whole": "7.5"}, "knob 'whole' should be a whole number, found '7.5'"),
        ({"whole": "many"}, "knob 'whole' should be a whole number, found 'many'"),
        ({"whole": "inf"}, "knob 'whole' should be a whole number, found 'inf'"),
        ({"real": "nan"}, "knob 'real' should be a number, found 'nan'"),
        ({"real": "half"}, "knob 'real' should be a number, found 'half'"),
        ({"switch": "yes"}, "knob 'switch' should be true or false, found 'yes'"),
        ({"switch": 2}, "knob 'switch' should be true or false, found '2'"),
    ],
)
def test_a_wrong_override_is_a_usage_error(
    knobs_program: Program, override: dict[str, str | Number], said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        knobs_program.knobs(0.5, override)
    assert str(caught.value).startswith(knobs_program.name)
    assert str(caught.value).endswith(said)


@pytest.mark.parametrize("beta", [-0.01, 1.01, float("nan")])
def test_beta_is_between_0_and_1(knobs_program: Program, beta: float) -> None:
    with pytest.raises(UsageError, match="beta should be between 0 and 1, found"):
        knobs_program.knobs(beta)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("[1]", "schedule should return a dict of knobs, found list"),
        ("{'n': 'many'}", "schedule(0.5) sets knob 'n' to 'many', expected a finite number"),
        ("{'n': None}", "schedule(0.5) sets knob 'n' to None, expected a finite number"),
        ("{'n': float('inf')}", "schedule(0.5) sets knob 'n' to inf, expected a finite number"),
        ("{'two words': 1}", "schedule(0.5) names a knob 'two words', which is not an identifier"),
        ("{'n': 1 / (beta - 0.5)}", "schedule(0.5) failed in line 2: ZeroDivisionError: "),
    ],
)
def test_a_schedule_returns_named_numbers(tmp_path: Path, returned: str, said: str) -> None:
    program = program_of(
        tmp_path, f"def schedule(beta):\n    return {returned}\ndef solve(episode, knobs): return -1\n"
    )
    with pytest.raises(ProgramError) as caught:
        program.knobs(0.5)
    assert str(caught.value).startswith(f"{program.path}: {said}")


# --- what does not load --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def schedule(beta):\n    return {}\n\ndef solve(episode, knobs)\n    return 1\n", ", line 4: expected ':'"),
        ("x = 1\ny = 1 // 0\n", ": cannot be loaded in line 2: ZeroDivisionError: "),
        ("def solve(episode, knobs):\n    return -1\n", ": a program should define schedule(beta)"),
        ("def schedule(beta):\n    return {}\n", ": a program should define solve(episode, knobs)"),
        (
            "def schedule(beta):\n    return {}\ndef solve(episode):\n    return -1\n",
            ": solve should take 2 argument(s): solve(episode, knobs)",
        ),
    ],
)
def test_a_file_that_is_no_program(tmp_path: Path, source: str, said: str) -> None:
    path = written(tmp_path, source)
    with pytest.raises(ProgramError) as caught:
        load_program(path)
    assert str(caught.value).startswith(f"{path}{said}")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match=r"absent\.py: cannot be read: No such file or directory"):
        load_program(tmp_path / "absent.py")


# --- what compiles -------------------------------------------------------------------------------------


def test_an_empty_list_may_be_filled_by_a_helper_only() -> None:
    source = """from tts_gym.programs import Episode, Knobs, can_branch, confidence, latest, majority, read, top_two


def schedule(beta):
    return {"n": 3}


def solve(episode: Episode, knobs: Knobs) -> int:
    votes: list[int] = []
    sure: list[float] = []
    odd: list[bool] = []
    fill(episode, votes, sure, odd)
    return votes[-1] if sure[2] < 0.7 and odd[2] and not odd[0] else majority(votes[:1])


def fill(episode, votes, sure, odd):
    while can_branch(episode):
        votes.append(latest(episode, read(episode)))
        leader, first, second = top_two(votes)
        sure.append(confidence(first, second))
        odd.append(votes[0] != votes[len(votes) - 1])
"""
    program = kept_program(source)
    orders = list(range(6))
    compiled = run_program(program, THREE, program.knobs(0.5), orders=orders)
    interpreted = run_program(program, THREE, program.knobs(0.5), orders=orders, interpreted=True)
    assert compiled.code.tolist() == interpreted.code.tolist()
    assert compiled.tokens.tolist() == [[300] * 6]
    assert set(compiled.code[0].tolist()) == {0, 1}


# the line outside the subset, and the heart of what is said about it
OUTSIDE = [
    ("file = open('answers.txt')", "Untyped global name 'open'"),
    ("return knobs.m", "Unknown attribute 'm'"),
    ("return latest(episode, 0) + 'a'", "add"),
    ("votes = []; votes.append('a'); votes.append(1)", "list"),
]


@pytest.mark.parametrize(("line", "heart"), OUTSIDE, ids=[line for line, _ in OUTSIDE])
def test_a_program_outside_the_subset_is_told_where(tmp_path: Path, line: str, heart: str) -> None:
    source = solving(f"i = branch(episode)\n{line}\nreturn -1")
    program = program_of(tmp_path, source)
    with pytest.raises(ProgramError) as caught:
        compiled_driver(program, program.knobs(0.5))
    where = f"{program.path}, line {line_of(source, line)}: outside the subset of Python that Numba compiles: "
    assert str(caught.value).startswith(where)
    assert heart in str(caught.value)[len(where) :]
    assert "\n" not in str(caught.value)
    assert not is_compiled(program, program.knobs(0.5))


def test_a_helper_outside_the_subset_is_told_where(tmp_path: Path) -> None:
    source = solving("return helper(episode)") + "\n\ndef helper(episode):\n    return open(episode)\n"
    program = program_of(tmp_path, source)
    with pytest.raises(ProgramError) as caught:
        run_program(program, THREE, program.knobs(0.5))
    assert str(caught.value).startswith(f"{program.path}, line {line_of(source, 'open(episode)')}: outside the subset")


@pytest.mark.parametrize("head", ["import tts_gym.programs as p", "from tts_gym import programs as p"])
def test_primitives_are_imported_by_name(tmp_path: Path, head: str) -> None:
    program = program_of(tmp_path, solving("return p.branch(episode) - 1", head))
    with pytest.raises(ProgramError) as caught:
        run_program(program, THREE, program.knobs(0.5))
    assert str(caught.value) == f"{program.path}: import the primitives by name: from tts_gym.programs import ..."


def test_the_same_program_with_knobs_of_other_types(tmp_path: Path) -> None:
    source = solving("branch(episode)\nreturn -1 if knobs.n * 2 > 3 else 9").replace(
        "'n': 3", "'n': 2 if beta < 1 else 2.5"
    )
    program = program_of(tmp_path, source)
    whole, real = program.knobs(0.5), program.knobs(1.0)
    assert not is_compiled(program, whole)
    assert run_program(program, THREE, whole, orders=1).code.tolist() == [[-1]]
    assert is_compiled(program, whole)
    assert not is_compiled(program, real)
    assert run_program(program, THREE, real, orders=1).code.tolist() == [[-1]]
    with pytest.raises(ProgramError, match=r"ANSWER\(9\)"):
        run_program(program, THREE, whole | {"n": 1}, orders=1)
    with pytest.raises(ProgramError, match=r"ANSWER\(9\)"):
        run_program(program, THREE, real | {"n": 1.5}, orders=1)


# --- machine code on disk ------------------------------------------------------------------------------

RUN_AND_LIST_COMPILED = """
import json, sys
from numba.core import event
with event.install_recorder("numba:compile") as recorder:
    import numpy as np
    from tts_gym.pools.pool import Recording
    from tts_gym.programs.program import load_program
    from tts_gym.programs.runner import run_program

    three = Recording(
        np.zeros((1, 3, 2), np.int16), np.ones((1, 3), np.int16), np.full((1, 3), 100, np.int32), 100, 1
    )
    program = load_program(sys.argv[1])
    outcomes = run_program(program, three, program.knobs(0.5), orders=1)
compiled = {record.data["dispatcher"].py_func.__name__ for _, record in recorder.buffer}
print(json.dumps({"tokens": outcomes.tokens.tolist(), "compiled": sorted(compiled)}))
"""


def run_in_a_new_process(program: Path, cache: Path) -> dict[str, Any]:
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN_AND_LIST_COMPILED, str(program)],
        env=os.environ | {"TTS_GYM_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)  # type: ignore[no-any-return]


def test_machine_code_is_kept_between_processes(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    source = (
        solving("while opened(episode) < wanted():\n    branch(episode)\nreturn -1")
        + "\n\ndef wanted():\n    return 2\n"
    )
    path = written(tmp_path, source)
    first = run_in_a_new_process(path, cache)
    assert first["tokens"] == [[200]]
    assert {"solve", "wanted", "drive", "branch", "opened"} <= set(first["compiled"])

    second = run_in_a_new_process(path, cache)
    assert second == {"tokens": [[200]], "compiled": []}

    # only a helper changes: what calls it is compiled again, the engine and the primitives are not
    written(tmp_path, source.replace("return 2", "return 3"))
    third = run_in_a_new_process(path, cache)
    assert third == {"tokens": [[300]], "compiled": ["drive", "solve", "wanted"]}

    # back again: both versions are kept
    written(tmp_path, source)
    fourth = run_in_a_new_process(path, cache)
    assert fourth["tokens"] == [[200]]


def test_shipped_controllers_are_programs_like_any_other(tmp_path: Path) -> None:
    # a copy elsewhere runs the same; nothing depends on where the file lies
    original = load_program(controller_files()["asc"])
    copy = program_of(tmp_path, original.source)
    outcomes = [run_program(program, THREE, program.knobs(1.0), orders=6) for program in (original, copy)]
    assert outcomes[0].code.tolist() == outcomes[1].code.tolist()
    assert outcomes[0].tokens.tolist() == outcomes[1].tokens.tolist() == [[300] * 6]
