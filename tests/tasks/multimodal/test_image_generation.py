"""What tasks of images from captions share: the autoencoder and its weights, shapes, captions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.images import random_captions, random_images
from torch import nn

from graphformer import models
from graphformer.data import pack_images
from graphformer.models import VQAutoencoder
from graphformer.patterns import Complete
from graphformer.tasks.multimodal.image_generation import (
    ImageGeneration,
    captions_of,
    common_shape,
    images_of,
)


def autoencoder(seed: int) -> VQAutoencoder:
    torch.manual_seed(seed)
    return models.vq_autoencoder(12, channels=3, patch_size=2, num_codes=7)


def test_weights_of_a_checkpoint_are_loaded_for_training(tmp_path: Path) -> None:
    trained = autoencoder(1)
    stored = {f"network.{name}": weight for name, weight in trained.state_dict().items()}
    torch.save({"state_dict": stored}, tmp_path / "a.ckpt")
    weights = str(tmp_path / "a.ckpt")
    own = ImageGeneration(
        nn.Identity(), Complete(), autoencoder=autoencoder(2), autoencoder_weights=weights
    )
    own.setup("test")
    assert not torch.equal(own.autoencoder.quantizer.codebook, trained.quantizer.codebook)
    own.setup("fit")
    for name, weight in own.autoencoder.state_dict().items():
        assert torch.equal(weight, trained.state_dict()[name])
    assert not any(parameter.requires_grad for parameter in own.autoencoder.parameters())


def test_reconstructed_images_are_those_after_their_codes() -> None:
    own = ImageGeneration(nn.Identity(), Complete(), autoencoder=autoencoder(1))
    images = pack_images(random_images(), 2)
    expected = own.autoencoder.decode(own.autoencoder.encode(images), images.shapes)
    torch.testing.assert_close(own.reconstruct_images(random_captions()), expected)
    assert own.training


def test_captions_images_and_shape_of_a_batch() -> None:
    batch = random_captions((0, 2))
    captions = captions_of(batch)
    assert torch.equal(captions.x, batch.x)
    assert captions.lengths == (5, 7)
    assert "source" not in captions
    images = images_of(batch)
    assert torch.equal(images.x, batch.source)
    assert images.shapes == ((3, 5), (3, 5))
    assert common_shape(batch) == (3, 5)
    with pytest.raises(ValueError, match=r"batch: got images of \[\(1, 7\), \(3, 5\)\] patches"):
        common_shape(random_captions((0, 1)))


def test_missing_parts_are_named() -> None:
    with pytest.raises(ValueError, match="autoencoder: got Identity, expected VQAutoencoder"):
        ImageGeneration(nn.Identity(), Complete(), autoencoder=nn.Identity())
    own = ImageGeneration(nn.Identity(), Complete(), autoencoder=autoencoder(1))
    with pytest.raises(ValueError, match="autoencoder_weights: got None"):
        own.setup("fit")
    with pytest.raises(NotImplementedError, match=r"ImageGeneration must define sample_images"):
        own.sample_images(random_captions())
    with pytest.raises(ValueError, match=r"batch.source: got None, expected patches"):
        images_of(pack_images(random_images(), 2))
    texts = random_captions()
    texts.source = texts.x
    with pytest.raises(ValueError, match=r"batch.source: got torch.int64, expected patches"):
        own.reconstruct_images(texts)
