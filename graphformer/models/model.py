"""A whole model: embedding, blocks, head. Which ones, the builders say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from graphformer.adjacency import Adjacency
from graphformer.nn import Embedding, Head, Transformer


class Model(nn.Module):
    """The one model, of any modality: head(transformer(embedding(batch), adjacency)).

    Args:
        embedding: makes nodes [N, C] of a batch.
        transformer: [N, C] and an adjacency to [N, C].
        head: makes answers of the nodes and the batch.
    """

    def __init__(self, embedding: Embedding, transformer: Transformer, head: Head) -> None:
        super().__init__()
        self.embedding, self.transformer, self.head = embedding, transformer, head
        self._initialise()

    def forward(self, batch: Any, adjacency: Adjacency | Sequence[Adjacency]) -> Tensor:
        """Answer for each node, [N, K], or each sample, [B, K], as the head has it."""
        return self.head(self.transformer(self.embedding(batch), adjacency), batch)

    def _initialise(self) -> None:
        """Draw weights as GPT-2: normal of deviation 0.02, smaller where residuals add up."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        depth = len(self.transformer.blocks)
        for name, weight in self.transformer.named_parameters():
            if name.endswith(("attention.out.weight", "mlp.3.weight")):
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * depth))
