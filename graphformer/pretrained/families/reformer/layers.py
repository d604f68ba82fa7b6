"""The layers of Reformer: attention with shared queries and keys, two streams, axial positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from graphformer.adjacency import Adjacency
from graphformer.nn import Dropout, Embedding
from graphformer.nn.kv_cache import KVCache
from graphformer.nn.options import BlockOptions
from graphformer.ops import OffsetBias, attention
from graphformer.ops.backend import BackendName

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike

_OWN_LOGIT = -1e5
"""Added to the logit of a node and itself, which then counts only where there is no other."""
_OWN_LOGIT_HALF = -1e3


class SharedAttention(nn.Module):
    """Attention whose keys are the normalised queries; a node attends to itself only if alone.

    With queries q of D numbers, k = q / rms(q) / sqrt(D), and the logit of an edge is q_i . k_j.

    Args:
        dim: width C.
        num_heads: H.
        head_dim: D.
        dropout: probability of dropping an attention weight in training.

    Source: Kitaev et al., 2020, "Reformer", section 2.
    """

    def __init__(self, dim: int, num_heads: int, head_dim: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        width = num_heads * head_dim
        self.heads, self.head_dim, self.dropout = num_heads, head_dim, dropout
        self.qv = nn.Linear(dim, 2 * width, bias=False)
        self.out = nn.Linear(width, dim, bias=False)

    @overload
    def forward(
        self, x: Tensor, adjacency: Adjacency, *, edge_weight: Tensor | None = None,
        backend: BackendName = "auto", return_weights: Literal[False] = False,
        cache: KVCache | None = None,
    ) -> Tensor: ...  # fmt: skip
    @overload
    def forward(
        self, x: Tensor, adjacency: Adjacency, *, edge_weight: Tensor | None = None,
        backend: BackendName = "auto", return_weights: Literal[True],
        cache: KVCache | None = None,
    ) -> tuple[Tensor, Tensor]: ...  # fmt: skip
    def forward(
        self,
        x: Tensor,
        adjacency: Adjacency,
        *,
        edge_weight: Tensor | None = None,
        backend: BackendName = "auto",
        return_weights: bool = False,
        cache: KVCache | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return the attention output of nodes x [N, C].

        Args:
            x: nodes.
            adjacency: N x N.
            edge_weight, backend, return_weights: as in `graphformer.attention`.
            cache: keys and values of earlier nodes, as in `MultiHeadAttention`.

        Returns:
            [N, C]; with `return_weights` also the weights, [E, H].
        """
        q, v = self.qv(x).unflatten(-1, (2, self.heads, self.head_dim)).unbind(1)
        k = F.rms_norm(q, (self.head_dim,), eps=1e-6) / self.head_dim**0.5
        table = q.new_zeros(3, self.heads)  # of the offsets -1, 0 and 1, and those beyond
        table[1] = _OWN_LOGIT_HALF if q.dtype == torch.float16 else _OWN_LOGIT
        options: dict[str, Any] = {"edge_weight": edge_weight, "backend": backend}
        attend: Callable[..., Any] = attention if cache is None else cache.attend
        result = attend(
            q,
            k,
            v,
            adjacency,
            bias=OffsetBias(table),
            scale=1.0,
            dropout=self.dropout if self.training else 0.0,
            return_weights=return_weights,
            **options,
        )
        out, weights = result if isinstance(result, tuple) else (result, None)
        out = self.out(out.flatten(1))
        return out if weights is None else (out, weights)

    if TYPE_CHECKING:
        __call__ = forward


class TwoStreamBlock(nn.Module):
    """A reversible block: y1 = x1 + attention(norm1(x2)), then y2 = x2 + mlp(norm2(y1)).

    Args:
        attention: [N, C] and an adjacency to [N, C].
        mlp: [N, C] -> [N, C].
        norm1, norm2: normalisation of the inputs of both.
        dropout: probability of dropping a unit before it is added to a stream.

    Source: Gomez et al., 2017, "The reversible residual network"; Kitaev et al., 2020, section 3.
    """

    def __init__(
        self,
        attention: nn.Module,
        mlp: nn.Module,
        norm1: nn.Module,
        norm2: nn.Module,
        *,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention, self.mlp = attention, mlp
        self.norm1, self.norm2 = norm1, norm2
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, adjacency: Adjacency, **options: Unpack[BlockOptions]) -> Tensor:
        """Return [y1, y2] of the streams [x1, x2], [N, 2 C]; the options are of the attention."""
        x1, x2 = x.chunk(2, dim=-1)
        y1 = x1 + self.dropout(self.attention(self.norm1(x2), adjacency, **options))
        y2 = x2 + self.dropout(self.mlp(self.norm2(y1)))
        return torch.cat([y1, y2], dim=-1)


class TwoStreamEmbedding(Embedding):
    """The embedding of a batch as both streams, [N, 2 C]; the arguments are `Embedding`'s."""

    def forward(self, batch: BatchLike) -> Tensor:
        """Return the embedding of `batch.x` and `batch.pos` twice, [N, 2 C]."""
        return super().forward(batch).repeat(1, 2)


class AxialPositions(nn.Module):
    """Learned positions p of two parts, that of the row p // w and that of the column p mod w.

    Args:
        shape: rows h and columns w; there are h w positions.
        dims: widths of both parts.

    Source: Kitaev et al., 2020, "Reformer", appendix (axial position encodings).
    """

    def __init__(self, shape: Sequence[int], dims: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.rows = nn.Parameter(torch.ones(shape[0], dims[0]))
        self.columns = nn.Parameter(torch.ones(shape[1], dims[1]))

    def forward(self, positions: Tensor) -> Tensor:
        """Return the encoding of positions [N], [N, C].

        Raises:
            ValueError: when a position is too large.
        """
        if positions.numel() and int(positions.max()) >= prod(self.shape):
            raise ValueError(
                f"pos: got {int(positions.max())}, expected positions below {prod(self.shape)}, "
                "the number of axial positions; shorten the texts"
            )
        row, column = positions // self.shape[1], positions % self.shape[1]
        return torch.cat([F.embedding(row, self.rows), F.embedding(column, self.columns)], dim=-1)
