"""Long tables of episodes by hand, for tests of what is computed from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from tts_gym.evaluation import Results
from tts_gym.evaluation.episodes import MEASURES
from tts_gym.evaluation.sweep import Point, Sweep

Key = tuple[str, str, float]


def long_table(
    episodes: Mapping[Key, tuple[ArrayLike, ArrayLike]],
    questions: Sequence[int] | None = None,
    orders: Sequence[int] | None = None,
    **provenance: Any,
) -> Results:
    """Results from, per (pool, contestant, beta), correctness and tokens of shape [Q, S]."""
    columns: dict[str, list[Any]] = {name: [] for name in ("pool", "contestant", "beta", "question", "order")}
    measured: dict[str, list[Any]] = {name: [] for name in MEASURES}
    for (pool, contestant, beta), (correct, tokens) in episodes.items():
        right, spent = np.broadcast_arrays(np.asarray(correct), np.asarray(tokens))
        asked = range(right.shape[0]) if questions is None else questions
        seeds = range(right.shape[1]) if orders is None else orders
        for q, question in enumerate(asked):
            for s, order in enumerate(seeds):
                for name, value in zip(columns, (pool, contestant, beta, question, order), strict=True):
                    columns[name].append(value)
                measured["correct"].append(bool(right[q, s]))
                for name in MEASURES[1:]:
                    measured[name].append(int(spent[q, s]) if "tokens" in name else 1)
    narrow = {name: pa.int32() for name in ("question", "order", "peak_width", "probes", "branches")}
    table = pa.table({name: pa.array(v, narrow.get(name)) for name, v in {**columns, **measured}.items()})
    pools, contestants = (dict.fromkeys(key[i] for key in episodes) for i in (0, 1))
    said = {
        "grading": "exact",
        "merged": False,
        "limits": {"max_branches": None},
        "pools": dict.fromkeys(pools, "a" * 64),
        "programs": {str(contestant): "b" * 64 for contestant in contestants},
        "policies": {},
    }
    return Results([], table, {**said, **provenance})


def sweep_of(
    accuracy: Sequence[NDArray[np.float64]],
    tokens: Sequence[NDArray[np.float64]] | None = None,
    *,
    points: Sequence[Point] | None = None,
    pools: Sequence[str] | None = None,
    benchmarks: Sequence[str] | None = None,
) -> Sweep:
    """A sweep of one order from, per pool, the percent right of each question, [K, Q]; tokens are 1 by default."""
    count = len(accuracy[0])
    names = tuple(pools or (f"model{p}/b" for p in range(len(accuracy))))
    spent = tokens or [np.ones_like(values) for values in accuracy]
    return Sweep(
        pools=names,
        benchmarks=tuple(benchmarks or (name.rpartition("/")[2] for name in names)),
        points=tuple(points or (Point("c", float(k)) for k in range(count))),
        questions=tuple(np.arange(values.shape[1]) for values in accuracy),
        orders=1,
        sums={
            "correct": tuple(values / 100 for values in accuracy),
            **{name: tuple(spent) for name in MEASURES[1:]},
        },
    )
