"""The convolutional network with attention over its feature map."""

from __future__ import annotations

import pytest
import torch
from helpers.images import patch_batch, random_images

from graphformer import models, patterns


def test_a_cnn_attends_over_its_feature_map():
    torch.manual_seed(0)
    model = models.cnn(7, 16, channels=3, patch_size=2, depth=1).eval()
    batch = patch_batch(random_images())
    assert model(batch, patterns.Complete()(batch)).shape == (4, 7)
    different = model(batch, patterns.Grid(1)(batch))
    assert not torch.allclose(model(batch, patterns.Complete()(batch)), different)
    with pytest.raises(TypeError, match="missing .* 'patch_size'"):
        models.cnn(7, channels=3)
