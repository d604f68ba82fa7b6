"""`gf.load`: models of Python and of the command line, applied to new inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from helpers.runs import TEXT, fit_language_model
from PIL import Image
from torch import Tensor, nn

import graphformer as gf
from graphformer import data, models, patterns, tasks
from graphformer.cli import main


def save(task: tasks.Task, module: pl.LightningDataModule | None, folder: Path) -> Path:
    """Train for one step and return a checkpoint."""
    trainer = pl.Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, limit_val_batches=0,
        default_root_dir=folder,
    )  # fmt: skip
    if module is None:
        batches = rings().train_dataloader()
        trainer.fit(task, train_dataloaders=batches)
    else:
        trainer.fit(task, datamodule=module)
    trainer.save_checkpoint(folder / "a.ckpt")
    return folder / "a.ckpt"


def rings() -> data.RingTransfer:
    return data.RingTransfer(num_nodes=5, num_classes=3, batch_size=7, train_size=7, test_size=7)


def ring_task(network: nn.Module | None = None, **options: Any) -> tasks.Classification:
    network = network or models.gat(num_features=5, num_classes=3, dim=4, num_heads=2)
    return tasks.Classification(
        network, patterns.Edges() | patterns.SelfLoops(), num_classes=3, level="node", **options
    )


@pytest.fixture(scope="module")
def ring_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[tasks.Task, Path]:
    task = ring_task(lr=0.03)
    return task, save(task, rings(), tmp_path_factory.mktemp("rings"))


def test_a_task_made_in_python_is_rebuilt(ring_checkpoint: tuple[tasks.Task, Path]) -> None:
    task, path = ring_checkpoint
    batch = next(iter(rings().test_dataloader()))
    expected = task.eval()(batch)
    loaded = tasks.Classification.load_from_checkpoint(path)
    assert (loaded.lr, loaded.adjacency) == (0.03, task.adjacency)
    torch.testing.assert_close(loaded.eval()(batch), expected, rtol=0, atol=0)
    assert tasks.Classification.load_from_checkpoint(path, lr=0.5).lr == 0.5
    model = gf.load(path)
    predicted = model.predict(batch)
    torch.testing.assert_close(predicted.output, expected, rtol=0, atol=0)
    assert predicted.classes == expected.argmax(1).tolist()
    torch.testing.assert_close(predicted.probabilities, expected.softmax(1))


def test_commands_read_checkpoints_of_python(
    ring_checkpoint: tuple[tasks.Task, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["predict", "--ckpt", str(ring_checkpoint[1]), "--output", "a.csv"]) == 0
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines[0] == "sample,node,class,probability_0,probability_1,probability_2"
    assert [line.split(",")[:2] for line in lines[1:7]] == [
        *([["0", str(node)] for node in range(5)]),
        ["1", "0"],
    ]


class OwnNetwork(nn.Module):
    """A network that graphformer does not describe."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 3)

    def forward(self, batch: Any, adjacency: gf.Adjacency) -> Tensor:
        return self.linear(batch.x)


def test_a_network_of_own_code_is_passed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = ring_task(OwnNetwork())
    path = save(task, None, tmp_path)
    with pytest.raises(ValueError, match="network: got a checkpoint without it"):
        gf.load(path)
    with pytest.raises(ValueError, match="network: got a checkpoint without it"):
        tasks.Classification.load_from_checkpoint(path)
    model = gf.load(path, network=OwnNetwork())
    batch = next(iter(rings().test_dataloader()))
    torch.testing.assert_close(model.predict(batch).output, task.eval()(batch))
    assert main(["test", "--ckpt", str(path)]) == 2
    assert "got a checkpoint without it" in capsys.readouterr().err


def test_texts_get_classes_by_name(tmp_path: Path) -> None:
    lines = [f"{word} {i}\t{word}s" for i in range(13) for word in ("good", "bad")]
    (tmp_path / "texts.tsv").write_text("\n".join(["text\tlabel", *lines]))
    module = data.LabelledText(str(tmp_path / "texts.tsv"), vocabulary="bytes")
    module.setup()
    network = models.text_classifier(module.vocab_size, 2, dim=8, depth=1, num_heads=2)
    task = tasks.Classification(network, num_classes=2)
    model = gf.load(save(task, module, tmp_path))
    (tmp_path / "texts.tsv").unlink()
    texts = ["bad", "very good", "no"]
    batch = data.pack_tokens([module.encode(text) for text in texts])
    expected = task.eval()(batch)
    predicted = model.predict(texts, batch_size=2)
    assert model.classes == ["bads", "goods"]
    torch.testing.assert_close(predicted.output, expected)
    assert predicted.classes == [model.classes[i] for i in expected.argmax(1).tolist()]
    vectors = model.encode(texts)
    torch.testing.assert_close(network.head.linear(vectors), expected)  # type: ignore[union-attr, operator]


def test_images_are_prepared_as_in_training(tmp_path: Path) -> None:
    module = data.Digits(patch_size=4)
    module.setup()
    network = models.vit(10, channels=1, patch_size=4, dim=8, depth=1, num_heads=2, shape=(2, 2))
    task = tasks.Classification(network, num_classes=10)
    model = gf.load(save(task, module, tmp_path))
    images = module.splits["test"][0][:3]
    expected = task.eval()(module.samples("test")[torch.arange(3)])
    torch.testing.assert_close(model.predict(images).output, expected)
    pixels = (images[0, 0].numpy() * 255 / 16).round().astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "digit.png")
    for image in (tmp_path / "digit.png", Image.open(tmp_path / "digit.png"), images[0, 0]):
        torch.testing.assert_close(model.predict(image).output, expected[:1], rtol=0, atol=0.05)
    with pytest.raises(ValueError, match=r"image: got an array \(3, 8, 8\), expected \[1, height"):
        model.predict(torch.zeros(3, 8, 8))
    with pytest.raises(ValueError, match="inputs: got none, expected one or more"):
        model.predict([])
    with pytest.raises(ValueError, match=r"nowhere.png: got a missing file, expected an image"):
        model.predict("nowhere.png")


def test_a_run_of_the_command_generates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT)
    model = gf.load(fit_language_model())
    one = model.generate("one two", max_new_tokens=5, temperature=0)
    assert isinstance(one, str)
    assert len(one) == 5
    assert model.generate(["one two"], max_new_tokens=5, temperature=0) == [one]
    assert model.predict("one").output.shape[0] == 3
    with pytest.raises(ValueError, match="run: there is no checkpoint 'nowhere'"):
        gf.load("nowhere")
