"""Importer for the published AutoTTS replay files (one JSON list per model and benchmark; spec 1.1)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tts_gym.errors import PoolError
from tts_gym.pools.pool import Pool, pool_from_cells

_MAX_TOKENS = np.iinfo(np.int32).max


def import_json(path: str | Path, name: str | None = None) -> Pool:
    """Read one AutoTTS JSON file.

    Args:
        path: the file.
        name: the pool's name; ``<folder>/<stem>`` by default, e.g. ``Qwen3-8B/aime24``.

    Raises:
        PoolError: the file is unreadable, is not JSON, or breaks the layout; the message names file and field.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise PoolError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        items = json.loads(raw)
        if b"\\u" in raw:
            json.dumps(items, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:  # also a number of too many digits, and lists in lists in lists
        raise PoolError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(items, list):
        raise PoolError(f"{path}: expected a list of questions, found {_kind(items)}")
    if not items:
        raise PoolError(f"{path}: the list of questions is empty")

    questions: list[str] = []
    gold: list[str] = []
    counts: list[int] = []
    tokens: list[int] = []
    probes: list[str] = []
    finals: list[str] = []
    for q, item in enumerate(items):
        where = f"{path}: question {q}"
        if not isinstance(item, dict):
            raise PoolError(f"{where}: expected an object, found {_kind(item)}")
        questions.append(_field(item, "question", str, where))
        gold.append(_field(item, "gold_answer", str, where))
        delta = _field(item, "probe_freq", int, where)
        trace = _field(item, "final_answers_trace", list, where)
        branches = _field(item, "each_branch", list, where)
        first = items[0]
        if not 0 < delta <= _MAX_TOKENS or delta != first["probe_freq"]:
            raise PoolError(f"{where}: probe_freq is {delta}, expected {first['probe_freq']} as in question 0, above 0")
        if not branches:
            raise PoolError(f"{where}: each_branch is empty")
        if len(branches) != len(first["each_branch"]):
            raise PoolError(f"{where}: {len(branches)} branches, expected {len(first['each_branch'])} as in question 0")
        if len(trace) != len(branches):
            raise PoolError(f"{where}: final_answers_trace has {len(trace)} entries for {len(branches)} branches")
        for b, triple in enumerate(branches):
            _check_branch(triple, trace[b], f"{where}, branch {b}")
            counts.append(len(triple[0]))
            tokens.append(triple[1])
            probes.extend(triple[0])
            finals.append(triple[2])

    return pool_from_cells(
        name=name or f"{path.resolve().parent.name}/{path.stem}",
        questions=questions,
        gold=gold,
        probe_counts=np.array(counts, dtype=np.int64),
        probe_answers=pa.array(probes, pa.string()).dictionary_encode(),
        final_answers=pa.array(finals, pa.string()).dictionary_encode(),
        tokens=np.array(tokens, dtype=np.int32),
        delta=items[0]["probe_freq"],
        provenance={"source": "AutoTTS replay JSON", "sha256": hashlib.sha256(raw).hexdigest()},
    )


def _check_branch(triple: Any, traced: Any, where: str) -> None:
    if not isinstance(triple, list) or len(triple) != 3:
        raise PoolError(f"{where}: expected [probe_answers, branch_tokens, final_answer], found {_kind(triple)}")
    probes, tokens, final = triple
    if not isinstance(probes, list):
        raise PoolError(f"{where}: probe_answers should be a list, found {_kind(probes)}")
    if set(map(type, probes)) - {str}:
        k = next(k for k, answer in enumerate(probes) if type(answer) is not str)
        raise PoolError(f"{where}: probe answer {k} should be a string, found {_kind(probes[k])}")
    if type(tokens) is not int or not 0 <= tokens <= _MAX_TOKENS:
        raise PoolError(f"{where}: branch_tokens should be a whole number of tokens, found {tokens!r:.60}")
    if type(final) is not str:
        raise PoolError(f"{where}: final_answer should be a string, found {_kind(final)}")
    if traced != final:
        raise PoolError(f"{where}: final_answer {final!r:.60} differs from final_answers_trace {traced!r:.60}")


def _field(item: dict[str, Any], field: str, kind: type, where: str) -> Any:
    if field not in item:
        raise PoolError(f"{where}: the field '{field}' is missing")
    if type(item[field]) is not kind:
        found = repr(item[field]) if kind is int and type(item[field]) is float else _kind(item[field])
        raise PoolError(f"{where}: '{field}' should be {_NAMES[kind]}, found {found}")
    return item[field]


_NAMES = {str: "a string", int: "a whole number", list: "a list"}


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a string", int: "a number", float: "a number", bool: "a boolean"}
    return "null" if value is None else kinds.get(type(value), type(value).__name__)
