"""Packing: token sequences, images or videos, end to end and without padding, as one `Batch`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from math import prod

import numpy as np
import torch
from torch import Tensor

from graphformer.batch_type import IGNORE_INDEX, Batch, BatchLike
from graphformer.nn.patches import Shape, patchify, patchify_videos
from graphformer.patterns import lengths as node_lengths

__all__ = [
    "IGNORE_INDEX",
    "Batch",
    "BatchLike",
    "grid_positions",
    "pack_images",
    "pack_nodes",
    "pack_tokens",
    "pack_videos",
    "positions_in_samples",
    "slice_batch",
    "source_batch",
]

Device = torch.device | str | None


def pack_tokens(
    sequences: Sequence[Sequence[int] | np.ndarray | Tensor], *, device: Device = None
) -> Batch:
    """Pack B sequences of token ids into a batch.

    Args:
        sequences: the ids of each sequence; lists, numpy arrays or tensors, empty ones included.
        device: of the batch; by default that of the first tensor, or the CPU.

    Returns:
        A batch with x (ids, int64 [N]), pos (0, 1, ... in each sequence, int64 [N]) and lengths
        (B ints).
    """
    lengths = tuple(map(len, sequences))
    if any(isinstance(sequence, Tensor) for sequence in sequences):
        home = next(s.device for s in sequences if isinstance(s, Tensor))
        x = torch.cat([torch.as_tensor(s, device=home).long() for s in sequences])
    else:
        x = torch.from_numpy(np.fromiter(chain.from_iterable(sequences), np.int64, sum(lengths)))
    return pack_nodes(x, lengths, device=device)


def pack_nodes(
    x: np.ndarray | Tensor, lengths: Sequence[int] | np.ndarray, *, device: Device = None
) -> Batch:
    """Make a batch of nodes that are already packed.

    Args:
        x: ids or features of all nodes, [N] or [N, F].
        lengths: number of nodes of each of the B samples; their sum is N.
        device: of the batch; by default that of x.

    Returns:
        A batch with x, pos (0, 1, ... in each sample, int64 [N]) and lengths (B ints).
    """
    nodes = torch.as_tensor(x, device=device)
    # In numpy: torch would start its threads for a few hundred numbers.
    pos = torch.from_numpy(positions_in_samples(lengths)).to(nodes.device)
    return Batch(x=nodes, pos=pos, lengths=tuple(map(int, lengths)))


def positions_in_samples(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return 0 .. n - 1 for each length n, end to end, int64 [N]."""
    sizes = np.asarray(lengths, np.int64)
    return np.arange(sizes.sum()) - np.repeat(sizes.cumsum() - sizes, sizes)


def pack_images(
    images: Tensor | Sequence[Tensor | None], patch_size: int, *, device: Device = None
) -> Batch:
    """Cut B images into patches and pack these into a batch.

    Args:
        images: normalised as the model expects, [B, C, height, width], or images [C, height,
            width] of one or several sizes; None for a sample without an image.
        patch_size: side of a patch, which divides all heights and widths.
        device: of the batch; by default that of the images.

    Returns:
        A batch with x (patches by row and column, [N, C * patch_size**2]), pos (row and column of
        each patch in its image, int64 [N, 2]), lengths (B ints) and shapes (B pairs: rows and
        columns of patches).

    Raises:
        ValueError: when there are no images, or when patch_size does not divide a side.
    """
    if all(image is None for image in images):
        raise ValueError("images: got none, expected one or more")
    if isinstance(images, Tensor):
        patches = patchify(images, patch_size)
        shapes: tuple[Shape, ...] = ((patches.shape[1], patches.shape[2]),) * len(images)
        x = patches.flatten(0, 2)
    else:
        grids = [None if i is None else patchify(i.unsqueeze(0), patch_size)[0] for i in images]
        shapes = tuple((0, 0) if g is None else (g.shape[0], g.shape[1]) for g in grids)
        x = torch.cat([grid.flatten(0, 1) for grid in grids if grid is not None])
    x = x if device is None else x.to(device)
    return Batch(
        x=x,
        pos=grid_positions(shapes).to(x.device),
        lengths=tuple(rows * columns for rows, columns in shapes),
        shapes=shapes,
    )


def pack_videos(
    videos: Tensor | Sequence[Tensor],
    patch_size: int,
    patch_frames: int = 1,
    *,
    device: Device = None,
) -> Batch:
    """Cut B videos into patches of space and time and pack these into a batch.

    Args:
        videos: normalised as the model expects, [B, C, frames, height, width], or videos [C,
            frames, height, width] of one or several sizes.
        patch_size: side of a patch, which divides all heights and widths.
        patch_frames: frames of a patch, which divides all numbers of frames.
        device: of the batch; by default that of the videos.

    Returns:
        A batch with x (patches by time, row and column, [N, C * patch_frames * patch_size**2]), pos
        (time, row and column of each patch in its video, int64 [N, 3]), lengths (B ints) and shapes
        (B triples: times, rows and columns of patches).

    Raises:
        ValueError: when there are no videos, or a patch does not divide their sides.
    """
    if not len(videos):
        raise ValueError("videos: got none, expected one or more")
    clips = [videos] if isinstance(videos, Tensor) else [video.unsqueeze(0) for video in videos]
    grids = [patchify_videos(clip, patch_size, patch_frames) for clip in clips]
    x = torch.cat([grid.flatten(0, 3) for grid in grids])
    x = x if device is None else x.to(device)
    shapes = tuple(tuple(grid.shape[1:4]) for grid in grids for _ in range(len(grid)))
    return Batch(
        x=x,
        pos=grid_positions(shapes).to(x.device),
        lengths=tuple(map(prod, shapes)),
        shapes=shapes,
    )


def slice_batch(batch: BatchLike, start: int, stop: int) -> Batch:
    """Return the samples `start` up to `stop` of a batch of tokens or images, as a batch.

    It has x, pos and lengths, and shapes if the batch has them.
    """
    sizes = node_lengths(batch)
    rows = slice(sum(sizes[:start]), sum(sizes[:stop]))
    part = Batch(x=batch.x[rows], pos=batch.pos[rows], lengths=sizes[start:stop])
    shapes = getattr(batch, "shapes", None)
    if shapes is not None:
        part.shapes = tuple(shapes[start:stop])
    return part


def source_batch(batch: BatchLike) -> Batch:
    """Return the source of an encoder-decoder's batch, texts or images, as a batch of its own.

    It has x and lengths, and pos and shapes if the batch has them for its source.
    """
    source = Batch(x=batch.source, lengths=tuple(map(int, batch.source_lengths)))
    for field, name in (("pos", "source_pos"), ("shapes", "source_shapes")):
        value = getattr(batch, name, None)
        if value is not None:
            source[field] = value
    return source


def grid_positions(shapes: Sequence[tuple[int, ...]]) -> Tensor:
    """Return the position of each cell of grids along their A axes, grid by grid, int64 [N, A]."""
    return torch.from_numpy(np.concatenate([_grid_positions(shape) for shape in shapes]))


@lru_cache(maxsize=1024)
def _grid_positions(shape: tuple[int, ...]) -> np.ndarray:
    """Return the position of each cell of a grid along its A axes, row by row, int64 [M, A]."""
    return np.indices(shape).reshape(len(shape), -1).T.astype(np.int64)
