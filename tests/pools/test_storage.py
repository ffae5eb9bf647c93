"""Pools on disk: nothing is lost, plain Parquet readers understand it, damage is never read as data."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tts_gym.errors import PoolError
from tts_gym.pools import storage
from tts_gym.pools.autotts import import_json
from tts_gym.pools.pool import Pool, Signals, pool_from_cells
from tts_gym.pools.storage import load_pool, recorded_hash, save_pool

Branch = tuple[list[str | None], int, str | None]


def build(branches: list[list[Branch]], gold: list[str], delta: int = 100, **rest: Any) -> Pool:
    """A pool from the (probe answers, tokens, final answer) of every branch of every question."""
    flat = [branch for question in branches for branch in question]
    return pool_from_cells(
        name="local/hand",
        questions=[f"question {q}" for q in range(len(branches))],
        gold=gold,
        probe_counts=np.array([len(probes) for probes, _, _ in flat]),
        probe_answers=pa.array([a for probes, _, _ in flat for a in probes], pa.string()).dictionary_encode(),
        final_answers=pa.array([final for _, _, final in flat], pa.string()).dictionary_encode(),
        tokens=np.array([tokens for _, tokens, _ in flat], dtype=np.int32),
        delta=delta,
        provenance={"source": "by hand", "note": "é\n"},
        **rest,
    )


@pytest.fixture
def hand() -> Pool:
    return build(
        [
            [(["7", None, "7"], 290, "7"), ([], 40, None), (["", "ERR"], 260, "ERR")],
            [(["½", "7"], 200, "½"), (["x\ny"], 90, "7"), ([None], 120, None)],
        ],
        ["7", "½"],
    )


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TTS_GYM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "decoded"


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    q, n = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    answers = st.none() | st.sampled_from(["", "7", "ERR", " 7", "½", "\\frac{1}{2}"]) | st.text(max_size=4)
    branch = st.tuples(st.lists(answers, max_size=4), st.integers(0, 2**31 - 1), answers)
    branches = draw(st.lists(st.lists(branch, min_size=n, max_size=n), min_size=q, max_size=q))
    pool = build(branches, draw(st.lists(st.text(max_size=4), min_size=q, max_size=q)), draw(st.integers(1, 10_000)))

    depth = pool.answers.shape[2] - 1
    recorded = np.arange(depth) < pool.intervals[:, :, None]
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))

    def scores(*shape: int) -> NDArray[np.float32]:
        values = rng.normal(size=shape).astype(np.float32)
        values[rng.random(shape) < 0.3] = np.nan
        return values

    def texts(question: int) -> list[list[str | None]]:
        counts = pool.intervals[question].tolist()
        return [[None if rng.random() < 0.3 else f"…{k}\n" for k in range(count)] for count in counts]

    optional = Signals(
        probe_confidence=np.where(recorded, scores(q, n, depth), np.float32(np.nan)) if draw(st.booleans()) else None,
        probe_text=[texts(question) for question in range(q)] if draw(st.booleans()) else None,
        branch_score=scores(q, n) if draw(st.booleans()) else None,
    )
    graded = {mode: rng.random(int(pool.vocabulary.offsets[-1])) < 0.5 for mode in draw(st.sets(st.just("math")))}
    return Pool(
        name=draw(st.text(min_size=1, max_size=8)),
        recording=pool.recording,
        questions=tuple(draw(st.lists(st.text(max_size=8), min_size=q, max_size=q))),
        gold=pool.gold,
        vocabulary=pool.vocabulary,
        provenance=draw(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)),
        graded=graded,
        signals=optional,
    )


def assert_equal(found: Pool, expected: Pool) -> None:
    for name in ("answers", "intervals", "tokens"):
        a, b = getattr(found, name), getattr(expected, name)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    for name in ("delta", "vocabulary_size", "questions", "branches"):
        assert getattr(found.recording, name) == getattr(expected.recording, name)
    assert (found.name, found.questions, found.gold) == (expected.name, expected.questions, expected.gold)
    assert [found.vocabulary[q] for q in range(len(found.gold))] == [
        expected.vocabulary[q] for q in range(len(expected.gold))
    ]
    assert dict(found.provenance) == dict(expected.provenance)
    assert found.graded.keys() == expected.graded.keys()
    for mode in ("exact", *expected.graded):
        np.testing.assert_array_equal(found.correct(mode), expected.correct(mode))
    for name in ("probe_confidence", "branch_score"):
        a, b = getattr(found.signals, name), getattr(expected.signals, name)
        assert (a is None) == (b is None)
        if b is not None:
            assert a.dtype == np.float32
            np.testing.assert_array_equal(a, b)  # NaN equals NaN here
    assert found.signals.probe_text == expected.signals.probe_text
    assert found.content_hash == expected.content_hash


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pool=pools(), one_by_one=st.booleans())
def test_round_trip(pool: Pool, one_by_one: bool, tmp_path: Path) -> None:
    """Also where every question is a row group of its own."""
    with pytest.MonkeyPatch.context() as patch:
        if one_by_one:
            patch.setattr(storage, "_GROUP_CELLS", 1)
        save_pool(pool, tmp_path / "pool.parquet")
    assert pq.ParquetFile(tmp_path / "pool.parquet").num_row_groups == (pool.recording.questions if one_by_one else 1)
    assert recorded_hash(tmp_path / "pool.parquet") == pool.content_hash
    assert_equal(load_pool(tmp_path / "pool.parquet"), pool)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pool=pools())
def test_saving_twice_gives_the_same_bytes(pool: Pool, tmp_path: Path) -> None:
    save_pool(pool, tmp_path / "a.parquet")
    save_pool(load_pool(tmp_path / "a.parquet"), tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_the_name_is_the_saved_one_or_the_given_one(hand: Pool, tmp_path: Path) -> None:
    save_pool(hand, tmp_path / "pool.parquet")
    assert load_pool(tmp_path / "pool.parquet").name == "local/hand"
    assert load_pool(tmp_path / "pool.parquet", name="other").name == "other"


def test_plain_parquet_readers_understand_it(hand: Pool, tmp_path: Path) -> None:
    """The columns of the module's description, worked out by hand."""
    save_pool(hand, tmp_path / "pool.parquet")
    table = pq.read_table(tmp_path / "pool.parquet")
    assert {field.name: str(field.type) for field in table.schema} == {
        "question": "int32",
        "question_text": "string",
        "gold": "string",
        "vocabulary": "list<element: string>",
        "branch": "int32",
        "tokens": "int32",
        "probe_codes": "list<element: int16 not null>",
        "final_code": "int16",
    }
    assert table.drop_columns(["vocabulary"]).to_pydict() == {
        "question": [0, 0, 0, 1, 1, 1],
        "question_text": ["question 0", None, None, "question 1", None, None],
        "gold": ["7", None, None, "½", None, None],
        "branch": [0, 1, 2, 0, 1, 2],
        "tokens": [290, 40, 260, 200, 90, 120],
        "probe_codes": [[0, -1, 0], [], [1, 2], [0, 1], [2], [-1]],
        "final_code": [0, -1, 2, 0, 1, -1],
    }
    assert table["vocabulary"].to_pylist() == [["7", "", "ERR"], None, None, ["½", "7", "x\ny"], None, None]
    metadata = json.loads(table.schema.metadata[b"tts_gym"])
    assert metadata == {
        "schema_version": 1,
        "name": "local/hand",
        "delta": 100,
        "questions": 2,
        "branches": 3,
        "max_intervals": 3,
        "vocabulary_size": 3,
        "content_hash": hand.content_hash,
        "provenance": {"source": "by hand", "note": "é\n"},
        "graded": {},
    }


