"""From images to nodes: patches, convolutions over whole images, places on a grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphformer.nn.dropout import Dropout
from graphformer.nn.init import weight_std
from graphformer.patterns import lengths
from graphformer.patterns.fields import require_field, require_tensor

Shape = tuple[int, int]  # rows and columns of patches


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Cut images [B, C, height, width] into patches [B, rows, columns, C * patch_size**2].

    A linear map of these is a convolution whose kernel and stride are the patch: its weight is
    the convolution's [K, C, p, p], flattened.

    Raises:
        ValueError: patch_size does not divide the height and the width.
    """
    b, c, height, width = images.shape
    p = patch_size
    if p < 1 or height % p or width % p:
        raise ValueError(
            f"patch_size is {p}, but the images are {height} x {width}: choose a size that divides "
            "both."
        )
    parts = images.reshape(b, c, height // p, p, width // p, p)
    return parts.permute(0, 2, 4, 1, 3, 5).reshape(b, height // p, width // p, c * p * p)


def unpatchify(patches: Tensor, patch_size: int) -> Tensor:
    """Put patches [B, rows, columns, C * patch_size**2] together: [B, C, height, width]."""
    b, rows, columns, width = patches.shape
    p = patch_size
    parts = patches.reshape(b, rows, columns, width // p**2, p, p)
    return parts.permute(0, 3, 1, 4, 2, 5).reshape(b, -1, rows * p, columns * p)


def by_shape(
    x: Tensor, shapes: Sequence[Shape], function: Callable[[Tensor], Tensor]
) -> tuple[Tensor, list[Shape]]:
    """Apply a function of grids [b, rows, columns, F] -> [b, rows', columns', C] to packed images.

    Args:
        x: the cells of all images, packed end to end, [N, F].
        shapes: rows and columns of each image; those of one shape go through together.
        function: what is done with them.

    Returns:
        The cells [N', C], packed in the order of the images, and their new shapes.
    """
    shapes = [(int(rows), int(columns)) for rows, columns in shapes]
    if len(set(shapes)) == 1:
        y = function(x.reshape(len(shapes), *shapes[0], -1))
        return y.flatten(0, 2), [(y.shape[1], y.shape[2])] * len(shapes)
    parts = x.split([rows * columns for rows, columns in shapes])
    placed: dict[int, Tensor] = {}
    for shape in dict.fromkeys(shapes):
        own = [i for i, other in enumerate(shapes) if other == shape]
        y = function(torch.stack([parts[i] for i in own]).unflatten(1, shape))
        placed |= dict(zip(own, y, strict=True))
    grids = [placed[i] for i in range(len(shapes))]
    new = [(grid.shape[0], grid.shape[1]) for grid in grids]
    return torch.cat([grid.flatten(0, 1) for grid in grids]), new


class GridPositions(nn.Module):
    """A learned encoding of each place on a grid; interpolated for images of another shape.

    Args:
        dim: width C.
        shape: rows and columns of the grid that it is learned on.

    Source: Dosovitskiy et al., 2021, section 3.2 (interpolation: bicubic).
    """

    def __init__(self, dim: int, shape: Shape) -> None:
        super().__init__()
        rows, columns = shape
        if min(rows, columns) < 1:
            raise ValueError(f"shape must be at least 1 x 1, got {rows} x {columns}")
        self.table = nn.Parameter(weight_std(dim) * torch.randn(rows, columns, dim))

    def forward(self, positions: Tensor, shapes: Sequence[Shape], sizes: Sequence[int]) -> Tensor:
        """Encode places [N, 2] in images of these shapes, `sizes` nodes of each: [N, C]."""
        shapes = [(int(rows), int(columns)) for rows, columns in shapes]
        tables = {shape: resize_table(self.table, shape).flatten(0, 1) for shape in set(shapes)}
        if len(tables) == 1:
            return tables[shapes[0]][positions[:, 0] * shapes[0][1] + positions[:, 1]]
        parts = positions.split(list(sizes))
        return torch.cat(
            [
                tables[shape][part[:, 0] * shape[1] + part[:, 1]]
                for part, shape in zip(parts, shapes, strict=True)
            ]
        )


def resize_table(table: Tensor, shape: Shape) -> Tensor:
    """Interpolate a grid of encodings [rows, columns, C] to another shape, bicubically."""
    if tuple(table.shape[:2]) == tuple(shape):
        return table
    image = table.permute(2, 0, 1).unsqueeze(0)
    resized = F.interpolate(image, size=tuple(shape), mode="bicubic", align_corners=False)
    return resized.squeeze(0).permute(1, 2, 0)


class Convolutions(nn.Module):
    """Patches become images again, on which convolutions are run until a cell is a patch's size.

    Cells overlap by what the kernels reach over the borders of patches. Images of different shapes
    are run apart, and none hears of another.

    Args:
        num_features: width of a flattened patch, C * patch_size**2.
        dim: width of the nodes.
        patch_size: side of a patch, a power of 2.
        channels: of each layer that halves the sides; by default half as many as of the next one.
        depth: layers that keep the sides after each that halves them.

    Source: Xiao et al., 2021, "Early convolutions help transformers see better".
    """

    def __init__(
        self,
        num_features: int,
        dim: int,
        patch_size: int,
        *,
        channels: Sequence[int] | None = None,
        depth: int = 0,
    ) -> None:
        super().__init__()
        halvings = patch_size.bit_length() - 1
        if patch_size < 1 or 2**halvings != patch_size:
            raise ValueError(
                f"patch_size is {patch_size}: convolutions that halve the sides need a power of 2."
            )
        if num_features % patch_size**2:
            raise ValueError(
                f"num_features is {num_features}, which are no patches of {patch_size} x "
                f"{patch_size}: patch_size must be that of the data."
            )
        self.patch_size, self.in_features = patch_size, num_features
        widths = list(channels or [max(dim >> i, 8) for i in range(halvings, 0, -1)])
        if len(widths) != halvings:
            raise ValueError(
                f"channels must name {halvings} widths for patch_size {patch_size}, got {widths}"
            )
        layers: list[nn.Module] = []
        before = num_features // patch_size**2
        for width in widths:
            layers += _layer(before, width, stride=2)
            for _ in range(depth):
                layers += _layer(width, width, stride=1)
            before = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(before, dim, 1))

    def forward(self, x: Tensor, shapes: Sequence[Shape]) -> Tensor:
        """Patches [N, num_features] of images of these shapes -> [N, C]."""
        return by_shape(x, shapes, self._run)[0]

    def _run(self, patches: Tensor) -> Tensor:
        return self.layers(unpatchify(patches, self.patch_size)).permute(0, 2, 3, 1)


def _layer(before: int, width: int, *, stride: int) -> list[nn.Module]:
    # Normalised within each image: batches of one or of mixed shapes give what others give.
    groups = next(g for g in (8, 4, 2, 1) if width % g == 0)
    convolution = nn.Conv2d(before, width, 3, stride, 1, bias=False)
    return [convolution, nn.GroupNorm(groups, width), nn.GELU()]


class PatchEmbedding(nn.Module):
    """The patches of a batch as [N, C]: what they are, and where they are.

    Args:
        features: makes [N, C] of `batch.x`, or as `Convolutions` of it and `batch.shapes`.
        positions: makes [N, C] of `batch.pos` [N, 2]; `GridPositions` also wants `batch.shapes`.
        dropout: probability of dropping a unit of what comes out.
    """

    def __init__(
        self, features: nn.Module, positions: nn.Module | None, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.features, self.positions = features, positions
        self.dropout = Dropout(dropout)

    def forward(self, batch: Any) -> Tensor:
        """Embed the patches [N, F] of a batch: [N, C].

        Raises ValueError for patches of another width, and for a batch without the places or
        shapes that are needed.
        """
        width = getattr(self.features, "in_features", None)
        if width is not None and batch.x.shape[1:] != (width,):
            raise ValueError(
                f"batch.x is {list(batch.x.shape)}, but this network reads patches [N, {width}]: "
                "choose images with its patch_size and channels"
            )
        if isinstance(self.features, Convolutions):
            x = self.features(batch.x, require_field(batch, "shapes", "Convolutions read it"))
        else:
            x = self.features(batch.x)
        if isinstance(self.positions, GridPositions):
            shapes = require_field(batch, "shapes", "GridPositions read it")
            x = x + self.positions(batch.pos, shapes, lengths(batch))
        elif self.positions is not None:
            x = x + self.positions(require_tensor(batch, "pos", "Positions read it"))
        return self.dropout(x)
