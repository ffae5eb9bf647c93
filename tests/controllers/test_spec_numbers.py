"""Every number that spec 8.1 gives for these methods on the recorded data, to its printed digits."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from tts_gym.evaluation import evaluate
from tts_gym.pools import Pool, import_json

NUMBERS = [
    ("Qwen3-8B/aime24", "short_m_at_k:m=3,k=8", "82.40 91716"),
    ("Qwen3-8B/aime24", "short_m_at_k:m=5,k=16", "83.23 179408"),
    ("Qwen3-8B/aime24", "short_m_at_k:m=8,k=32", "84.33 348857"),
    ("Qwen3-8B/aime24", "short_m_at_k:m=8,k=64", "85.93 633480"),
    ("Qwen3-8B/aime25", "short_m_at_k:m=3,k=8", "73.77 118093"),
    ("Qwen3-8B/aime25", "short_m_at_k:m=8,k=32", "75.07 448906"),
    ("Qwen3-1.7B/aime25", "short_m_at_k:m=5,k=16", "45.07 211095"),
    ("Qwen3-8B/aime24", "doubling_batches:budget=64", "80.27 212069"),
    ("Qwen3-8B/aime24", "depth_capped_sc:n=64,cap=40", "80.23 787996"),
]


@cache
def _pool(folder: Path, name: str) -> Pool:
    return import_json(folder / f"{name}.json")


@pytest.mark.parametrize(("pool", "spec", "numbers"), NUMBERS)
def test_spec_8_1(autotts: Path, pool: str, spec: str, numbers: str) -> None:
    (row,) = evaluate([spec], [_pool(autotts, pool)], [1.0]).rows
    assert f"{row.accuracy:.2f} {int(row.tokens)}" == numbers


def test_relations_that_spec_8_1_states(autotts: Path) -> None:
    """FFS spends what short-1@k spends; Dynasor's rule on the grid is SAC's with another window."""
    specs = ["first_finish:n=8", "short_m_at_k:m=1,k=8", "dynasor_grid:n=4,window=5", "sc_sac:n=4,streak=5"]
    ffs, short, dynasor, sac = evaluate(specs, [_pool(autotts, "Qwen3-8B/aime24")], [1.0]).rows
    assert ffs.tokens <= short.tokens < 1.002 * ffs.tokens  # the probes bill the rest of a branch's last interval
    assert abs(ffs.accuracy - short.accuracy) < 0.5
    assert (dynasor.accuracy, dynasor.tokens) == (sac.accuracy, sac.tokens)  # the AutoTTS data has no null answers


def test_sprt_and_msprt_decide_alike_on_recorded_data(autotts: Path) -> None:
    specs = ["consol_sprt:max_samples=256", "consol_msprt:max_samples=256"]
    one, other = evaluate(specs, [_pool(autotts, "Qwen3-1.7B/aime24")], [1.0], orders=20).rows
    assert (one.accuracy, one.tokens, one.sequential_tokens) == (other.accuracy, other.tokens, other.sequential_tokens)
