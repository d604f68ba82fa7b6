from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from graphformer.data.io.cache import (
    MissingDataError,
    cache_lock,
    cache_root,
    data_root,
    download,
    make_cache_folder,
)


def test_data_root_prefers_argument_then_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHFORMER_DATA", "/somewhere")
    assert data_root("here") == Path("here")
    assert data_root() == Path("/somewhere")
    monkeypatch.delenv("GRAPHFORMER_DATA")
    assert data_root() == Path("data")


def test_cache_is_in_the_users_cache_folder(tmp_path: Path) -> None:
    assert cache_root() == tmp_path / "cache" / "graphformer"


def test_a_cache_that_is_not_writable_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_cache_folder(tmp_path / "new" / "folder")
    assert (tmp_path / "new" / "folder").is_dir()
    monkeypatch.setattr(os, "access", lambda *_: False)  # chmod does not stop root
    with pytest.raises(
        ValueError, match=r"folder .*is not writable \(permission denied\); set XDG_CACHE_HOME"
    ):
        make_cache_folder(tmp_path / "new")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with (
        pytest.raises(ValueError, match="is not writable .not a directory"),
        cache_lock("a"),
    ):
        pass


def test_download_checks_and_keeps_a_file(server: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = server
    (folder / "a.bin").write_bytes(b"content")
    path = tmp_path / "new" / "a.bin"
    download(f"{url}/a.bin", path, md5=hashlib.md5(b"content").hexdigest())
    assert path.read_bytes() == b"content"
    assert list(path.parent.iterdir()) == [path]


def test_corrupted_download_is_refused_and_leaves_nothing(
    server: tuple[str, Path], tmp_path: Path
) -> None:
    url, folder = server
    (folder / "a.bin").write_bytes(b"broken")
    path = tmp_path / "new" / "deep" / "a.bin"
    with pytest.raises(MissingDataError, match="MD5") as caught:
        download(f"{url}/a.bin", path, md5="0" * 32)
    assert str(path) in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_failed_download_keeps_a_file_that_was_there(
    server: tuple[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(MissingDataError):
        download(f"{server[0]}/absent.bin", path)
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/a.bin", "http://name.invalid/a.bin"])
def test_unreachable_address_says_where_to_put_the_file(url: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.bin"
    with pytest.raises(MissingDataError) as caught:
        download(url, path)
    message = str(caught.value)
    assert str(path) in message
    assert url in message
    assert "\n" not in message
    assert caught.value.__suppress_context__
    assert not path.parent.exists()
