"""Long tables of episodes from several evaluations: read, refused where they do not belong together, combined."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tts_gym.errors import ResultsError
from tts_gym.evaluation.results import Results

Source: TypeAlias = str | Path | Results

MEASURES = ("correct", "tokens", "sequential_tokens", "peak_width", "probes", "branches")
"""What is known of every episode; ``correct`` is 0 or 1."""

_NAMES = ("pool", "contestant")
_ENCODED = pa.dictionary(pa.int32(), pa.string())
_COLUMNS = (*_NAMES, "beta", "question", "order", *MEASURES)


@dataclass(frozen=True, eq=False)
class Episodes:
    """Episodes that may be compared with each other.

    Attributes:
        table: the long table, columns as in ``Results.episodes``; ``pool`` and ``contestant`` dictionary-encoded.
        provenances: per source (a path, or "results 1" for the first in memory), its provenance.
    """

    table: pa.Table
    provenances: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class _Source:
    label: str
    table: pa.Table
    provenance: Mapping[str, Any]


def load_results(sources: Source | Iterable[Source]) -> Episodes:
    """Read and combine what evaluations found, if it may be compared.

    An operating point that several sources hold is taken once, provided that they agree on every episode.

    Args:
        sources: Parquet files written by ``Results.save_parquet``, or ``Results``.

    Raises:
        ResultsError: a file is missing or damaged or was written by something else; or two sources differ in
            grading, merging of equivalent answers, limits, the content of a pool, a program or policy of the same
            name, the orders, the questions of a pool, or an episode. The sentence names both and the difference.
    """
    given = [sources] if isinstance(sources, str | Path | Results) else list(sources)
    if not given:
        raise ResultsError("no results were given")
    read = [_read(source, f"results {number}") for number, source in enumerate(given, 1)]
    if len({source.label for source in read}) < len(read):
        labels = [source.label for source in read]
        raise ResultsError(f"{next(x for x in labels if labels.count(x) > 1)} is given twice")
    for key, what in (
        ("grading", "grading"),
        ("merged", "merging of equivalent answers"),
        ("limits", "limits"),
    ):
        _same(read, what, lambda source, key=key: {"": source.provenance.get(key)})
    _same(read, "content (sha256) of pool ", lambda source: source.provenance["pools"])
    _same(read, "file (sha256) of contestant ", _contestant_digests)
    _same(read, "orders", lambda source: {"": _listed(source.table["order"])})
    _same(read, "questions of pool ", _questions)
    tables = [read[0].table]
    for i, source in enumerate(read[1:], 1):
        tables.append(_without_known(source, read[:i]))
    table = pa.concat_tables(tables).unify_dictionaries()
    return Episodes(table, {source.label: source.provenance for source in read})


def _read(source: Source, label: str) -> _Source:
    if isinstance(source, Results):
        table, provenance = source.episodes, source.provenance
    else:
        label = str(source)
        try:
            table = pq.read_table(source)
        except FileNotFoundError:
            raise ResultsError(f"{label}: no such file") from None
        except (OSError, pa.ArrowException) as error:
            raise ResultsError(f"{label}: not a readable Parquet file: {str(error).splitlines()[0]}") from None
        try:
            provenance = json.loads((table.schema.metadata or {})[b"tts_gym"])
        except (KeyError, ValueError):
            raise ResultsError(
                f"{label}: no provenance in its metadata key 'tts_gym'; expected a file of tts-gym evaluate --parquet"
            ) from None
    _check_columns(table, label)
    table = table.select(_COLUMNS).replace_schema_metadata(None)
    for name in _NAMES:
        if table.schema.field(name).type != _ENCODED:
            encoded = table[name].cast(pa.string()).dictionary_encode()
            table = table.set_column(table.schema.get_field_index(name), name, encoded)
    _check_provenance(provenance, table, label)
    return _Source(label, table.unify_dictionaries(), provenance)


def _check_columns(table: pa.Table, label: str) -> None:
    for name in _COLUMNS:
        if name not in table.column_names:
            raise ResultsError(f"{label}: the column '{name}' is missing")
        kind = table.schema.field(name).type
        value = kind.value_type if pa.types.is_dictionary(kind) else kind
        if name in _NAMES:
            fits, expected = pa.types.is_string(value) or pa.types.is_large_string(value), "text"
        elif name == "correct":
            fits, expected = pa.types.is_boolean(value), "true or false"
        elif name == "beta":
            fits, expected = pa.types.is_floating(value), "a floating-point number"
        else:
            fits, expected = pa.types.is_integer(value), "a whole number"
        if not fits:
            raise ResultsError(f"{label}: the column '{name}' should be {expected}, found {kind}")
        if table[name].null_count:
            raise ResultsError(f"{label}: the column '{name}' has {table[name].null_count} empty cells")
    if not table.num_rows:
        raise ResultsError(f"{label}: there is no episode in it")
    if pc.any(pc.is_nan(table["beta"])).as_py():
        raise ResultsError(f"{label}: the column 'beta' holds a value that is not a number")


def _check_provenance(provenance: Any, table: pa.Table, label: str) -> None:
    if not isinstance(provenance, dict) or not isinstance(provenance.get("grading"), str):
        raise ResultsError(f"{label}: its provenance does not say which grading was used")
    hashes = provenance.get("pools")
    for pool in table["pool"].unique().to_pylist():
        if not isinstance(hashes, dict) or not isinstance(hashes.get(pool), str):
            raise ResultsError(f"{label}: its provenance has no content hash of pool {pool}")


def _same(read: Sequence[_Source], what: str, facts: Any) -> None:
    """Refuse two sources that say different things about the same name."""
    said: dict[str, tuple[Any, str]] = {}
    for source in read:
        for name, value in facts(source).items():
            first, label = said.setdefault(name, (value, source.label))
            if value != first:
                raise ResultsError(
                    f"{label} and {source.label} differ in {what}{name}: {_short(first)} and {_short(value)}"
                )


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) and len(value) == 64 else str(value)


def _contestant_digests(source: _Source) -> dict[str, str]:
    return {**(source.provenance.get("programs") or {}), **(source.provenance.get("policies") or {})}


def _questions(source: _Source) -> dict[str, str]:
    pairs = source.table.group_by(["pool", "question"]).aggregate([])
    return {
        pool: _listed(pairs.filter(pc.equal(pairs["pool"], pool))["question"])
        for pool in pairs["pool"].unique().to_pylist()
    }


def _listed(column: pa.ChunkedArray) -> str:
    """What distinct numbers there are, in words: ``100 (0 to 99)``."""
    numbers = np.sort(column.unique().to_numpy())
    if int(numbers[-1]) - int(numbers[0]) == len(numbers) - 1:
        return f"{len(numbers)} ({numbers[0]} to {numbers[-1]})"
    return f"{len(numbers)} ({', '.join(map(str, numbers.tolist()))})"


def _without_known(source: _Source, before: Sequence[_Source]) -> pa.Table:
    """The source's episodes but for operating points that came before, which must be the same."""
    table = source.table
    for other in before:
        both = _points(table) & _points(other.table)
        for pool, contestant, beta in sorted(both):
            ours, theirs = _point(table, pool, contestant, beta), _point(other.table, pool, contestant, beta)
            if not _measured(table.filter(ours)).equals(_measured(other.table.filter(theirs))):
                raise ResultsError(
                    f"{other.label} and {source.label} both hold {contestant} at beta {beta:g} on pool {pool}, "
                    "with different episodes"
                )
            table = table.filter(pc.invert(ours))
    return table


def _points(table: pa.Table) -> set[tuple[str, str, float]]:
    distinct = table.group_by(["pool", "contestant", "beta"]).aggregate([])
    return set(
        zip(distinct["pool"].to_pylist(), distinct["contestant"].to_pylist(), distinct["beta"].to_pylist(), strict=True)
    )


def _point(table: pa.Table, pool: str, contestant: str, beta: float) -> pa.ChunkedArray:
    same = pc.and_(pc.equal(table["pool"], pool), pc.equal(table["contestant"], contestant))
    return pc.and_(same, pc.equal(table["beta"], beta))


def _measured(table: pa.Table) -> pa.Table:
    return table.select(["question", "order", *MEASURES]).sort_by([("question", "ascending"), ("order", "ascending")])
