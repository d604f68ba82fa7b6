"""Vector quantisation: nearest codes, gradients, and images of mixed shapes through codes."""

from __future__ import annotations

import pytest
import torch
from helpers.images import patch_batch, random_images

from graphformer import models
from graphformer.models import VectorQuantizer


def test_the_nearest_code_on_the_sphere() -> None:
    quantizer = VectorQuantizer(3, 2, commitment=0.5).eval()
    quantizer.codebook.data = torch.tensor([[1.0, 0], [0, 2], [-3, 0]])
    x = torch.tensor([[5.0, 1], [0.1, 7], [-2, -1], [-1, 0]])
    vectors, codes, error = quantizer(x)
    assert codes.tolist() == [0, 1, 2, 2]
    torch.testing.assert_close(vectors, torch.tensor([[1.0, 0], [0, 1], [-1, 0], [-1, 0]]))
    assert torch.equal(quantizer.vectors(codes), vectors.detach())
    # |z - e|^2 = 2 - 2 cos, once for the codes and half of it for the encoder.
    cosines = torch.tensor([5 / 26**0.5, 7 / 49.01**0.5, 2 / 5**0.5, 1.0])
    torch.testing.assert_close(error, 1.5 * (2 - 2 * cosines), atol=1e-5, rtol=1e-4)


def test_gradients_reach_the_encoder_straight_through_and_the_codes_by_their_error() -> None:
    quantizer = VectorQuantizer(5, 3).eval()
    x = torch.nn.functional.normalize(torch.randn(7, 3), dim=1).requires_grad_()
    vectors, codes, _ = quantizer(x)
    weight = torch.randn(7, 3)
    (vectors * weight).sum().backward()
    tangent = weight - (weight * x).sum(1, keepdim=True) * x  # through the normalisation
    torch.testing.assert_close(x.grad, tangent.detach(), atol=1e-5, rtol=1e-4)
    assert quantizer.codebook.grad is None or not quantizer.codebook.grad.any()
    quantizer(x.detach())[2].sum().backward()
    used = quantizer.codebook.grad.abs().sum(1) > 1e-7
    assert set(used.nonzero().flatten().tolist()) == set(codes.tolist())


def test_unused_codes_move_to_their_nearest_vectors() -> None:
    quantizer = VectorQuantizer(3, 2)
    quantizer.codebook.data = torch.tensor([[1.0, 0], [-0.6, 0.8], [-1, 0]])
    x = torch.tensor([[0.8, 0.6], [1, 0]])
    assert quantizer(x).codes.tolist() == [0, 0]
    # Both unused codes are nearest to the first vector: cosines 0 and -0.8.
    added = quantizer(x).error - quantizer.eval()(x).error
    torch.testing.assert_close(added, torch.full((2,), ((2 - 0) + (2 + 1.6)) / 2))
    quantizer.train()(x).error.sum().backward()
    assert quantizer.codebook.grad[1:].abs().sum(1).min() > 0


def test_training_moves_codes_to_clusters() -> None:
    torch.manual_seed(0)
    quantizer = VectorQuantizer(2, 2)
    quantizer.codebook.data = torch.tensor([[1.0, 0.2], [0.2, 1.0]])
    centres = torch.nn.functional.normalize(torch.tensor([[1.0, -0.5], [-0.5, 1.0]]), dim=1)
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        quantizer(centres)[2].sum().backward()
        optimizer.step()
    torch.testing.assert_close(quantizer.vectors(torch.tensor([0, 1])), centres, atol=1e-2, rtol=0)


@pytest.mark.parametrize("depth", [0, 1])
def test_mixed_shapes_give_what_each_image_gives_alone(depth: int) -> None:
    torch.manual_seed(0)
    model = models.vq_autoencoder(12, channels=3, patch_size=2, num_codes=7, depth=depth).eval()
    images = random_images()
    batch = patch_batch(images)
    patches, codes, error = model(batch)
    assert patches.shape == batch.x.shape
    assert codes.shape == error.shape == (len(batch.x),)
    alone = [model(patch_batch([image])) for image in images]
    torch.testing.assert_close(patches, torch.cat([one.patches for one in alone]))
    assert torch.equal(codes, model.encode(batch))
    torch.testing.assert_close(model.decode(codes, batch.shapes), patches)


def test_latents_are_what_codes_are_chosen_from() -> None:
    torch.manual_seed(0)
    model = models.vq_autoencoder(12, channels=3, patch_size=2, num_codes=7, code_dim=5)
    batch = patch_batch(random_images())
    latents = model.latents(batch)
    assert latents.shape == (len(batch.x), model.code_dim) == (len(batch.x), 5)
    torch.testing.assert_close(latents.square().sum(1), torch.ones(len(batch.x)))
    assert torch.equal(model.quantizer(latents).codes, model.encode(batch))
    lengths = 0.1 + torch.rand(len(batch.x), 1)
    patches = model.decode_latents(lengths * latents, batch.shapes)
    torch.testing.assert_close(patches, model.decode(model.encode(batch), batch.shapes))
    with pytest.raises(ValueError, match="codes: got shape"):
        model.decode_latents(latents[1:], batch.shapes)


def test_wrong_codes_and_sizes_are_named() -> None:
    model = models.vq_autoencoder(8, channels=1, patch_size=4, num_codes=5)
    assert model.num_codes == 5
    with pytest.raises(ValueError, match=r"codes: got shape \(5,\), expected the 6 cells"):
        model.decode(torch.zeros(5, dtype=torch.int64), ((2, 3),))
    with pytest.raises(ValueError, match="codes: got 0 to 5, expected 0 to 4"):
        model.decode(torch.tensor([0, 5]), ((1, 2),))
    with pytest.raises(ValueError, match="num_codes and code_dim: got 1 and 8"):
        models.vq_autoencoder(8, channels=1, patch_size=4, num_codes=1)
    with pytest.raises(ValueError, match="patch_size: got 3, expected a power of 2"):
        models.vq_autoencoder(8, channels=1, patch_size=3)
