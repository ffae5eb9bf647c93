"""Bad input through the real command line: one sentence, the right exit code, nothing left behind."""

from __future__ import annotations

import copy
import ctypes
import json
import os
import pty
import re
import resource
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tts_gym.pools.autotts import import_json
from tts_gym.pools.registry import published_files
from tts_gym.pools.storage import SCHEMA_VERSION, save_pool, sealed

COMMAND = (sys.executable, "-m", "tts_gym.cli")
MACHINE_CODE = os.environ["TTS_GYM_CACHE"]
USAGE, DATA, INTERRUPTED = 2, 1, 130
QUESTIONS: list[dict[str, Any]] = [
    {
        "question": "What is 3 + 4?",
        "gold_answer": "7",
        "probe_freq": 500,
        "final_answers_trace": ["7", "3"],
        "each_branch": [[["1", "7"], 900, "7"], [["3"], 600, "3"]],
    },
    {
        "question": "What is 2 + 2?",
        "gold_answer": "4",
        "probe_freq": 500,
        "final_answers_trace": ["4", "ERR"],
        "each_branch": [[["4", "4", "4"], 1500, "4"], [["5", "ERR"], 700, "ERR"]],
    },
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where commands run; their cache lies in it, so that whatever they leave behind is seen."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TTS_GYM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TTS_GYM_AUTOTTS", raising=False)
    return tmp_path


def files() -> dict[Path, bytes]:
    """Every file here, hidden ones and the cache's too."""
    return {path: path.read_bytes() for path in Path.cwd().rglob("*") if path.is_file()}


def tts_gym(*arguments: str | Path, before: Callable[[], Any] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=100, preexec_fn=before
    )


def as_anyone() -> None:
    """In the process about to run: root may write everywhere by a capability; give it up (Linux's prctl 24, 1)."""
    if os.geteuid() == 0 and ctypes.CDLL(None).prctl(24, 1, 0, 0, 0) != 0:
        raise OSError("root keeps its capability to write everywhere")


def small_disk() -> None:
    """In the process about to run: no file may grow past 100 bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))


def refused(code: int, *arguments: str | Path, before: Callable[[], Any] | None = None) -> str:
    """Run a command that must fail with one sentence and leave every file as it was. Returns the sentence."""
    kept = files()
    result = tts_gym(*arguments, before=before)
    assert "Traceback" not in result.stderr, result.stderr
    assert re.fullmatch(r"tts-gym: [^\n]+\n", result.stderr), result.stderr
    assert (result.returncode, result.stdout) == (code, ""), result
    assert files() == kept
    return result.stderr


def misused(*arguments: str | Path) -> str:
    """The same where the arguments themselves are refused."""
    before = files()
    result = tts_gym(*arguments)
    (sentence,) = result.stderr.splitlines()
    assert re.match(r"tts-gym[a-z ]*: error: \w", sentence), result.stderr
    assert (result.returncode, result.stdout) == (USAGE, ""), result
    assert files() == before
    return sentence


def write_json(questions: Any, name: str = "pool.json") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(questions), encoding="utf-8")
    return path


def write_parquet() -> Path:
    save_pool(import_json(write_json(QUESTIONS, "source.json"), name="local/tiny"), "pool.parquet")
    return Path("pool.parquet")


def with_metadata(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Rewrite a pool's file with other metadata."""
    table = pq.read_table(path)
    metadata = json.loads(table.schema.metadata[b"tts_gym"])
    change(metadata)
    pq.write_table(table.replace_schema_metadata(sealed(metadata)), path)


