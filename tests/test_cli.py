"""The command line as people use it: what it prints, what it writes, and that the numbers are the same."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import termios
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tts_gym.controllers import controller_files
from tts_gym.pools import open_pool

SCRIPT = Path(sys.executable).with_name("tts-gym")
ROW = [
    "pool",
    "contestant",
    "beta",
    "knobs",
    "accuracy",
    "tokens",
    "sequential_tokens",
    "peak_width",
    "probes",
    "orders",
    "questions",
    "seconds",
]
# Two questions of four branches; by hand: SC over all four answers "7" (2 of 4) and "ERR" (3 of 4).
QUESTIONS: list[dict[str, Any]] = [
    {
        "question": "What is 3 + 4?",
        "gold_answer": "7",
        "probe_freq": 500,
        "final_answers_trace": ["7", "3", "7", "4"],
        "each_branch": [[["1", "7"], 900, "7"], [["3"], 600, "3"], [["7"], 500, "7"], [["4"], 400, "4"]],
    },
    {
        "question": "What is 2 + 2?",
        "gold_answer": "4",
        "probe_freq": 500,
        "final_answers_trace": ["4", "ERR", "ERR", "ERR"],
        "each_branch": [[["4", "4"], 1100, "4"], [["ERR"], 700, "ERR"], [["5"], 550, "ERR"], [["5"], 450, "ERR"]],
    },
]
TOKENS = (900 + 600 + 500 + 400 + 1100 + 700 + 550 + 450) / 2
PROGRAM = """
\"\"\"Finish some branches and say what the last of them says.\"\"\"

from tts_gym.programs import branch, can_branch, finish


def schedule(beta):
    return {"want": 1 + round(3 * beta), "quiet": False}


def solve(episode, knobs):
    answer = -1
    for _ in range(knobs.want):
        if can_branch(episode):
            answer = finish(episode, branch(episode))
    if knobs.quiet:
        answer = -1
    return answer
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where commands run: a small AutoTTS file, a program, and no local copy of the published data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TTS_GYM_AUTOTTS", raising=False)
    (tmp_path / "data" / "my-model").mkdir(parents=True)
    (tmp_path / "data" / "my-model" / "sums.json").write_text(json.dumps(QUESTIONS))
    (tmp_path / "last.py").write_text(PROGRAM)
    return tmp_path


@pytest.fixture
def own_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TTS_GYM_CACHE", str(folder / "cache"))
    return folder / "cache"


SUMS = "data/my-model/sums.json"


def tts_gym(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tts_gym.cli", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert result.returncode == code, result.stderr
    return result


def evaluate(*arguments: str) -> list[dict[str, Any]]:
    """The rows of an evaluation's JSON."""
    tts_gym("evaluate", *arguments, "--json", "rows.json")
    rows: list[dict[str, Any]] = json.loads(Path("rows.json").read_text())["rows"]
    return rows


def without(rows: list[dict[str, Any]], *keys: str) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in keys} for row in rows]


def assert_rows_are_means_of_episodes(rows: list[dict[str, Any]], parquet: str | Path) -> None:
    """Recomputed with NumPy from the long table: one row per episode, means unrounded, accuracy in percent."""
    table = pq.read_table(parquet)
    assert table.column_names == [
        *("pool", "contestant", "beta", "question", "order", "correct"),
        *("tokens", "sequential_tokens", "peak_width", "probes", "branches"),
    ]
    columns = {name: np.array(table[name].to_pylist()) for name in table.column_names}
    episodes = {tuple(key) for key in zip(*(columns[name] for name in table.column_names[:5]))}
    assert len(table) == len(episodes) == sum(row["questions"] * row["orders"] for row in rows)
    for row in rows:
        mine = np.all([columns[key] == row[key] for key in ("pool", "contestant", "beta")], axis=0)
        assert mine.sum() == row["questions"] * row["orders"]
        assert set(columns["question"][mine]) == set(range(row["questions"]))
        assert set(columns["order"][mine]) == set(range(row["orders"]))
        assert row["accuracy"] == 100 * int(columns["correct"][mine].sum()) / int(mine.sum())
        for name in ("tokens", "sequential_tokens", "peak_width", "probes"):
            assert row[name] == int(columns[name][mine].sum()) / int(mine.sum())


