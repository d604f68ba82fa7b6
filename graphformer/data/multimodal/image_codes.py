"""Texts with images after them as codes of their patches, for models that write images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from graphformer.batch_type import IGNORE_INDEX, Batch, BatchLike
from graphformer.data.batch import pack_nodes
from graphformer.data.segments import segment_order
from graphformer.patterns import lengths

TEXT, CODE = 0, 1
"""Types of nodes in a batch of `append_codes`."""


def append_codes(
    texts: BatchLike, codes: Tensor, shapes: Sequence[Sequence[int]], *, vocab_size: int
) -> Batch:
    """Return texts with the codes of their image after them, and for each node the next code.

    Args:
        texts: B texts, such as of `pack_tokens`; none may be empty.
        codes: of the patches of all images, row by row, int64; of `models.VQAutoencoder.encode`.
        shapes: rows and columns of each image, B pairs.
        vocab_size: number of tokens V of the texts; code k has the id V + k.

    Returns:
        A batch with x (ids, int64 [N]), pos, lengths, and node_type (0 for tokens, 1 for codes).
        The label y [N] of a text's last token and of a code is the next code, from 0; it is -100
        elsewhere. The patterns `Within`, `Between` and `Prefix` read node_type, shapes and
        prefix_lengths.

    Raises:
        ValueError: when the numbers of texts, shapes and codes do not fit, or a text is empty.
    """
    sizes = lengths(texts), tuple(rows * columns for rows, columns in shapes)
    _check(sizes, codes)
    order = segment_order(sizes)
    ids = torch.cat([texts.x, codes + vocab_size])[order]
    batch = pack_nodes(ids, list(map(sum, zip(*sizes, strict=True))))
    is_code = order >= len(texts.x)
    batch.node_type = torch.where(is_code, CODE, TEXT)
    batch.prefix_lengths, batch.shapes = (
        sizes[0],
        tuple((rows, columns) for rows, columns in shapes),
    )
    batch.y = torch.full_like(ids, IGNORE_INDEX)
    batch.y[:-1][is_code[1:]] = codes  # a code follows a token or a code of its own sample
    return batch


def _check(sizes: tuple[tuple[int, ...], tuple[int, ...]], codes: Tensor) -> None:
    texts, images = sizes
    if len(texts) != len(images):
        raise ValueError(f"shapes: got {len(images)}, expected {len(texts)}, one for each text")
    if codes.shape != (sum(images),):
        raise ValueError(
            f"codes: got shape {tuple(codes.shape)}, expected the {sum(images)} cells of the shapes"
        )
    if 0 in texts:
        raise ValueError(
            "texts: got an empty one, expected a token or more, which predicts the first code; "
            "begin each with <bos>"
        )
