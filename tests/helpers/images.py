"""Small images of mixed shapes for tests, as batches of patches and of captions."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from graphformer.batch_type import Batch
from graphformer.data.batch import pack_images, pack_tokens

SHAPES = ((6, 10), (2, 14), (6, 10), (10, 2))  # rows of pixels, not of patches
CAPTION_LENGTHS = (5, 2, 7, 3)
VOCAB_SIZE = 11


def random_images(
    shapes: Sequence[tuple[int, int]] = SHAPES, channels: int = 3, seed: int = 3
) -> list[Tensor]:
    """Random images [channels, height, width] of these shapes."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(channels, h, w, generator=generator) for h, w in shapes]


def patch_batch(images: Sequence[Tensor], patch_size: int = 2) -> Batch:
    """Images as a batch of patches."""
    return pack_images(images, patch_size)


def random_captions(samples: Sequence[int] = (0, 1, 2, 3), seed: int = 5) -> Batch:
    """Some of four images of mixed sizes, with captions of mixed lengths."""
    generator = torch.Generator().manual_seed(seed)
    texts = [torch.randint(VOCAB_SIZE, (n,), generator=generator) for n in CAPTION_LENGTHS]
    pictures = random_images()
    batch = pack_tokens([texts[i] for i in samples])
    images = pack_images([pictures[i] for i in samples], 2)
    batch.y = batch.x.clone()
    batch.source, batch.source_pos = images.x, images.pos
    batch.source_lengths, batch.source_shapes = images.lengths, images.shapes
    return batch


def gzipped_idx(array: np.ndarray) -> bytes:
    """The content of an idx.gz file."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return gzip.compress(header + array.tobytes())


def write_image(file: Path, size: tuple[int, int], seed: int, mode: str = "RGB") -> None:
    """Write random pixels of that height and width, and make the folders above."""
    from PIL import Image

    file.parent.mkdir(parents=True, exist_ok=True)
    shape = size if mode == "L" else (*size, 3)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(file)