class TestEvaluate:
    def test_hand_made_pool(self, folder: Path) -> None:
        """SC over all branches: question 0 is right and question 1 is wrong, whatever the order."""
        (row,) = evaluate("--pool", SUMS, "--controller", "sc:n=4", "--beta", "1", "--orders", "7")
        assert list(row) == ROW
        assert without([row], "seconds") == [
            {
                "pool": SUMS,
                "contestant": "sc:n=4",
                "beta": 1.0,
                "knobs": {"n": 4},
                "accuracy": 50.0,
                "tokens": TOKENS,
                "sequential_tokens": (900 + 1100) / 2,
                "peak_width": 4.0,
                "probes": 0.0,
                "orders": 7,
                "questions": 2,
            }
        ]
        assert 0 <= row["seconds"] < 10

    def test_shipped_pool_is_the_default(self, folder: Path) -> None:
        result = tts_gym(
            *("evaluate", "--controller", "sc", "asc", "--beta", "0.1,0.5", "--orders", "9"),
            *("--json", "rows.json", "--parquet", "episodes.parquet"),
        )
        document = json.loads(Path("rows.json").read_text())
        rows = document["rows"]
        assert [(row["pool"], row["contestant"], row["beta"]) for row in rows] == [
            ("synthetic/aime-v0", name, beta) for name in ("sc", "asc") for beta in (0.1, 0.5)
        ]
        assert [row["knobs"] for row in rows[:2]] == [{"n": 6}, {"n": 32}]
        assert {(row["questions"], row["orders"]) for row in rows} == {(30, 9)}
        assert_rows_are_means_of_episodes(rows, "episodes.parquet")
        assert any(row["accuracy"] != round(row["accuracy"], 2) for row in rows)
        pool = open_pool("synthetic/aime-v0")
        assert document["provenance"]["pools"] == {"synthetic/aime-v0": pool.content_hash}
        assert document["provenance"]["tts_gym"] == version("tts-gym")
        assert json.loads(pq.read_schema("episodes.parquet").metadata[b"tts_gym"]) == document["provenance"]
        assert "synthetic/aime-v0: 30 questions x 9 orders" in result.stdout
        for row in rows:
            assert re.search(rf"{row['contestant']} .*{row['accuracy']:.2f} .*{row['tokens']:,.0f} ", result.stdout)
        assert "wrote rows.json\nwrote episodes.parquet\n" in result.stderr

    def test_no_bar_where_standard_error_is_no_terminal(self, folder: Path) -> None:
        arguments = ("evaluate", "--pool", SUMS, "--controller", "sc", "--orders", "2")
        tts_gym(*arguments)  # whatever has to be compiled is now
        assert tts_gym(*arguments).stderr == ""

    def test_a_bar_on_a_terminal(self, folder: Path) -> None:
        terminal, stderr = pty.openpty()
        termios.tcsetwinsize(terminal, (24, 100))
        command = [sys.executable, "-m", "tts_gym.cli", "evaluate", "--controller", "sc", "--pool", SUMS]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr) as process:
            os.close(stderr)
            assert process.stdout is not None
            shown = b""
            while process.poll() is None or select.select([terminal], [], [], 0)[0]:
                if select.select([terminal], [], [], 0.1)[0]:
                    try:
                        shown += os.read(terminal, 1 << 16)
                    except OSError:  # how Linux says that nobody writes any more
                        break
            assert process.wait(60) == 0
            assert "questions x 100 orders" in process.stdout.read().decode()
        os.close(terminal)
        assert re.search(r"0%\|.*\| 0/5 \[", shown.decode())
        assert shown.decode().rsplit("\r", 2)[-2].strip() == ""  # wiped in the end

    def test_json_parquet_and_name_are_the_same_pool(self, folder: Path, own_cache: Path) -> None:
        tts_gym("pools", "import", SUMS, "--output", "sums.parquet")
        tts_gym("pools", "import", SUMS, "--name", "local/tiny/sums")
        rows = evaluate(
            *("--pool", SUMS, "sums.parquet", "--pool", "local/tiny/sums", "--interpreted"),
            *("--controller", "esc:window=2", "parallel_probe", "--beta", "0.1,1", "--orders", "11"),
        )
        assert [row["pool"] for row in rows[::4]] == [SUMS, "sums.parquet", "local/tiny/sums"]
        first, second, third = (without(rows[i : i + 4], "pool", "seconds") for i in (0, 4, 8))
        assert first == second == third

    def test_many_pools_and_controllers_at_once(self, folder: Path) -> None:
        tts_gym("pools", "make", "-o", "small.parquet", "--seed", "4", "--set", "questions=3", "--set", "branches=8")
        pools, controllers = [SUMS, "small.parquet"], ["sc:n=3", "asc", "sc"]
        sweep = ("--beta", "0,0.5,1", "--orders", "13", "--interpreted")
        together = evaluate("--pool", *pools, "--controller", *controllers, *sweep, "--parquet", "episodes.parquet")
        assert_rows_are_means_of_episodes(together, "episodes.parquet")
        alone = [
            row
            for pool in pools
            for name in controllers
            for row in evaluate("--pool", pool, "--controller", name, *sweep)
        ]
        assert without(together, "seconds") == without(alone, "seconds")

    def test_fixed_knobs_do_not_follow_beta(self, folder: Path) -> None:
        rows = evaluate("--pool", SUMS, "--controller", "sc:n=2", "--beta", "0,0.3,1", "--interpreted")
        assert [row["beta"] for row in rows] == [0.0, 0.3, 1.0]
        assert all(row == without(rows[:1], "beta")[0] for row in without(rows, "beta"))
        assert {row["peak_width"] for row in rows} == {2.0}

    def test_compiled_and_interpreted_agree(self, folder: Path) -> None:
        arguments = ("--pool", SUMS, "--controller", "last.py", "sc", "--beta", "0,0.4,1", "--orders", "21")
        compiled, interpreted = evaluate(*arguments), evaluate(*arguments, "--interpreted")
        assert without(compiled, "seconds") == without(interpreted, "seconds")
        assert {row["accuracy"] for row in compiled} - {0.0, 50.0, 100.0}

    def test_program_file_with_knobs(self, folder: Path) -> None:
        """All four branches cost what they cost; saying nothing is wrong and costs as much."""
        contestants = ["last.py:want=4", "last.py:want=4,quiet=true", "last.py"]
        arguments = ("--pool", SUMS, "--beta", "0", "--orders", "24", "--interpreted")
        loud, quiet, plain = evaluate("--controller", *contestants, *arguments)
        assert [row["contestant"] for row in (loud, quiet, plain)] == contestants
        assert loud["knobs"] == {"want": 4, "quiet": False}
        assert quiet["knobs"] == {"want": 4, "quiet": True}
        assert plain["knobs"] == {"want": 1, "quiet": False}
        assert loud["tokens"] == quiet["tokens"] == TOKENS
        assert loud["accuracy"] > 0 == quiet["accuracy"]
        assert plain["tokens"] < TOKENS

    def test_math_grading(self, folder: Path, own_cache: Path) -> None:
        questions = json.loads(Path(SUMS).read_text())
        questions[0]["gold_answer"] = "7.0"
        Path(SUMS).write_text(json.dumps(questions))
        arguments = ("--pool", SUMS, "--controller", "sc:n=4", "--beta", "1", "--orders", "3", "--interpreted")
        assert [row["accuracy"] for row in evaluate(*arguments)] == [0.0]
        assert [row["accuracy"] for row in evaluate(*arguments, "--grading", "math")] == [50.0]

    def test_the_same_again(self, folder: Path) -> None:
        arguments = ("--pool", SUMS, "--controller", "cmc", "--interpreted", "--orders", "5")
        assert without(evaluate(*arguments), "seconds") == without(evaluate(*arguments), "seconds")


