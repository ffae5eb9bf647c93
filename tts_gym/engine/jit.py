"""Numba's compiler with its disk cache where this package wants it.

Numba keeps machine code beside the source file and notices only changes of that one file. Ours depends on
several, so it lives in the user's cache under a fingerprint of all of them.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numba

from tts_gym.files import user_cache

_PACKAGE = Path(__file__).parent.parent  # not importlib.resources: it would import what is just being imported
_SOURCES = {
    "engine": ("memory.py", "moves.py", "compiled.py", "jit.py"),
    "envs": ("layout.py", "observation.py", "actions.py", "kernel.py"),
    "programs": ("primitives.py", "native.py", "driver.py", "compilation.py"),
}
_lock = threading.Lock()


@lru_cache(maxsize=1)
def code_cache() -> Path:
    """The folder of machine code that belongs to exactly these sources and this Numba."""
    digest = hashlib.sha256(numba.__version__.encode())
    for folder, names in _SOURCES.items():
        for name in names:
            digest.update((_PACKAGE / folder / name).read_bytes())
    return user_cache("compiled", digest.hexdigest()[:16])


def cached_njit(folder: Path | None = None, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """``numba.njit`` without the GIL, its machine code kept under ``folder`` (the engine's by default)."""

    def decorate(function: Callable[..., Any]) -> Any:
        with _lock:  # Numba reads this setting once, when the function is decorated
            before = numba.config.CACHE_DIR
            numba.config.CACHE_DIR = str(folder or code_cache())
            try:
                return numba.njit(nogil=True, cache=True, **options)(function)
            finally:
                numba.config.CACHE_DIR = before

    return decorate
