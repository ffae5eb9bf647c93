"""Grading and merging: pairs known to be equal or not, hand-made votes, real pools, and the cache."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import math_verify
import numpy as np
import pytest

from tts_gym.errors import UsageError
from tts_gym.pools.autotts import import_json
from tts_gym.pools.grading import merge_equivalent, with_grading
from tts_gym.pools.pool import Pool
from tts_gym.pools.storage import load_pool, save_pool

ROOT = Path(__file__).resolve().parents[2]
AUTOTTS = Path(os.environ.get("TTS_GYM_AUTOTTS") or ROOT.parent / "shared" / "data" / "autotts")

EQUAL = [  # gold, answer
    (r"\frac{9 \sqrt{23}}{23}", r"\frac{9\sqrt{23}}{23}"),
    (r"1-\frac{2}{\pi}", r"1 - \frac{2}{\pi}"),
    (r"\frac{3}{4}", r"\dfrac{3}{4}"),
    (r"\frac{3}{4}", "0.75"),
    ("42", "042"),
    ("42", "42."),
    ("1234", "1,234"),
    ("1234", "1 234"),
    ("2^{99}", "633825300114114700748351602688"),
    ("(1,2)", r"\left( 1, 2 \right)"),
    (r"\{1,2\}", r"\{2,1\}"),
    (r"\frac{1+\sqrt{5}}{2}, \frac{1-\sqrt{5}}{2}", r"\frac{1-\sqrt{5}}{2},\frac{1+\sqrt{5}}{2}"),
    (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}"),
    (r"\frac{1}{3}", "0.333333"),
    ("5", "x = 5"),
    ("90", r"90^\circ"),
    ("5", r"\boxed{5}"),
    ("(x+1)^2", "x^2 + 2x + 1"),
    ("60", r"60 + 0\sqrt{p}"),
    (r"\text{no parse \{", r"\text{no parse  \{"),
]
DIFFERENT = [
    ("42", "43"),
    ("42", "-42"),
    ("1234", "(1, 234)"),
    ("(1,2)", "(2,1)"),
    ("[1,2]", "(1,2)"),
    (r"\frac{1}{3}", "0.33"),
    ("10000000000000000000000", "10000000000000000000001"),
    ("2^{99}", "2^{98}"),
    ("x+1", "y+1"),
    ("25", r"25 + 1 + \ldots"),
    ("25", "4^{2^{2025}} + 5^{2^{2025}}"),
    ("5", "ERR"),
    ("ERR", "5"),
    ("5", ""),
    ("", ""),
    ("5", r"5}^{3} \frac{"),
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TTS_GYM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gradings"


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., Pool]:
    """A pool of one question per (gold, final answers); each branch is probed once, with the final answer."""

    def make(*questions: tuple[str, list[str]]) -> Pool:
        items = [
            {
                "question": f"Question {q}?",
                "final_answers_trace": answers,
                "each_branch": [[[answer], 700, answer] for answer in answers],
                "gold_answer": gold,
                "probe_freq": 500,
            }
            for q, (gold, answers) in enumerate(questions)
        ]
        path = tmp_path / "tiny.json"
        path.write_text(json.dumps(items))
        return import_json(path, "tiny")

    return make


@pytest.fixture
def verify_calls(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Grows by one with every call of the library's verify."""
    calls: list[object] = []
    real = math_verify.verify

    def counted(*args: object, **options: object) -> bool:
        calls.append(args)
        return bool(real(*args, **options))

    monkeypatch.setattr(math_verify, "verify", counted)
    return calls


def correct(pool: Pool, grading: str = "math") -> list[list[bool]]:
    dense = with_grading(pool, grading).correct(grading)
    return [row[:size].tolist() for row, size in zip(dense, pool.vocabulary.sizes, strict=True)]


def real_pool(name: str) -> Pool:
    path = AUTOTTS / f"{name}.json"
    if not path.exists():
        pytest.skip(f"the AutoTTS file {name}.json is not here; set TTS_GYM_AUTOTTS to the folder that holds it")
    return import_json(path)


def test_pairs_are_graded_and_merged_as_they_should(tiny: Callable[..., Pool]) -> None:
    pairs = EQUAL + DIFFERENT
    expected = [True] * len(EQUAL) + [False] * len(DIFFERENT)
    graded = correct(tiny(*[(gold, [answer, answer]) for gold, answer in pairs]))
    assert {pair: answers[0] for pair, answers in zip(pairs, graded, strict=True)} == dict(zip(pairs, expected))

    merged = merge_equivalent(tiny(*[("unrelated gold", [gold, answer]) for gold, answer in pairs]))
    one_class = [len(set(row.tolist())) == 1 for row in merged.final_codes()]
    same_string = [gold == answer for gold, answer in pairs]
    assert one_class == [same or equal for same, equal in zip(same_string, expected, strict=True)]


