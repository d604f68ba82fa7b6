"""`PackedBlocks`: fixed-size blocks of a token stream, split into samples where documents end."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from graphformer.data.batch import IGNORE_INDEX, Batch, pack_nodes, positions_in_samples


class PackedBlocks:
    """Blocks of a token stream [T] with the token that follows each token as its label.

    Block i begins at token i * stride and has `block_size` tokens; the last one may have fewer.
    With stride 1 every full block is an item; with stride `block_size` the blocks cover the stream
    once.

    Documents are packed into blocks end to end. Each piece of a document in a block is a sample of
    its own, with its own entry in `lengths` and positions from 0, so that attention never crosses
    documents; the last token of a document has the label -100. With `across` the block is one
    sample, and `documents` has the lengths of its pieces for the pattern `Documents`.

    A batch has x [N], y [N], pos [N], lengths, and `documents` with `across`.

    Args:
        tokens: ids of the stream, [T].
        block_size: tokens in a block.
        stride: tokens from one block's first to the next one's.
        starts: first token of each document, ascending; None: the stream is one document.
        across: whether a block with several documents is one sample.
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
        # The last token is a label only; with stride 1 the last block is a full one.
        last = len(tokens) - 1 - (block_size if stride == 1 else 1)
        self.num_blocks = last // stride + 1

    def __len__(self) -> int:
        return self.num_blocks

    def __getitem__(self, index: Tensor) -> Batch:
        # In numpy: torch would start its threads for a few hundred numbers.
        firsts = index.numpy() * self.stride
        lengths = np.minimum(len(self.tokens) - 1 - firsts, self.block_size)
        nodes = np.repeat(firsts, lengths) + positions_in_samples(lengths)
        x, y = self.tokens[nodes].astype(np.int64), self.tokens[nodes + 1].astype(np.int64)
        pieces = lengths
        if self.starts is not None:
            begins_piece = self._is_start(nodes)
            begins_piece[lengths.cumsum()[:-1]] = begins_piece[0] = True
            pieces = np.diff(np.append(np.flatnonzero(begins_piece), len(nodes)))
            y[self._is_start(nodes + 1)] = IGNORE_INDEX
        batch = pack_nodes(x, lengths if self.across else pieces)
        batch.y = torch.from_numpy(y)
        if self.across:
            batch.documents = tuple(pieces.tolist())
        return batch

    def _is_start(self, nodes: np.ndarray) -> np.ndarray:
        """Return which tokens of the stream begin a document, bool [N]."""
        assert self.starts is not None
        found = np.searchsorted(self.starts, nodes).clip(max=len(self.starts) - 1)
        return self.starts[found] == nodes
