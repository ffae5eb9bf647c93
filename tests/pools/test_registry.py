"""Pools by name: where each comes from, what is checked, what is kept, and what is said where that fails."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tts_gym.errors import PoolError, UsageError
from tts_gym.pools import registry
from tts_gym.pools.autotts import import_json
from tts_gym.pools.registry import (
    DEFAULT_POOL,
    PublishedFile,
    at_hand,
    import_tree,
    imported_pools,
    keep,
    open_pool,
    published_files,
    pull,
    shipped_pools,
    validate_pool,
)
from tts_gym.pools.storage import save_pool

NAME = "autotts/Tiny-1B/sums"
CONTENT = json.dumps(
    [
        {
            "question": "What is 3 + 4?",
            "gold_answer": "7",
            "probe_freq": 500,
            "final_answers_trace": ["7", "3"],
            "each_branch": [[["1", "7"], 900, "7"], [["3"], 600, "3"]],
        }
    ]
).encode()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no local copy, and a working directory without pools."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("TTS_GYM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TTS_GYM_AUTOTTS", raising=False)
    return tmp_path / "cache"


def kept(cache: Path) -> list[str]:
    """Every file in the cache, hidden ones too."""
    return sorted(path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.is_file())


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> PublishedFile:
    """A published file of two branches, beside the real ones."""
    file = PublishedFile("Tiny-1B", "sums", "data/sums.json", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    files = {**published_files(), file.name: file}
    monkeypatch.setattr(registry, "published_files", lambda: files)
    return file


class Site:
    """A web server on this machine: what it serves by path, what it was asked for, and its address."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.requests: list[str] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.requests.append(self.path)
                page = site.pages.get(self.path)
                self.send_response(404 if page is None else 200)
                self.send_header("Content-Length", str(len(page or b"")))
                self.end_headers()
                self.wfile.write(page or b"")

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        self.address = f"http://127.0.0.1:{self.server.server_port}/"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    site = Site()
    yield site
    site.close()


class TestShipped:
    def test_default_pool_opens_from_anywhere(self) -> None:
        pool = open_pool(DEFAULT_POOL)
        assert pool.name == DEFAULT_POOL == "synthetic/aime-v0"
        assert (pool.recording.questions, pool.recording.branches) == (30, 128)
        assert validate_pool(DEFAULT_POOL).content_hash == pool.content_hash
        assert at_hand(DEFAULT_POOL)

    def test_a_name_for_every_file_that_is_shipped(self) -> None:
        assert DEFAULT_POOL in shipped_pools()
        for name, path in shipped_pools().items():
            assert path.name == f"{name.replace('/', '-', 1)}.parquet"
            assert path.is_file()

    def test_published_files_are_pinned(self) -> None:
        """Spec 1.1: 12 files, 2.0-3.2 MB each."""
        files = published_files()
        models = [f"Qwen3-{size}" for size in ("0.6B", "1.7B", "4B", "8B")]
        assert set(files) == {f"autotts/{m}/{b}" for m in models for b in ("aime24", "aime25", "hmmt25")}
        assert all(2.0e6 <= file.size < 3.3e6 for file in files.values())
        assert all(len(bytes.fromhex(file.sha256)) == 32 for file in files.values())
        assert len({file.sha256 for file in files.values()}) == 12