def flip(path: Path, at: int) -> None:
    """Flip all bits of one byte of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)


def put(value: Any, *at: str | int) -> list[dict[str, Any]]:
    """QUESTIONS with another value at a place."""
    questions = copy.deepcopy(QUESTIONS)
    place: Any = questions
    for step in at[:-1]:
        place = place[step]
    place[at[-1]] = value
    return questions


class TestJSON:
    def test_the_document_that_the_others_damage_is_good(self) -> None:
        assert tts_gym("pools", "validate", write_json(QUESTIONS)).returncode == 0

    @pytest.mark.parametrize("length", [0, 1, 200, -30, -1])
    def test_truncated(self, length: int) -> None:
        whole = json.dumps(QUESTIONS)
        Path("pool.json").write_text(whole[:length])
        assert "pool.json: not valid JSON: " in refused(DATA, "pools", "import", "pool.json", "-o", "out.parquet")

    @pytest.mark.parametrize("content", [bytes(range(256)), b"\xff\xfe[\x00\xd8", b"PAR", b"question,gold\n1,2\n"])
    def test_not_json(self, content: bytes) -> None:
        Path("pool.json").write_bytes(content)
        assert "pool.json: not valid JSON: " in refused(DATA, "pools", "validate", "pool.json")

    @pytest.mark.parametrize("field", list(QUESTIONS[0]))
    def test_missing_field(self, field: str) -> None:
        questions = copy.deepcopy(QUESTIONS)
        del questions[1][field]
        said = refused(DATA, "pools", "import", write_json(questions), "-o", "out.parquet")
        assert said == f"tts-gym: pool.json: question 1: the field '{field}' is missing\n"

    @pytest.mark.parametrize(
        ("field", "value", "expected", "found"),
        [
            ("question", None, "a string", "null"),
            ("question", 5, "a string", "a number"),
            ("question", ["What?"], "a string", "a list"),
            ("gold_answer", None, "a string", "null"),
            ("gold_answer", 4.5, "a string", "a number"),
            ("gold_answer", True, "a string", "a boolean"),
            ("gold_answer", {"answer": "4"}, "a string", "an object"),
            ("probe_freq", None, "a whole number", "null"),
            ("probe_freq", "500", "a whole number", "a string"),
            ("probe_freq", 500.5, "a whole number", "500.5"),
            ("probe_freq", True, "a whole number", "a boolean"),
            ("probe_freq", [500], "a whole number", "a list"),
            ("final_answers_trace", None, "a list", "null"),
            ("final_answers_trace", "4", "a list", "a string"),
            ("final_answers_trace", {"0": "4", "1": "ERR"}, "a list", "an object"),
            ("each_branch", None, "a list", "null"),
            ("each_branch", False, "a list", "a boolean"),
            ("each_branch", {"0": [["4"], 1500, "4"]}, "a list", "an object"),
        ],
    )
    def test_mistyped_field(self, field: str, value: Any, expected: str, found: str) -> None:
        said = refused(DATA, "pools", "import", write_json(put(value, 1, field)), "-o", "out.parquet")
        assert said.startswith(f"tts-gym: pool.json: question 1: '{field}' should be {expected}, found {found}")

    @pytest.mark.parametrize(
        ("value", "where", "found"),
        [
            (None, ("each_branch", 1), "null"),
            ([["5"], 700], ("each_branch", 1), "a list"),
            ([["5"], 700, "ERR", 0], ("each_branch", 1), "a list"),
            (None, ("each_branch", 1, 0), "null"),
            ({"0": "5"}, ("each_branch", 1, 0), "an object"),
            (None, ("each_branch", 1, 0, 1), "null"),
            (5, ("each_branch", 1, 0, 1), "a number"),
            (True, ("each_branch", 1, 0, 1), "a boolean"),
            ({"answer": "5"}, ("each_branch", 1, 0, 1), "an object"),
            (None, ("each_branch", 1, 1), "None"),
            ("700", ("each_branch", 1, 1), "'700'"),
            (700.5, ("each_branch", 1, 1), "700.5"),
            (True, ("each_branch", 1, 1), "True"),
            (-1, ("each_branch", 1, 1), "-1"),
            (2**31, ("each_branch", 1, 1), "2147483648"),
            (None, ("each_branch", 1, 2), "null"),
            (5, ("each_branch", 1, 2), "a number"),
            (["ERR"], ("each_branch", 1, 2), "a list"),
        ],
    )
    def test_mistyped_branch(self, value: Any, where: tuple[str | int, ...], found: str) -> None:
        said = refused(DATA, "pools", "import", write_json(put(value, 1, *where)), "-o", "out.parquet")
        parts = ("probe_answers", "branch_tokens", "final_answer")
        field = f"probe answer {where[3]}" if len(where) > 3 else parts[int(where[2])] if len(where) > 2 else "expected"
        assert said.startswith(f"tts-gym: pool.json: question 1, branch 1: {field}")
        assert said.endswith(f", found {found}\n")

    @pytest.mark.parametrize("traced", [None, "7"])
    def test_trace_that_differs(self, traced: Any) -> None:
        path = write_json(put(traced, 1, "final_answers_trace", 1))
        said = refused(DATA, "pools", "import", path, "-o", "out.parquet")
        assert "question 1, branch 1: final_answer 'ERR' differs from final_answers_trace" in said
        assert repr(traced) in said

    @pytest.mark.parametrize(
        ("questions", "sentence"),
        [
            ([], "the list of questions is empty"),
            ({}, "expected a list of questions, found an object"),
            (None, "expected a list of questions, found null"),
            ("[]", "expected a list of questions, found a string"),
            ([None], "question 0: expected an object, found null"),
            ([QUESTIONS[0], []], "question 1: expected an object, found a list"),
            (put(0, 0, "probe_freq"), "question 0: probe_freq is 0, expected"),
            (put(-500, 0, "probe_freq"), "question 0: probe_freq is -500, expected"),
            (put(250, 1, "probe_freq"), "question 1: probe_freq is 250, expected 500 as in question 0"),
            (put([], 1, "each_branch"), "question 1: each_branch is empty"),
            (put([[["4"], 500, "4"]], 1, "each_branch"), "question 1: 1 branches, expected 2 as in question 0"),
            (put(["4"], 1, "final_answers_trace"), "question 1: final_answers_trace has 1 entries for 2 branches"),
        ],
    )  # fmt: skip
    def test_shape(self, questions: Any, sentence: str) -> None:
        said = refused(DATA, "pools", "import", write_json(questions), "-o", "out.parquet")
        assert said.startswith(f"tts-gym: pool.json: {sentence}")

    @pytest.mark.parametrize(
        "command",
        [
            ("pools", "info", "pool.json"),
            ("pools", "validate", "pool.json"),
            ("pools", "import", "pool.json"),
            ("pools", "import", "."),
            ("evaluate", "--controller", "sc", "--pool", "pool.json", "--json", "a.json", "--parquet", "a.parquet"),
        ],
    )
    def test_every_command_that_reads_a_pool_says_it(self, command: Sequence[str]) -> None:
        write_json(put(None, 1, "gold_answer"))
        assert "pool.json: question 1: 'gold_answer' should be a string, found null" in refused(DATA, *command)


class TestParquet:
    @pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, SCHEMA_VERSION - 1, None, "1"])
    def test_another_schema_version(self, version: Any) -> None:
        path = write_parquet()
        with_metadata(path, lambda metadata: metadata.update(schema_version=version))
        said = refused(DATA, "evaluate", "--controller", "sc", "--pool", path, "--json", "out.json")
        assert f"pool.parquet: pool schema version {version}, this tts-gym reads version {SCHEMA_VERSION}" in said

    @pytest.mark.parametrize("key", ["name", "delta", "questions", "branches", "max_intervals", "graded", "provenance"])
    def test_metadata_without_a_field(self, key: str) -> None:
        path = write_parquet()
        with_metadata(path, lambda metadata: metadata.pop(key))
        said = refused(DATA, "pools", "validate", path)
        assert "pool.parquet: " in said
        assert key in said

    @pytest.mark.parametrize("column", ["question_text", "gold", "vocabulary", "tokens", "probe_codes", "final_code"])
    def test_missing_column(self, column: str) -> None:
        path = write_parquet()
        pq.write_table(pq.read_table(path).drop_columns([column]), path)
        assert f"pool.parquet: the column '{column}' is missing" in refused(DATA, "pools", "info", path)

    def test_a_code_outside_the_vocabulary(self) -> None:
        path = write_parquet()
        table = pq.read_table(path)
        codes = pa.array([9] * len(table), pa.int16())
        at = table.schema.get_field_index("final_code")
        pq.write_table(table.set_column(at, table.schema.field(at), codes), path)
        assert "pool.parquet: " in refused(DATA, "pools", "validate", path)

    def test_another_table(self) -> None:
        pq.write_table(pa.table({"x": [1, 2]}), "other.parquet")
        assert "other.parquet: a Parquet file, but not a pool" in refused(DATA, "pools", "info", "other.parquet")

    @pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1PAR1", b"not Parquet at all", b"[]"])
    def test_no_parquet_at_all(self, content: bytes) -> None:
        Path("pool.parquet").write_bytes(content)
        assert "pool.parquet: damaged or not a pool's Parquet file: " in refused(DATA, "pools", "info", "pool.parquet")

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
    def test_truncated(self, share: float) -> None:
        path = write_parquet()
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
        said = refused(DATA, "evaluate", "--controller", "sc", "--pool", path, "--parquet", "out.parquet")
        assert "pool.parquet: damaged or not a pool's Parquet file: " in said

    @pytest.mark.parametrize("column", ["question_text", "gold", "vocabulary", "tokens", "probe_codes", "final_code"])
    def test_flipped_bits_in_a_data_page(self, column: str) -> None:
        path = write_parquet()
        group = pq.ParquetFile(path).metadata.row_group(0)
        chunk = next(c for c in map(group.column, range(group.num_columns)) if c.path_in_schema.split(".")[0] == column)
        flip(path, (chunk.dictionary_page_offset or chunk.data_page_offset) + chunk.total_compressed_size - 1)
        assert "pool.parquet: damaged or not a pool's Parquet file: " in refused(DATA, "pools", "info", path)

    @pytest.mark.parametrize("place", ["start", "length", "magic"])
    def test_flipped_bits_in_the_footer(self, place: str) -> None:
        path = write_parquet()
        whole = path.read_bytes()
        start = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
        flip(path, {"start": start, "length": len(whole) - 6, "magic": len(whole) - 1}[place])
        assert "pool.parquet: damaged or not a pool's Parquet file: " in refused(DATA, "pools", "info", path)

    def test_flipped_bits_in_the_header_never_change_what_is_read(self) -> None:
        path = write_parquet()
        for at in range(4):  # readers need not look at the first magic
            flip(path, at)
        result = tts_gym("pools", "info", path)
        if result.returncode:
            refused(DATA, "pools", "info", path)
        else:
            assert f"content {import_json('source.json').content_hash}\n" in result.stdout

    def test_a_content_hash_that_is_not_the_contents(self) -> None:
        path = write_parquet()
        with_metadata(path, lambda metadata: metadata.update(content_hash="0" * 64))
        refused(DATA, "pools", "validate", path)


class TestNames:
    def test_checksum_mismatch_of_a_local_copy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        write_json(QUESTIONS, "data/Qwen3-8B/aime24.json")
        monkeypatch.setenv("TTS_GYM_AUTOTTS", "data")
        expected = published_files()["autotts/Qwen3-8B/aime24"].sha256
        for command in (["pools", "info"], ["evaluate", "--controller", "sc", "--json", "out.json", "--pool"]):
            said = refused(DATA, *command, "autotts/Qwen3-8B/aime24")
            assert "aime24.json: checksum mismatch: sha256 is " in said
            assert f"expected {expected} for autotts/Qwen3-8B/aime24" in said

    def test_checksum_mismatch_of_an_imported_folder(self) -> None:
        write_json(QUESTIONS, "data/Qwen3-8B/aime24.json")
        said = refused(DATA, "pools", "import", "data")
        assert "data/Qwen3-8B/aime24.json: checksum mismatch: sha256 is " in said
        assert not list(Path("cache").rglob("*.parquet"))

    @pytest.mark.parametrize(
        ("name", "suggestion"),
        [
            ("synthetic/aime", "did you mean synthetic/aime-v0?"),
            ("autotts/Qwen3-8B/aime2024", "autotts/Qwen3-8B/aime24"),
            ("xyz", "the pools are autotts/Qwen3-0.6B/aime24, "),
        ],
    )
    @pytest.mark.parametrize("command", [("pools", "info"), ("evaluate", "--controller", "sc", "--pool")])
    def test_unknown_pool(self, command: Sequence[str], name: str, suggestion: str) -> None:
        said = refused(USAGE, *command, name)
        assert f"unknown pool '{name}'; " in said
        assert suggestion in said

    def test_unknown_published_pool(self) -> None:
        said = refused(USAGE, "pools", "pull", "autotts/Qwen3-8B/aime26")
        assert "unknown published pool 'autotts/Qwen3-8B/aime26'; did you mean autotts/Qwen3-8B/aime2" in said

    @pytest.mark.parametrize("name", ["missing.json", "missing.parquet", "no/such/folder.json"])
    def test_missing_pool_file(self, name: str) -> None:
        assert refused(USAGE, "pools", "info", name) == f"tts-gym: {name}: no such file\n"

    def test_a_folder_is_no_pool(self) -> None:
        Path("data").mkdir()
        assert "data: is a folder; import it with: tts-gym pools import data" in refused(USAGE, "pools", "info", "data")

    @pytest.mark.parametrize("path", ["missing", "missing.json"])
    def test_import_of_nothing(self, path: str) -> None:
        assert refused(USAGE, "pools", "import", path) == f"tts-gym: {path}: no such file or folder\n"

    def test_import_of_an_empty_folder(self) -> None:
        Path("data").mkdir()
        assert "data: holds no .json file" in refused(DATA, "pools", "import", "data")

    @pytest.mark.parametrize("name", ["../evil", "/evil", "local//x", "local/./x", "back\\slash"])
    def test_a_pool_name_that_leaves_the_cache(self, name: str) -> None:
        said = refused(USAGE, "pools", "import", write_json(QUESTIONS), "--name", name)
        assert f"'{name}' cannot be a pool's name" in said

    @pytest.mark.parametrize(
        ("spec", "sentence"),
        [
            ("parallel_prob", "unknown controller 'parallel_prob'; did you mean parallel_probe"),
            ("xyzzy", "unknown controller 'xyzzy'; the controllers are asc, "),
            ("sc:n", "unknown controller 'sc:n'; did you mean sc"),
            ("missing.py", "missing.py: no such program file"),
            ("sc:m=64", "sc has no knob 'm'; its knobs are n"),
            ("asc:max_sample=9", "asc has no knob 'max_sample'; did you mean max_samples?"),
            ("sc:n=many", "sc: knob 'n' should be a whole number, found 'many'"),
            ("sc:n=1.5", "sc: knob 'n' should be a whole number, found '1.5'"),
            ("sc:n=nan", "sc: knob 'n' should be a whole number, found 'nan'"),
            ("asc:threshold=inf", "asc: knob 'threshold' should be a number, found 'inf'"),
            ("sc:n=", "sc:n=: expected knob=value, found 'n='"),
            ("sc:=3", "sc:=3: expected knob=value, found '=3'"),
        ],
    )
    def test_controller(self, spec: str, sentence: str) -> None:
        said = refused(USAGE, "evaluate", "--controller", spec, "--json", "out.json", "--parquet", "out.parquet")
        assert said.startswith(f"tts-gym: {sentence}")

    @pytest.mark.parametrize(
        "what", [("--controller", "sc", "sc"), ("--controller", "sc", "--pool", "a.json", "a.json")]
    )
    def test_given_twice(self, what: Sequence[str]) -> None:
        write_json(QUESTIONS, "a.json")
        assert re.search(r"the (pool|contestant) '(a\.json|sc)' is given twice", refused(USAGE, "evaluate", *what))

    @pytest.mark.parametrize(
        ("program", "sentence"),
        [
            ("def schedule(beta)\n", "p.py, line 1: expected ':'"),
            ("raise ValueError('no')\n", "p.py: cannot be loaded in line 1: ValueError: no"),
            ("def solve(episode, knobs):\n    return -1\n", "p.py: a program should define schedule(beta)"),
            ("def schedule():\n    return {}\n", "p.py: schedule should take 1 argument(s): schedule(beta)"),
            (
                "def schedule(beta):\n    return {'n': 'x'}\ndef solve(episode, knobs):\n    return -1\n",
                "p.py: schedule(0) sets knob 'n' to 'x', expected a finite number",
            ),
            (
                "def schedule(beta):\n    return 1 / beta\ndef solve(episode, knobs):\n    return -1\n",
                "p.py: schedule(0) failed in line 2: ZeroDivisionError: ",
            ),
            (
                "def schedule(beta):\n    return {}\ndef solve(episode, knobs):\n    return [][1]\n",
                "p.py: question 0, order 0 in line 4: IndexError: list index out of range",
            ),
            (
                "def schedule(beta):\n    return {}\ndef solve(episode, knobs):\n    return 5\n",
                "p.py: question 0, order 0: IllegalMove: ANSWER(5) is illegal: answer 5 has not been revealed",
            ),
            (
                "def schedule(beta):\n    return {}\ndef solve(episode, knobs):\n    return None\n",
                "p.py: question 0, order 0: TypeError: solve should always return an answer number or -1, found None",
            ),
        ],
    )
    def test_program(self, program: str, sentence: str) -> None:
        Path("p.py").write_text(program)
        command = ("evaluate", "--controller", "p.py", "--pool", write_json(QUESTIONS), "--interpreted")
        assert refused(DATA, *command, "--json", "out.json", "--parquet", "out.parquet").startswith(
            f"tts-gym: {sentence}"
        )


class TestArguments:
    @pytest.mark.parametrize(
        ("beta", "sentence"),
        [
            ("1.5", "beta should be between 0 and 1, found 1.5"),
            ("-0.1", "beta should be between 0 and 1, found -0.1"),
            ("0,0.5,2", "beta should be between 0 and 1, found 2"),
            ("nan", "beta should be between 0 and 1, found nan"),
            ("half", "expected numbers separated by commas, found 'half'"),
            ("0,,1", "expected numbers separated by commas, found '0,,1'"),
            ("", "expected numbers separated by commas, found ''"),
        ],
    )
    def test_beta(self, beta: str, sentence: str) -> None:
        said = misused("evaluate", "--controller", "sc", "--beta", beta, "--json", "out.json")
        assert said == f"tts-gym evaluate: error: argument --beta: {sentence}"

    @pytest.mark.parametrize("orders", ["0", "-3", "2.5", "many", ""])
    def test_orders(self, orders: str) -> None:
        said = misused("evaluate", "--controller", "sc", "--orders", orders, "--parquet", "out.parquet")
        assert said == (
            f"tts-gym evaluate: error: argument --orders: should be a whole number of at least 1, found '{orders}'"
        )

    @pytest.mark.parametrize(
        ("grading", "suggestion"), [("maths", "did you mean math?"), ("EXACT", "the gradings are exact, math")]
    )
    def test_grading(self, grading: str, suggestion: str) -> None:
        said = refused(USAGE, "evaluate", "--controller", "sc", "--grading", grading, "--json", "out.json")
        assert said == f"tts-gym: unknown grading '{grading}'; {suggestion}\n"

    @pytest.mark.parametrize(
        ("command", "sentence"),
        [
            (("evaluat",), "invalid choice: 'evaluat'"),
            (("pools", "lst"), "invalid choice: 'lst'"),
            (("evaluate", "--controller", "sc", "--order", "abc"), "argument --orders: "),
            (("evaluate", "--controller", "sc", "--bogus"), "unrecognized arguments: --bogus"),
            (("reproduce", "paper-table2"), "invalid choice: 'paper-table2'"),
            (("pools", "make"), "the following arguments are required: -o/--output"),
            (("pools", "make", "-o", "x.parquet", "--seed", "x"), "argument --seed: invalid int value: 'x'"),
        ],
    )
    def test_misuse(self, command: Sequence[str], sentence: str) -> None:
        assert sentence in misused(*command)

    @pytest.mark.parametrize(
        ("setting", "sentence"),
        [
            ("branchs=4", "synthetic pool: no parameter 'branchs'"),
            ("branches", "--set expects NAME=VALUE, found 'branches'"),
            ("branches=few", "synthetic pool: branches: expected a whole number between 1 and 100000, found 'few'"),
            ("trap_share=1.5", "synthetic pool: trap_share: expected a number between 0 and 1, found 1.5"),
        ],
    )
    def test_settings_of_a_synthetic_pool(self, setting: str, sentence: str) -> None:
        assert sentence in refused(USAGE, "pools", "make", "-o", "out.parquet", "--set", setting)

    WRITING = (
        # endless if it began before it looked
        ("evaluate", "--controller", "cmc", "sdgv", "--interpreted", "--orders", "9999", "--json"),
        ("evaluate", "--controller", "cmc", "sdgv", "--interpreted", "--orders", "9999", "--parquet"),
        ("reproduce", "paper-table1", "--json"),
        ("pools", "import", "pool.json", "--output"),
        ("pools", "make", "--output"),
    )

    @pytest.mark.parametrize(
        ("path", "sentence"),
        [
            ("missing/out", "missing/out: cannot be written: the folder missing does not exist"),
            ("pool.json/out", "pool.json/out: cannot be written: the folder pool.json does not exist"),
            ("folder", "folder: is a folder, not a file that could be written"),
        ],
    )
    @pytest.mark.parametrize("command", WRITING)
    def test_output_path(self, command: Sequence[str], path: str, sentence: str) -> None:
        write_json(QUESTIONS)
        Path("folder").mkdir()
        assert refused(USAGE, *command, path) == f"tts-gym: {sentence}\n"

    @pytest.mark.parametrize("command", WRITING)
    def test_output_path_without_permission(self, command: Sequence[str]) -> None:
        write_json(QUESTIONS)
        Path("folder").mkdir(mode=0o555)
        Path("kept").write_text("before")
        Path("kept").chmod(0o444)
        for path in ("folder/out", "kept"):
            said = refused(USAGE, *command, path, before=as_anyone)
            assert said == f"tts-gym: {path}: cannot be written: no permission\n"

    @pytest.mark.parametrize("command", [command for command in WRITING if command[0] != "reproduce"])
    def test_output_on_a_full_disk(self, command: Sequence[str]) -> None:
        write_json(QUESTIONS)
        few = ("1" if argument == "9999" else argument for argument in command)
        result = tts_gym(*few, "out", before=small_disk)
        assert result.returncode == USAGE
        assert re.fullmatch(r"tts-gym: out: cannot be written: [^\n]+\n", result.stderr), result.stderr
        assert not [path for path in Path.cwd().iterdir() if "out" in path.name]

    @pytest.mark.parametrize("name", ["x" * 300, "x" * 250], ids=len)
    def test_output_name_too_long(self, name: str) -> None:
        assert "cannot be written: File name too long" in refused(USAGE, "pools", "make", "-o", name)

    def test_output_that_is_a_device(self) -> None:
        assert "is a device or pipe" in refused(USAGE, "pools", "make", "-o", "/dev/null")

    def test_one_file_for_two_outputs(self) -> None:
        sweep = ("evaluate", "--interpreted", "--controller", "sc", "--beta", "0", "--orders", "1")
        said = refused(USAGE, *sweep, "--parquet", "e", "--json", "e")
        assert said == "tts-gym: e: --json and --parquet name the same file\n"

    def test_cache_that_is_no_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("taken").write_text("")
        monkeypatch.setenv("TTS_GYM_CACHE", "taken")
        said = refused(USAGE, "pools", "import", write_json(QUESTIONS), "--name", "local/tiny")
        assert "taken/pools" in said
        assert "set TTS_GYM_CACHE to a writable folder" in said


class TestEdges:
    """Found by trying: each was a traceback, a second line, or silence."""

    @pytest.mark.parametrize("at", [("question",), ("gold_answer",), ("each_branch", 1, 0, 0)])
    def test_half_a_surrogate_pair(self, at: tuple[str | int, ...]) -> None:
        path = write_json(put("\ud800", 1, *at))
        assert "pool.json: not valid JSON" in refused(DATA, "pools", "import", path, "-o", "out.parquet")

    @pytest.mark.parametrize(
        "text", [json.dumps(QUESTIONS).replace("1500", "9" * 5000), "[" * 200_000], ids=["digits", "depth"]
    )
    def test_json_beyond_the_parser(self, text: str) -> None:
        Path("pool.json").write_text(text)
        assert "pool.json: not valid JSON" in refused(DATA, "pools", "validate", "pool.json")

    def test_an_interval_of_more_tokens_than_there_are(self) -> None:
        questions = put(10**30, 0, "probe_freq")
        questions[1]["probe_freq"] = 10**30
        assert "question 0: probe_freq is 1000" in refused(DATA, "pools", "validate", write_json(questions))

    @pytest.mark.parametrize("command", [("pools", "info"), ("pools", "import"), ("evaluate", "--controller")])
    def test_names_too_long_for_a_file(self, command: tuple[str, ...]) -> None:
        refused(USAGE, *command, "x" * 300)

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"branches": 0}, "the metadata 'branches' is 0, expected a whole number above 0"),
            ({"delta": "500"}, "the metadata 'delta' is '500', expected a whole number above 0"),
            ({"provenance": 5}, "the metadata 'provenance' is 5, expected an object"),
            ({"name": 5}, "the metadata 'name' is 5, expected a string"),
            ({"questions": 3}, "4 rows for 3 x 2"),
            ({"graded": {"math": [[7], [0]]}}, "damaged"),
        ],
    )
    def test_wrong_metadata(self, change: dict[str, Any], says: str) -> None:
        path = write_parquet()
        with_metadata(path, lambda metadata: metadata.update(change))
        assert says in refused(DATA, "pools", "info", path)

    def test_metadata_changed_behind_its_checksum(self) -> None:
        path = write_parquet()
        table = pq.read_table(path)
        raw = table.schema.metadata[b"tts_gym"].replace(b'"delta": 500', b'"delta": 501')
        pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"tts_gym": raw}), path)
        assert "the metadata differs from its checksum" in refused(DATA, "pools", "info", path)

    @pytest.mark.parametrize("value", [[], 5, "x", None])
    def test_metadata_that_is_no_object(self, value: Any) -> None:
        path = write_parquet()
        pq.write_table(pq.read_table(path).replace_schema_metadata({"tts_gym": json.dumps(value)}), path)
        refused(DATA, "pools", "info", path)

    def test_a_column_of_another_type(self) -> None:
        path = write_parquet()
        table = pq.read_table(path)
        column = table.column_names.index("tokens")
        pq.write_table(table.set_column(column, "tokens", table["tokens"].cast(pa.string())), path)
        assert "the column 'tokens' holds string, expected int32" in refused(DATA, "pools", "info", path)

    @pytest.mark.parametrize(
        ("program", "says"),
        [
            ('raise ValueError("two\\nlines")', "in line 1: ValueError: two lines"),
            ("raise SystemExit(3)", "in line 1: SystemExit: 3"),
            ("import sys; sys.exit()", "in line 1: SystemExit"),
        ],
    )
    def test_a_program_that_ends_the_process(self, program: str, says: str) -> None:
        Path("p.py").write_text(program)
        assert says in refused(DATA, "evaluate", "--controller", "p.py", "--pool", write_json(QUESTIONS))

    def test_a_published_name_takes_the_published_file_only(self) -> None:
        said = refused(DATA, "pools", "import", write_json(QUESTIONS), "--name", "autotts/Qwen3-8B/aime24")
        assert "pool.json: checksum mismatch" in said

    def test_a_shipped_name_is_taken(self) -> None:
        refused(USAGE, "pools", "import", write_json(QUESTIONS), "--name", "synthetic/aime-v0")

    def test_two_files_of_one_name_in_a_folder(self) -> None:
        write_json(QUESTIONS, "d/a/m/s.json")
        write_json(put("x", 0, "question"), "d/b/m/s.json")
        said = refused(DATA, "pools", "import", "d")
        assert said == (
            "tts-gym: d/b/m/s.json: would be called local/m/s, as d/a/m/s.json is; import one of them with --name\n"
        )

    def test_files_named_from_inside_their_folder(self, folder: Path) -> None:
        write_json(QUESTIONS)
        for path in ("pool.json", "."):
            result = tts_gym("pools", "import", path)
            assert (result.returncode, result.stderr) == (0, "")
            assert f"local/{folder.name}/pool (2 questions x 2 branches)" in result.stdout

    def test_a_beta_given_twice_counts_once(self) -> None:
        sweep = ("evaluate", "--interpreted", "--controller", "sc", "--beta", "0.5,0.5", "--orders", "2")
        result = tts_gym(*sweep, "--pool", write_json(QUESTIONS), "--parquet", "e.parquet")
        assert result.returncode == 0, result.stderr
        assert pq.read_metadata("e.parquet").num_rows == 2 * 2

    @pytest.mark.parametrize("command", ["controllers", "--version", "--help"])
    def test_a_reader_that_went_away(self, command: str) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(
            [*COMMAND, command], stdout=writing, stderr=subprocess.PIPE, text=True, env=environment, timeout=100
        )
        os.close(writing)
        assert (done.returncode, done.stderr) == (0, "")


ENDLESS = """
from pathlib import Path

