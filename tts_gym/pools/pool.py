"""Pools in memory: what was recorded, as arrays, and the strings and gold answers that grade it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tts_gym.errors import PoolError

GRADINGS = ("exact", "math")


@dataclass(frozen=True, eq=False)
class Recording:
    """What a replay needs: no strings, no gold. This is all that a program's process may hold.

    Attributes:
        answers: int16[Q, N, D+1], answer codes after each interval and then the final one; a branch with
            L intervals has its final answer at index L. -1 is "no answer" there and padding beyond.
        intervals: int16[Q, N], recorded intervals L of each branch.
        tokens: int32[Q, N], tokens of each whole branch.
        delta: tokens per interval.
        vocabulary_size: the largest number of distinct answers of any question.
    """

    answers: NDArray[np.int16]
    intervals: NDArray[np.int16]
    tokens: NDArray[np.int32]
    delta: int
    vocabulary_size: int

    @property
    def questions(self) -> int:
        """Q, the number of questions."""
        return self.answers.shape[0]

    @property
    def branches(self) -> int:
        """N, the number of branches of every question."""
        return self.answers.shape[1]


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The answer strings of every question; ``vocabulary[q][code]`` is the string of a code.

    Codes number a question's answers in the order of their first appearance, first among the probe
    answers (branch by branch), then among the final ones; so equal content gives equal codes.

    Attributes:
        strings: all questions' strings, one after another.
        offsets: int64[Q+1]; question ``q`` owns ``strings[offsets[q]:offsets[q+1]]``.
    """

    strings: pa.StringArray
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, question: int) -> list[str]:
        if not 0 <= question < len(self):
            raise IndexError(f"question {question} of {len(self)}")
        start, stop = int(self.offsets[question]), int(self.offsets[question + 1])
        return self.strings[start:stop].to_pylist()

    @property
    def sizes(self) -> NDArray[np.int64]:
        """int64[Q], distinct answers per question."""
        return np.diff(self.offsets)


@dataclass(frozen=True, eq=False)
class Signals:
    """Recorded signals that a pool may have beside its answers; each is None where absent.

    Attributes:
        probe_confidence: float32[Q, N, D], NaN where absent.
        probe_text: per question, branch and interval, the raw text of the probe, or None.
        branch_score: float32[Q, N], a reward model's or other score of the whole branch, NaN where absent.
    """

    probe_confidence: NDArray[np.float32] | None = None
    probe_text: Sequence[Sequence[Sequence[str | None]]] | None = None
    branch_score: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Pool:
    """The recorded branches of one (model, benchmark) pair.

    Attributes:
        name: what it is called in tables.
        recording: the arrays a replay needs.
        questions: Q question texts.
        gold: Q reference answers.
        vocabulary: the answer strings behind the codes.
        provenance: where the data comes from, as short text fields.
        graded: per cached grading mode, bool[total vocabulary]: whether that answer is correct.
        signals: what else was recorded.
    """

    name: str
    recording: Recording
    questions: tuple[str, ...]
    gold: tuple[str, ...]
    vocabulary: Vocabulary
    provenance: Mapping[str, str] = field(default_factory=dict)
    graded: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    signals: Signals = field(default_factory=Signals)

    @property
    def answers(self) -> NDArray[np.int16]:
        """int16[Q, N, D+1]; see :class:`Recording`."""
        return self.recording.answers

    @property
    def intervals(self) -> NDArray[np.int16]:
        """int16[Q, N]; see :class:`Recording`."""
        return self.recording.intervals

    @property
    def tokens(self) -> NDArray[np.int32]:
        """int32[Q, N]; see :class:`Recording`."""
        return self.recording.tokens

    def final_codes(self) -> NDArray[np.int16]:
        """int16[Q, N], the code of every branch's final answer, -1 for none."""
        return np.take_along_axis(self.answers, self.intervals[:, :, None].astype(np.int64), axis=2)[:, :, 0]

    def correct(self, grading: str = "exact", questions: Sequence[int] | None = None) -> NDArray[np.bool_]:
        """bool[A, V]: whether each answer code of each asked question (all by default) is correct.

        ``exact`` is the published string equality; other modes come from ``grading.with_grading``, and
        raise PoolError before.
        """
        if grading != "exact" and grading not in self.graded:
            raise PoolError(f"pool {self.name} has no '{grading}' grading; use tts_gym.pools.with_grading first")
        asked = range(len(self.gold)) if questions is None else questions
        dense = np.zeros((len(asked), max(1, self.recording.vocabulary_size)), dtype=np.bool_)
        for row, question in enumerate(asked):
            start, stop = (int(offset) for offset in self.vocabulary.offsets[question : question + 2])
            if grading == "exact":
                equal = pc.equal(self.vocabulary.strings[start:stop], self.gold[question])
                dense[row, : stop - start] = equal.to_numpy(zero_copy_only=False)
            else:
                dense[row, : stop - start] = self.graded[grading][start:stop]
        return dense

    @cached_property
    def content_hash(self) -> str:
        """sha256 over everything that decides a replay and its grading; not the name or provenance."""
        return content_hash(self)


