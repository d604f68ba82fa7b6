"""A whole model: embedding, blocks, head. Which ones, the builders say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from graphformer.adjacency import Adjacency
from graphformer.models.generation import generate
from graphformer.nn import MixtureOfExperts, Transformer


class Model(nn.Module):
    """The one model, of any modality: head(transformer(embedding(batch), adjacency)).

    Args:
        embedding: makes nodes [N, C] of a batch.
        transformer: [N, C] and an adjacency to [N, C].
        head: makes answers of the nodes and the batch; None answers with the nodes.
    """

    def __init__(
        self, embedding: nn.Module, transformer: Transformer, head: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.embedding, self.transformer, self.head = embedding, transformer, head
        initialise(self, depth=len(transformer.blocks))

    def forward(
        self, batch: Any, adjacency: Adjacency | Sequence[Adjacency], **options: Any
    ) -> Tensor:
        """Answer for each node, [N, K], or each sample, [B, K], as the head has it.

        Args:
            batch: what the embedding and the head read; `batch.pos`, if there is one, is where the
                nodes are, for positions that act within attention.
            adjacency: who attends to whom, N x N, or one such for each block.
            options: those of the Transformer (`source`, `source_adjacency`, `bias`, `cache` ...).
        """
        positions = getattr(batch, "pos", None)
        x = self.transformer(self.embedding(batch), adjacency, positions, **options)
        return x if self.head is None else self.head(x, batch)

    def generate(self, prompts: Any, *, max_new_tokens: int, **options: Any) -> Any:
        """Continue texts token by token; see `graphformer.models.generate` for the options.

        Args:
            prompts: token ids of one text, or of several of whatever lengths.
            max_new_tokens: how many tokens are added at most.

        Returns:
            The ids with their prompt, a list; a list of such lists for several prompts.
        """
        return generate(self, prompts, max_new_tokens=max_new_tokens, **options)


RESIDUAL = ("attention.out.weight", "mlp.3.weight", "mlp.out.weight", "mlp.down")
"""How the weights are called whose output joins the residual stream."""


def initialise(network: nn.Module, *, depth: int, std: float = 0.02) -> None:
    """Draw weights as GPT-2: normal of deviation 0.02, smaller where residuals add up.

    Biases start at zero and norms as they are; so do tensors that belong to no linear map,
    embedding or mixture of experts.

    Args:
        network: whose weights are drawn.
        depth: the number of its blocks.
        std: the deviation.

    Source: Radford et al., 2019 (GPT-2), section 2.3.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, MixtureOfExperts):
            nn.init.normal_(module.up, std=std)
    for name, weight in network.named_parameters():
        if name.endswith(RESIDUAL):
            nn.init.normal_(weight, std=std / math.sqrt(2 * max(depth, 1)))
