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
    """A folder in the platform's user cache, created on demand; see :func:`cache_path`."""
    return make_folder(cache_path(*parts))


def cache_path(*parts: str) -> Path:
    """Where something lies in the platform's user cache, whether it is there or not; TTS_GYM_CACHE overrides where."""
    import platformdirs

    root = os.environ.get("TTS_GYM_CACHE") or platformdirs.user_cache_dir("tts-gym", appauthor=False)
    return Path(root).joinpath(*parts)


def make_folder(folder: Path) -> Path:
    """Create a folder of the cache unless it is there. Raises UsageError that says what to do where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{folder}: the cache folder cannot be created: {error.strerror}; set TTS_GYM_CACHE to a writable folder"
        ) from None
    return folder


def is_file(path: Path) -> bool:
    """``path.is_file()``, also for what cannot be a path at all."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """``path.is_dir()``, also for what cannot be a path at all."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def check_writable(path: str | Path) -> None:
    """Raise UsageError now if ``path`` could not be written later."""
    path = Path(path)
    folder = path.parent
    if is_folder(path):
        raise UsageError(f"{path}: is a folder, not a file that could be written")
    try:
        path.with_name(f".{path.name}.00000000.part").exists()  # too long a name raises
        special = path.exists() and not path.is_file()
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}") from None
    if special:
        raise UsageError(f"{path}: is a device or pipe, not a file that could be written")
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
        # errors of writing to an open file, and all of PyArrow's, name no file; its errors about content have no errno
        place = None if error.filename is None else Path(error.filename)
        if error.errno and (place is None or place == path or temporary in (place, *place.parents)):
            raise UsageError(f"{path}: cannot be written: {os.strerror(error.errno)}") from None
        raise
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