def question_digest(pool: Pool, question: int) -> bytes:
    """sha256 of one question: text, gold, answer strings, codes, lengths, tokens, optional signals."""
    q = question
    digest = hashlib.sha256()
    for text in (pool.questions[q], pool.gold[q], *pool.vocabulary[q]):
        raw = text.encode()
        digest.update(len(raw).to_bytes(8, "little") + raw)
    depth = int(pool.intervals[q].max(initial=0)) + 1
    for array in (pool.intervals[q], pool.tokens[q], pool.answers[q, :, :depth]):
        digest.update(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    extra = pool.signals
    if extra.probe_confidence is not None:
        digest.update(b"confidence" + np.ascontiguousarray(extra.probe_confidence[q, :, : depth - 1]).tobytes())
    if extra.branch_score is not None:
        digest.update(b"score" + np.ascontiguousarray(extra.branch_score[q]).tobytes())
    if extra.probe_text is not None:
        digest.update(b"text" + repr([list(texts) for texts in extra.probe_text[q]]).encode())
    return digest.digest()


def combine_digests(delta: int, branches: int, digests: Sequence[bytes]) -> str:
    """A pool's content hash from its questions' digests."""
    head = f"tts-gym pool delta={delta} branches={branches} questions={len(digests)}\n".encode()
    return hashlib.sha256(head + b"".join(digests)).hexdigest()


def content_hash(pool: Pool) -> str:
    """See :attr:`Pool.content_hash`."""
    recording = pool.recording
    digests = [question_digest(pool, q) for q in range(recording.questions)]
    return combine_digests(recording.delta, recording.branches, digests)


def number_by_appearance(keys: NDArray[np.int32]) -> tuple[NDArray[np.int16], NDArray[np.int32]]:
    """Answer codes of one question, in order of first appearance.

    Args:
        keys: int32[n], an id of the answer at each cell; -1 for "no answer".

    Returns:
        codes int16[n], -1 for none; and the ids in code order.
    """
    ids, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    order = order[ids[order] >= 0]
    if len(order) > np.iinfo(np.int16).max:
        raise PoolError(f"{len(order)} distinct answers, more than {np.iinfo(np.int16).max}")
    codes = np.full(len(ids), -1, dtype=np.int16)
    codes[order] = np.arange(len(order))
    return codes[inverse], ids[order]


def pool_from_cells(
    *,
    name: str,
    questions: Sequence[str],
    gold: Sequence[str],
    probe_counts: NDArray[np.integer],
    probe_answers: pa.DictionaryArray,
    final_answers: pa.DictionaryArray,
    tokens: NDArray[np.int32],
    delta: int,
    provenance: Mapping[str, str],
    graded: Mapping[str, Sequence[Sequence[int]]] | None = None,
    signals: Signals | None = None,
) -> Pool:
    """Build a pool from flat columns of answers, branch after branch and question after question.

    Args:
        probe_counts: int[Q * N], intervals of each branch.
        probe_answers: the probe answers of all branches, one after another; null is "no answer".
        final_answers: one per branch.
        tokens: int32[Q * N].
        graded: per cached grading mode and question, the codes that are correct.
    """
    q_count = len(questions)
    n = len(probe_counts) // q_count
    depth = int(probe_counts.max(initial=0))
    if depth >= np.iinfo(np.int16).max:
        raise PoolError(f"pool {name}: a branch has {depth} intervals, more than {np.iinfo(np.int16).max - 1}")
    probes, finals = pa.chunked_array([probe_answers, final_answers]).unify_dictionaries().chunks
    dictionary = probes.dictionary
    probe_keys, final_keys = _indices(probes), _indices(finals)
    ends = np.concatenate([[0], np.cumsum(probe_counts.reshape(q_count, n).sum(axis=1))])
    ids: list[NDArray[np.int32]] = []
    for q in range(q_count):
        own, last = slice(ends[q], ends[q + 1]), slice(q * n, (q + 1) * n)
        try:
            codes, words = number_by_appearance(np.concatenate([probe_keys[own], final_keys[last]]))
        except PoolError as error:
            raise PoolError(f"pool {name}: question {q} has {error}") from None
        probe_keys[own], final_keys[last] = codes[:-n], codes[-n:]  # from here on codes
        ids.append(words)
    sizes = np.array([len(words) for words in ids])
    offsets = np.concatenate([[0], np.cumsum(sizes)])

    counts = probe_counts.astype(np.int16)
    dense = np.full((q_count * n, depth + 1), -1, dtype=np.int16)
    dense[np.arange(depth + 1, dtype=np.int16) < counts[:, None]] = probe_keys
    dense[np.arange(q_count * n), counts] = final_keys
    recording = Recording(
        answers=dense.reshape(q_count, n, depth + 1),
        intervals=counts.reshape(q_count, n),
        tokens=np.ascontiguousarray(tokens, dtype=np.int32).reshape(q_count, n),
        delta=delta,
        vocabulary_size=int(sizes.max()),
    )
    strings = dictionary.take(pa.array(np.concatenate(ids)))
    return Pool(
        name=name,
        recording=recording,
        questions=tuple(questions),
        gold=tuple(gold),
        vocabulary=Vocabulary(strings, offsets),
        provenance=dict(provenance),
        graded={mode: correct_flags(codes, offsets) for mode, codes in (graded or {}).items()},
        signals=signals or Signals(),
    )


def correct_flags(codes: Sequence[Sequence[int]], offsets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool[total vocabulary] from the correct codes of every question."""
    flags = np.zeros(int(offsets[-1]), dtype=np.bool_)
    for question, correct in enumerate(codes):
        flags[offsets[question] + np.array(correct, dtype=np.int64)] = True
    return flags


def _indices(answers: pa.DictionaryArray) -> NDArray[np.int32]:
    indices = answers.indices
    if indices.null_count:
        indices = pc.fill_null(indices, -1)
    return indices.to_numpy(zero_copy_only=False).astype(np.int32)
