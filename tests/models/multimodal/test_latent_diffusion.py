"""Latent diffusion: packed images, patterns, gradients, guidance and samples."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

import graphformer as gf
from graphformer.batch_type import Batch
from graphformer.data import pack_latents, pack_tokens
from graphformer.data.multimodal.latents import drop_captions
from graphformer.models import LatentDiffusionModel, latent_diffusion
from graphformer.models.multimodal.diffusion_process import ddim_step, guide
from graphformer.patterns import Complete, Grid, PerLayer

VOCABULARY, WIDTH = 11, 5
CAPTIONS = [[1, 6, 7], [], [1, 3, 4, 2, 9]]
SHAPES = ((2, 3), (1, 2), (3, 1))
CELLS = [6, 2, 3]
TIMES = torch.tensor([0.1, 0.6, 0.9], dtype=torch.float64)


def small(depth: int = 2) -> LatentDiffusionModel:
    """A model in double precision, all of whose weights are random: none is 0 as at first."""
    torch.manual_seed(0)
    model = latent_diffusion(
        VOCABULARY, latent_dim=WIDTH, dim=12, depth=depth, num_heads=3, text_depth=1
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.double().eval()


def noisy() -> Batch:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(sum(CELLS), WIDTH, generator=generator, dtype=torch.float64)
    return pack_latents(x, SHAPES, pack_tokens(CAPTIONS))


@pytest.mark.parametrize("pattern", [Complete(), Grid(1)])
def test_packed_images_equal_single_ones(pattern: gf.Pattern) -> None:
    model, batch = small(), noisy()
    together = model(batch, pattern, TIMES).split(CELLS)
    parts = batch.x.split(CELLS)
    for i, (found, part) in enumerate(zip(together, parts, strict=True)):
        single = pack_latents(part, SHAPES[i : i + 1], pack_tokens(CAPTIONS[i : i + 1]))
        torch.testing.assert_close(model(single, pattern, TIMES[i : i + 1]), found)


@pytest.mark.parametrize("pattern", [Complete(), Grid(1)])
def test_other_images_captions_and_times_have_no_influence(pattern: gf.Pattern) -> None:
    model, batch = small(), noisy()
    before = model(batch, pattern, TIMES)
    batch.x[:6] += 1
    batch.source[:3] = 5
    changed = (model(batch, pattern, TIMES + torch.tensor([0.05, 0, 0])) != before).any(1)
    assert changed[:6].all()
    assert not changed[6:].any()


def test_each_input_has_an_influence() -> None:
    model, batch = small(), noisy()
    before = model(batch, Complete(), TIMES)
    assert (model(batch, Complete(), TIMES + 0.05) != before).any(1).all()
    reversed_caption = noisy()
    reversed_caption.source[:3] = reversed_caption.source[:3].flip(0)
    changed = (model(reversed_caption, Complete(), TIMES) != before).any(1)
    assert changed.tolist() == [True] * 6 + [False] * 5
    batch.pos[:6] = batch.pos[:6].flip(0)
    changed = (model(batch, Complete(), TIMES) != before).any(1)
    assert changed.tolist() == [True] * 6 + [False] * 5


def test_a_grid_that_covers_the_images_is_complete() -> None:
    model, batch = small(), noisy()
    complete, grid = (model(batch, pattern, TIMES) for pattern in (Complete(), Grid(2)))
    torch.testing.assert_close(grid, complete)
    near = model(batch, Grid(1), TIMES)
    differs = ((near - complete).abs().amax(1) > 1e-6).split(CELLS)
    assert differs[0].all()
    assert not differs[1].any()  # its two cells are neighbours
    per_block = model(batch, PerLayer((Complete(), Grid(2))), TIMES)
    torch.testing.assert_close(per_block, complete)


def test_a_new_model_predicts_zero() -> None:
    model = latent_diffusion(VOCABULARY, latent_dim=WIDTH, dim=12, num_heads=3).double()
    assert torch.equal(model(noisy(), Complete(), TIMES), torch.zeros_like(noisy().x))


@pytest.mark.parametrize("pattern", [Complete(), Grid(1)])
def test_gradients_reach_all_weights(pattern: gf.Pattern) -> None:
    model = small()
    model(noisy(), pattern, TIMES).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_gradients_are_those_of_finite_differences() -> None:
    model, batch = small(depth=1), noisy()

    def loss(x: Tensor) -> Tensor:
        batch.x = x
        return model(batch, Complete(), TIMES).square().sum()

    assert torch.autograd.gradcheck(loss, batch.x.clone().requires_grad_(), fast_mode=True)


def test_nodes_of_captions_may_be_computed_before() -> None:
    model, batch = small(), noisy()
    source = model.encode(batch)
    assert source.shape == (8, 12)
    expected = model(batch, Complete(), TIMES)
    assert torch.equal(model(batch, Complete(), TIMES, source=source), expected)


@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_samples_are_those_of_the_formulas(guidance: float) -> None:
    model, captions = small(), pack_tokens(CAPTIONS)
    found = model.sample_latents(captions, SHAPES, Grid(1), steps=3, guidance=guidance, seed=4)
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(sum(CELLS), WIDTH, generator=generator, dtype=torch.float64)
    times = torch.tensor([1, 2 / 3, 1 / 3, 0], dtype=torch.float64)
    for now, after in pairwise(times):
        batch = pack_latents(x, SHAPES, captions)
        v = model(batch, Grid(1), now.repeat(3))
        without = model(drop_captions(batch, [True] * 3), Grid(1), now.repeat(3))
        x = ddim_step(x, guide(without, v, guidance), now, after)
    torch.testing.assert_close(found, x.detach())


def test_samples_of_captions_without_tokens_do_not_depend_on_the_guidance() -> None:
    model, none = small(), pack_tokens([[], [], []])
    plain = model.sample_latents(none, SHAPES, Complete(), steps=2)
    guided = model.sample_latents(none, SHAPES, Complete(), steps=2, guidance=5)
    torch.testing.assert_close(plain, guided)


def test_samples_repeat_with_the_seed_and_use_the_models_adjacency() -> None:
    model, captions = small().train().with_adjacency(Grid(1)), pack_tokens(CAPTIONS)
    draws = [model.sample_latents(captions, SHAPES, steps=2, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(draws[0], model.sample_latents(captions, SHAPES, Grid(1), steps=2, seed=1))
    assert model.training
    assert not draws[0].requires_grad


def test_wrong_inputs_are_named() -> None:
    model, captions = small(), pack_tokens(CAPTIONS)
    with pytest.raises(ValueError, match=r"times: got shape \[2\], expected \[3\]"):
        model(noisy(), Complete(), TIMES[:2])
    with pytest.raises(ValueError, match="adjacency: got None, and the model has no default"):
        model(noisy(), None, TIMES)
    with pytest.raises(ValueError, match="adjacency: got 3 adjacencies, expected one, or one for"):
        model(noisy(), PerLayer((Complete(),) * 3), TIMES)
    with pytest.raises(ValueError, match="steps: got 0, expected 1 or more"):
        model.sample_latents(captions, SHAPES, Complete(), steps=0)
    with pytest.raises(ValueError, match="shapes: got 1, expected 3, one for each caption"):
        model.sample_latents(captions, SHAPES[:1], Complete())
    batch = noisy()
    batch.x = batch.x[:, :4]
    with pytest.raises(
        ValueError, match=r"batch.x: got shape \[11, 4\], expected patches \[N, 5\]"
    ):
        model(batch, Complete(), TIMES)
