"""A sweep as arrays: per operating point, pool and question, sums over orders. All statistics start from here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tts_gym.errors import ResultsError, UsageError
from tts_gym.evaluation.episodes import MEASURES, Episodes, Source, load_results
from tts_gym.names import nearest
from tts_gym.pools.pool import Pool


class Point(NamedTuple):
    """An operating point: a contestant at a beta."""

    contestant: str
    beta: float

    def __str__(self) -> str:
        return f"{self.contestant} at beta {self.beta:g}"


@dataclass(frozen=True)
class Scope:
    """Pools over which a number is averaged, each counting the same.

    Attributes:
        name: the pool's name; or a pattern: ``autotts/Qwen3-8B/*`` for a model's benchmarks, ``*/aime24`` for a
            benchmark's models, ``*`` for all.
        pools: their names.
    """

    name: str
    pools: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Sweep:
    """P pools x K operating points x questions, summed over orders.

    Attributes:
        pools: P names.
        benchmarks: per pool, whose questions it asks. Pools of one benchmark ask the same questions, question by
            question, so that a draw of questions is a draw for all of them.
        points: K operating points, contestants in the order of the table, betas rising.
        questions: per pool, int64[Q], the indices of its questions in the pool, rising.
        orders: S, the number of orders of every question.
        sums: per measure (``correct``, ``tokens``, ...) and pool, float64[K, Q], the sum over the orders. They are
            whole numbers, so that equal episodes give equal means whatever is averaged.
    """

    pools: tuple[str, ...]
    benchmarks: tuple[str, ...]
    points: tuple[Point, ...]
    questions: tuple[NDArray[np.int64], ...]
    orders: int
    sums: Mapping[str, tuple[NDArray[np.float64], ...]]

    def __post_init__(self) -> None:
        first: dict[str, int] = {}
        for p, benchmark in enumerate(self.benchmarks):
            known = first.setdefault(benchmark, p)
            if not np.array_equal(self.questions[p], self.questions[known]):
                raise UsageError(
                    f"pools {self.pools[known]} and {self.pools[p]} count as one benchmark, '{benchmark}', but were "
                    f"asked different questions: {len(self.questions[known])} and {len(self.questions[p])} of them; "
                    "benchmarks={pool: benchmark} says which pools ask the same"
                )

    @property
    def contestants(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(dict.fromkeys(point.contestant for point in self.points))

    def index(self, contestant: str, beta: float) -> int:
        """Where an operating point is among ``points``. Raises UsageError that says which there are."""
        of_contestant = self.indices(contestant)
        for k in of_contestant:
            if self.points[k].beta == beta:
                return k
        betas = ", ".join(f"{self.points[k].beta:g}" for k in of_contestant)
        raise UsageError(f"{contestant} was not evaluated at beta {beta:g}; its betas are {betas}")

    def indices(self, contestant: str) -> list[int]:
        """Where a contestant's operating points are. Raises UsageError that says which contestants there are."""
        found = [k for k, point in enumerate(self.points) if point.contestant == contestant]
        if not found:
            raise UsageError(f"no contestant '{contestant}'{nearest(contestant, self.contestants, 'there are')}")
        return found


def load_sweep(
    sources: Source | Iterable[Source],
    *,
    pools: Collection[str] | None = None,
    contestants: Collection[str] | None = None,
    betas: Collection[float] | None = None,
    benchmarks: Mapping[str, str] | None = None,
) -> Sweep:
    """Read results (``load_results``) and lay them out (``as_sweep``)."""
    return as_sweep(load_results(sources), pools=pools, contestants=contestants, betas=betas, benchmarks=benchmarks)


def as_sweep(
    episodes: Episodes,
    *,
    pools: Collection[str] | None = None,
    contestants: Collection[str] | None = None,
    betas: Collection[float] | None = None,
    benchmarks: Mapping[str, str] | None = None,
) -> Sweep:
    """Lay episodes out as arrays.

    Args:
        episodes: from ``load_results``.
        pools, contestants, betas: only these; all by default.
        benchmarks: for some pools, whose questions they ask (``benchmarks_by_text``). For the others it is the last
            part of the pool's name: ``aime24`` for ``autotts/Qwen3-8B/aime24``. Taking the questions of two pools
            for the same ones when they are not leaves intervals valid; the reverse makes them too narrow.

    Raises:
        ResultsError: an operating point lacks an episode of a question under an order, or has one twice.
        UsageError: a name or beta that is not there, or pools of one benchmark that were asked different questions.
    """
    table = episodes.table
    pool, pool_names = _coded(table["pool"])
    contestant, contestant_names = _coded(table["contestant"])
    beta, beta_values = _coded(table["beta"])
    keep = (
        _chosen(pool, pool_names, pools, "pool")
        & _chosen(contestant, contestant_names, contestants, "contestant")
        & _chosen(beta, beta_values, betas, "beta")
    )
    rows = np.flatnonzero(keep)
    pair = contestant[rows].astype(np.int64) * len(beta_values) + beta[rows]
    present = np.flatnonzero(np.bincount(pair, minlength=len(contestant_names) * len(beta_values)))
    if not len(present):
        raise UsageError("no episode is left by the pools, contestants and betas that were asked for")
    pairs = [
        (int(c), beta_values[b], int(c * len(beta_values) + b))
        for c, b in (divmod(x, len(beta_values)) for x in present)
    ]
    pairs.sort()
    number = np.zeros(len(contestant_names) * len(beta_values), dtype=np.int64)
    number[[code for _, _, code in pairs]] = np.arange(len(pairs))
    points = tuple(Point(contestant_names[c], value) for c, value, _ in pairs)

    columns = {name: table[name].to_numpy()[rows] for name in ("question", "order", *MEASURES)}
    order_values, order = np.unique(columns["order"], return_inverse=True)
    names, questions = [], []
    sums: dict[str, list[NDArray[np.float64]]] = {measure: [] for measure in MEASURES}
    for p, name in enumerate(pool_names):
        own = np.flatnonzero(pool[rows] == p)
        if not len(own):
            continue
        asked, question = np.unique(columns["question"][own], return_inverse=True)
        shape = (len(points), len(asked), len(order_values))
        cell = (number[pair[own]] * shape[1] + question) * shape[2] + order[own]
        _check_complete(
            np.bincount(cell, minlength=int(np.prod(shape))).reshape(shape), name, points, asked, order_values
        )
        for measure in MEASURES:
            cells = np.empty(len(cell), dtype=np.int64)
            cells[cell] = columns[measure][own]
            sums[measure].append(cells.reshape(shape).sum(axis=2).astype(np.float64))
        names.append(name)
        questions.append(asked.astype(np.int64))
    mapping = benchmarks or {}
    for unknown in sorted(set(mapping) - set(pool_names)):
        raise UsageError(f"benchmarks names the pool '{unknown}'{nearest(unknown, pool_names, 'the pools are')}")
    return Sweep(
        pools=tuple(names),
        benchmarks=tuple(mapping.get(name, name.rpartition("/")[2]) for name in names),
        points=points,
        questions=tuple(questions),
        orders=len(order_values),
        sums={measure: tuple(arrays) for measure, arrays in sums.items()},
    )


