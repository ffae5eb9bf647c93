"""Pools on disk: one Parquet file each, one row per branch, question after question.

Columns: ``question`` and ``branch`` (indices), ``tokens``, ``probe_codes`` (list of int16), ``final_code``;
on the first branch of each question also ``question_text``, ``gold`` and ``vocabulary``, the list of answer
strings that the codes index (-1: no answer). Where recorded: ``probe_confidence`` (list of float),
``probe_text`` (list of strings), ``branch_score``. The metadata key ``tts_gym`` holds the schema version,
name, interval length, shape, content hash, provenance and cached gradings as JSON; ``tts_gym_sha256`` is the
checksum of that text. Pages carry checksums of their own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tts_gym.errors import PoolError
from tts_gym.files import is_file, user_cache, written_whole
from tts_gym.pools.pool import (
    Pool,
    Recording,
    Signals,
    Vocabulary,
    combine_digests,
    correct_flags,
    question_digest,
)

SCHEMA_VERSION = 1
_METADATA, _SEAL = b"tts_gym", b"tts_gym_sha256"
SCHEMA = pa.schema(
    [
        pa.field("question", pa.int32(), nullable=False),
        pa.field("question_text", pa.string()),
        pa.field("gold", pa.string()),
        pa.field("vocabulary", pa.list_(pa.string())),
        pa.field("branch", pa.int32(), nullable=False),
        pa.field("tokens", pa.int32(), nullable=False),
        # not nullable throughout: fewer definition levels, a third faster to read
        pa.field("probe_codes", pa.list_(pa.field("element", pa.int16(), nullable=False)), nullable=False),
        pa.field("final_code", pa.int16(), nullable=False),
        pa.field("probe_confidence", pa.list_(pa.float32())),
        pa.field("probe_text", pa.list_(pa.string())),
        pa.field("branch_score", pa.float32()),
    ]
)
_OPTIONAL = ("probe_confidence", "probe_text", "branch_score")
_GROUP_CELLS = 1 << 20  # answers per row group: bounds the memory of writing and of decoding
_IN_MEMORY_CELLS = 1 << 25  # 64 MiB of codes; larger pools are memory-mapped


def save_pool(pool: Pool, path: str | Path) -> None:
    """Write a pool as one Parquet file; nothing is left behind if that fails."""
    recording = pool.recording
    metadata = {
        "schema_version": SCHEMA_VERSION,
        "name": pool.name,
        "delta": recording.delta,
        "questions": recording.questions,
        "branches": recording.branches,
        "max_intervals": int(recording.answers.shape[2] - 1),
        "vocabulary_size": recording.vocabulary_size,
        "content_hash": pool.content_hash,
        "provenance": dict(pool.provenance),
        "graded": {mode: _accepted(pool, flags) for mode, flags in pool.graded.items()},
    }
    present = [name for name in _OPTIONAL if getattr(pool.signals, name) is not None]
    fields = [field for field in SCHEMA if field.name not in _OPTIONAL or field.name in present]
    schema = pa.schema(fields, metadata=sealed(metadata))
    per_group = max(1, _GROUP_CELLS // (recording.branches * recording.answers.shape[2]))
    with (
        written_whole(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for start in range(0, recording.questions, per_group):
            writer.write_table(_rows(pool, range(start, min(start + per_group, recording.questions)), schema))


def sealed(metadata: dict[str, Any]) -> dict[bytes, bytes]:
    """The file's metadata with its checksum: Parquet has checksums for pages, but none for what describes them."""
    raw = json.dumps(metadata).encode()
    return {_METADATA: raw, _SEAL: hashlib.sha256(raw).hexdigest().encode()}


def _accepted(pool: Pool, flags: NDArray[np.bool_]) -> list[list[int]]:
    offsets = pool.vocabulary.offsets
    return [np.flatnonzero(flags[a:b]).tolist() for a, b in pairwise(offsets)]