class TestPools:
    def test_make_info_validate(self, folder: Path) -> None:
        for path in ("a.parquet", "b.parquet"):
            make = ("pools", "make", "-o", path, "--seed", "3", "--set", "questions=4", "--set", "branches=6")
            assert "(4 questions x 6 branches), content " in tts_gym(*make, "--name", "local/made").stdout
        assert Path("a.parquet").read_bytes() == Path("b.parquet").read_bytes()
        valid = tts_gym("pools", "validate", "a.parquet", "b.parquet").stdout
        content = open_pool("a.parquet").content_hash
        assert valid == "".join(
            f"{p} (4 questions x 6 branches): valid, content {content}\n" for p in ("a.parquet", "b.parquet")
        )
        info = tts_gym("pools", "info", "a.parquet").stdout
        assert f"content {content}\n" in info
        assert "seed: 3\n" in info
        assert re.search(r"\| questions +\| +4 +\|\n", info)

    def test_shipped_pool_is_listed_and_valid(self, own_cache: Path) -> None:
        listed = tts_gym("pools", "list").stdout
        assert re.search(r"^synthetic/aime-v0 +shipped$", listed, re.MULTILINE)
        assert (
            len(re.findall(r"^autotts/\S+ +to download, \d\.\d MB: tts-gym pools pull \S+$", listed, re.MULTILINE))
            == 12
        )
        assert (
            "synthetic/aime-v0 (30 questions x 128 branches): valid"
            in tts_gym("pools", "validate", "synthetic/aime-v0").stdout
        )

    def test_imported_folder_opens_by_name(self, own_cache: Path) -> None:
        imported = tts_gym("pools", "import", "data").stdout
        assert imported == f"{SUMS} -> local/my-model/sums (2 questions x 4 branches)\n"
        assert re.search(r"^local/my-model/sums +imported$", tts_gym("pools", "list").stdout, re.MULTILINE)
        assert (
            "local/my-model/sums (2 questions x 4 branches): valid"
            in tts_gym("pools", "validate", "local/my-model/sums").stdout
        )
        assert [path for path in own_cache.rglob("*") if path.is_file()] == [
            own_cache / "pools/local/my-model/sums.parquet"
        ]

    def test_published_pool_offline(self, autotts: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Imported once, it opens by name for ever, with no network and without the copy."""
        for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(proxy, "http://127.0.0.1:9")  # nobody answers there
        Path("copy/Qwen3-8B").mkdir(parents=True)
        shutil.copy(autotts / "Qwen3-8B" / "aime24.json", "copy/Qwen3-8B/aime24.json")
        name = "autotts/Qwen3-8B/aime24"
        failed = tts_gym("pools", "info", name, code=1).stderr
        assert failed.startswith(f"tts-gym: {name}: cannot be downloaded (")
        assert failed.endswith(
            "; offline, set TTS_GYM_AUTOTTS to a copy of the data or run: tts-gym pools import DIR\n"
        )

        monkeypatch.setenv("TTS_GYM_AUTOTTS", "copy")
        from_copy = tts_gym("pools", "validate", name).stdout
        monkeypatch.delenv("TTS_GYM_AUTOTTS")
        assert tts_gym("pools", "import", "copy").stdout.endswith(f"-> {name} (30 questions x 128 branches)\n")
        shutil.rmtree("copy")
        assert tts_gym("pools", "validate", name).stdout == from_copy
        assert re.search(rf"^{name} +at hand$", tts_gym("pools", "list").stdout, re.MULTILINE)


class TestRest:
    def test_controllers(self) -> None:
        listed = tts_gym("controllers").stdout
        for name in controller_files():
            assert re.search(rf"^{name} +\S.*\n +knobs at beta 0\.5: \w+=", listed, re.MULTILINE)
        assert re.search(r"^sc +Self-consistency.*\n +knobs at beta 0\.5: n=32$", listed, re.MULTILINE)

    def test_version(self) -> None:
        assert tts_gym("--version").stdout == f"tts-gym {version('tts-gym')}\n"

    @pytest.mark.parametrize("command", [(), ("pools",)])
    def test_no_command_shows_the_help(self, command: tuple[str, ...]) -> None:
        result = tts_gym(*command, code=2)
        assert result.stdout.startswith(f"usage: tts-gym {''.join(command)}")
        assert "show this help message" in result.stdout

    @pytest.mark.parametrize("command", [(), ("evaluate",), ("pools",), ("pools", "import"), ("bench",)])
    def test_help_of_every_command(self, command: tuple[str, ...]) -> None:
        result = tts_gym(*command, "--help")
        assert result.stdout.startswith(" ".join(["usage: tts-gym", *command]))
        assert result.stderr == ""

    @pytest.mark.skipif(not SCRIPT.is_file(), reason="the console script is not installed")
    @pytest.mark.parametrize("arguments", [("--help",), ("evaluate", "--help"), ("--version",)])
    def test_help_imports_nothing_heavy(self, arguments: tuple[str, ...]) -> None:
        command = [sys.executable, "-X", "importtime", str(SCRIPT), *arguments]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in result.stderr.splitlines()}
        assert "tts_gym" in imported
        assert not imported & {"numpy", "numba", "pyarrow", "gymnasium", "torch", "sympy", "tqdm", "pooch", "tabulate"}

    def test_output_cut_short_by_its_reader(self) -> None:
        """``tts-gym controllers | head`` is no error."""
        reading, writing = os.pipe()
        os.close(reading)
        command = [sys.executable, "-u", "-m", "tts_gym.cli", "controllers"]
        result = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=100)
        os.close(writing)
        assert (result.returncode, result.stderr) == (0, "")


def test_the_first_compilation_is_announced_and_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTS_GYM_CACHE", str(tmp_path / "cache"))
    program = tmp_path / "once.py"
    program.write_text(
        "from tts_gym.programs import branch\n"
        "def schedule(beta): return {'n': 1}\n"
        "def solve(episode, knobs): return -1\n"
    )
    sweep = ("evaluate", "--controller", str(program), "--beta", "0", "--orders", "1")
    first, second = tts_gym(*sweep), tts_gym(*sweep)
    assert first.stderr == f"tts-gym: compiling {program} (first time only; the machine code is kept)\n"
    assert (second.stderr, second.stdout) == ("", first.stdout)
