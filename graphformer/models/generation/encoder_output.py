"""`EncoderOutput`: the nodes of an encoder that a decoder attends to, by text."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

import torch
from torch import Tensor
from typing_extensions import TypedDict

from graphformer.adjacency import Adjacency, complete


class CrossAttention(TypedDict, total=False):
    """Arguments of `Transformer.forward` for cross-attention."""

    source: Tensor
    source_adjacency: Adjacency


class EncoderOutput:
    """Output of an encoder for B texts, packed end to end.

    Args:
        nodes: [N, C].
        lengths: number of nodes of each text.
        inputs: what the encoder read, [N] or [N, F]; its checksum is part of the key of each
            text's random stream.
    """

    def __init__(self, nodes: Tensor, lengths: Sequence[int], inputs: Tensor | None = None) -> None:
        self.nodes, self.lengths = nodes, tuple(lengths)
        self.checksums = [0] * len(self.lengths)
        if inputs is not None:
            rows = inputs.detach().cpu().split(self.lengths)
            self.checksums = [crc32(row.numpy().tobytes()) for row in rows]

    def cross_attention(self, lengths: Sequence[int]) -> CrossAttention:
        """Return the arguments of a Transformer whose texts have these lengths."""
        return {"source": self.nodes, "source_adjacency": complete(lengths, self.lengths)}

    def select(self, rows: Tensor) -> EncoderOutput:
        """Return the output for the texts `rows`, int64 [B'], which may repeat."""
        parts, numbers = self.nodes.split(self.lengths), rows.tolist()
        nodes = torch.cat([parts[i] for i in numbers])
        selected = EncoderOutput(nodes, [self.lengths[i] for i in numbers])
        selected.checksums = [self.checksums[i] for i in numbers]
        return selected
