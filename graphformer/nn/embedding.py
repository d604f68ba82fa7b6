"""From a batch's raw features to [N, C]."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from graphformer.nn.dropout import Dropout


class Embedding(nn.Module):
    """The nodes of a batch as [N, C]: what they are, where they are, and of which type.

    Args:
        features: makes [N, C] of `batch.x`: an `nn.Embedding` of tokens, an `nn.Linear` of
            patches or features.
        positions: makes [N, C] of `batch.pos`; None where places mean nothing, or act within
            attention.
        types: makes [N, C] of `batch.token_types` [N], such as a pair's first and second text;
            all are of type 0 in a batch without them.
        norm: the normalisation of the sum.
        dropout: probability of dropping a unit of what comes out.
    """

    def __init__(
        self,
        features: nn.Module,
        positions: nn.Module | None = None,
        *,
        types: nn.Embedding | None = None,
        norm: nn.Module | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.features, self.positions = features, positions
        self.types, self.norm = types, norm
        self.dropout = Dropout(dropout)

    def forward(self, batch: Any) -> Tensor:
        """Embed `batch.x` [N, ...], and `batch.pos` if there are positions: [N, C].

        Raises ValueError for a batch without the positions that are to be embedded.
        """
        x = self.features(batch.x)
        if self.positions is not None:
            places = getattr(batch, "pos", None)
            if places is None:
                raise ValueError(
                    "the model embeds positions, but the batch has none: set batch.pos"
                )
            x = x + self.positions(places)
        if self.types is not None:
            types = getattr(batch, "token_types", None)
            x = x + (self.types.weight[0] if types is None else self.types(types))
        x = x if self.norm is None else self.norm(x)
        return self.dropout(x)
