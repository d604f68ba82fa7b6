"""Texts with images: patches before the tokens of a sequence, or as sources of attention."""

from __future__ import annotations

import torch

from graphformer.batch_type import IGNORE_INDEX, Batch, BatchLike
from graphformer.data.batch import pack_nodes
from graphformer.data.segments import segment_order
from graphformer.patterns import lengths

PATCH, TOKEN = 0, 1
"""Types of nodes in a batch of `prepend_images`."""


def attach_images(texts: BatchLike, images: BatchLike) -> Batch:
    """Return a batch of texts whose source is the image of each, for cross-attention.

    Args:
        texts: B texts, such as of `pack_tokens`, perhaps with labels y [N].
        images: B images, such as of `pack_images`.

    Raises:
        ValueError: when the numbers of texts and images differ.
    """
    _check(texts, images)
    batch = Batch(x=texts.x, pos=texts.pos, lengths=lengths(texts))
    if getattr(texts, "y", None) is not None:
        batch.y = texts.y
    return _with_source(batch, images)


def prepend_images(texts: BatchLike, images: BatchLike, image_token_id: int) -> Batch:
    """Return texts with an image token for each patch of their image before them.

    Args:
        texts: B texts, such as of `pack_tokens`, perhaps with labels y [N].
        images: B images, such as of `pack_images`; one without patches for a text without image.
        image_token_id: the id that `models.ImageTokens` replaces by patches.

    Returns:
        A batch with x, pos, lengths and y over patches and tokens, and node_type (0 for patches, 1
        for tokens). The patterns `Prefix`, `Documents` and `Within(0, Grid(r))` read prefix_lengths
        and shapes of the images, and documents. The patches are in source, source_pos,
        source_lengths and source_shapes.

    Raises:
        ValueError: when the numbers of texts and images differ.
    """
    _check(texts, images)
    sizes = lengths(images), lengths(texts)
    order = segment_order(sizes)
    patches = torch.full((sum(sizes[0]),), image_token_id)
    batch = pack_nodes(
        torch.cat([patches, texts.x])[order], list(map(sum, zip(*sizes, strict=True)))
    )
    batch.node_type = torch.where(order < len(patches), PATCH, TOKEN)
    batch.prefix_lengths = sizes[0]
    batch.documents = tuple(size for sample in zip(*sizes, strict=True) for size in sample)
    batch.shapes = tuple(images.shapes)
    if getattr(texts, "y", None) is not None:
        batch.y = torch.cat([torch.full_like(patches, IGNORE_INDEX), texts.y])[order]
    return _with_source(batch, images)


def _with_source(batch: Batch, images: BatchLike) -> Batch:
    batch.source, batch.source_pos = images.x, images.pos
    batch.source_lengths, batch.source_shapes = lengths(images), tuple(images.shapes)
    return batch


def _check(texts: BatchLike, images: BatchLike) -> None:
    count, expected = len(lengths(images)), len(lengths(texts))
    if count != expected:
        raise ValueError(
            f"images: got {count}, expected {expected}, one for each text; give None to "
            "pack_images for a text without an image"
        )
