"""Latents of images as nodes, with the captions that their cross-attention reads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from graphformer.batch_type import Batch, BatchLike
from graphformer.data.batch import grid_positions, pack_nodes
from graphformer.patterns import lengths


def pack_latents(latents: Tensor, shapes: Sequence[Sequence[int]], captions: BatchLike) -> Batch:
    """Return the latents of images as a batch whose source is the caption of each.

    Args:
        latents: of the cells of all images, row by row, [N, D].
        shapes: rows and columns of each image, B pairs.
        captions: B texts, such as of `pack_tokens`; one without tokens for an image that has none.

    Returns:
        A batch with x [N, D], pos (row and column, int64 [N, 2]), lengths and shapes of the images;
        and source (ids, int64 [M]), source_pos and source_lengths of the captions.

    Raises:
        ValueError: when the numbers of captions, shapes and latents do not fit.
    """
    texts = pack_nodes(captions.x, lengths(captions))
    grids = tuple((int(rows), int(columns)) for rows, columns in shapes)
    sizes = tuple(rows * columns for rows, columns in grids)
    if len(grids) != len(texts.lengths):
        raise ValueError(
            f"shapes: got {len(grids)}, expected {len(texts.lengths)}, one for each caption"
        )
    if latents.ndim != 2 or len(latents) != sum(sizes):
        raise ValueError(
            f"latents: got shape {list(latents.shape)}, expected [{sum(sizes)}, D] for the cells "
            "of the shapes"
        )
    return Batch(
        x=latents,
        pos=grid_positions(grids).to(latents.device),
        lengths=sizes,
        shapes=grids,
        source=texts.x,
        source_pos=texts.pos,
        source_lengths=texts.lengths,
    )


def drop_captions(batch: BatchLike, is_dropped: Sequence[bool]) -> Batch:
    """Return a batch of `pack_latents` in which some captions have no tokens.

    Args:
        batch: B images.
        is_dropped: whether the caption of each is dropped.
    """
    sizes = torch.tensor(batch.source_lengths)
    is_kept = ~torch.tensor(is_dropped, dtype=torch.bool)
    tokens = is_kept.repeat_interleave(sizes).to(batch.source.device)
    return Batch(
        x=batch.x,
        pos=batch.pos,
        lengths=lengths(batch),
        shapes=batch.shapes,
        source=batch.source[tokens],
        source_pos=batch.source_pos[tokens],
        source_lengths=tuple((sizes * is_kept).tolist()),
    )


def repeat_without_captions(batch: BatchLike) -> Batch:
    """Return a batch of `pack_latents`, and after it the same images without captions."""
    return Batch(
        x=torch.cat([batch.x, batch.x]),
        pos=torch.cat([batch.pos, batch.pos]),
        lengths=lengths(batch) * 2,
        shapes=batch.shapes * 2,
        source=batch.source,
        source_pos=batch.source_pos,
        source_lengths=(*batch.source_lengths, *(0 for _ in batch.source_lengths)),
    )
