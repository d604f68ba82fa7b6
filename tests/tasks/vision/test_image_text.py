"""The contrast of images and texts: its loss, gradient in micro-batches, and recall."""

from __future__ import annotations

from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from helpers.images import random_captions

from graphformer import models
from graphformer.data import Scenes
from graphformer.data.batch import source_batch
from graphformer.models.vision.clip import MAX_LOG_SCALE, caption_batch
from graphformer.tasks.vision.image_text import (
    ImageTextContrast,
    contrast,
    matching_pairs,
    recall,
    sample_hashes,
)


def towers(**settings):
    torch.manual_seed(0)
    return models.clip(
        11, channels=3, patch_size=2, dim=12, depth=1, num_heads=3, text_depth=1, **settings
    )


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
    batch = random_captions()
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


def test_no_numbers_and_vectors_that_are_all_alike_find_nothing():
    assert recall(torch.full((5, 5), torch.nan), 1) == 0
    assert recall(torch.ones(5, 5), 1) == 0
    assert recall(torch.ones(5, 5), 5) == 1


def test_a_pair_that_comes_twice_matches_both_times():
    batch = random_captions((0, 1, 0, 3))
    images, texts = sample_hashes(source_batch(batch)), sample_hashes(caption_batch(batch))
    expected = torch.eye(4, dtype=torch.bool)
    expected[0, 2] = expected[2, 0] = True
    assert torch.equal(matching_pairs(images, texts), expected)


def test_an_image_matches_every_text_that_some_pair_joins_it_with():
    # Images 7 and 5 with captions 3 and 2: three of the four pairs, 5 never with 2.
    matches = matching_pairs([7, 7, 5], [3, 2, 3])
    assert matches.tolist() == [[True, True, True], [True, True, False], [True, True, True]]
    scores = torch.tensor([[0.0, 0, 1], [0, 0, 1], [0, 0, 1]])
    assert recall(scores, 1, matches) == pytest.approx(2 / 3)
    assert recall(scores, 2, matches) == 1


def test_all_pairs_joined_have_full_recall():
    matches = matching_pairs([0, 0, 1, 1], [0, 1, 0, 1])
    assert matches.all()
    assert recall(torch.randn(4, 4), 1, matches) == 1


def test_a_scale_beyond_its_limit_can_come_back():
    task = ImageTextContrast(towers())
    task.network.log_scale.data.fill_(9.0)
    task.on_train_batch_end(None, random_captions(), 0)
    task.network.scale.backward()
    assert task.network.log_scale.grad > 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"micro_batch_size": 0}, ValueError, "micro_batch_size: got 0, expected 1 or more"),
        ({"micro_batchsize": 2}, TypeError, "'micro_batchsize': did you mean 'micro_batch_size'"),
    ],
)
def test_wrong_options_are_named(options, error, message):
    with pytest.raises(error, match=message):
        ImageTextContrast(towers(), **options)


def trainer(**options) -> pl.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return pl.Trainer(accelerator="cpu", enable_checkpointing=False, **quiet, **options)


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return Scenes("digits", 40, val_size=7, test_size=11, patch_size=16, batch_size=8)


@pytest.fixture
def task(scenes) -> ImageTextContrast:
    scenes.setup()
    torch.manual_seed(0)
    network = models.clip(scenes.vocab_size, channels=3, patch_size=16, dim=12, num_heads=3)
    return ImageTextContrast(network, micro_batch_size=3)


def test_recall_is_that_of_the_whole_split(scenes, task):
    (results,) = trainer().test(task, scenes, verbose=False)
    batches = list(scenes.test_dataloader())
    with torch.no_grad():
        image, text = (torch.cat(side) for side in zip(*map(task.vectors, batches), strict=True))
        losses = [contrast(*task.vectors(batch), task.network.scale) for batch in batches]
    for k in (1, 5, 10):
        assert results[f"test/image_recall@{k}"] == pytest.approx(float(recall(text @ image.T, k)))
        assert results[f"test/text_recall@{k}"] == pytest.approx(float(recall(image @ text.T, k)))
    assert results["test/loss"] == pytest.approx(float(sum(losses)) / len(image), rel=1e-5)


def test_zero_shot_finds_the_nearest_class(scenes, task):
    task.trainer = SimpleNamespace(datamodule=scenes)
    images, prompts = scenes.zero_shot_set(13)
    classes = task.class_vectors(prompts)
    assert classes.shape == (10, 128)
    batch = images[torch.arange(13)]
    nearest = (task.network.encode_image(batch) @ classes.T).argmax(1)
    expected = float((nearest == batch.y).float().mean())
    assert task.zero_shot(images, prompts) == pytest.approx(expected)


def test_training_clamps_the_scale_and_logs_recall(scenes, task):
    task.network.log_scale.data.fill_(9.0)
    run = trainer(max_epochs=1, limit_train_batches=2, limit_val_batches=1)
    run.fit(task, scenes)
    assert task.network.log_scale <= MAX_LOG_SCALE
    assert 0 <= run.callback_metrics["val/text_recall@10"] <= 1
    predictions = run.predict(task, scenes)
    assert sum(map(len, predictions)) == 11
    assert predictions[0].shape[1] == 2 * 128


def test_accumulated_gradients_are_refused(scenes, task):
    with pytest.raises(ValueError, match="accumulate_grad_batches: got 2, expected 1"):
        trainer(max_steps=2, accumulate_grad_batches=2).fit(task, scenes)
