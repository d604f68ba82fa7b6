"""`VideoSamples`, videos that are read by batches of patches; `ScaledVideos`, their scaling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphformer.batch_type import Batch
from graphformer.data.batch import pack_videos
from graphformer.data.vision.base import ScaledImages
from graphformer.data.vision.statistics import pixel_statistics
from graphformer.nn.patches import patchify_videos


class VideoSamples:
    """Videos of one size; a batch is scaled and cut into patches of space and time.

    `samples[index]`, for an index tensor [B], is a batch with x [N, C * patch_frames *
    patch_size**2], pos [N, 3], lengths, shapes and y [B].

    Args:
        videos: [B, C, frames, height, width].
        labels: [B].
        patch_size: side of a patch; divides heights and widths.
        patch_frames: frames of a patch; divides the frames.
        mean, std: of each channel, [C]; pixels are scaled to (pixel - mean) / std.

    Raises:
        ValueError: when a patch does not divide the videos.
    """

    def __init__(
        self,
        videos: Tensor,
        labels: Tensor,
        patch_size: int,
        patch_frames: int,
        mean: np.ndarray,
        std: np.ndarray,
    ) -> None:
        self.videos, self.labels = videos.numpy(), labels.long()
        self.patch_size, self.patch_frames = patch_size, patch_frames
        self.mean, self.std = (np.asarray(a, np.float32)[:, None, None, None] for a in (mean, std))
        patchify_videos(videos[:1], patch_size, patch_frames)  # raises if it does not divide

    def __len__(self) -> int:
        return len(self.labels)

    def set_epoch(self, epoch: int) -> None:
        """Ignore the epoch: videos are not augmented."""

    def __getitem__(self, index: Tensor) -> Batch:
        scaled = (self.videos[index.numpy()].astype(np.float32) - self.mean) / self.std
        batch = pack_videos(torch.from_numpy(scaled), self.patch_size, self.patch_frames)
        batch.y = self.labels[index]
        return batch


class ScaledVideos(ScaledImages):
    """Videos that are scaled by the mean and standard deviation of the training videos.

    A base of data modules of videos, before `PatchImages` or `CaptionedImages`, whose images are
    then videos [B, C, frames, height, width].

    Attributes:
        patch_frames: frames of a patch.

    Attributes (after `setup`):
        num_features: width of a flattened patch, C * patch_frames * patch_size**2.
    """

    patch_frames: int

    def measure(self, images: Tensor | Sequence[Tensor]) -> None:
        """Set the attributes from the training videos; a checkpoint's mean and std are kept."""
        if not len(self.mean):
            self.mean, self.std = pixel_statistics(images)
        self.channels = len(self.mean)
        self.num_features = self.channels * self.patch_frames * self.patch_size**2
        self.shape = None

    def scaled_samples(
        self, split: str, images: Tensor | Sequence[Tensor], labels: Tensor
    ) -> VideoSamples:
        """Return videos of a split as samples."""
        videos = images if isinstance(images, Tensor) else torch.stack(list(images))
        return VideoSamples(videos, labels, self.patch_size, self.patch_frames, self.mean, self.std)

    def pack(self, inputs: Sequence[Any]) -> Batch:
        """Return videos as a batch of patches, scaled as in training.

        Args:
            inputs: arrays [C, frames, height, width] of one size, with the pixel values of the
                training videos.

        Raises:
            RuntimeError: before `setup`, without a checkpoint's state.
            ValueError: when a video has another shape, or a patch does not divide it.
        """
        if not len(self.mean):
            raise RuntimeError(f"{type(self).__name__} has no statistics yet; call setup() first")
        videos = [torch.as_tensor(np.asarray(video)) for video in inputs]
        for video in videos:
            if video.ndim != 4 or len(video) != len(self.mean) or video.shape != videos[0].shape:
                raise ValueError(
                    f"videos: got an array {tuple(video.shape)}, expected [{len(self.mean)}, "
                    "frames, height, width] of one size; pass one after the other"
                )
        batch = self.scaled_samples("test", videos, torch.zeros(len(videos)))[
            torch.arange(len(videos))
        ]
        del batch.y
        return batch
