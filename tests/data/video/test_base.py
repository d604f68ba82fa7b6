"""Videos as samples: cut into patches, scaled, and packed from arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphformer.data import MovingObjects
from graphformer.data.video.base import VideoSamples


def test_a_batch_is_scaled_and_cut_in_the_order_asked_for() -> None:
    videos = torch.arange(3 * 2 * 4 * 6 * 6).reshape(3, 2, 4, 6, 6)
    samples = VideoSamples(
        videos, torch.tensor([5, 7, 2]), 3, 2, np.array([1, 2]), np.array([2, 4])
    )
    batch = samples[torch.tensor([2, 0])]
    assert batch.shapes == ((2, 2, 2),) * 2
    assert batch.lengths == (8, 8)
    assert batch.y.tolist() == [2, 5]
    # The patch at time 1, row 0, column 1 of video 0; its first number is channel 0.
    own = videos[0, :, 2:4, 0:3, 3:6].float()
    scaled = torch.stack([(own[0] - 1) / 2, (own[1] - 2) / 4])
    torch.testing.assert_close(batch.x[8 + 5], scaled.flatten())
    assert batch.pos[8 + 5].tolist() == [1, 0, 1]


def test_new_videos_are_scaled_as_in_training() -> None:
    data = MovingObjects(num_samples=7, val_size=2, test_size=3, num_frames=4, batch_size=3)
    with pytest.raises(RuntimeError, match="call setup"):
        data.pack([np.zeros((3, 4, 32, 32))])
    data.setup()
    expected = next(iter(data.batches("test")))
    videos = data.splits["test"][0]
    batch = data.pack([video.numpy() for video in videos])
    assert torch.equal(batch.x, expected.x)
    assert "y" not in batch
    restored = MovingObjects(num_frames=4)
    restored.load_state_dict(data.state_dict())
    assert torch.equal(restored.pack(list(videos)).x, expected.x), "from a checkpoint, before setup"
    for wrong in (np.zeros((1, 4, 32, 32)), np.zeros((3, 32, 32))):
        with pytest.raises(ValueError, match=r"videos: got an array .* expected \[3, frames"):
            data.pack([wrong])