def _rows(pool: Pool, questions: range, schema: pa.Schema) -> pa.Table:
    recording = pool.recording
    q, n = np.array(questions), recording.branches
    counts = recording.intervals[q].ravel()
    codes = recording.answers[q].reshape(len(counts), -1)
    recorded = np.arange(codes.shape[1]) < counts[:, None]
    ends = pa.array(np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]), pa.int32())

    def per_probe(name: str, values: Any) -> pa.ListArray:
        return pa.ListArray.from_arrays(ends, values, type=schema.field(name).type)

    def on_first_branch(values: list[Any]) -> list[Any]:
        return [value for first in values for value in (first, *[None] * (n - 1))]

    columns: dict[str, Any] = {
        "question": pa.array(np.repeat(q, n), pa.int32()),
        "question_text": on_first_branch([pool.questions[i] for i in q]),
        "gold": on_first_branch([pool.gold[i] for i in q]),
        "vocabulary": on_first_branch([pool.vocabulary[i] for i in q]),
        "branch": pa.array(np.tile(np.arange(n), len(q)), pa.int32()),
        "tokens": pa.array(recording.tokens[q].ravel()),
        "probe_codes": per_probe("probe_codes", pa.array(codes[recorded])),
        "final_code": pa.array(codes[np.arange(len(counts)), counts]),
    }
    extra = pool.signals
    if extra.probe_confidence is not None:
        values = extra.probe_confidence[q].reshape(len(counts), -1)[recorded[:, :-1]]
        columns["probe_confidence"] = per_probe("probe_confidence", pa.array(values, from_pandas=True))
    if extra.probe_text is not None:
        texts = [text for i in q for branch in extra.probe_text[i] for text in branch]
        columns["probe_text"] = per_probe("probe_text", pa.array(texts, pa.string()))
    if extra.branch_score is not None:
        columns["branch_score"] = pa.array(extra.branch_score[q].ravel(), from_pandas=True)
    return pa.table(columns, schema=schema)


