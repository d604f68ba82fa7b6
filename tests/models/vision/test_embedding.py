"""The arguments of patch models: channels and patch_size, and those of earlier releases."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from helpers.images import patch_batch, random_images
from torch import nn

from graphformer import models, patterns
from graphformer.deprecated import upgrade_settings
from graphformer.models.vision.embedding import patch_embedding

OLD_AND_NEW: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module], str]] = {
    "vit, positional": (
        lambda: models.vit(12, 7, 10, 1, 2),
        lambda: models.vit(7, 10, 1, 2, channels=12, patch_size=1),
        "num_features of vit is now called channels and patch_size",
    ),
    "vit, keyword and stem": (
        lambda: models.vit(
            num_features=48, num_classes=7, stem="convolutional", patch_size=4, channels=[8, 16]
        ),
        lambda: models.vit(
            7, channels=3, patch_size=4, stem="convolutional", stem_channels=[8, 16]
        ),
        "num_features and channels of vit is now called stem_channels and channels",
    ),
    "cnn": (
        lambda: models.cnn(12, 7, 16, patch_size=2),
        lambda: models.cnn(7, 16, channels=3, patch_size=2),
        "num_features of cnn",
    ),
    "mae": (
        lambda: models.mae(12, 16, 1, 2, positions="learned", shape=(3, 5)),
        lambda: models.mae(16, 1, 2, channels=12, patch_size=1, positions="learned", shape=(3, 5)),
        "num_features of mae",
    ),
    "clip": (
        lambda: models.clip(11, 12, dim=8, num_heads=2, patch_size=2, shape=(3, 5)),
        lambda: models.clip(11, channels=3, patch_size=2, dim=8, num_heads=2, shape=(3, 5)),
        "num_features of clip",
    ),
    "captioner": (
        lambda: models.captioner(11, 12, encoder="vit"),
        lambda: models.captioner(11, channels=12, patch_size=1, encoder="vit"),
        "num_features of captioner",
    ),
    "recurrent_captioner": (
        lambda: models.recurrent_captioner(11, num_features=12, patch_size=2, channels=[8]),
        lambda: models.recurrent_captioner(11, channels=3, patch_size=2, stem_channels=[8]),
        "num_features and channels of recurrent_captioner",
    ),
}


@pytest.mark.parametrize("name", OLD_AND_NEW)
def test_old_arguments_give_the_same_weights_and_warn(name):
    old, new, message = OLD_AND_NEW[name]
    torch.manual_seed(0)
    with pytest.warns(FutureWarning, match=message):
        before = old().state_dict()
    torch.manual_seed(0)
    after = new().state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in after)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (
            {"num_features": 48, "num_classes": 7, "patch_size": 4, "channels": [32, 64]},
            {"channels": 3, "patch_size": 4, "num_classes": 7, "stem_channels": [32, 64]},
        ),
        (
            {"num_features": 48, "patch_size": None, "channels": None},
            {"channels": 48, "patch_size": 1},
        ),
        ({"channels": [32, 64]}, {"stem_channels": [32, 64]}),
        ({"channels": None, "dim": 8}, {"dim": 8}),
        ({"channels": 3, "patch_size": 4}, {"channels": 3, "patch_size": 4}),
        ({"dim": 8}, {"dim": 8}),
    ],
)
def test_stored_settings_are_upgraded(stored, expected):
    assert upgrade_settings(models.vit, stored) == expected


def test_a_width_that_is_no_patch_is_refused():
    with pytest.raises(ValueError, match=r"num_features: got 17, expected a multiple of .* 4"):
        models.vit(17, 7, patch_size=2)


@pytest.mark.parametrize("build", [models.vit, models.cnn])
def test_the_size_of_patches_must_be_given(build):
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'patch_size'"):
        build(7, channels=3)
    convolutional = {"stem": "convolutional"} if build is models.vit else {}
    with (
        pytest.warns(FutureWarning, match="num_features"),
        pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'patch_size'"),
    ):
        build(12, 7, **convolutional)


@pytest.mark.parametrize("stem", ["linear", "convolutional"])
@pytest.mark.parametrize("positions", ["axial", "learned", "sincos"])
def test_patches_are_embedded_by_content_and_position(stem, positions):
    torch.manual_seed(0)
    embed = patch_embedding(
        12, channels=3, patch_size=2, positions=positions, shape=(3, 5), stem=stem
    )
    batch = patch_batch(random_images())
    assert embed(batch).shape == (len(batch.x), 12)
    batch.x = torch.zeros_like(batch.x)
    rows = embed(batch)
    assert not torch.allclose(rows[0], rows[1])  # they differ by position only


def test_an_old_model_runs_over_patches():
    with pytest.warns(FutureWarning):
        model = models.vit(12, 7, 12, 1, 3)
    batch = patch_batch(random_images())
    assert model(batch, patterns.Complete()(batch)).shape == (4, 7)
