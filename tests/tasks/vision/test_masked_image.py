"""Masked image modelling: which patches are hidden, and the targets."""

from __future__ import annotations

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from helpers.images import patch_batch, random_images

from graphformer import models, patterns
from graphformer.data import Digits
from graphformer.data.batch import pack_tokens
from graphformer.tasks.seeding import sample_generators
from graphformer.tasks.vision.masked_image import (
    MaskedImageModeling,
    normalize_patches,
    sample_visible_mask,
)


def visible_of(batch, seed=0):
    return sample_visible_mask(batch.lengths, 0.75, np.random.default_rng(seed))


def test_three_quarters_of_every_image_are_hidden():
    batch = patch_batch(random_images())
    visible = visible_of(batch)
    assert [int(part.sum()) for part in visible.split(list(batch.lengths))] == [4, 2, 4, 1]
    assert not torch.equal(visible, visible_of(batch, 1))


@pytest.mark.parametrize("mask_ratio", [0.01, 0.4, 0.5, 0.75, 0.99])
def test_some_patches_of_every_image_are_hidden_and_some_visible(mask_ratio):
    lengths = (2, 3, 5, 11)
    visible = sample_visible_mask(lengths, mask_ratio, np.random.default_rng(0))
    for image in visible.split(list(lengths)):
        assert 0 < int(image.sum()) < len(image)


def test_an_image_of_one_patch_is_refused():
    with pytest.raises(ValueError, match="images: got one of 1 patches, expected 2 or more"):
        sample_visible_mask((4, 1), 0.75, np.random.default_rng(0))


def test_patches_are_normalised_and_back():
    x = torch.randn(7, 13) * 5 + 3
    x[3] = 2.0  # a constant patch stays finite
    y, mean, deviation = normalize_patches(x)
    torch.testing.assert_close(y * deviation + mean, x)
    assert (y[3] == 0).all()
    torch.testing.assert_close(y[0].std(), torch.tensor(1.0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: MaskedImageModeling(models.vit(3, channels=3, patch_size=2)),
            "network: got ViT, .*models.mae",
        ),
        (
            lambda: MaskedImageModeling(models.mae(8, channels=3, patch_size=2), mask_ratio=1.0),
            "mask_ratio: got 1.0, expected",
        ),
        (lambda: normalize_patches(torch.ones(3, 1)), "got patches of 1 number, expected 2"),
    ],
)
def test_what_cannot_be_masked_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_misspelt_option_is_refused_by_name():
    network = models.mae(8, channels=3, patch_size=2)
    with pytest.raises(TypeError, match="'mask_ration': did you mean 'mask_ratio'"):
        MaskedImageModeling(network, mask_ration=0.5)


def trainer(**options) -> pl.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return pl.Trainer(accelerator="cpu", enable_checkpointing=False, **quiet, **options)


@pytest.mark.parametrize("normalize", [False, True])
def test_the_loss_is_that_of_hidden_patches(normalize):
    data = Digits(2, 64)
    data.setup()
    torch.manual_seed(0)
    network = models.mae(8, 1, 2, channels=1, patch_size=2, decoder_heads=2)
    task = MaskedImageModeling(network, mask_ratio=0.6, normalize=normalize, seed=3)
    batch = next(iter(data.val_dataloader()))
    (results,) = trainer(limit_val_batches=1).validate(task, data, verbose=False)
    visible = sample_visible_mask(
        batch.lengths, 0.6, sample_generators(batch.x, batch.lengths, 3, 0)
    )
    target = normalize_patches(batch.x)[0] if normalize else batch.x
    with torch.no_grad():
        predicted = network(batch, patterns.Complete()(batch), visible)
    expected = (predicted - target)[~visible].square().mean()
    assert results["val/loss"] == pytest.approx(float(expected), rel=1e-5)


def test_training_lowers_the_loss_and_evaluation_repeats_itself():
    data = Digits(2, 256)
    torch.manual_seed(0)
    network = models.mae(16, 1, 2, channels=1, patch_size=2, decoder_heads=2)
    task = MaskedImageModeling(network, normalize=False, lr=1e-2)
    run = trainer(max_epochs=3, limit_val_batches=2)
    before, again = (run.validate(task, data, verbose=False)[0]["val/loss"] for _ in range(2))
    assert before == again
    run.fit(task, data)
    assert run.validate(task, data, verbose=False)[0]["val/loss"] < 0.8 * before


def test_batches_of_tokens_are_refused():
    task = MaskedImageModeling(models.mae(8, channels=1, patch_size=2))
    batch = pack_tokens([[1, 2, 3]])
    with pytest.raises(ValueError, match=r"batch.x: got torch.int64, expected patches \[N, F\]"):
        task.training_step(batch, 0)
