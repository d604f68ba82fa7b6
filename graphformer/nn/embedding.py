"""The embedding of a batch's raw node features, [N, ...] -> [N, C]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from graphformer.nn.dropout import Dropout
from graphformer.nn.linear import is_plain
from graphformer.patterns.fields import require_tensor

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike


class Embedding(nn.Module):
    """The sum of the embeddings of features, positions and token types, [N, C].

    Args:
        features: maps `batch.x` to [N, C]: an `nn.Embedding` of tokens, or an `nn.Linear` of
            patches or features.
        positions: maps `batch.pos` to [N, C]; None for models without positions, or with positions
            within attention.
        types: maps `batch.token_types` [N] to [N, C], such as the first and second text of a pair;
            a batch without them has type 0 everywhere.
        norm: normalisation of the sum.
        dropout: probability of dropping a unit of the output.
        scale: factor of the embedded features, in their dtype; 1 by default.
        projection: maps the result to another width.
        feature_projection: maps the features to another width, before positions are added.
    """

    def __init__(
        self,
        features: nn.Module,
        positions: nn.Module | None = None,
        *,
        types: nn.Embedding | None = None,
        norm: nn.Module | None = None,
        dropout: float = 0.0,
        scale: float | None = None,
        projection: nn.Module | None = None,
        feature_projection: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.features, self.positions = features, positions
        self.types, self.norm = types, norm
        self.dropout = Dropout(dropout)
        self.scale, self.projection = scale, projection
        self.feature_projection = feature_projection

    def forward(self, batch: BatchLike) -> Tensor:
        """Return the embedding [N, C] of `batch.x`, with `batch.pos` and `batch.token_types`.

        Raises:
            ValueError: when the model embeds positions and `batch.pos` is absent.
        """
        x = self.features(batch.x)
        if self.scale is not None:
            x = x * torch.tensor(self.scale, dtype=x.dtype, device=x.device)
        x = x if self.feature_projection is None else self.feature_projection(x)
        if self.positions is not None:
            x = x + self.positions(require_tensor(batch, "pos", "the model embeds positions"))
        if self.types is not None:
            x = x + _type_embedding(self.types, batch)
        x = x if self.norm is None else self.norm(x)
        x = self.dropout(x)
        return x if self.projection is None else self.projection(x)


def _type_embedding(table: nn.Embedding, batch: BatchLike) -> Tensor:
    """Return the embedding of `batch.token_types`, [N, C], or that of type 0, [C] or [N, C]."""
    types = getattr(batch, "token_types", None)
    if types is not None:
        return table(types)
    if is_plain(table, nn.Embedding):
        return table.weight[0]
    return table(torch.zeros(len(batch.x), dtype=torch.int64, device=batch.x.device))
