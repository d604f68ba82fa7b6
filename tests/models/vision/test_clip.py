"""CLIP: embeddings of images and texts in one space, and zero-shot classification."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.images import random_captions

from graphformer import models, patterns
from graphformer.data.batch import pack_tokens, source_batch
from graphformer.models.vision.clip import MAX_LOG_SCALE


def towers(**settings):
    torch.manual_seed(0)
    return models.clip(
        11, channels=3, patch_size=2, dim=12, depth=1, num_heads=3, text_depth=1, **settings
    )


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_vectors_have_length_one_and_do_not_depend_on_the_batch(pool):
    model = towers(pool=pool).eval()
    batch = random_captions()
    image, text = model(batch, patterns.Causal()(batch))
    for vectors in (image, text):
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4))
    one = random_captions((2,))
    alone = model(one, patterns.Causal()(one))
    torch.testing.assert_close(image[2:3], alone[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(text[2:3], alone[1], atol=1e-5, rtol=1e-5)


def test_the_temperature_is_clamped():
    model = towers()
    torch.testing.assert_close(model.scale, torch.tensor(1 / 0.07))
    model.log_scale.data.fill_(9.0)
    torch.testing.assert_close(model.scale, torch.tensor(math.exp(MAX_LOG_SCALE)))
    assert math.exp(MAX_LOG_SCALE) == pytest.approx(100)


def test_images_are_told_apart_by_what_is_said_of_classes():
    model = towers().eval()
    said = [[[1, 2, 9], [3, 9]], [[4, 9]], [[5, 6, 7, 9]]]
    classes = model.class_vectors(said)
    batch = source_batch(random_captions())
    one = pack_tokens([[1, 2, 9]])
    other = pack_tokens([[3, 9]])
    both = [model.encode_text(text, patterns.Causal()(text)) for text in (one, other)]
    mean = torch.nn.functional.normalize(both[0] + both[1], dim=-1)
    torch.testing.assert_close(classes[:1], mean, atol=1e-5, rtol=1e-5)
    chances = model.zero_shot(batch, classes)
    assert chances.shape == (4, 3)
    torch.testing.assert_close(chances.sum(1), torch.ones(4))
    near = model.encode_image(batch) @ classes.T
    assert torch.equal(chances.argmax(1), near.argmax(1))
    _, numbers = models.search(classes, model.encode_image(batch), 2)
    assert torch.equal(numbers, near.T.topk(2).indices)
    with pytest.raises(ValueError, match="prompts: got no text for class 1"):
        model.class_vectors([[[1, 9]], []])


@pytest.mark.parametrize(
    "pattern",
    [patterns.Grid(1), patterns.Grid(1) | patterns.GlobalNodes(2)],
    ids=["grid", "global"],
)
def test_images_of_mixed_sizes_go_through_any_adjacency(pattern):
    model = towers(pool="cls", image_adjacency=pattern).eval()
    together, alone = (
        model.encode_image(source_batch(random_captions(samples)))
        for samples in ((0, 1, 2, 3), (2,))
    )
    torch.testing.assert_close(together[2:3], alone, atol=1e-5, rtol=1e-5)


def test_the_forward_pass_gives_both_embeddings():
    model, batch = towers().eval(), random_captions()
    image, text = model(batch, patterns.Causal()(batch))
    assert torch.equal(image, model.encode_image(source_batch(batch)))
    assert text.shape == image.shape == (4, 128)


def test_no_class_and_a_model_without_a_checkpoint_are_refused(tmp_path):
    with pytest.raises(ValueError, match="prompts: got no class"):
        towers().class_vectors([])
    with pytest.raises(ValueError, match="save_pretrained: got a model that is not from"):
        towers().save_pretrained(tmp_path)
    with pytest.warns(FutureWarning, match="said of .*class_vectors is now called prompts"):
        towers().class_vectors(said=[[[1]]])
