"""Running contestants over pools, on all cores."""

from __future__ import annotations

import logging
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tts_gym.errors import UsageError
from tts_gym.evaluation.contestants import Contestant, contestant
from tts_gym.evaluation.policies import Policy, run_policy
from tts_gym.evaluation.results import Results, Row
from tts_gym.pools.grading import merge_equivalent, with_grading
from tts_gym.pools.pool import Pool
from tts_gym.pools.registry import open_pool
from tts_gym.programs.program import Number, Program
from tts_gym.programs.runner import Limits, Outcomes, run_program

log = logging.getLogger("tts_gym")

ContestantSpec: TypeAlias = str | Path | Program | Contestant | Policy
PoolSpec: TypeAlias = str | Path | Pool

BETAS = (0.0, 0.25, 0.5, 0.75, 1.0)
_EPISODES_PER_TASK = 5000  # short enough for a lively progress bar and a prompt Ctrl-C


@dataclass(frozen=True, eq=False)
class _Point:
    """Episodes that share a pool, a contestant and its knobs; betas with equal knobs are run once."""

    pool: Pool
    contestant: Contestant | Policy
    betas: list[float]
    knobs: dict[str, Number]


def evaluate(
    contestants: ContestantSpec | Iterable[ContestantSpec],
    pools: PoolSpec | Iterable[PoolSpec],
    betas: Sequence[float] = BETAS,
    orders: int | Sequence[int] = 100,
    *,
    questions: Sequence[int] | None = None,
    grading: str = "exact",
    merge: bool = False,
    limits: Limits | None = None,
    interpreted: bool = False,
    workers: int | None = None,
    progress: bool = False,
) -> Results:
    """Run every contestant at every beta on every pool under every order.

    Args:
        contestants: controller names, program files, either with ``:knob=value,...``, or loaded ones; and policies
            (see ``policy``).
        pools: names, files or pools.
        betas: points of the budget dial, each in [0, 1].
        orders: how many orders, from 0, or which ones.
        questions: question indices; None for all.
        grading: ``exact`` or ``math``.
        merge: whether answers that are mathematically equal share a vote.
        limits: width, budget and probe cost; unlimited and free by default.
        interpreted: run programs as plain Python on the reference engine, one after another in this thread.
        workers: threads; one per core by default.
        progress: show a bar on standard error, if that is a terminal.

    Raises:
        UsageError, ProgramError, PoolError: nothing has been run then, or all of it is discarded.
    """
    seeds = list(range(orders)) if isinstance(orders, int) else list(orders)
    if not seeds:
        raise UsageError(f"orders should be at least 1, found {orders}")
    if min(seeds) < 0:
        raise UsageError(f"an order should be a number from 0 on, found {min(seeds)}")
    contestants = [contestants] if isinstance(contestants, str | Path | Program | Contestant | Policy) else contestants
    pools = [pools] if isinstance(pools, str | Path | Pool) else pools
    betas = list(dict.fromkeys(float(beta) for beta in betas))
    chosen = [spec if isinstance(spec, Policy) else contestant(spec) for spec in contestants]
    knobs = [[c.knobs(beta) for beta in betas] for c in chosen]  # before any pool is read: usage errors come first
    opened = [pool if isinstance(pool, Pool) else open_pool(pool) for pool in pools]
    if not (chosen and opened and betas) or (questions is not None and not len(questions)):
        raise UsageError("an evaluation needs at least one contestant, one pool, one beta and one question")
    for what, names in (("pool", [p.name for p in opened]), ("contestant", [c.name for c in chosen])):
        if len(set(names)) < len(names):
            raise UsageError(f"the {what} '{next(n for n in names if names.count(n) > 1)}' is given twice")
    opened = [with_grading(merge_equivalent(pool) if merge else pool, grading) for pool in opened]

    points = [
        _Point(pool, c, [b for b, k in zip(betas, at, strict=True) if k == unique], unique)
        for pool in opened
        for c, at in zip(chosen, knobs, strict=True)
        for unique in _unique(at)
    ]
    workers = workers or os.cpu_count() or 1
    if not interpreted:
        _compile([(c.program, k) for c, at in zip(chosen, knobs) if isinstance(c, Contestant) for k in at], workers)
    outcomes = _run(points, questions, seeds, limits, grading, interpreted, workers, progress)

    rows: dict[tuple[str, str, float], Row] = {}
    tables: list[pa.Table] = []
    for point, (outcome, seconds) in zip(points, outcomes, strict=True):
        asked = np.arange(point.pool.recording.questions) if questions is None else np.asarray(questions)
        correct = _graded(point.pool, grading, asked, outcome)
        for beta in point.betas:
            rows[point.pool.name, point.contestant.name, beta] = _row(point, beta, correct, outcome, seconds)
            tables.append(_episodes(point, beta, asked, seeds, correct, outcome))
    provenance = {
        "tts_gym": version("tts-gym"),
        "python": platform.python_version(),
        "numba": version("numba"),
        "grading": grading,
        "merged": merge,
        "interpreted": interpreted,
        "limits": asdict(limits or Limits()),
        "pools": {pool.name: pool.content_hash for pool in opened},
        "programs": {c.name: c.program.digest for c in chosen if isinstance(c, Contestant)},
        "policies": {c.name: c.digest for c in chosen if isinstance(c, Policy)},
        "command": " ".join(sys.argv) if progress else None,
    }
    asked_for = [(pool.name, c.name, beta) for pool in opened for c in chosen for beta in betas]
    return Results([rows[key] for key in asked_for], pa.concat_tables(tables).unify_dictionaries(), provenance)