def test_optional_columns_in_plain_parquet(tmp_path: Path) -> None:
    nan = np.nan
    pool = build(
        [[(["1", "2"], 9, "2"), ([], 5, None)]],
        ["2"],
        graded={"math": [[1]]},
        signals=Signals(
            probe_confidence=np.array([[[0.5, nan], [nan, nan]]], dtype=np.float32),
            probe_text=[[["maybe 1", None], []]],
            branch_score=np.array([[nan, 0.25]], dtype=np.float32),
        ),
    )
    save_pool(pool, tmp_path / "pool.parquet")
    table = pq.read_table(tmp_path / "pool.parquet")
    assert table["probe_confidence"].to_pylist() == [[0.5, None], []]
    assert table["probe_text"].to_pylist() == [["maybe 1", None], []]
    assert table["branch_score"].to_pylist() == [None, 0.25]
    assert json.loads(table.schema.metadata[b"tts_gym"])["graded"] == {"math": [[1]]}


@pytest.mark.parametrize(
    "change",
    [
        lambda pool: {"gold": ("7", "7")},
        lambda pool: {"questions": ("question 0", "other")},
        lambda pool: {"tokens": pool.tokens + np.eye(2, 3, dtype=np.int32)},
        lambda pool: {"answers": np.where(pool.answers == 2, np.int16(0), pool.answers)},
        lambda pool: {"delta": 101},
    ],
)
def test_the_hash_changes_with_whatever_decides_a_replay(hand: Pool, change: Callable[[Pool], dict[str, Any]]) -> None:
    changed = change(hand)
    recording = replace(hand.recording, **{k: v for k, v in changed.items() if k in ("tokens", "answers", "delta")})
    rest = {k: v for k, v in changed.items() if k in ("gold", "questions")}
    assert replace(hand, recording=recording, **rest).content_hash != hand.content_hash
    assert replace(hand, name="other", provenance={}).content_hash == hand.content_hash


