"""Pools by name: the ones shipped, the published ones (downloaded once, or a local copy), and imported ones."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path

from tts_gym.errors import PoolError, UsageError
from tts_gym.files import cache_path, is_file, is_folder, user_cache
from tts_gym.names import nearest
from tts_gym.pools.autotts import import_json
from tts_gym.pools.pool import Pool, content_hash
from tts_gym.pools.storage import load_pool, recorded_hash, save_pool

DEFAULT_POOL = "synthetic/aime-v0"
LOCAL_COPY = "TTS_GYM_AUTOTTS"
_COMMIT = "3cd98d12c7cb999afc5c21381f22ea5811ac6c05"
_BASE_URL = f"https://raw.githubusercontent.com/zhengkid/AutoTTS/{_COMMIT}/"


@dataclass(frozen=True)
class PublishedFile:
    """One AutoTTS replay file at the pinned commit: what it must be, byte for byte."""

    model: str
    benchmark: str
    path: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The pool's name, ``autotts/<model>/<benchmark>``."""
        return f"autotts/{self.model}/{self.benchmark}"


@lru_cache(maxsize=1)
def published_files() -> dict[str, PublishedFile]:
    """The published AutoTTS files by pool name."""
    text = (resources.files("tts_gym.pools") / "autotts_files.csv").read_text()
    files = [
        PublishedFile(row["model"], row["benchmark"], row["path_in_repository"], int(row["bytes"]), row["sha256"])
        for row in csv.DictReader(text.splitlines())
    ]
    return {file.name: file for file in files}


def shipped_pools() -> dict[str, Path]:
    """Pools in ``envs_data`` by name; the file of ``a/b-v0`` is ``a-b-v0.parquet``."""
    folder = resources.files("tts_gym.envs_data")
    found = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".parquet"))
    return {name.removesuffix(".parquet").replace("-", "/", 1): Path(str(folder / name)) for name in found}


def imported_pools() -> dict[str, Path]:
    """Pools in the user's cache by name."""
    root = cache_path("pools")
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.rglob("*.parquet"))}


def open_pool(name_or_path: str | Path) -> Pool:
    """A pool by name, or from a Parquet or AutoTTS JSON file. It is called what was asked for.

    A published pool comes from the folder in ``TTS_GYM_AUTOTTS`` or from the user's cache; where it is in
    neither, it is downloaded unless that folder was set. Its sha256 is checked wherever it came from.

    Raises:
        UsageError: no such name or file.
        PoolError: the data is damaged, is not what it claims to be, or cannot be downloaded.
    """
    text = str(name_or_path)
    path = Path(text)
    if not text:
        raise UsageError("the pool's name is empty")
    if is_file(path):
        return read_pool_file(path, name=text)
    if is_folder(path):
        raise UsageError(f"{text}: is a folder; import it with: tts-gym pools import {text}")
    if path.suffix in (".json", ".parquet"):
        raise UsageError(f"{text}: no such file")
    shipped = shipped_pools()
    if text in shipped:
        return load_pool(shipped[text], name=text)
    published = published_files()
    if text in published:
        return _published(published[text])
    imported = imported_pools()
    if text in imported:
        return load_pool(imported[text], name=text)
    raise UsageError(f"unknown pool '{text}'{nearest(text, [*shipped, *published, *imported], 'the pools are')}")


def read_pool_file(path: str | Path, name: str | None = None) -> Pool:
    """A pool from a file: Parquet by its first bytes, else AutoTTS JSON."""
    try:
        with Path(path).open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise PoolError(f"{path}: cannot be read: {error.strerror}") from None
    if start == b"PAR1" or Path(path).suffix == ".parquet":
        return load_pool(path, name)
    return import_json(path, name)


def at_hand(name: str) -> bool:
    """Whether a named pool can be opened without a download."""
    if name in shipped_pools() or name in imported_pools():
        return True
    file = published_files().get(name)
    return file is not None and _local_copy(file) is not None


def _published(file: PublishedFile) -> Pool:
    pool = _published_at_hand(file)
    if pool is None and os.environ.get(LOCAL_COPY):
        raise PoolError(
            f"{file.name}: neither {file.model}/{file.benchmark}.json nor {file.path} is in "
            f"{LOCAL_COPY}={os.environ[LOCAL_COPY]}; unset it to download the pool"
        )
    return pull(file.name) if pool is None else pool


def _published_at_hand(file: PublishedFile) -> Pool | None:
    copy = _local_copy(file)
    if copy is not None:
        return checked_import(copy, file)
    cached = imported_pools().get(file.name)
    if cached is None:
        return None
    pool = load_pool(cached, name=file.name)
    if pool.provenance.get("sha256") != file.sha256:
        raise PoolError(f"{cached}: was not made from the published {file.name}; remove it")
    return pool


