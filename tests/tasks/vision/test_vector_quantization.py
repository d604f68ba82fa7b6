"""The objective of vector-quantised autoencoders."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.images import patch_batch, random_captions, random_images

from graphformer import models
from graphformer.data import pack_tokens
from graphformer.tasks import VectorQuantization
from graphformer.tasks.vision.vector_quantization import CodebookUsage


def task() -> VectorQuantization:
    torch.manual_seed(0)
    network = models.vq_autoencoder(12, channels=3, patch_size=2, num_codes=7)
    return VectorQuantization(network)


def test_the_loss_is_that_of_pixels_and_codes() -> None:
    own, batch = task().eval(), patch_batch(random_images())
    patches, codes, error = own.network(batch)
    updates, rows = own.evaluate(batch, 0, "val")
    assert rows == 4
    total, count = updates["loss"]
    assert count == len(batch.x)
    pixels = (patches - batch.x).square().mean(1)
    torch.testing.assert_close(total, (pixels + error).sum())
    torch.testing.assert_close(updates["pixels"][0], pixels.sum())
    assert torch.equal(updates["codes"][0], codes)


def test_images_of_captions_are_the_images() -> None:
    own, batch = task().eval(), random_captions()
    images = patch_batch(random_images())
    expected = own.evaluate(images, 0, "val")[0]["loss"][0]
    torch.testing.assert_close(own.evaluate(batch, 0, "val")[0]["loss"][0], expected)


def test_training_lowers_the_loss() -> None:
    own, batch = task(), patch_batch(random_images())
    optimizer = torch.optim.Adam(own.network.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        pixels, error, _ = own._errors(batch)
        loss = (pixels + error).mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_codes_in_use_by_hand() -> None:
    usage = CodebookUsage(5)
    usage.update(torch.tensor([0, 0, 1]))
    usage.update(torch.tensor([1, 1, 3, 3, 0]))
    entropy = -(2 * 3 / 8 * math.log(3 / 8) + 2 / 8 * math.log(2 / 8))
    assert float(usage.compute()) == pytest.approx(math.exp(entropy))


def test_other_networks_and_texts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"network: got ViT, .*models.vq_autoencoder"):
        VectorQuantization(models.vit(3, channels=3, patch_size=2))
    with pytest.raises(ValueError, match=r"batch.x: got torch.int64, expected patches"):
        task().evaluate(pack_tokens([[1, 2]]), 0, "val")