def test_no_damaged_byte_is_read_as_data(hand: Pool, tmp_path: Path) -> None:
    """Every byte, flipped: an error, or the very same content."""
    path = tmp_path / "pool.parquet"
    save_pool(hand, path)
    whole = path.read_bytes()
    refused = 0
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            assert_equal(load_pool(path), hand)
        except PoolError as error:
            assert str(path) in str(error)
            assert "\n" not in str(error)
            refused += 1
    assert refused > len(whole) / 2


def test_no_truncated_file_is_read_as_data(hand: Pool, tmp_path: Path) -> None:
    path = tmp_path / "pool.parquet"
    save_pool(hand, path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(PoolError, match=r"pool\.parquet: damaged or not a pool's Parquet file: \S[^\n]*$"):
            load_pool(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match=r"pool\.parquet: no such file"):
        load_pool(tmp_path / "pool.parquet")


def test_saving_that_fails_half_way_leaves_what_was_there(
    hand: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_GROUP_CELLS", 1)  # the first question has been written when the second fails
    save_pool(hand, tmp_path / "pool.parquet")
    before = (tmp_path / "pool.parquet").read_bytes()
    texts: Any = [[["a", "b", "c"], [], ["d", "e"]], [[5, 6], [7], [8]]]
    bad = replace(hand, signals=Signals(probe_text=texts))
    for name in ("pool.parquet", "new.parquet"):
        with pytest.raises(TypeError):
            save_pool(bad, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["pool.parquet"]
    assert (tmp_path / "pool.parquet").read_bytes() == before


class TestMapped:
    @pytest.fixture(autouse=True)
    def everything_is_large(self, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
        monkeypatch.setattr(storage, "_IN_MEMORY_CELLS", 0)
        monkeypatch.setattr(storage, "_GROUP_CELLS", 1)  # several parts to decode

    def test_same_content_in_mapped_arrays(self, hand: Pool, tmp_path: Path) -> None:
        hand = replace(hand, graded={"math": np.arange(6) % 2 == 0})
        save_pool(hand, tmp_path / "pool.parquet")
        pool = load_pool(tmp_path / "pool.parquet")
        assert_equal(pool, hand)
        for array in (pool.answers, pool.intervals, pool.tokens):
            assert isinstance(array, np.memmap)
            assert not array.flags.writeable

    def test_its_hash_is_known_without_reading_it_under_any_name(self, hand: Pool, tmp_path: Path) -> None:
        save_pool(hand, tmp_path / "pool.parquet")
        for name in (None, "another"):
            pool = load_pool(tmp_path / "pool.parquet", name)
            assert pool.name == (name or hand.name)
            assert vars(pool)["content_hash"] == hand.content_hash

    def test_decoded_once(self, hand: Pool, tmp_path: Path, cache: Path) -> None:
        def decoded() -> dict[Path, tuple[int, int]]:
            return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in cache.rglob("*")}

        save_pool(hand, tmp_path / "pool.parquet")
        load_pool(tmp_path / "pool.parquet")
        before = decoded()
        assert len(before) > 3
        assert_equal(load_pool(tmp_path / "pool.parquet"), hand)
        assert decoded() == before

    def test_opened_by_many_at_once(self, hand: Pool, tmp_path: Path, cache: Path) -> None:
        save_pool(hand, tmp_path / "pool.parquet")
        with ThreadPoolExecutor(8) as executor:
            for pool in executor.map(load_pool, [tmp_path / "pool.parquet"] * 8):
                assert_equal(pool, hand)
        assert [path.name for path in cache.iterdir()] == [hand.content_hash]

    def test_content_that_is_not_what_the_hash_says(self, hand: Pool, tmp_path: Path, cache: Path) -> None:
        path = tmp_path / "pool.parquet"
        save_pool(hand, path)
        table = pq.read_table(path)
        tokens = pa.array([1, 2, 3, 4, 5, 6], pa.int32())
        at = table.schema.get_field_index("tokens")
        pq.write_table(table.set_column(at, table.schema.field(at), tokens), path)
        with pytest.raises(PoolError, match=r"pool\.parquet: .*the content differs from its recorded hash"):
            load_pool(path)
        assert not list(cache.iterdir())

    def test_optional_signals_stay_in_memory(self, hand: Pool, tmp_path: Path, cache: Path) -> None:
        scored = replace(hand, signals=Signals(branch_score=np.ones((2, 3), dtype=np.float32)))
        save_pool(scored, tmp_path / "pool.parquet")
        assert_equal(load_pool(tmp_path / "pool.parquet"), scored)
        assert not cache.exists()

    def test_recorded_data(self, autotts: Path, tmp_path: Path) -> None:
        imported = import_json(autotts / "Qwen3-8B" / "aime24.json")
        save_pool(imported, tmp_path / "pool.parquet")
        assert_equal(load_pool(tmp_path / "pool.parquet"), imported)


def test_recorded_data_is_the_same_from_json_and_from_parquet(autotts: Path, tmp_path: Path) -> None:
    imported = import_json(autotts / "Qwen3-8B" / "aime24.json")
    assert imported.answers.shape == (30, 128, 81)
    save_pool(imported, tmp_path / "pool.parquet")
    assert_equal(load_pool(tmp_path / "pool.parquet"), imported)
    # Parquet, read with nothing of ours, holds the strings of the JSON file
    rows = pq.read_table(tmp_path / "pool.parquet").to_pylist()
    questions = json.loads((autotts / "Qwen3-8B" / "aime24.json").read_bytes())
    for q, question in enumerate(questions):
        words = rows[128 * q]["vocabulary"]
        for b, (probes, tokens, final) in enumerate(question["each_branch"]):
            row = rows[128 * q + b]
            assert [words[code] for code in row["probe_codes"]] == probes
            assert (row["tokens"], words[row["final_code"]]) == (tokens, final)