def _unique(knobs: Sequence[dict[str, Number]]) -> list[dict[str, Number]]:
    return [k for i, k in enumerate(knobs) if k not in knobs[:i]]


def _compile(programs: Sequence[tuple[Program, Mapping[str, Number]]], workers: int) -> None:
    """Bring all machine code into memory before anything is timed; make what is not on disk yet."""
    from tts_gym.programs.compilation import compile_side_by_side, compiled_driver, is_compiled

    kinds = {
        (program.path, tuple((n, type(v)) for n, v in knobs.items())): (program, knobs) for program, knobs in programs
    }
    missing = [(program, knobs) for program, knobs in kinds.values() if not is_compiled(program, knobs)]
    if missing:
        names = dict.fromkeys(program.name for program, _ in missing)
        log.warning("compiling %s (first time only; the machine code is kept)", ", ".join(names))
        compile_side_by_side(missing, workers)
    for program, knobs in kinds.values():
        compiled_driver(program, knobs)


def _run(
    points: Sequence[_Point],
    questions: Sequence[int] | None,
    orders: Sequence[int],
    limits: Limits | None,
    grading: str,
    interpreted: bool,
    workers: int,
    progress: bool,
) -> list[tuple[Outcomes, float]]:
    """The outcomes of every point and the seconds they took, on ``workers`` threads (compiled code holds no lock)."""
    from tqdm import tqdm

    def task(point: _Point, part: NDArray[np.int64]) -> tuple[Outcomes, float]:
        began, contestant = time.perf_counter(), point.contestant
        if isinstance(contestant, Policy):
            outcome = run_policy(
                contestant, point.pool, point.betas[0], questions=part, orders=orders, limits=limits, grading=grading
            )
        else:
            outcome = run_program(
                contestant.program,
                point.pool.recording,
                point.knobs,
                questions=part,
                orders=orders,
                limits=limits,
                interpreted=interpreted,
            )
        return outcome, time.perf_counter() - began

    work = [(point, list(_parts(point.pool, questions, len(orders)))) for point in points]
    with (
        tqdm(
            total=sum(len(parts) for _, parts in work),
            disable=None if progress else True,
            unit="run",
            leave=False,
        ) as bar,
        _stopping(_Inline() if interpreted else ThreadPoolExecutor(workers)) as executor,
    ):

        def submit(point: _Point, part: NDArray[np.int64]) -> Future[tuple[Outcomes, float]]:
            future = executor.submit(task, point, part)
            future.add_done_callback(lambda _: bar.update())
            return future

        futures = [[submit(point, part) for part in parts] for point, parts in work]
        for future in as_completed(future for group in futures for future in group):
            future.result()
        done = [[future.result() for future in group] for group in futures]
    return [(_joined([outcome for outcome, _ in group]), sum(seconds for _, seconds in group)) for group in done]


