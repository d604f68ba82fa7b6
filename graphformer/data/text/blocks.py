"""Blocks of a row of tokens, cut where documents end."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from graphformer.data.batch import IGNORE_INDEX, Batch, pack_nodes, positions_in_samples


class PackedBlocks:
    """Stretches of a row of tokens [T] and what follows each token of them.

    Item i starts at token i * stride and is `block_size` long, the last one perhaps shorter: with
    a stride of 1 every possible full block is an item, with one of `block_size` the items cover
    the row once.

    Documents are packed into blocks end to end. Every piece of a document is a sample of its own,
    with its own entry in `lengths` and places from 0, so that no pattern lets attention across,
    and what would follow a document's last token is no label. With `across` the block is the
    sample, and `documents` holds the lengths of its pieces for the pattern `Documents`.

    Args:
        tokens: ids [T].
        block_size: tokens a block.
        stride: tokens from one block's start to the next.
        starts: where documents begin, ascending; None for one document.
        across: see above.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        block_size: int,
        stride: int,
        starts: np.ndarray | None = None,
        *,
        across: bool = False,
    ) -> None:
        self.tokens, self.block_size, self.stride = tokens, block_size, stride
        self.starts, self.across = starts, across
        last = len(tokens) - 1 - (block_size if stride == 1 else 1)
        self.num_items = last // stride + 1

    def __len__(self) -> int:
        return self.num_items

    def __getitem__(self, index: Tensor) -> Batch:
        # In numpy: torch would wake its threads for a few hundred numbers.
        starts = index.numpy() * self.stride
        lengths = np.minimum(len(self.tokens) - 1 - starts, self.block_size)
        at = np.repeat(starts, lengths) + positions_in_samples(lengths)
        x, y = self.tokens[at].astype(np.int64), self.tokens[at + 1].astype(np.int64)
        pieces = lengths
        if self.starts is not None:
            first = self._is_start(at)
            first[lengths.cumsum()[:-1]] = first[0] = True
            pieces = np.diff(np.append(np.flatnonzero(first), len(at)))
            y[self._is_start(at + 1)] = IGNORE_INDEX
        samples = lengths if self.across else pieces
        batch = pack_nodes(x, samples)
        batch.y = torch.from_numpy(y)
        if self.across:
            batch.documents = tuple(pieces.tolist())
        return batch

    def _is_start(self, at: np.ndarray) -> np.ndarray:
        assert self.starts is not None
        found = np.searchsorted(self.starts, at).clip(max=len(self.starts) - 1)
        return self.starts[found] == at
