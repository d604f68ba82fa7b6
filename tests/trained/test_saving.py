"""Saved folders of trained models: loaded again, uploaded, and their cards."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import yaml
from helpers.runs import TEXT, fit_language_model

import graphformer as gf
from graphformer import data, models, patterns, tasks
from graphformer.cli import main
from graphformer.trained.card import data_licence

TEXTS = ["bad", "very good", "no"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> gf.trained.TrainedModel:
    """A classifier of texts, loaded from its checkpoint."""
    folder = tmp_path_factory.mktemp("texts")
    lines = [f"{word} {i}\t{word}s" for i in range(13) for word in ("good", "bad")]
    (folder / "texts.tsv").write_text("\n".join(["text\tlabel", *lines]))
    module = data.LabelledText(str(folder / "texts.tsv"), vocabulary="bytes")
    module.setup()
    network = models.text_classifier(module.vocab_size, 2, dim=8, depth=1, num_heads=2)
    trainer = pl.Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(tasks.Classification(network, num_classes=2), datamodule=module)
    trainer.save_checkpoint(folder / "a.ckpt")
    (folder / "texts.tsv").unlink()
    return gf.load(folder / "a.ckpt")


def metadata(folder: Path) -> dict[str, Any]:
    _, head, _ = (folder / "README.md").read_text().split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(head)
    return found


def test_a_saved_folder_is_the_same_model(trained: gf.trained.TrainedModel, tmp_path: Path) -> None:
    changed = gf.trained.TrainedModel(**vars(trained))
    changed.adjacency = patterns.Window(1)
    for model in (trained, changed):  # the second time in the folder of the first
        model.save(tmp_path / "saved", licence="mit")
        again = gf.load(tmp_path / "saved")
        assert (again.adjacency, again.classes) == (model.adjacency, ["bads", "goods"])
        expected, found = model.predict(TEXTS), again.predict(TEXTS)
        torch.testing.assert_close(found.output, expected.output, rtol=0, atol=0)
        assert found.classes == expected.classes
    files = {file.name for file in (tmp_path / "saved").iterdir()}
    assert files == {"model.ckpt", "config.yaml", "README.md"}
    assert "optimizer_states" not in torch.load(tmp_path / "saved" / "model.ckpt")
    card = (tmp_path / "saved" / "README.md").read_text()
    assert metadata(tmp_path / "saved")["license"] == "mit"
    for part in ("- **classes:** bads, goods", "Window(radius=1", 'gf.load("saved")', "not known"):
        assert part in card


def test_the_weights_are_the_present_ones(trained: gf.trained.TrainedModel, tmp_path: Path) -> None:
    model = gf.load(str(trained.checkpoint))
    with torch.no_grad():
        next(model.network.parameters()).add_(1.0)
    model.save(tmp_path / "saved")
    found = gf.load(tmp_path / "saved").predict(TEXTS).output
    torch.testing.assert_close(found, model.predict(TEXTS).output, rtol=0, atol=0)
    assert not torch.equal(found, trained.predict(TEXTS).output)


def test_a_model_is_uploaded_and_loaded_by_its_name(
    trained: gf.trained.TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="needs the extra `hf`")
    calls: list[tuple[str, dict[str, Any]]] = []

    class Api:
        def create_repo(self, name: str, **options: Any) -> None:
            calls.append((name, options))

        def upload_folder(self, *, repo_id: str, folder_path: Path, **options: Any) -> None:
            calls.append((repo_id, options))
            shutil.copytree(folder_path, tmp_path / "hub")

    def download(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        assert (name, revision) == ("me/reviews", "v2")
        assert {file.name for file in (tmp_path / "hub").iterdir()} <= {*allow_patterns}
        return str(tmp_path / "hub")

    monkeypatch.setattr(hub, "HfApi", Api)
    monkeypatch.setattr(hub, "snapshot_download", download)
    trained.push_to_hub("me/reviews", private=True)
    assert calls[0] == ("me/reviews", {"private": True, "exist_ok": True})
    assert calls[1] == ("me/reviews", {"commit_message": "Upload model"})
    assert 'gf.load("me/reviews")' in (tmp_path / "hub" / "README.md").read_text()
    assert hub.ModelCard.load(tmp_path / "hub" / "README.md").data.library_name == "graphformer"
    again = gf.load("me/reviews", revision="v2")
    torch.testing.assert_close(again.predict(TEXTS).output, trained.predict(TEXTS).output)
    with pytest.raises(ValueError, match="name: got 'mine', expected 'organisation/name'"):
        trained.push_to_hub("mine")


def test_the_card_has_the_figures_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT)
    run = fit_language_model("--trainer.log_every_n_steps", "1")
    model = gf.load(run)
    model.save("saved")
    (index,) = metadata(Path("saved"))["model-index"]
    names = {metric["name"] for metric in index["results"][0]["metrics"]}
    assert "train/loss" in names
    assert 'model.generate("a text")' in Path("saved/README.md").read_text()
    again = gf.load("saved")
    again.save("copy")
    assert metadata(Path("copy"))["model-index"][0]["results"] == index["results"]
    assert main(["generate", "--ckpt", "copy", "--prompt", "one", "--max-new-tokens", "3"]) == 0
    with pytest.raises(ValueError, match=f"folder: got '{run}', which exists, expected a new or"):
        model.save(run)
    with pytest.raises(ValueError, match="run: there is no checkpoint 'runs/other'"):
        gf.load("runs/other")  # a path, not a name of the Hub
    with pytest.raises(ValueError, match="revision: got one for 'saved', expected a name of the"):
        gf.load("saved", revision="v2")


def test_the_licence_of_the_data_is_that_of_its_card() -> None:
    def licence(name: str, **arguments: Any) -> str | None:
        return data_licence({"class_path": f"graphformer.data.{name}", "init_args": arguments})

    assert licence("Digits", patch_size=4) == "CC BY 4.0 (UCI Machine Learning Repository)"
    assert licence("LabelledText", path="mine.tsv") is None
    assert data_licence(None) is None