class _Inline(Executor):
    """Runs everything in this thread: an interpreted program holds the interpreter, and debuggers follow one thread."""

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(call(*args, **kwargs))
        return future


class _stopping:
    """An executor that, when its block fails or is interrupted, drops what has not begun and does not wait."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor

    def __enter__(self) -> Executor:
        return self.executor

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.executor.shutdown(wait=kind is None, cancel_futures=True)


def _parts(pool: Pool, questions: Sequence[int] | None, orders: int) -> Iterator[NDArray[np.int64]]:
    asked = np.arange(pool.recording.questions) if questions is None else np.asarray(questions, dtype=np.int64)
    size = max(1, _EPISODES_PER_TASK // orders)
    for start in range(0, len(asked), size):
        yield asked[start : start + size]


def _joined(outcomes: Sequence[Outcomes]) -> Outcomes:
    if len(outcomes) == 1:
        return outcomes[0]
    return Outcomes(*(np.concatenate([getattr(o, name) for o in outcomes]) for name in Outcomes.__dataclass_fields__))


def _graded(pool: Pool, grading: str, questions: NDArray[Any], outcome: Outcomes) -> NDArray[np.bool_]:
    """bool[A, S]: whether each episode's answer is correct; no answer is wrong."""
    graded = pool.correct(grading, questions.tolist())
    correct: NDArray[np.bool_] = np.take_along_axis(graded, np.maximum(outcome.code, 0), axis=1)
    correct &= outcome.code >= 0
    return correct


def _row(point: _Point, beta: float, correct: NDArray[np.bool_], outcome: Outcomes, seconds: float) -> Row:
    questions, orders = correct.shape

    def mean(values: NDArray[Any]) -> float:
        return int(values.sum()) / values.size

    return Row(
        pool=point.pool.name,
        contestant=point.contestant.name,
        beta=float(beta),
        knobs=point.knobs,
        accuracy=100 * int(correct.sum()) / correct.size,
        tokens=mean(outcome.tokens),
        sequential_tokens=mean(outcome.sequential_tokens),
        peak_width=mean(outcome.peak_width),
        probes=mean(outcome.probes),
        orders=orders,
        questions=questions,
        seconds=seconds,
    )


def _episodes(
    point: _Point, beta: float, questions: NDArray[Any], orders: Sequence[int], correct: NDArray[np.bool_], o: Outcomes
) -> pa.Table:
    count = correct.size

    def constant(text: str) -> pa.DictionaryArray:
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, dtype=np.int32)), pa.array([text]))

    return pa.table(
        {
            "pool": constant(point.pool.name),
            "contestant": constant(point.contestant.name),
            "beta": np.full(count, float(beta)),
            "question": np.repeat(questions.astype(np.int32), len(orders)),
            "order": np.tile(np.array(orders, dtype=np.int32), len(questions)),
            "correct": correct.ravel(),
            "tokens": o.tokens.ravel(),
            "sequential_tokens": o.sequential_tokens.ravel(),
            "peak_width": o.peak_width.ravel().astype(np.int32),
            "probes": o.probes.ravel().astype(np.int32),
            "branches": o.branches.ravel().astype(np.int32),
        }
    )
