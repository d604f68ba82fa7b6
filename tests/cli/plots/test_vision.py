"""Figures of vision runs: attention maps, words, retrieval, and which figure a network has."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.images import patch_batch, random_images

from graphformer import models, patterns
from graphformer.cli.errors import UsageError
from graphformer.cli.plots.vision import (
    CORRECT,
    HIDDEN_GREY,
    WRONG,
    attention_maps,
    default_figure,
    draw_attention,
    draw_reconstructions,
    draw_retrieval,
    draw_word_attention,
    figure_functions,
    image_pixels,
    word_attention_maps,
)
from graphformer.data import Digits, Scenes
from graphformer.nn import record_attention
from graphformer.nn.rollout import attention_from, dense_attention, rollout, rollout_from
from graphformer.tasks import (
    Classification,
    ImageTextContrast,
    MaskedImageModeling,
    SequenceToSequence,
)


def recorded(model: models.ViT, batch, adjacency) -> list[torch.Tensor]:
    """The mean attention of each block, [nodes, nodes], and the rollout of all."""
    with record_attention(model.transformer) as records:
        model.nodes(batch, adjacency)
    return [*(dense_attention(record) for record in records), rollout(records)]


@pytest.mark.parametrize("registers", [0, 2])
@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_maps_are_of_the_nodes_that_the_output_is_read_from(pool, registers):
    torch.manual_seed(0)
    options = {"pool": pool, "registers": registers, "channels": 3, "patch_size": 2}
    model = models.vit(7, 12, 2, 3, **options).eval()
    if model.tokens is not None:
        model.tokens.data += 3  # so that their attention differs from that of patches
    image = patch_batch(random_images([(6, 10)]))
    tokens = registers + (pool == "cls")
    last, whole = attention_maps(model, patterns.Grid(1), image)
    assert last.shape == whole.shape == (3, 5)
    _, second, mixed = recorded(model, image, patterns.Grid(1)(image))
    rows = slice(0, 1) if pool == "cls" else slice(tokens, None)
    torch.testing.assert_close(last.flatten(), second[rows].mean(0)[tokens:])
    torch.testing.assert_close(whole.flatten(), mixed[rows].mean(0)[tokens:])


def test_rollout_mixes_attention_with_residuals():
    torch.manual_seed(0)
    model = models.vit(7, 12, 2, 3, channels=3, patch_size=2, pool="cls").eval()
    batch = patch_batch(random_images([(6, 10)]))
    first, second, mixed = recorded(model, batch, patterns.Grid(1)(batch))
    torch.testing.assert_close(first.sum(1), torch.ones(16))
    identity = torch.eye(16)
    torch.testing.assert_close(mixed, (second + identity) / 2 @ (first + identity) / 2)


@pytest.mark.parametrize("pattern", [patterns.Complete(), patterns.Grid(1)])
def test_attention_from_some_nodes_is_that_of_their_rows(pattern):
    torch.manual_seed(0)
    batch = patch_batch(random_images([(6, 10)]))
    model = models.vit(None, 12, 3, 3, channels=3, patch_size=2).eval()
    with record_attention(model.transformer) as records:
        model(batch, pattern(batch))
    share = torch.rand(15)
    row = attention_from(records[1], share)
    torch.testing.assert_close(row, share @ dense_attention(records[1]))
    torch.testing.assert_close(rollout_from(records, share), share @ rollout(records))


@pytest.mark.parametrize("build", [models.captioner, models.recurrent_captioner])
def test_attention_of_words_is_over_every_node_of_their_image(build):
    torch.manual_seed(0)
    model = build(11, channels=3, patch_size=2, dim=12).eval()
    image = patch_batch(random_images([(6, 10)]))
    maps = word_attention_maps(model, patterns.Causal(), image, [1, 4, 2, 7])
    assert maps.shape == (3, 15)
    torch.testing.assert_close(maps.sum(1), torch.ones(3))


def test_pixels_of_a_batch_are_those_of_the_image():
    data = Digits(2, 5, test_size=7)
    data.setup()
    image = data.batches("test").dataset[torch.tensor([3])]
    pixels = image_pixels(image.x, image.shapes[0], data)
    assert pixels.shape == (8, 8, 1)
    raw = data.batches("test").dataset.images[3, 0] / 16
    torch.testing.assert_close(torch.from_numpy(pixels[..., 0]), torch.from_numpy(raw))


class RepeatedCaptions(Scenes):
    """Scenes of the test split with every image three times, and their own captions."""

    def read(self):
        splits = super().read()
        images, captions = splits["test"]
        return {**splits, "test": (images.repeat_interleave(3, 0), captions * 3)}


def test_an_image_with_several_captions_is_retrieved_once():
    data = RepeatedCaptions("digits", 40, val_size=3, test_size=7, patch_size=16, batch_size=5)
    data.setup()
    torch.manual_seed(0)
    network = models.clip(data.vocab_size, channels=3, patch_size=16, dim=12, num_heads=2)
    task = ImageTextContrast(network).eval()
    figure = draw_retrieval(task, data, 4)
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == 4 * 5
    for row in range(4):
        shown = [axes.images[0].get_array().tobytes() for axes in panels[5 * row : 5 * row + 5]]
        assert len(set(shown)) == 5
    colours = {axes.spines["left"].get_edgecolor() for axes in panels}
    from matplotlib.colors import to_rgba

    assert colours <= {to_rgba(CORRECT), to_rgba(WRONG)}


@pytest.mark.parametrize(
    ("network", "figure"),
    [
        (lambda: models.vit(3, 12, 1, 3, channels=1, patch_size=2), "attention"),
        (lambda: models.mae(12, 1, 3, channels=1, patch_size=2), "reconstruction"),
        (lambda: models.clip(11, channels=1, patch_size=2, dim=12, num_heads=3), "retrieval"),
        (lambda: models.captioner(11, channels=1, patch_size=2, dim=12, num_heads=3), "words"),
        (lambda: models.recurrent_captioner(11, channels=1, patch_size=2, dim=12), "words"),
        (lambda: models.encoder_decoder(11, dim=12, depth=1, num_heads=3), None),
        (lambda: models.language_model(11, dim=12, depth=1, num_heads=3), None),
    ],
)
def test_each_network_has_its_figure(network, figure):
    found = default_figure(network())
    assert found == figure
    assert found is None or found in figure_functions()


def test_what_has_no_attention_over_images_is_refused():
    data = Digits(2, 5)
    data.setup()
    for network, message in (
        (models.cnn(10, 8, channels=1, patch_size=2, depth=0), "no attention blocks"),
        (models.language_model(11, dim=12, depth=1, num_heads=3), "Model reads no images"),
    ):
        task = Classification(network, patterns.Complete(), num_classes=10, level="graph")
        with pytest.raises(UsageError, match=message):
            draw_attention(task, data, 2)


def panels_of(figure) -> list[list[np.ndarray]]:
    """The arrays that each panel shows, image first."""
    return [[np.asarray(image.get_array()) for image in axes.images] for axes in figure.axes]


def test_attention_is_drawn_over_images():
    data = Digits(2, 5)
    data.setup()
    network = models.vit(10, 12, 1, 3, channels=1, patch_size=2)
    task = Classification(network, patterns.Complete(), num_classes=10, level="graph").eval()
    panels = panels_of(draw_attention(task, data, 4))
    assert [len(arrays) for arrays in panels] == [1] * 4 + [2] * 8
    assert all(arrays[1].shape == (4, 4) for arrays in panels[4:])
    assert all(np.array_equal(panels[i][0], panels[i + 4][0]) for i in range(8))


@pytest.mark.parametrize("normalize", [False, True])
def test_a_reconstruction_keeps_the_visible_patches(normalize):
    data = Digits(2, 5)
    data.setup()
    network = models.mae(12, 1, 3, channels=1, patch_size=2)
    task = MaskedImageModeling(network, mask_ratio=0.5, normalize=normalize).eval()
    figure = draw_reconstructions(task, data, 3)
    assert figure.axes[3].get_ylabel() == "50% hidden"
    panels = [arrays[0] for arrays in panels_of(figure)]
    for image, masked, completed in zip(panels[:3], panels[3:6], panels[6:], strict=True):
        is_hidden = masked == HIDDEN_GREY
        assert 30 <= is_hidden.sum() <= 34  # 8 of 16 patches of 4 pixels
        np.testing.assert_allclose(completed[~is_hidden], image[~is_hidden], atol=1e-6)
        assert not np.allclose(completed[is_hidden], image[is_hidden], atol=1e-3)


@pytest.mark.parametrize("build", [models.captioner, models.recurrent_captioner])
def test_each_word_of_a_caption_is_drawn(build):
    data = Scenes("digits", 40, val_size=3, test_size=7, patch_size=16, batch_size=5)
    data.setup()
    torch.manual_seed(0)
    network = build(data.vocab_size, channels=3, patch_size=16, dim=12)
    figure = draw_word_attention(SequenceToSequence(network).eval(), data, 2)
    panels = panels_of(figure)
    assert len([arrays for arrays in panels if len(arrays) == 1]) == 2  # the images themselves
    titled = [axes for axes in figure.axes if len(axes.images) == 2]
    assert titled
    assert all(axes.get_title().strip() for axes in titled)


def test_figures_of_another_network_are_refused():
    data = Digits(2, 5)
    data.setup()
    network = models.vit(10, 12, 1, 3, channels=1, patch_size=2)
    task = Classification(network, patterns.Complete(), num_classes=10, level="graph")
    for draw, message in (
        (draw_reconstructions, "of a masked autoencoder's run"),
        (draw_word_attention, "of a captioner's run"),
        (draw_retrieval, "of a CLIP's run"),
    ):
        with pytest.raises(UsageError, match=message):
            draw(task, data, 2)
