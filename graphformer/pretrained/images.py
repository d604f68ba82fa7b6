"""Images of numbers as packed patches."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from graphformer.nn.patches import patchify


def packed_images(images: Tensor | Sequence[Tensor], patch_size: int) -> Any:
    """Images as one batch of patches, of whatever sizes, packed end to end.

    Args:
        images: [B, channels, height, width], normalised as the model wants it; or a list of images
            [channels, height, width].
        patch_size: the side of a patch, which divides heights and widths.

    Returns:
        A batch of patches `x` [N, channels * patch_size**2], their rows and columns `pos` [N, 2],
        and an image's `lengths` and `shapes`.
    """
    grids = [patchify(image.unsqueeze(0), patch_size)[0] for image in images]
    shapes = [(grid.shape[0], grid.shape[1]) for grid in grids]
    device = grids[0].device
    places = [
        torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).view(-1, 2)
        for rows, columns in shapes
    ]
    return SimpleNamespace(
        x=torch.cat([grid.flatten(0, 1) for grid in grids]),
        pos=torch.cat(places).to(device),
        lengths=tuple(rows * columns for rows, columns in shapes),
        shapes=shapes,
        num_nodes=sum(rows * columns for rows, columns in shapes),
    )