def test_every_answer_equal_to_gold_as_a_string_is_correct(tiny: Callable[..., Pool]) -> None:
    strings = ["ERR", r"\frac{", "2^{2^{2^{99}}}", "x" * 1000, "No", "007"]
    pool = tiny(*[(text, [text, "12345"]) for text in strings])
    assert correct(pool) == [[True, False]] * len(strings) == correct(pool, "exact")


def test_hmmt_defects_of_the_published_files_are_mended_by_math_only(tiny: Callable[..., Pool]) -> None:
    pool = tiny(
        (r"\frac{9 \sqrt{23}}{23}", [r"\frac{9\sqrt{23}}{23}", "9", "ERR"]),
        (r"1-\frac{2}{\pi}", [r"1 - \frac{2}{\pi}", r"\frac{2}{\pi}", r"\frac{\pi - 2}{\pi}"]),
    )
    assert correct(pool, "exact") == [[False] * 3] * 2
    assert correct(pool) == [[True, False, False], [True, False, True]]


def test_exact_is_the_pool_itself_and_unknown_gradings_name_the_nearest(tiny: Callable[..., Pool]) -> None:
    pool = tiny(("1", ["1", "2"]))
    assert with_grading(pool, "exact") is pool
    graded = with_grading(pool, "math")
    assert with_grading(graded, "math") is graded
    with pytest.raises(UsageError, match="unknown grading 'maths'; did you mean math"):
        with_grading(pool, "maths")


def test_without_math_verify_the_error_says_what_to_install(
    tiny: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(UsageError, match="pip install math-verify"):
        with_grading(tiny(("1", ["1", "2"])), "math")


def test_importing_the_module_imports_neither_math_verify_nor_sympy() -> None:
    code = "import sys, tts_gym.pools.grading as g; print(sorted({'math_verify', 'sympy', 'tqdm'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_second_call_is_answered_from_the_cache(
    tiny: Callable[..., Pool], cache: Path, verify_calls: list[object]
) -> None:
    pool = tiny((r"\frac{1}{2}", ["0.5", "x", r"\frac{2}{4}"]))
    graded, merged = with_grading(pool, "math"), merge_equivalent(pool)
    assert verify_calls
    assert len(list(cache.iterdir())) == 2
    verify_calls.clear()
    assert np.array_equal(with_grading(pool, "math").correct("math"), graded.correct("math"))
    assert merge_equivalent(pool).content_hash == merged.content_hash
    assert not verify_calls

    with_grading(tiny((r"\frac{2}{4}", ["0.5", "x", r"\frac{2}{4}"])), "math")  # other gold, other entry
    assert verify_calls


@pytest.mark.parametrize("damage", [b"", b"[[0]]", b"\xff\x00garbage\n[[0, 1, 2]]"])
def test_damaged_cache_is_recomputed(
    tiny: Callable[..., Pool], cache: Path, verify_calls: list[object], damage: bytes
) -> None:
    pool = tiny((r"\frac{1}{2}", ["0.5", "x"]))
    with_grading(pool, "math")
    (entry,) = cache.iterdir()
    whole = entry.read_bytes()
    verify_calls.clear()
    for content in (damage, whole[:-1], whole.replace(b"[[0]]", b"[[1]]")):
        assert content != whole
        entry.write_bytes(content)
        assert correct(pool) == [[True, False]]
        assert entry.read_bytes() == whole
    assert len(verify_calls) == 3


def test_grading_works_outside_the_main_thread(tiny: Callable[..., Pool]) -> None:
    pool = tiny((r"\frac{1}{2}", ["0.5", r"\frac{5}{11}"]))
    found: list[list[list[bool]]] = []
    thread = threading.Thread(target=lambda: found.append(correct(pool)))
    thread.start()
    thread.join()
    assert found == [[[True, False]]]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timers")
def test_endless_comparison_is_cut_off_and_the_callers_timer_goes_on(
    tiny: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tts_gym.pools.grading._SECONDS", 0.3)
    monkeypatch.setattr(math_verify, "verify", lambda *_, **__: time.sleep(60))
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: rung.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 20)
        assert correct(tiny((r"\frac{1}{2}", ["0.5", "x"]))) == [[False, False]]
        left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
        assert 0 < left < 19.8
        assert not rung
    finally:
        signal.signal(signal.SIGALRM, before)