def _coded(column: pa.ChunkedArray) -> tuple[NDArray[np.int32], list[Any]]:
    """A code per row, and the values behind the codes."""
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    whole = pa.concat_arrays(encoded.unify_dictionaries().chunks)
    return whole.indices.to_numpy(), whole.dictionary.to_pylist()


def _chosen(
    codes: NDArray[np.int32], values: Sequence[Any], wanted: Collection[Any] | None, what: str
) -> NDArray[np.bool_]:
    if wanted is None:
        return np.ones(len(codes), dtype=np.bool_)
    for value in wanted:
        if value not in values:
            raise UsageError(f"no {what} '{value}'{nearest(str(value), map(str, values), 'there are')}")
    return np.isin(codes, [code for code, value in enumerate(values) if value in wanted])


def _check_complete(
    counts: NDArray[np.int64],
    pool: str,
    points: Sequence[Point],
    questions: NDArray[Any],
    orders: NDArray[Any],
) -> None:
    """counts int64[K, Q, S]: how many episodes there are in each cell; there should be one."""
    if (counts == 1).all():
        return
    twice = np.argwhere(counts > 1)
    if len(twice):
        k, q, s = twice[0]
        raise ResultsError(
            f"{points[k]} has {counts[k, q, s]} episodes of question {questions[q]} of pool {pool} "
            f"under order {orders[s]}, expected 1"
        )
    missing = counts == 0
    per_point = missing.sum(axis=(1, 2))
    k = int(np.argmax(per_point))
    if per_point[k] == missing[k].size:
        raise ResultsError(
            f"{points[k]} has no episodes on pool {pool}, on which others have; evaluate it there, or leave the pool "
            "or the contestant or its beta out"
        )
    q, s = np.argwhere(missing[k])[0]
    raise ResultsError(
        f"{points[k]} lacks {per_point[k]:,} of {missing[k].size:,} episodes on pool {pool}, the first of them "
        f"question {questions[q]} under order {orders[s]}; a mean over the rest would not be comparable"
    )


def benchmarks_by_text(pools: Iterable[Pool]) -> dict[str, str]:
    """Which pools ask the same questions, known by the questions' text: the argument ``benchmarks`` of ``as_sweep``.

    Pools with equal texts in equal order share a benchmark, called like the last part of the first one's name.

    Raises:
        UsageError: two pools share some questions but not all, or in another order; no resampling here fits them.
    """
    found: dict[tuple[str, ...], str] = {}
    first: dict[str, str] = {}
    mapping: dict[str, str] = {}
    for pool in pools:
        if pool.questions not in found:
            for text in pool.questions:
                if text in first:
                    raise UsageError(
                        f"pools {first[text]} and {pool.name} share some questions but not all in the same order"
                    )
            name = pool.name.rpartition("/")[2]
            found[pool.questions] = name if name not in found.values() else pool.name
            first.update(dict.fromkeys(pool.questions, pool.name))
        mapping[pool.name] = found[pool.questions]
    return mapping


def scopes(sweep: Sweep) -> list[Scope]:
    """Each pool; each model over its benchmarks; each benchmark over its models; all pools.

    A pool's model is its name but for the last part. What would hold the same pools twice is listed once.
    """
    models = [name.rpartition("/")[0] for name in sweep.pools]
    candidates = [Scope(name, (name,)) for name in sweep.pools]
    for patterns, keys in (("{}/*", models), ("*/{}", list(sweep.benchmarks))):
        for key in dict.fromkeys(keys):
            pools = tuple(name for name, own in zip(sweep.pools, keys, strict=True) if own == key)
            candidates.append(Scope(patterns.format(key), pools))
    candidates.append(Scope("*", sweep.pools))
    listed: dict[tuple[str, ...], Scope] = {}
    for scope in candidates:
        listed.setdefault(scope.pools, scope)
    return list(listed.values())