class TestNames:
    def test_unknown_pool_with_the_nearest_names(self) -> None:
        with pytest.raises(UsageError, match=r"^unknown pool 'synthetic/amie-v0'; did you mean synthetic/aime-v0\?$"):
            open_pool("synthetic/amie-v0")
        with pytest.raises(UsageError, match=r"^unknown pool 'autotts/Qwen3-8B/aime'; did you mean .*Qwen3-8B/aime24"):
            open_pool("autotts/Qwen3-8B/aime")

    def test_an_imported_pool_is_known_by_its_name(self, tmp_path: Path) -> None:
        path = tmp_path / "sums.json"
        path.write_bytes(CONTENT)
        pool = import_json(path, name="local/my/sums")
        assert not at_hand("local/my/sums")
        file = keep(pool)
        assert imported_pools() == {"local/my/sums": file}
        assert at_hand("local/my/sums")
        assert open_pool("local/my/sums").content_hash == pool.content_hash
        assert open_pool("local/my/sums").name == "local/my/sums"
        with pytest.raises(UsageError, match="unknown pool 'local/my/sum'; did you mean local/my/sums"):
            open_pool("local/my/sum")

    def test_a_name_with_dots(self, tmp_path: Path) -> None:
        path = tmp_path / "sums.json"
        path.write_bytes(CONTENT)
        keep(import_json(path, name="local/model-1.7B/v0.1"))
        assert open_pool("local/model-1.7B/v0.1").name == "local/model-1.7B/v0.1"

    def test_files_are_called_what_was_asked_for(self, tmp_path: Path) -> None:
        """Parquet is known by its first bytes, whatever the file is called."""
        json_file, parquet = tmp_path / "sums.json", tmp_path / "sums.data"
        json_file.write_bytes(CONTENT)
        save_pool(import_json(json_file), parquet)
        assert open_pool(json_file).name == str(json_file)
        assert open_pool(parquet).name == str(parquet)
        assert open_pool(json_file).content_hash == open_pool(parquet).content_hash

    @pytest.mark.parametrize("name", ["..", "../x", "a/../x", "a//x", "/x", "x/", "", "a\\x"])
    def test_no_name_leads_out_of_the_cache(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / "sums.json"
        path.write_bytes(CONTENT)
        with pytest.raises(UsageError, match="cannot be a pool's name"):
            keep(replace(import_json(path), name=name))
        assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["sums.json"]


class TestLocalCopy:
    def test_used_without_a_download_and_checked(
        self, published: PublishedFile, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "copy" / "Tiny-1B" / "sums.json"
        path.parent.mkdir(parents=True)
        path.write_bytes(CONTENT)
        assert not at_hand(NAME)
        monkeypatch.setenv("TTS_GYM_AUTOTTS", str(tmp_path / "copy"))
        assert at_hand(NAME)
        pool = open_pool(NAME)
        assert (pool.name, pool.provenance["sha256"]) == (NAME, published.sha256)

        path.write_bytes(CONTENT + b"\n")  # the same questions, not the same file
        found = hashlib.sha256(CONTENT + b"\n").hexdigest()
        with pytest.raises(PoolError) as caught:
            open_pool(NAME)
        assert str(caught.value) == (
            f"{path}: checksum mismatch: sha256 is {found}, expected {published.sha256} for {NAME}"
        )
        assert kept(cache) == []

    def test_recorded_data(self, autotts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TTS_GYM_AUTOTTS", str(autotts))
        pool = open_pool("autotts/Qwen3-8B/aime24")
        assert pool.name == "autotts/Qwen3-8B/aime24"
        assert (pool.recording.questions, pool.recording.branches, pool.recording.delta) == (30, 128, 500)

    def test_a_folder_that_is_not_there(self, published: PublishedFile, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TTS_GYM_AUTOTTS", "typo")
        with pytest.raises(UsageError, match="TTS_GYM_AUTOTTS=typo: no such folder"):
            open_pool(NAME)

    def test_a_folder_without_the_file(
        self, published: PublishedFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TTS_GYM_AUTOTTS", str(tmp_path))
        with pytest.raises(PoolError, match=r"neither Tiny-1B/sums\.json nor data/sums\.json is in TTS_GYM_AUTOTTS="):
            open_pool(NAME)


class TestImportTree:
    def test_published_files_are_checked_and_others_are_local(self, published: PublishedFile, tmp_path: Path) -> None:
        for folder in ("Tiny-1B", "Other-2B"):
            (tmp_path / "data" / folder).mkdir(parents=True)
            (tmp_path / "data" / folder / "sums.json").write_bytes(CONTENT)
        found = {path.parent.name: pool.name for path, pool in import_tree(tmp_path / "data")}
        assert found == {"Tiny-1B": NAME, "Other-2B": "local/Other-2B/sums"}

        (tmp_path / "data" / "Tiny-1B" / "sums.json").write_bytes(CONTENT.replace(b"900", b"901"))
        with pytest.raises(PoolError, match=rf"sums\.json: checksum mismatch: .*expected {published.sha256}"):
            list(import_tree(tmp_path / "data"))

    def test_nothing_to_import(self, tmp_path: Path) -> None:
        with pytest.raises(PoolError, match=r"here: holds no \.json file"):
            list(import_tree(tmp_path / "here"))

    def test_a_clone_of_the_repository(
        self, published: PublishedFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clone = tmp_path / "clone"
        for folder in ("workspace", "test_environment"):
            (clone / folder / "Tiny-1B").mkdir(parents=True)
            (clone / folder / "Tiny-1B" / "sums.json").write_bytes(CONTENT)
        (clone / "package.json").write_text('{"name": "not a pool"}')
        assert [pool.name for _, pool in import_tree(clone)] == [NAME]
        (clone / "data").mkdir()
        (clone / published.path).write_bytes(CONTENT)
        monkeypatch.setenv("TTS_GYM_AUTOTTS", str(clone))
        assert open_pool(NAME).provenance["path"] == published.path

    def test_a_damaged_file_is_not_left_out_in_silence(self, tmp_path: Path) -> None:
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree" / "cut.json").write_bytes(CONTENT[:-9])
        with pytest.raises(PoolError, match=r"cut\.json: not valid JSON"):
            list(import_tree(tmp_path / "tree"))


class TestPull:
    def test_what_is_at_hand_is_not_asked_for(
        self, published: PublishedFile, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "Tiny-1B").mkdir()
        (tmp_path / "Tiny-1B" / "sums.json").write_bytes(CONTENT)
        monkeypatch.setenv("TTS_GYM_AUTOTTS", str(tmp_path))
        pull(NAME, base_url=site.address)
        monkeypatch.delenv("TTS_GYM_AUTOTTS")
        pull(NAME, base_url=site.address)
        assert open_pool(NAME).gold == ("7",)
        assert site.requests == []

    def test_downloaded_once_and_kept(self, published: PublishedFile, site: Site, cache: Path) -> None:
        site.pages["/data/sums.json"] = CONTENT
        assert not at_hand(NAME)
        pool = pull(NAME, base_url=site.address)
        assert (pool.name, pool.questions, pool.provenance["sha256"]) == (NAME, ("What is 3 + 4?",), published.sha256)
        assert site.requests == ["/data/sums.json"]
        assert kept(cache) == ["downloads/data/sums.json", f"pools/{NAME}.parquet"]
        assert at_hand(NAME)

        site.pages.clear()
        assert pull(NAME, base_url=site.address).content_hash == pool.content_hash
        assert open_pool(NAME).content_hash == pool.content_hash
        assert site.requests == ["/data/sums.json"]

    def test_a_download_that_was_damaged_later_is_fetched_again(
        self, published: PublishedFile, site: Site, cache: Path
    ) -> None:
        site.pages["/data/sums.json"] = CONTENT
        pull(NAME, base_url=site.address)
        shutil.rmtree(cache / "pools")
        (cache / "downloads" / "data" / "sums.json").write_bytes(CONTENT[:-9])
        pull(NAME, base_url=site.address)
        assert len(site.requests) == 2
        assert (cache / "downloads" / "data" / "sums.json").read_bytes() == CONTENT

    @pytest.mark.parametrize("content", [CONTENT[:-1], b"<html>sign in</html>"])
    def test_another_content(self, content: bytes, published: PublishedFile, site: Site, cache: Path) -> None:
        site.pages["/data/sums.json"] = content
        with pytest.raises(PoolError) as caught:
            pull(NAME, base_url=site.address)
        assert str(caught.value) == f"{NAME}: checksum mismatch: what was downloaded is not the published file"
        assert kept(cache) == []
        assert not at_hand(NAME)

    def test_not_there(self, published: PublishedFile, site: Site, cache: Path) -> None:
        with pytest.raises(PoolError, match=f"^{NAME}: cannot be downloaded .*offline, set TTS_GYM_AUTOTTS to a copy"):
            pull(NAME, base_url=site.address)
        assert kept(cache) == []

    def test_nobody_answers(self, published: PublishedFile, site: Site, cache: Path) -> None:
        site.close()
        with pytest.raises(PoolError) as caught:
            pull(NAME, base_url=site.address)
        assert str(caught.value) == (
            f"{NAME}: cannot be downloaded (ConnectionError); offline, set TTS_GYM_AUTOTTS to a copy of the data "
            "or run: tts-gym pools import DIR"
        )
        assert kept(cache) == []

    def test_unknown_name(self, site: Site) -> None:
        with pytest.raises(UsageError, match=r"^unknown published pool 'autotts/Qwen3-8B/aime42'; did you mean "):
            pull("autotts/Qwen3-8B/aime42", base_url=site.address)
        with pytest.raises(UsageError, match=f"^unknown published pool '{DEFAULT_POOL}'"):
            pull(DEFAULT_POOL, base_url=site.address)
        assert site.requests == []


class TestValidate:
    def test_a_kept_pool(self, tmp_path: Path, cache: Path) -> None:
        path = tmp_path / "sums.json"
        path.write_bytes(CONTENT)
        pool = import_json(path, name="local/my/sums")
        file = keep(pool)
        assert validate_pool("local/my/sums").content_hash == pool.content_hash
        assert validate_pool(path).content_hash == pool.content_hash
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        with pytest.raises(PoolError, match=r"local/my/sums\.parquet: damaged"):
            validate_pool("local/my/sums")
