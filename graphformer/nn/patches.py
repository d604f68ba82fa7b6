"""Images as nodes: patches, convolutional stems, and positions on a grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphformer.nn.dropout import Dropout
from graphformer.nn.init import weight_std
from graphformer.patterns import lengths
from graphformer.patterns.fields import require_field, require_tensor

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike

Shape = tuple[int, int]
"""Rows and columns of patches."""


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Return the patches [B, rows, columns, C * p**2] of images [B, C, height, width].

    A linear map of patches is a convolution whose kernel size and stride are p; its weight is that
    of the convolution, [K, C, p, p], flattened.

    Raises:
        ValueError: when patch_size p does not divide the height and the width.
    """
    b, c, height, width = images.shape
    p = patch_size
    check_divides(p, (height, width))
    parts = images.reshape(b, c, height // p, p, width // p, p)
    return parts.permute(0, 2, 4, 1, 3, 5).reshape(b, height // p, width // p, c * p * p)


def check_divides(patch_size: int, size: tuple[int, int]) -> None:
    """Raise ValueError when patches do not tile images of a size (height, width)."""
    height, width = size
    if patch_size < 1 or height % patch_size or width % patch_size:
        raise ValueError(
            f"patch_size: got {patch_size}, expected a divisor of the height and width of the "
            f"images, {height} x {width}"
        )


def patchify_videos(videos: Tensor, patch_size: int, patch_frames: int) -> Tensor:
    """Return the patches, of f frames and p x p pixels, of videos [B, C, frames, height, width].

    A linear map of them is a three-dimensional convolution whose kernel size and stride are
    (f, p, p); its weight is that of the convolution, [K, C, f, p, p], flattened.

    Returns:
        [B, frames / f, height / p, width / p, C * f * p**2].

    Raises:
        ValueError: when patch_frames f does not divide the frames, or patch_size p the sides.

    Source: Arnab et al., 2021, "ViViT", section 3.2 (tubelet embedding).
    """
    b, c, frames, height, width = videos.shape
    f, p = patch_frames, patch_size
    check_divides(p, (height, width))
    if f < 1 or frames % f:
        raise ValueError(
            f"patch_frames: got {f}, expected a divisor of the {frames} frames of the videos"
        )
    parts = videos.reshape(b, c, frames // f, f, height // p, p, width // p, p)
    return parts.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)


def unpatchify(patches: Tensor, patch_size: int) -> Tensor:
    """Return the images [B, C, height, width] of patches [B, rows, columns, C * patch_size**2]."""
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
        shapes: rows and columns of each image; images of equal shape form one batch, and those
            without cells are left out.
        function: the function of a batch.

    Returns:
        The cells [N', C], packed in the order of the images, and the new shapes.
    """
    shapes = [(int(rows), int(columns)) for rows, columns in shapes]
    filled = [shape for shape in shapes if 0 not in shape]
    if filled and len(filled) < len(shapes):
        y, new_shapes = by_shape(x, filled, function)
        remaining = iter(new_shapes)
        return y, [(0, 0) if 0 in shape else next(remaining) for shape in shapes]
    if len(set(shapes)) == 1:
        y = function(x.reshape(len(shapes), *shapes[0], -1))
        return y.flatten(0, 2), [(y.shape[1], y.shape[2])] * len(shapes)
    parts = x.split([rows * columns for rows, columns in shapes])
    results: dict[int, Tensor] = {}
    for shape in dict.fromkeys(shapes):
        members = [i for i, other in enumerate(shapes) if other == shape]
        y = function(torch.stack([parts[i] for i in members]).unflatten(1, shape))
        results |= dict(zip(members, y, strict=True))
    grids = [results[i] for i in range(len(shapes))]
    new = [(grid.shape[0], grid.shape[1]) for grid in grids]
    return torch.cat([grid.flatten(0, 1) for grid in grids]), new


class GridPositions(nn.Module):
    """A learned encoding of each position on a grid, interpolated for images of another shape.

    Args:
        dim: width C.
        shape: rows and columns of the learned grid.

    Raises:
        ValueError: when the grid has no rows or columns.

    Source: Dosovitskiy et al., 2021, section 3.2 (interpolation: bicubic).
    """

    def __init__(self, dim: int, shape: Shape) -> None:
        super().__init__()
        rows, columns = shape
        if min(rows, columns) < 1:
            raise ValueError(f"shape: got {rows} x {columns}, expected at least 1 x 1")
        self.table = nn.Parameter(weight_std(dim) * torch.randn(rows, columns, dim))

    def forward(self, positions: Tensor, shapes: Sequence[Shape], sizes: Sequence[int]) -> Tensor:
        """Return the encodings [N, C] of positions [N, 2] in images.

        Args:
            positions: row and column of each node.
            shapes: rows and columns of each image, B pairs.
            sizes: number of nodes of each image, B ints.
        """
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
    """Return a grid of encodings [rows, columns, C] interpolated bicubically to another shape."""
    if tuple(table.shape[:2]) == tuple(shape):
        return table
    image = table.permute(2, 0, 1).unsqueeze(0)
    resized = F.interpolate(image, size=tuple(shape), mode="bicubic", align_corners=False)
    return resized.squeeze(0).permute(1, 2, 0)


class Convolutions(nn.Module):
    """A convolutional stem: strided convolutions over whole images, to one node per patch.

    The patches are put together to images first, so that receptive fields overlap. Images of
    different shapes are separate batches, and no image affects another.

    Args:
        num_features: width of a flattened patch, C * patch_size**2.
        dim: width of the nodes.
        patch_size: side of a patch in pixels, a power of 2.
        channels: of each strided layer, log2(patch_size) of them; by default each has half the
            channels of the next one.
        depth: number of layers without stride after each strided layer.

    Raises:
        ValueError: when patch_size is not a power of 2, or the widths do not match it.

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
                f"patch_size: got {patch_size}, expected a power of 2 for convolutions of stride 2"
            )
        if num_features % patch_size**2:
            raise ValueError(
                f"num_features: got {num_features}, expected a multiple of {patch_size}**2; use "
                "the patch_size of the data"
            )
        self.patch_size, self.in_features = patch_size, num_features
        widths = list(channels or [max(dim >> i, 8) for i in range(halvings, 0, -1)])
        if len(widths) != halvings:
            raise ValueError(
                f"channels: got {widths}, expected {halvings} widths for patch_size {patch_size}"
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
        """Return [N, C] of patches x [N, num_features] of images of these shapes.

        Raises:
            ValueError: when the patches have another width.
        """
        if x.shape[1] != self.in_features:
            raise ValueError(
                f"x: got patches of {x.shape[1]} numbers, expected {self.in_features}, for sides "
                f"of {self.patch_size} pixels; use the patch_size and channels of the network"
            )
        return by_shape(x, shapes, self._run)[0]

    def _run(self, patches: Tensor) -> Tensor:
        return self.layers(unpatchify(patches, self.patch_size)).permute(0, 2, 3, 1)


def _layer(before: int, width: int, *, stride: int) -> list[nn.Module]:
    # Normalised within each image, so that the result does not depend on the batch.
    groups = next(g for g in (8, 4, 2, 1) if width % g == 0)
    convolution = nn.Conv2d(before, width, 3, stride, 1, bias=False)
    return [convolution, nn.GroupNorm(groups, width), nn.GELU()]


class PatchEmbedding(nn.Module):
    """The sum of the embeddings of patches and of their positions, [N, C].

    Args:
        features: maps `batch.x` to [N, C]; `Convolutions` also reads `batch.shapes`.
        positions: maps `batch.pos` [N, 2] to [N, C]; `GridPositions` also reads `batch.shapes`.
        dropout: probability of dropping a unit of the output.
    """

    def __init__(
        self, features: nn.Module, positions: nn.Module | None, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.features, self.positions = features, positions
        self.dropout = Dropout(dropout)

    def forward(self, batch: BatchLike) -> Tensor:
        """Return the embedding [N, C] of the patches `batch.x` [N, F].

        Raises:
            ValueError: when patches have another width, or `pos` or `shapes` are needed and absent.
        """
        width = getattr(self.features, "in_features", None)
        if width is not None and batch.x.shape[1:] != (width,):
            raise ValueError(
                f"batch.x: got shape {list(batch.x.shape)}, expected patches [N, {width}]; use "
                "images with the patch_size and channels of the network"
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
