"""Writing files so that nothing half-written is ever left behind, and where caches live."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from tts_gym.errors import UsageError


def user_cache(*parts: str) -> Path:
    """A folder in the platform's user cache (``TTS_GYM_CACHE`` overrides where), created on demand."""
    import platformdirs

    root = os.environ.get("TTS_GYM_CACHE") or platformdirs.user_cache_dir("tts-gym", appauthor=False)
    folder = Path(root).joinpath(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{folder}: the cache folder cannot be created: {error.strerror}; set TTS_GYM_CACHE to a writable folder"
        ) from None
    return folder


def check_writable(path: str | Path) -> None:
    """Raise UsageError now if ``path`` could not be written later."""
    path = Path(path)
    folder = path.parent
    if path.is_dir():
        raise UsageError(f"{path}: is a folder, not a file that could be written")
    if not folder.is_dir():
        raise UsageError(f"{path}: cannot be written: the folder {folder} does not exist")
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise UsageError(f"{path}: cannot be written: no permission")


@contextlib.contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place on success and vanishes on failure."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield temporary
        try:
            temporary.replace(path)
        except OSError:
            if not (temporary.is_dir() and path.is_dir()):  # another process made the same folder first
                raise
    except OSError as error:
        if error.filename is not None and Path(error.filename) in (temporary, path):
            raise UsageError(f"{path}: cannot be written: {error.strerror}") from None
        raise
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
