"""Codes of images after captions: loss, autoencoder, and a run trained and used by commands."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from helpers.images import random_captions
from torch.nn import functional as F

from graphformer import models
from graphformer.batch_type import Batch
from graphformer.cli import main
from graphformer.data import append_codes
from graphformer.data.batch import source_batch
from graphformer.patterns import Causal
from graphformer.tasks import TextToImage

VOCABULARY, CODES = 13, 7


def task(codes: int = CODES) -> TextToImage:
    torch.manual_seed(0)
    autoencoder = models.vq_autoencoder(12, channels=3, patch_size=2, num_codes=codes)
    network = models.dalle(VOCABULARY, num_codes=CODES, max_side=7, dim=12, depth=1, num_heads=3)
    return TextToImage(network, Causal(), autoencoder=autoencoder).eval()


def test_the_loss_is_that_of_the_next_codes() -> None:
    own, batch = task(), random_captions()
    images = source_batch(batch)
    codes = own.autoencoder.encode(images)
    texts = Batch(x=batch.x, lengths=batch.lengths)
    joint = append_codes(texts, codes, images.shapes, vocab_size=VOCABULARY)
    updates, rows = own.evaluate(batch, 0, "val")
    assert rows == len(batch.lengths)
    total, count = updates["loss"]
    assert count == len(codes) == (joint.y >= 0).sum()
    expected = F.cross_entropy(own.network(joint, Causal()), joint.y, reduction="sum")
    torch.testing.assert_close(total, expected)


def test_the_autoencoder_is_stored_and_not_trained() -> None:
    own = task()
    assert any(name.startswith("autoencoder.") for name in own.state_dict())
    loss, _ = own._loss(random_captions())
    loss.backward()
    assert all(parameter.grad is None for parameter in own.autoencoder.parameters())
    assert all(parameter.grad is not None for parameter in own.network.parameters())


def test_images_are_those_of_the_codes() -> None:
    own, batch = task(), random_captions((0, 2))
    codes = own.sample_codes(batch, temperature=0.7, seed=3)
    patches = own.sample_images(batch, temperature=0.7, seed=3)
    expected = own.autoencoder.decode(codes.flatten(), batch.source_shapes)
    assert torch.equal(patches, expected)
    assert patches.shape == batch.source.shape


def test_parts_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="num_codes: got 7 in the network and 5 in the"):
        task(codes=5)
    own = task()
    with pytest.raises(ValueError, match="network: got VQAutoencoder, expected TextToImageModel"):
        TextToImage(own.autoencoder, Causal(), autoencoder=own.autoencoder)
    with pytest.raises(ValueError, match="autoencoder: got TextToImageModel, expected VQ"):
        TextToImage(own.network, Causal(), autoencoder=own.network)
    with pytest.raises(ValueError, match="autoencoder_weights: got None"):
        own.setup("fit")
    batch = random_captions()
    batch.source_shapes = (*batch.source_shapes[:-1], (1, 1))
    with pytest.raises(ValueError, match="batch: got images of"):
        own.sample_codes(batch)


@pytest.mark.slow
def test_runs_are_trained_resumed_and_used_by_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    files = Path(__file__).parents[3] / "experiments"
    few = [f"--trainer.limit_{name}_batches=2" for name in ("train", "val", "test")]
    data = [f"--data.{word}" for word in ("num_samples=64", "val_size=32", "test_size=32")]
    assert main(["fit", "-c", str(files / "vq_scenes.yaml"), *few, *data]) == 0
    (codes,) = Path("runs/vq_scenes").iterdir()
    for name in ("text_to_image", "text_to_image_sparse"):
        fit = ["fit", "-c", str(files / f"{name}.yaml"), *few, *data, "--trainer.max_epochs=1"]
        assert main(fit) == 2
        assert "autoencoder_weights: got None" in capsys.readouterr().err
        assert main([*fit, "--model.autoencoder_weights", str(codes)]) == 0
    (run,) = Path("runs/text_to_image").glob("*/checkpoints/last.ckpt")
    capsys.readouterr()
    assert main(["test", "--ckpt", str(run), *few[2:]]) == 0
    assert "test/perplexity" in capsys.readouterr().out
    predict = ["predict", "--ckpt", str(run), "--trainer.limit_predict_batches=1"]
    assert main([*predict, "--output", "codes.csv"]) == 0
    rows = list(csv.DictReader(Path("codes.csv").read_text().splitlines()))
    assert len(rows) == 32
