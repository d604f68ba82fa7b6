"""Names of the Hub, against a local stand-in for its library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import graphformer as gf
from graphformer.pretrained.hub import is_hub_name

hub = pytest.importorskip("huggingface_hub", reason="needs the extra `hf`")


def test_what_is_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "bert").mkdir(parents=True)
    assert is_hub_name("google-bert/bert-base-uncased")
    for path in ("runs/bert", "./a/b", "/a/b", "a", "a/b/c", "../a/b", "~/a"):
        assert not is_hub_name(path)


def test_a_name_is_downloaded(folder, monkeypatch):
    asked: dict[str, Any] = {}

    def download(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        return str(folder)

    monkeypatch.setattr(hub, "snapshot_download", download)
    model = gf.from_pretrained("someone/small-bert", revision="v2")
    assert (asked["name"], asked["revision"]) == ("someone/small-bert", "v2")
    assert not any(name.endswith((".bin", ".h5", ".msgpack")) for name in asked["allow_patterns"])
    for name, weight in gf.from_pretrained(folder).state_dict().items():
        assert torch.equal(model.state_dict()[name], weight)


def test_what_cannot_be_downloaded_is_one_sentence(monkeypatch):
    def download(name: str, **options: Any) -> str:
        raise OSError("no route\nto host")

    monkeypatch.setattr(hub, "snapshot_download", download)
    with pytest.raises(FileNotFoundError, match=r"'some/model', .*\(no route to host\); pass the"):
        gf.from_pretrained("some/model")


def test_push(folder, monkeypatch):
    calls: list[tuple[str, dict[str, Any]]] = []

    class Api:
        def create_repo(self, name: str, **options: Any) -> None:
            calls.append((name, options))

        def upload_folder(self, *, repo_id: str, folder_path: Path, **options: Any) -> None:
            calls.append((repo_id, options))
            assert {"config.json", "model.safetensors"} <= {f.name for f in folder_path.iterdir()}
            again = gf.from_pretrained(folder_path).state_dict()
            assert all(torch.equal(again[name], w) for name, w in model.state_dict().items())

    monkeypatch.setattr(hub, "HfApi", Api)
    model = gf.from_pretrained(folder)
    model.push_to_hub("me/mine", private=True)
    assert calls[0] == ("me/mine", {"private": True, "exist_ok": True})
    assert calls[1] == ("me/mine", {"commit_message": "Upload model"})
    with pytest.raises(ValueError, match="name: got 'mine', expected 'organisation/name'"):
        model.push_to_hub("mine")