def test_merging_shares_votes_and_can_change_the_majority(tiny: Callable[..., Pool]) -> None:
    answers = ["7", "0.5", r"\frac{1}{2}", "7", "ERR", "1/2", "", "ERR", ""]
    pool = tiny((r"\frac{2}{4}", answers), ("3", ["1", "2", "3", "03", "3.0", "4", "4", "4", "4"]))
    merged = merge_equivalent(pool)
    assert pool.final_codes()[0].tolist() == [0, 1, 2, 0, 3, 4, 5, 3, 5]
    assert merged.final_codes().tolist() == [[0, 1, 1, 0, 2, 1, 3, 2, 3], [0, 1, 2, 2, 2, 3, 3, 3, 3]]
    assert [merged.vocabulary[q] for q in (0, 1)] == [["7", "0.5", "ERR", ""], ["1", "2", "3", "4"]]
    assert merged.recording.vocabulary_size == 4

    def majority(pool: Pool) -> str:
        code = Counter(pool.final_codes()[0].tolist()).most_common(1)[0][0]
        return pool.vocabulary[0][code]

    assert (majority(pool), majority(merged)) == ("7", "0.5")
    assert correct(merged) == [[False, True, False, False], [False, False, True, False]]
    assert "merged" in merged.provenance
    assert "merged" not in pool.provenance
    assert np.array_equal(merged.tokens, pool.tokens)
    again = merge_equivalent(merged)
    assert np.array_equal(again.answers, merged.answers)


def test_a_class_that_holds_gold_is_correct_under_exact_too(tiny: Callable[..., Pool]) -> None:
    merged = merge_equivalent(tiny(("42", ["9", "042", "42", "8"])))
    assert merged.vocabulary[0] == ["9", "42", "8"]
    assert correct(merged, "exact") == correct(merged) == [[False, True, False]]


def test_merged_pool_survives_the_disk(tiny: Callable[..., Pool], tmp_path: Path, verify_calls: list[object]) -> None:
    merged = merge_equivalent(tiny((r"\frac{1}{2}", ["7", "0.5", r"\frac{2}{4}", "ERR"]), ("3", ["3", "03", "4", "4"])))
    save_pool(merged, tmp_path / "merged.parquet")
    verify_calls.clear()
    loaded = load_pool(tmp_path / "merged.parquet")
    assert loaded.content_hash == merged.content_hash
    assert np.array_equal(loaded.answers, merged.answers)
    assert correct(loaded) == [[False, True, False], [True, False]]
    assert loaded.provenance == merged.provenance
    assert not verify_calls


def test_real_pool_differs_between_exact_and_math_where_listed() -> None:
    pool = with_grading(real_pool("Qwen3-4B/aime24"), "math")
    differ = np.argwhere(pool.correct("exact") != pool.correct("math"))
    assert [(int(q), pool.vocabulary[int(q)][code]) for q, code in differ] == [
        (16, r"312 \cdot 6\sqrt{30} / (4\sqrt{30})")  # gold 468: correct, but not as a string
    ]
    assert not (np.take_along_axis(pool.correct("math") & ~pool.correct("exact"), pool.final_codes(), 1)).any()


def test_real_pool_merges_consistently() -> None:
    pool = with_grading(real_pool("Qwen3-4B/aime24"), "math")
    merged = merge_equivalent(pool)
    assert (len(pool.vocabulary.strings), len(merged.vocabulary.strings)) == (1986, 1894)
    for q in range(pool.recording.questions):
        was, now = pool.answers[q].ravel(), merged.answers[q].ravel()
        assert np.array_equal(was < 0, now < 0)
        assert set(now[now >= 0].tolist()) == set(range(len(merged.vocabulary[q])))
        seen = dict(zip(was.tolist(), now.tolist()))
        assert all(seen[a] == b for a, b in zip(was.tolist(), now.tolist()))
        first_members = [min(a for a, b in seen.items() if b == code) for code in range(len(merged.vocabulary[q]))]
        assert first_members == sorted(first_members)
        for mode in ("exact", "math"):
            members = pool.correct(mode)[q]
            for code in range(len(merged.vocabulary[q])):
                assert merged.correct(mode)[q, code] == any(members[a] for a, b in seen.items() if b == code and a >= 0)