def _local_copy(file: PublishedFile) -> Path | None:
    """The file in the user's own copy of the data: by model, or as it lies in a clone of the repository."""
    local = os.environ.get(LOCAL_COPY)
    if not local:
        return None
    if not is_folder(Path(local)):
        raise UsageError(f"{LOCAL_COPY}={local}: no such folder")
    found = (Path(local) / part for part in (f"{file.model}/{file.benchmark}.json", file.path))
    return next(filter(is_file, found), None)


def checked_import(path: Path, file: PublishedFile) -> Pool:
    """Import a copy of a published file. Raises PoolError when it is not that file, byte for byte."""
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise PoolError(f"{path}: cannot be read: {error.strerror}") from None
    if found != file.sha256:
        raise PoolError(f"{path}: checksum mismatch: sha256 is {found}, expected {file.sha256} for {file.name}")
    pool = import_json(path, name=file.name)
    source = {"source": "github.com/zhengkid/AutoTTS", "commit": _COMMIT, "path": file.path, "sha256": found}
    return replace(pool, provenance=source)


def pull(name: str, *, base_url: str = _BASE_URL, progress: bool = False) -> Pool:
    """Download a published pool unless it is at hand, check it, and keep it as Parquet.

    Files that arrived whole are never fetched again, so an interrupted pull of many goes on where it stopped.

    Raises:
        UsageError: no published pool has this name.
        PoolError: the download failed, or what came is not the published file.
    """
    import pooch

    published = published_files()
    if name not in published:
        raise UsageError(f"unknown published pool '{name}'{nearest(name, published, 'the published pools are')}")
    file = published[name]
    pool = _published_at_hand(file)
    if pool is not None:
        if name not in imported_pools():
            keep(pool)
        return pool
    downloads = user_cache("downloads")
    pooch.get_logger().setLevel("ERROR")
    fetcher = pooch.create(downloads, base_url, registry={file.path: f"sha256:{file.sha256}"}, retry_if_failed=2)
    try:
        path = fetcher.fetch(file.path, progressbar=progress)
    except ValueError as error:
        if "hash" not in str(error).lower():
            raise
        raise PoolError(f"{name}: checksum mismatch: what was downloaded is not the published file") from None
    except OSError as error:  # requests' errors are OSErrors too
        raise PoolError(
            f"{name}: cannot be downloaded ({type(error).__name__}); offline, set {LOCAL_COPY} to a copy of the data "
            "or run: tts-gym pools import DIR"
        ) from None
    pool = checked_import(Path(path), file)
    keep(pool)
    return pool


def keep(pool: Pool) -> Path:
    """Save a pool in the user's cache under its name. Returns the file."""
    if not all(part not in ("", ".", "..") for part in pool.name.split("/")) or "\\" in pool.name:
        raise UsageError(
            f"'{pool.name}' cannot be a pool's name; use words and slashes like local/my-model/my-benchmark"
        )
    path = user_cache("pools", *pool.name.split("/")[:-1]) / f"{pool.name.split('/')[-1]}.parquet"
    save_pool(pool, path)
    return path


def import_tree(folder: Path) -> Iterator[tuple[Path, Pool]]:
    """Import every AutoTTS JSON file below ``folder``, published ones checked by sha256.

    JSON files that are no list are left out, and so are copies of a file, byte for byte.
    A file at ``<model>/<benchmark>.json`` that is not a published one is called ``local/<model>/<benchmark>``.
    """
    files = [path for path in sorted(folder.rglob("*.json")) if _starts_a_list(path)]
    if not files:
        raise PoolError(f"{folder}: holds no .json file with a list of questions")
    seen: dict[str, Path] = {}
    for path in files:
        name = name_of(path)
        if name in seen and path.read_bytes() == seen[name].read_bytes():
            continue
        if name in seen:
            raise PoolError(f"{path}: would be called {name}, as {seen[name]} is; import one of them with --name")
        seen[name] = path
    for name, path in seen.items():
        yield path, import_named(path, name)


def _starts_a_list(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(256).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"[", b"")  # an empty file is damaged: say so


def name_of(path: Path) -> str:
    """What an AutoTTS JSON file is called where nobody says: after its folder and itself."""
    own = f"{path.resolve().parent.name}/{path.stem}"
    return f"autotts/{own}" if f"autotts/{own}" in published_files() else f"local/{own}"


def import_named(path: Path, name: str) -> Pool:
    """Import an AutoTTS JSON file under a name. A published name takes the published file only; see checked_import."""
    if name in shipped_pools():
        raise UsageError(f"'{name}' is the name of a shipped pool")
    published = published_files().get(name)
    return import_json(path, name) if published is None else checked_import(path, published)


def validate_pool(name_or_path: str | Path) -> Pool:
    """Open a pool and compare its content with the hash it was saved with. Raises PoolError where they differ."""
    pool = open_pool(name_or_path)
    text = str(name_or_path)
    path = Path(text) if Path(text).is_file() else {**shipped_pools(), **imported_pools()}.get(text)
    if path is not None and path.suffix == ".parquet" and recorded_hash(path) != content_hash(pool):
        raise PoolError(f"{path}: the content differs from its recorded hash")
    return pool
