"""Captioners and CLIP: mixed sizes, teacher forcing as generation, gradients in parts."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from helpers.images import patch_batch, random_images

from graphformer import models, patterns
from graphformer.models.vision.clip import (
    MAX_LOG_SCALE,
    caption_batch,
    image_batch,
    slice_batch,
    text_batch,
)
from graphformer.tasks.vision.image_text import (
    ImageTextContrast,
    contrast,
    matching_pairs,
    recall,
    sample_hashes,
)

WORDS = (5, 2, 7, 3)
PATTERNS = {
    "grid": patterns.Grid(1),
    "global": patterns.Grid(1) | patterns.GlobalNodes(2),
}
BUILD = {
    "transformer": lambda **own: models.captioner(11, 12, dim=12, num_heads=3, patch_size=2, **own),
    "recurrent": lambda **own: models.recurrent_captioner(11, 12, dim=12, patch_size=2, **own),
}


def captions(numbers=(0, 1, 2, 3), seed=5):
    """Some of four images of mixed sizes with sentences of mixed lengths."""
    generator = torch.Generator().manual_seed(seed)
    texts = [torch.randint(11, (n,), generator=generator) for n in WORDS]
    images, texts = [random_images()[i] for i in numbers], [texts[i] for i in numbers]
    image = patch_batch(images)
    return SimpleNamespace(
        x=torch.cat(texts),
        y=torch.cat(texts),
        pos=torch.cat([torch.arange(len(text)) for text in texts]),
        lengths=tuple(map(len, texts)),
        num_nodes=sum(map(len, texts)),
        source=image.x,
        source_pos=image.pos,
        source_lengths=image.lengths,
        source_shapes=image.shapes,
    )


@pytest.mark.parametrize("encoder", ["cnn", "vit"])
@pytest.mark.parametrize("kind", BUILD)
def test_a_batch_gives_what_single_captions_give(kind, encoder):
    torch.manual_seed(0)
    own = {"depth": 1} if kind == "recurrent" else {}
    model = BUILD[kind](encoder=encoder, source_adjacency=patterns.Grid(1), **own).eval()
    batch = captions()
    together = model(batch, patterns.Causal()(batch))
    singles = [captions((i,)) for i in range(4)]
    alone = [model(one, patterns.Causal()(one)) for one in singles]
    assert together.shape == (17, 11)
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", BUILD)
@pytest.mark.parametrize("num_beams", [1, 3])
def test_what_is_generated_is_what_teacher_forcing_finds_likeliest(kind, num_beams):
    torch.manual_seed(3)
    model = BUILD[kind]().eval()
    for parameter in model.parameters():
        parameter.data.mul_(3)  # so that images matter
    batch = captions()
    written = model.generate(
        batch, max_new_tokens=5, start_id=1, temperature=0.0, num_beams=num_beams
    )
    assert [len(text) for text in written] == [6] * 4
    if num_beams > 1:
        return
    for number, text in enumerate(written):
        one = captions((number,))
        one.x = torch.tensor(text[:-1])
        one.pos, one.lengths, one.num_nodes = torch.arange(5), (5,), 5
        assert model(one, patterns.Causal()(one)).argmax(1).tolist() == text[1:]


def test_the_recurrent_decoder_tells_where_it_looks():
    torch.manual_seed(0)
    model = BUILD["recurrent"]().eval()
    batch = captions()
    told = model.attend(batch)
    assert [tuple(part.shape) for part in told] == list(
        zip(WORDS, batch.source_lengths, strict=True)
    )
    for part in told:
        torch.testing.assert_close(part.sum(1), torch.ones(len(part)))
    torch.testing.assert_close(told[2], model.attend(captions((2,)))[0])


def test_a_cnn_attends_over_its_feature_map():
    torch.manual_seed(0)
    model = models.cnn(12, 7, 16, patch_size=2, depth=1).eval()
    batch = patch_batch(random_images())
    assert model(batch, patterns.Complete()(batch)).shape == (4, 7)
    different = model(batch, patterns.Grid(1)(batch))
    assert not torch.allclose(model(batch, patterns.Complete()(batch)), different)
    with pytest.raises(ValueError, match="cnn needs patch_size"):
        models.cnn(12, 7)


def towers(**settings):
    torch.manual_seed(0)
    return models.clip(11, 12, dim=12, depth=1, num_heads=3, text_depth=1, patch_size=2, **settings)


@pytest.mark.parametrize("pool", ["mean", "class"])
def test_vectors_have_length_one_and_do_not_depend_on_the_batch(pool):
    model = towers(pool=pool).eval()
    batch = captions()
    image, text = model(batch, patterns.Causal()(batch))
    for vectors in (image, text):
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4))
    one = captions((2,))
    alone = model(one, patterns.Causal()(one))
    torch.testing.assert_close(image[2:3], alone[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(text[2:3], alone[1], atol=1e-5, rtol=1e-5)


def test_the_temperature_is_clamped():
    model = towers()
    torch.testing.assert_close(model.scale, torch.tensor(1 / 0.07))
    model.log_scale.data.fill_(9.0)
    torch.testing.assert_close(model.scale, torch.tensor(math.exp(MAX_LOG_SCALE)))
    assert math.exp(MAX_LOG_SCALE) == pytest.approx(100)


def test_the_contrast_is_symmetric_cross_entropy():
    image, text = torch.randn(5, 7), torch.randn(5, 7)
    scale = torch.tensor(3.0)
    near = 3 * image @ text.T
    rows = -near.log_softmax(1).diagonal().sum()
    columns = -near.log_softmax(0).diagonal().sum()
    torch.testing.assert_close(contrast(image, text, scale), (rows + columns) / 2)
    torch.testing.assert_close(contrast(text, image, scale), (rows + columns) / 2)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_gradient_in_parts_is_that_of_the_whole_batch(size):
    batch = captions()
    gradients = []
    for micro_batch_size in (None, size):
        task = ImageTextContrast(towers(), micro_batch_size=micro_batch_size)
        contrast(*task.vectors(batch), task.network.scale).backward()
        gradients.append({n: p.grad for n, p in task.named_parameters() if p.grad is not None})
    whole, parts = gradients
    assert whole.keys() == parts.keys()
    assert "network.log_scale" in whole
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


def test_recall_counts_the_right_ones_among_the_nearest():
    near = torch.tensor([[3.0, 1, 2], [5, 4, 6], [1, 2, 3]])
    assert [float(recall(near, k)) for k in (1, 2, 3)] == pytest.approx([2 / 3, 2 / 3, 1])


def test_samples_of_a_batch():
    batch = image_batch(captions())
    some = slice_batch(batch, 1, 3)
    assert some.lengths == batch.lengths[1:3]
    assert torch.equal(some.x, batch.x[15:37])
    assert some.shapes == batch.shapes[1:3]


def test_no_numbers_and_vectors_that_are_all_alike_find_nothing():
    assert recall(torch.full((5, 5), torch.nan), 1) == 0
    assert recall(torch.ones(5, 5), 1) == 0
    assert recall(torch.ones(5, 5), 5) == 1


def test_a_pair_that_comes_twice_is_right_both_times():
    images, texts = captions((0, 1, 0, 3)), captions((0, 1, 2, 1))
    right = matching_pairs(sample_hashes(image_batch(images)), sample_hashes(caption_batch(texts)))
    expected = torch.eye(4, dtype=torch.bool)
    expected[0, 2] = expected[2, 0] = expected[1, 3] = expected[3, 1] = True
    assert torch.equal(right, expected)
    near = torch.tensor([[1.0, 3, 2, 0], [0, 1, 0, 2], [5, 2, 1, 3], [1, 2, 0, 3]])
    assert recall(near, 1) == 1 / 4
    assert recall(near, 1, right) == 3 / 4


def test_a_scale_beyond_its_limit_can_come_back():
    task = ImageTextContrast(towers())
    task.network.log_scale.data.fill_(9.0)
    task.on_train_batch_end(None, captions(), 0)
    task.network.scale.backward()
    assert task.network.log_scale.grad > 0


def test_images_are_told_apart_by_what_is_said_of_classes():
    model = towers().eval()
    said = [[[1, 2, 9], [3, 9]], [[4, 9]], [[5, 6, 7, 9]]]
    classes = model.class_vectors(said)
    batch = image_batch(captions())
    one = text_batch([[1, 2, 9]], torch.device("cpu"))
    other = text_batch([[3, 9]], torch.device("cpu"))
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
    with pytest.raises(ValueError, match="number 1 has none"):
        model.class_vectors([[[1, 9]], []])


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("kind", [*BUILD, "clip"])
def test_images_of_mixed_sizes_go_through_any_adjacency(kind, pattern):
    torch.manual_seed(0)
    pattern, batch, one = PATTERNS[pattern], captions(), captions((2,))
    if kind == "clip":
        model = towers(pool="class", image_adjacency=pattern).eval()
        together, alone = (model.encode_image(image_batch(each)) for each in (batch, one))
        torch.testing.assert_close(together[2:3], alone, atol=1e-5, rtol=1e-5)
        return
    model = BUILD[kind](source_adjacency=pattern, depth=1).eval()
    together, alone = (model(each, patterns.Causal()(each)) for each in (batch, one))
    torch.testing.assert_close(together[7:14], alone, atol=1e-5, rtol=1e-5)
