"""Shared by all tests: where the real data is, and a cache that is not the user's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Kept between runs: machine code is compiled once, as for a user.
os.environ["TTS_GYM_CACHE"] = str(ROOT / ".cache")

AUTOTTS = Path(os.environ.get("TTS_GYM_AUTOTTS") or ROOT.parent / "shared" / "data" / "autotts")
SEARCH_POOL = AUTOTTS / "Qwen3-8B" / "aime24.json"


@pytest.fixture(scope="session")
def autotts() -> Path:
    """The folder with the recorded AutoTTS data; tests that need it are skipped where it is absent."""
    if not SEARCH_POOL.is_file():
        pytest.skip(f"recorded data is absent: {AUTOTTS} has no Qwen3-8B/aime24.json (set TTS_GYM_AUTOTTS)")
    return AUTOTTS
