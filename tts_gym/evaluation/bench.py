"""Speed and memory on this machine, printed as tables. Nothing is asserted: machines differ and are noisy."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from tts_gym.engine.moves import Move
from tts_gym.evaluation.contestants import find_program
from tts_gym.evaluation.running import evaluate
from tts_gym.pools import (
    DEFAULT_POOL,
    Pool,
    SyntheticSpec,
    at_hand,
    generate,
    import_json,
    load_pool,
    open_pool,
    save_pool,
)
from tts_gym.programs.program import Program
from tts_gym.programs.runner import run_program, trace_program

_RECORDED = "autotts/Qwen3-8B/aime24"
_STATUS = Path("/proc/self/status")
_LARGE = SyntheticSpec(questions=1000, branches=1024)


def bench() -> None:
    """Measure replay, loading, start-up, compilation and memory, and print each as it is done."""
    pool = open_pool(_RECORDED if at_hand(_RECORDED) else DEFAULT_POOL)
    print(f"pool {pool.name}, {pool.recording.questions} questions x {pool.recording.branches} branches; one core\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _show(
            "replay: CMC at beta 0.5, all questions x 100 orders", ("engine", "median s", "best s", ""), _replay(pool)
        )
        _show("loading one pool", ("from", "median ms", "best ms", ""), _loading(pool, folder))
        _show("start-up, whole process", ("command", "median s", "best s"), _startup())
        _show("compiling CMC, whole process", ("machine code", "s"), _compiling(folder))
        if not _STATUS.exists():
            print("memory: measured on Linux only")
            return
        _show(
            "memory: SC@64 x 4 orders on a pool of 1,000 questions x 1,024 branches",
            ("first questions evaluated", "peak MiB", "above none, MiB"),
            _memory(folder),
        )


def _show(title: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    print(f"{title}\n{tabulate(rows, headers=columns, floatfmt='.4g')}\n", flush=True)


def _times(action: Callable[[], Any], runs: int) -> list[float]:
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return times


def _replay(pool: Pool) -> list[tuple[Any, ...]]:
    program = find_program("cmc")
    knobs = program.knobs(0.5)
    episodes = run_program(program, pool.recording, knobs).code.size
    steps = _branch_steps(pool, program)
    compiled = _times(lambda: run_program(program, pool.recording, knobs), 21)
    interpreted = _times(lambda: run_program(program, pool.recording, knobs, interpreted=True), 3)
    fast, slow = statistics.median(compiled), statistics.median(interpreted)
    return [
        (
            "compiled",
            fast,
            min(compiled),
            f"{episodes:,} episodes, {1e9 * fast / steps:.0f} ns per branch step",
        ),
        ("interpreted", slow, min(interpreted), f"{steps:,} branch steps; {slow / fast:.0f} times the compiled median"),
    ]


def _branch_steps(pool: Pool, program: Program) -> int:
    """BRANCH and CONTINUE moves of the whole run, counted in its action logs."""
    knobs, recording = program.knobs(0.5), pool.recording
    episodes = ((q, s) for q in range(recording.questions) for s in range(100))
    traces = (trace_program(program, recording, knobs, question=q, order=s) for q, s in episodes)
    return sum(move in (Move.BRANCH, Move.CONTINUE) for trace in traces for move, _ in trace)


def _loading(pool: Pool, folder: Path) -> list[tuple[Any, ...]]:
    as_json, as_parquet = folder / "pool.json", folder / "pool.parquet"
    as_json.write_text(json.dumps(_as_autotts(pool)))
    save_pool(pool, as_parquet)
    slow, fast = _times(lambda: import_json(as_json), 15), _times(lambda: load_pool(as_parquet), 45)
    ratio = statistics.median(slow) / statistics.median(fast)
    rows = [("AutoTTS JSON, rewritten compactly", slow, as_json), ("Parquet", fast, as_parquet)]
    return [
        (label, 1e3 * statistics.median(times), 1e3 * min(times), f"{path.stat().st_size:,} bytes{note}")
        for (label, times, path), note in zip(rows, ("", f"; {ratio:.1f} times faster"), strict=True)
    ]


def _as_autotts(pool: Pool) -> list[dict[str, Any]]:
    items = []
    for q, question in enumerate(pool.questions):
        words = pool.vocabulary[q]
        branches = [
            [[words[code] for code in codes[:length]], tokens, words[codes[length]]]
            for codes, length, tokens in zip(
                pool.answers[q].tolist(), pool.intervals[q].tolist(), pool.tokens[q].tolist(), strict=True
            )
        ]
        items.append(
            {
                "question": question,
                "final_answers_trace": [branch[2] for branch in branches],
                "each_branch": branches,
                "gold_answer": pool.gold[q],
                "probe_freq": pool.recording.delta,
            }
        )
    return items


def _startup() -> list[tuple[Any, ...]]:
    rows = []
    for label, arguments in (
        ("python -c pass", ["-c", "pass"]),
        ("tts-gym --help", ["-c", "import sys; sys.argv = ['tts-gym', '--help']; import tts_gym.cli as c; c.main()"]),
        ("python -c 'import numba'", ["-c", "import numba"]),
    ):
        times = _times(lambda arguments=arguments: _process(arguments), 9)  # type: ignore[misc]
        rows.append((label, statistics.median(times), min(times)))
    return rows


def _compiling(folder: Path) -> list[tuple[Any, ...]]:
    code = (
        "import tts_gym.evaluation as e; from tts_gym.programs.compilation import compiled_driver; "
        "p = e.find_program('cmc'); compiled_driver(p, p.knobs(0.5))"
    )
    cache = {"TTS_GYM_CACHE": str(folder / "cache")}
    (first,) = _times(lambda: _process(["-c", code], cache), 1)
    (again,) = _times(lambda: _process(["-c", code], cache), 1)
    return [("none: the engine, then CMC", first), ("on disk", again)]


def _memory(folder: Path) -> list[tuple[Any, ...]]:
    print("(making the large pool takes a while)", file=sys.stderr)
    path = folder / "large.parquet"
    save_pool(generate(_LARGE, seed=1), path)
    cache = {"TTS_GYM_CACHE": str(folder / "cache")}
    _process(["-m", "tts_gym.evaluation.bench", str(path), "0"], cache)  # decodes it and compiles SC
    peaks = {n: int(_process(["-m", "tts_gym.evaluation.bench", str(path), str(n)], cache)) for n in (0, 10, 100, 1000)}
    rows: list[tuple[Any, ...]] = [(n, peak / 1024, (peak - peaks[0]) / 1024) for n, peak in peaks.items()]
    cells = _LARGE.questions * _LARGE.branches * (_LARGE.max_intervals + 1)
    return [*rows, (f"(all answers: {2 * cells / 2**20:,.0f} MiB)", None, None)]


def _process(arguments: Sequence[str], environment: dict[str, str] | None = None) -> str:
    """What a Python process prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **(environment or {})},
    )
    return done.stdout


def _peak(path: str, questions: int) -> int:
    """Peak resident KiB of this process (Linux) after evaluating its first so many questions."""
    pool = open_pool(path)
    some = (pool, range(questions)) if questions else (generate(SyntheticSpec(questions=1), seed=0), None)
    evaluate(["sc"], [some[0]], [1.0], orders=4, questions=some[1])
    # Not getrusage: its peak includes the parent's at the moment of forking.
    return int(next(line.split()[1] for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM")))


if __name__ == "__main__":
    print(_peak(sys.argv[1], int(sys.argv[2])))