def load_pool(path: str | Path, name: str | None = None) -> Pool:
    """Read a pool's Parquet file; large pools are memory-mapped from a decoded copy in the user's cache.

    Args:
        path: the file.
        name: what to call it; the name it was saved under by default.

    Raises:
        PoolError: the file is unreadable, damaged, no pool, or of another schema version.
    """
    path = Path(path)
    if not is_file(path):
        raise PoolError(f"{path}: no such file")
    try:
        with pq.ParquetFile(path, memory_map=True, page_checksum_verification=True) as file:
            metadata = _metadata(file, path)
            metadata["name"] = metadata["name"] if name is None else name
            cells = metadata["questions"] * metadata["branches"] * (metadata["max_intervals"] + 1)
            if cells > _IN_MEMORY_CELLS and not set(_OPTIONAL) & set(file.schema_arrow.names):
                return _mapped(file, metadata)
            return _decoded(file.read(columns=_columns(file), use_threads=False), metadata)
    except (pa.ArrowException, OSError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise PoolError(f"{path}: damaged or not a pool's Parquet file: {_first_line(error)}") from None


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")


def _metadata(file: pq.ParquetFile, path: Path) -> dict[str, Any]:
    found = file.schema_arrow.metadata or {}
    raw = found.get(_METADATA)
    if raw is None:
        raise PoolError(f"{path}: a Parquet file, but not a pool (it has no 'tts_gym' metadata)")
    metadata = json.loads(raw)
    version = metadata.get("schema_version") if isinstance(metadata, dict) else None
    if version != SCHEMA_VERSION:
        raise PoolError(f"{path}: pool schema version {version}, this tts-gym reads version {SCHEMA_VERSION}")
    if found.get(_SEAL) != hashlib.sha256(raw).hexdigest().encode():
        raise PoolError(f"{path}: damaged: the metadata differs from its checksum")
    for key, (kind, least) in _KEYS.items():
        value = metadata.get(key)
        if type(value) is not kind or (isinstance(value, int) and value < least):
            raise PoolError(f"{path}: the metadata '{key}' is {value!r:.60}, expected {_EXPECTED[kind]}")
    if file.metadata.num_rows != metadata["questions"] * metadata["branches"]:
        raise PoolError(f"{path}: {file.metadata.num_rows} rows for {metadata['questions']} x {metadata['branches']}")
    missing = {field.name for field in SCHEMA} - set(_OPTIONAL) - set(file.schema_arrow.names)
    if missing:
        raise PoolError(f"{path}: the column '{min(missing)}' is missing")
    for field in file.schema_arrow:
        expected = SCHEMA.field(field.name).type if field.name in SCHEMA.names else field.type
        if _plain(field.type) != _plain(expected):
            raise PoolError(f"{path}: the column '{field.name}' holds {field.type}, expected {expected}")
    return metadata


_KEYS: dict[str, tuple[type, int]] = {
    "name": (str, 0),
    "delta": (int, 1),
    "questions": (int, 1),
    "branches": (int, 1),
    "max_intervals": (int, 0),
    "vocabulary_size": (int, 0),
    "content_hash": (str, 0),
    "provenance": (dict, 0),
    "graded": (dict, 0),
}
_EXPECTED = {str: "a string", int: "a whole number above 0", dict: "an object"}


def _plain(kind: pa.DataType) -> tuple[bool, pa.DataType]:
    """A type without what does not matter here: how the elements of a list are called, and whether they can be null."""
    return (True, kind.value_type) if pa.types.is_list(kind) else (False, kind)


def _columns(file: pq.ParquetFile) -> list[str]:
    return [name for name in file.schema_arrow.names if name not in ("question", "branch")]  # implied by the order


def _decoded(table: pa.Table, metadata: dict[str, Any]) -> Pool:
    """The questions of some row groups as a pool of their own."""
    n, depth = metadata["branches"], metadata["max_intervals"]
    if len(table) == 0 or len(table) % n:
        raise ValueError(f"{len(table)} rows are not a whole number of questions of {n} branches")
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    q = len(table) // n
    probes = columns["probe_codes"]
    offsets = probes.offsets.to_numpy()
    counts = np.diff(offsets).astype(np.int16)
    codes = np.full((len(table), depth + 1), -1, dtype=np.int16)
    codes[np.arange(depth + 1, dtype=np.int16) < counts[:, None]] = probes.values.to_numpy()[offsets[0] : offsets[-1]]
    codes[np.arange(len(table)), counts] = columns["final_code"].to_numpy()
    first = pa.array(np.arange(0, len(table), n))
    words = columns["vocabulary"].take(first)
    vocabulary = Vocabulary(words.flatten(), words.offsets.to_numpy().astype(np.int64))
    if (codes.reshape(q, -1).max(axis=1) >= vocabulary.sizes).any() or codes.min() < -1:
        raise ValueError("an answer code is outside its question's vocabulary")
    return Pool(
        name=metadata["name"],
        recording=Recording(
            answers=codes.reshape(q, n, depth + 1),
            intervals=counts.reshape(q, n),
            tokens=columns["tokens"].to_numpy().reshape(q, n),
            delta=metadata["delta"],
            vocabulary_size=int(vocabulary.sizes.max(initial=0)),
        ),
        questions=tuple(columns["question_text"].take(first).to_pylist()),
        gold=tuple(columns["gold"].take(first).to_pylist()),
        vocabulary=vocabulary,
        provenance=metadata["provenance"],
        graded={mode: correct_flags(codes, vocabulary.offsets) for mode, codes in metadata["graded"].items()},
        signals=_signals(columns, counts, n),
    )


def _signals(columns: dict[str, Any], counts: NDArray[Any], n: int) -> Signals:
    q, depth = len(counts) // n, int(counts.max(initial=0))
    confidence = text = score = None
    if "probe_confidence" in columns:
        dense = np.full((len(counts), depth), np.nan, dtype=np.float32)
        dense[np.arange(depth) < counts[:, None]] = columns["probe_confidence"].flatten().to_numpy(zero_copy_only=False)
        confidence = dense.reshape(q, n, depth)
    if "probe_text" in columns:
        rows = columns["probe_text"].to_pylist()
        text = [rows[i * n : (i + 1) * n] for i in range(q)]
    if "branch_score" in columns:
        score = columns["branch_score"].to_numpy(zero_copy_only=False).reshape(q, n)
    return Signals(probe_confidence=confidence, probe_text=text, branch_score=score)


def _mapped(file: pq.ParquetFile, metadata: dict[str, Any]) -> Pool:
    """A pool whose arrays are memory-mapped from a decoded copy, made once per content."""
    folder = user_cache("decoded") / metadata["content_hash"]
    if not folder.exists():
        with written_whole(folder) as temporary:
            temporary.mkdir()
            _decode_to(temporary, file, metadata)
    arrays = {key: np.load(folder / f"{key}.npy", mmap_mode="r") for key in ("answers", "intervals", "tokens")}
    words = json.loads((folder / "questions.json").read_text())
    with pa.memory_map(str(folder / "vocabulary.arrow")) as source:
        strings = pa.ipc.open_file(source).read_all()["answer"].combine_chunks()
    offsets = np.load(folder / "offsets.npy")
    pool = Pool(
        name=metadata["name"],
        recording=Recording(**arrays, delta=metadata["delta"], vocabulary_size=metadata["vocabulary_size"]),
        questions=tuple(words["questions"]),
        gold=tuple(words["gold"]),
        vocabulary=Vocabulary(strings, offsets),
        provenance=metadata["provenance"],
        graded={mode: correct_flags(accepted, offsets) for mode, accepted in metadata["graded"].items()},
    )
    vars(pool)["content_hash"] = metadata["content_hash"]  # compared when it was decoded; again would touch all of it
    return pool


def _decode_to(folder: Path, file: pq.ParquetFile, metadata: dict[str, Any]) -> None:
    q, n, columns = metadata["questions"], metadata["branches"], metadata["max_intervals"] + 1
    shapes: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {
        "answers": ((q, n, columns), np.dtype(np.int16)),
        "intervals": ((q, n), np.dtype(np.int16)),
        "tokens": ((q, n), np.dtype(np.int32)),
    }
    outputs = {key: (folder / f"{key}.npy").open("wb") for key in shapes}
    for key, (shape, dtype) in shapes.items():
        header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(outputs[key], header)
    words: dict[str, list[str]] = {"questions": [], "gold": []}
    sizes: list[NDArray[np.int64]] = []
    digests: list[bytes] = []
    schema = pa.schema([("answer", pa.string())])
    with pa.OSFile(str(folder / "vocabulary.arrow"), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for part in _parts(file, metadata):
            outputs["answers"].write(part.answers.tobytes())
            outputs["intervals"].write(part.intervals.tobytes())
            outputs["tokens"].write(part.tokens.tobytes())
            words["questions"] += part.questions
            words["gold"] += part.gold
            sizes.append(part.vocabulary.sizes)
            digests += [question_digest(part, i) for i in range(part.recording.questions)]
            writer.write_table(pa.table({"answer": part.vocabulary.strings}, schema=schema))
    for output in outputs.values():
        output.close()
    if combine_digests(metadata["delta"], n, digests) != metadata["content_hash"]:
        raise ValueError("the content differs from its recorded hash")
    np.save(folder / "offsets.npy", np.concatenate([[0], np.cumsum(np.concatenate(sizes))]))
    (folder / "questions.json").write_text(json.dumps(words))


def _parts(file: pq.ParquetFile, metadata: dict[str, Any]) -> Iterator[Pool]:
    plain = {**metadata, "graded": {}}
    for group in range(file.num_row_groups):
        yield _decoded(file.read_row_group(group, columns=_columns(file), use_threads=False), plain)


def recorded_hash(path: str | Path) -> str:
    """The content hash that a pool's file claims; ``validate`` compares it with the content."""
    path = Path(path)
    with pq.ParquetFile(path) as file:
        return str(_metadata(file, path)["content_hash"])
