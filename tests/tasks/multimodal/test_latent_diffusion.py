"""Diffusion of latents: loss, draws, guidance, and runs that are resumed and used by commands."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch
from helpers.images import VOCAB_SIZE, random_captions, random_images
from helpers.tasks import Batches, trainer
from torch import Tensor

from graphformer import models
from graphformer.batch_type import Batch
from graphformer.cli import main
from graphformer.data import pack_images, pack_latents, pack_tokens
from graphformer.data.batch import source_batch
from graphformer.models.multimodal.diffusion_process import add_noise, signal_and_noise, velocity
from graphformer.patterns import Complete, Grid, Pattern
from graphformer.tasks import LatentDiffusion

WIDTH = 5


def task(
    pattern: Pattern = Complete(),
    *,
    latent_dim: int = WIDTH,
    caption_dropout: float = 0.1,
    lr: float = 1e-3,
    weights: str | None = None,
) -> LatentDiffusion:
    torch.manual_seed(0)
    autoencoder = models.vq_autoencoder(12, channels=3, patch_size=2, num_codes=7, code_dim=WIDTH)
    network = models.latent_diffusion(
        VOCAB_SIZE, latent_dim=latent_dim, dim=12, depth=1, num_heads=3, text_depth=1
    )
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return LatentDiffusion(
        network,
        pattern,
        autoencoder=autoencoder,
        autoencoder_weights=weights,
        caption_dropout=caption_dropout,
        steps=3,
        lr=lr,
    ).eval()


def weights_file(folder: Path) -> str:
    stored = {f"network.{name}": x for name, x in task().autoencoder.state_dict().items()}
    torch.save({"state_dict": stored}, folder / "autoencoder.ckpt")
    return str(folder / "autoencoder.ckpt")


def loss_of(own: LatentDiffusion, batch: Batch, *, training: bool = False) -> Tensor:
    total, count = own._loss(batch, training=training)
    return (total / count).detach()


def without_captions(batch: Batch) -> Batch:
    empty = pack_tokens([[]] * len(batch.lengths))
    changed = batch.clone()
    changed.x, changed.pos, changed.lengths = empty.x, empty.pos, empty.lengths
    return changed


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("pattern", [Complete(), Grid(1)])
def test_the_loss_is_that_of_the_velocity(pattern: Pattern, dtype: torch.dtype) -> None:
    own, batch = task(pattern).to(dtype), random_captions()
    batch.source = batch.source.to(dtype)
    images = source_batch(batch)
    x = math.sqrt(WIDTH) * own.autoencoder.latents(images)
    torch.testing.assert_close(x.square().mean(), torch.tensor(1, dtype=dtype))
    times, noise, _ = own._draw(images, x, training=False)
    each = torch.cat([t.expand(n) for t, n in zip(times, images.lengths, strict=True)])
    noisy = pack_latents(add_noise(x, noise, each), images.shapes, batch)
    expected = (own.network(noisy, pattern, times) - velocity(x, noise, each)).square().mean(1)
    updates, rows = own.evaluate(batch, 0, "val")
    assert rows == len(batch.lengths)
    total, count = updates["loss"]
    assert count == len(x)
    torch.testing.assert_close(total, expected.sum())
    assert total.dtype == own.sample_images(batch).dtype == dtype


def test_draws_depend_on_the_image_and_in_training_on_the_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own, images = task(), pack_images(random_images(), 2)
    x = own.latents(images)
    times, noise, _ = own._draw(images, x, training=False)
    assert times.shape == (4,)
    assert noise.shape == x.shape
    assert bool(((times >= 0) & (times < 1)).all())
    assert len(times.unique()) == 4
    one = pack_images(random_images()[1:2], 2)
    time, part, _ = own._draw(one, own.latents(one), training=False)
    assert torch.equal(time, times[1:2])
    assert torch.equal(part, noise[images.lengths[0] :][: one.lengths[0]])
    monkeypatch.setattr(LatentDiffusion, "global_step", 7)
    assert torch.equal(own._draw(images, x, training=False)[1], noise)
    first = own._draw(images, x, training=True)[1]
    assert torch.equal(own._draw(images, x, training=True)[1], first)
    monkeypatch.setattr(LatentDiffusion, "global_step", 8)
    assert not torch.equal(own._draw(images, x, training=True)[1], first)


def test_dropped_captions_are_none() -> None:
    batch = random_captions()
    without = without_captions(batch)
    dropping, keeping = task(caption_dropout=1.0), task(caption_dropout=0.0)
    unconditional = loss_of(keeping, without, training=True)
    assert torch.equal(loss_of(dropping, batch, training=True), unconditional)
    assert not torch.equal(loss_of(keeping, batch, training=True), unconditional)
    evaluated = [loss_of(own, batch) for own in (dropping, keeping)]
    assert torch.equal(*evaluated)  # evaluation drops none
    assert not torch.equal(evaluated[0], loss_of(keeping, without))


def test_the_share_of_dropped_captions() -> None:
    own = task(caption_dropout=0.25)
    generator = torch.Generator().manual_seed(0)
    images = pack_images(torch.randn(997, 3, 2, 2, generator=generator), 2)
    _, _, is_dropped = own._draw(images, own.latents(images), training=True)
    assert abs(sum(is_dropped) / 997 - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 997)


def test_the_autoencoder_is_stored_and_not_trained() -> None:
    own = task().train()
    assert any(name.startswith("autoencoder.") for name in own.state_dict())
    own._loss(random_captions(), training=True)[0].backward()
    assert all(parameter.grad is None for parameter in own.autoencoder.parameters())
    assert all(parameter.grad is not None for parameter in own.network.parameters())


def test_an_oracle_draws_the_images_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    own, batch = task(), random_captions()
    x = own.latents(source_batch(batch))

    def oracle(noisy: Batch, adjacency: object, times: Tensor, *, source: Tensor) -> Tensor:
        alpha, sigma = signal_and_noise(times[0])
        data = x.repeat(len(noisy.x) // len(x), 1)
        return velocity(data, (noisy.x - alpha * data) / sigma, times[0])

    monkeypatch.setattr(own.network, "forward", oracle)
    torch.testing.assert_close(own.sample_images(batch), own.reconstruct_images(batch))


def test_samples_follow_the_settings_and_the_captions() -> None:
    own, batch = task(), random_captions()
    patches = own.sample_images(batch, seed=2)
    assert patches.shape == batch.source.shape
    explicit = own.sample_images(batch, seed=2, steps=3, guidance=3.0)
    assert torch.equal(patches, explicit)
    latents = own.network.sample_latents(batch, batch.source_shapes, Complete(), steps=2, seed=2)
    expected = own.autoencoder.decode_latents(latents, batch.source_shapes)
    assert torch.equal(own.sample_images(batch, seed=2, steps=2, guidance=1), expected)
    assert own.sample_images(without_captions(batch)).shape == batch.source.shape


def test_predictions_have_a_row_for_each_caption() -> None:
    own, batch = task(), random_captions((0, 2))
    rows = own.predict_step(batch, 5)
    assert torch.equal(rows, own.sample_images(batch, seed=5).reshape(2, -1))
    with pytest.raises(ValueError, match="batch: got images of"):
        own.predict_step(random_captions(), 0)


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    own = task(lr=1e-2, weights=weights_file(tmp_path))
    own.network = models.latent_diffusion(
        VOCAB_SIZE, latent_dim=WIDTH, dim=12, depth=1, num_heads=3, text_depth=1
    )
    batch = random_captions()
    before = loss_of(own, batch)
    trainer(max_epochs=80).fit(own.train(), Batches([batch]))
    assert loss_of(own, batch) < 0.7 * before


def test_a_resumed_run_is_that_without_a_break(tmp_path: Path) -> None:
    data, weights = Batches([random_captions(), random_captions((2, 0))]), weights_file(tmp_path)
    whole = task(weights=weights)
    trainer(max_epochs=4).fit(whole.train(), data)
    first = trainer(max_epochs=2)
    first.fit(task(weights=weights).train(), data)
    first.save_checkpoint(tmp_path / "a.ckpt")
    resumed = task(weights=weights)
    trainer(max_epochs=4).fit(
        resumed.train(), data, ckpt_path=tmp_path / "a.ckpt", weights_only=True
    )
    for name, tensor in resumed.state_dict().items():
        assert torch.equal(tensor, whole.state_dict()[name]), name


def test_a_checkpoint_has_all_that_samples_need(tmp_path: Path) -> None:
    own, batch = task(Grid(1), weights=weights_file(tmp_path)), random_captions()
    run = trainer(max_epochs=1)
    run.fit(own.train(), Batches([batch]))
    run.save_checkpoint(tmp_path / "a.ckpt")
    (tmp_path / "autoencoder.ckpt").unlink()
    loaded = LatentDiffusion.load_from_checkpoint(tmp_path / "a.ckpt")
    assert loaded.adjacency == Grid(1)
    assert loaded.steps == 3
    assert torch.equal(loaded.sample_images(batch), own.sample_images(batch))


def test_parts_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="latent_dim: got 7 in the network and a code_dim of 5"):
        task(latent_dim=7)
    own = task()
    network, autoencoder = own.network, own.autoencoder
    with pytest.raises(ValueError, match="network: got VQAutoencoder, expected LatentDiffusionM"):
        LatentDiffusion(autoencoder, autoencoder=autoencoder)
    with pytest.raises(ValueError, match="autoencoder: got LatentDiffusionModel, expected VQAuto"):
        LatentDiffusion(network, autoencoder=network)
    with pytest.raises(ValueError, match="caption_dropout: got 1.5, expected from 0 to 1"):
        task(caption_dropout=1.5)
    with pytest.raises(ValueError, match="steps: got 0, expected 1 or more"):
        LatentDiffusion(network, autoencoder=autoencoder, steps=0)


@pytest.mark.slow
def test_runs_are_trained_and_used_by_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    files = Path(__file__).parents[3] / "experiments"
    few = [f"--trainer.limit_{name}_batches=2" for name in ("train", "val", "test")]
    data = [f"--data.{word}" for word in ("num_samples=64", "val_size=32", "test_size=32")]
    assert main(["fit", "-c", str(files / "vq_scenes.yaml"), *few, *data]) == 0
    (codes,) = Path("runs/vq_scenes").iterdir()
    fit = ["fit", "-c", str(files / "latent_diffusion.yaml"), *few, *data, "--model.steps=2"]
    fit += ["--trainer.max_epochs=1"]
    assert main(fit) == 2
    assert "autoencoder_weights: got None" in capsys.readouterr().err
    assert main([*fit, "--model.autoencoder_weights", str(codes)]) == 0
    (run,) = Path("runs/latent_diffusion").glob("*/checkpoints/last.ckpt")
    capsys.readouterr()
    assert main(["test", "--ckpt", str(run), *few[2:]]) == 0
    assert "test/loss" in capsys.readouterr().out
    predict = ["predict", "--ckpt", str(run), "--trainer.limit_predict_batches=1"]
    assert main([*predict, "--output", "images.csv"]) == 0
    rows = list(csv.reader(Path("images.csv").read_text().splitlines()))
    assert len(rows) == 1 + 32
    assert len(rows[0]) == 1 + 3 * 32 * 32