def schedule(beta):
    return {}

def solve(episode, knobs):
    Path("running").touch()
    while True:
        pass
    return -1
"""
ENDLESS_COMPILED = """
def schedule(beta):
    return {"forever": 1}

def solve(episode, knobs):
    if knobs.forever:
        while True:
            pass
    return -1
"""
WAIT, PROMPT = 60.0, 8.0  # seconds: until it surely runs, and until it has stopped, with other tests on the cores


def _hears_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # whatever this process was started with


class TestInterrupt:
    OUTPUTS = ("--json", "out.json", "--parquet", "out.parquet")

    def start(self, *arguments: str, stderr: int) -> subprocess.Popen[bytes]:
        command = [*COMMAND, "evaluate", *arguments, *self.OUTPUTS]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, preexec_fn=_hears_interrupts)

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """Interrupt the process; it must end at once, with nothing printed or written."""
        try:
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert process.wait(WAIT) == INTERRUPTED
            assert time.monotonic() - began < PROMPT
        finally:
            process.kill()
        assert process.stdout is not None
        with process.stdout as output:
            assert output.read() == b""
        assert not [path for path in Path.cwd().iterdir() if path.name.startswith(("out", "."))]

    @pytest.mark.parametrize("others", [(), ("cmc", "sdgv", "asc", "parallel_probe")])
    def test_interpreted(self, others: Sequence[str]) -> None:
        Path("endless.py").write_text(ENDLESS)
        process = self.start("--interpreted", "--controller", "endless.py", *others, stderr=subprocess.PIPE)
        until = time.monotonic() + WAIT
        while not Path("running").exists():
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        self.stop(process)
        assert process.stderr is not None
        with process.stderr as messages:
            assert messages.read() == b"tts-gym: interrupted; nothing half-written was left behind\n"

    def test_sweep_half_done(self) -> None:
        self.interrupt_on_terminal("--interpreted", "--controller", "sc:n=1", "cmc", "sdgv", "asc", done=1)

    def test_compiled_sweep_half_done(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TTS_GYM_CACHE", MACHINE_CODE)
        self.interrupt_on_terminal("--controller", "sc", "--orders", "20000", done=1)

    def test_compiled_program_that_never_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TTS_GYM_CACHE", MACHINE_CODE)
        Path("endless.py").write_text(ENDLESS_COMPILED)
        tiny = ("--pool", str(write_json(QUESTIONS)), "--orders", "1")
        compiling = tts_gym("evaluate", "--controller", "endless.py:forever=0", *tiny)
        assert compiling.returncode == 0, compiling.stderr
        self.interrupt_on_terminal("--controller", "endless.py", *tiny, done=0)

    def interrupt_on_terminal(self, *arguments: str, done: int) -> None:
        """Interrupt when the progress bar says that so many parts are done, and see what the terminal shows then."""
        terminal, stderr = pty.openpty()
        termios.tcsetwinsize(terminal, (24, 120))
        try:
            process = self.start(*arguments, stderr=stderr)
            os.close(stderr)
            shown, until = "", time.monotonic() + WAIT
            while not any(int(count) >= done for count in re.findall(r"(\d+)/\d+ \[", shown)):
                assert time.monotonic() < until, shown
                shown += self.read(terminal)
            time.sleep(0.5)
            self.stop(process)
            while part := self.read(terminal):
                shown += part
        finally:
            os.close(terminal)
        line = shown.replace("\r\n", "\n").rsplit("\r", 1)[-1]  # what is left when the bar has been wiped
        assert line == "tts-gym: interrupted; nothing half-written was left behind\n", shown

    @staticmethod
    def read(terminal: int) -> str:
        """What a terminal shows next, empty where that is nothing for a while or its last process has gone."""
        if not select.select([terminal], [], [], 1.0)[0]:
            return ""
        try:
            return os.read(terminal, 1 << 16).decode(errors="replace")
        except OSError:  # how Linux says that nobody writes any more
            return ""
