"""Small images of mixed shapes for tests, packed as the data modules pack them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import Data

from graphformer.nn import patchify

SHAPES = ((6, 10), (2, 14), (6, 10), (10, 2))  # rows of pixels, not of patches


def random_images(
    shapes: Sequence[tuple[int, int]] = SHAPES, channels: int = 3, seed: int = 3
) -> list[Tensor]:
    """Random images [channels, height, width] of these shapes."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(channels, h, w, generator=generator) for h, w in shapes]


def patch_batch(images: Sequence[Tensor], patch_size: int = 2) -> Data:
    """Images as a batch of patches."""
    grids = [patchify(image[None], patch_size)[0] for image in images]
    shapes = [(grid.shape[0], grid.shape[1]) for grid in grids]
    places = [torch.cartesian_prod(torch.arange(h), torch.arange(w)) for h, w in shapes]
    return Data(
        x=torch.cat([grid.flatten(0, 1) for grid in grids]),
        pos=torch.cat(places),
        shapes=shapes,
        lengths=tuple(map(len, places)),
        num_nodes=sum(map(len, places)),
    )
