"""Blocks of diffusion transformers: norms that are scaled and shifted by time, closed at first."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphformer.adjacency import Adjacency
from graphformer.nn import FeedForward, MultiHeadAttention, sinusoidal


class TimeEmbedding(nn.Module):
    """Sines and cosines of times, and two layers: [B] -> [B, C].

    Args:
        dim: width C; even.

    Source: Peebles and Xie, 2023, "Scalable diffusion models with transformers" (DiT), section 3.2.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, times: Tensor) -> Tensor:
        """Return the embeddings of times from 0 to 1."""
        x = sinusoidal(1000 * times, self.linear1.in_features)  # as of the steps 0 to 1000
        return self.linear2(F.silu(self.linear1(x.to(self.linear1.weight.dtype))))


class Modulation(nn.Module):
    """Shifts, scales and gates of a sample's nodes from its condition; all are 0 at first.

    Args:
        dim: width C.
        count: number of vectors.
    """

    def __init__(self, dim: int, count: int) -> None:
        super().__init__()
        self.count = count
        self.linear = nn.Linear(dim, count * dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the map to zero."""
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, condition: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Return `count` vectors for each node, [N, C].

        Args:
            condition: of the samples, [B, C].
            sizes: number of nodes of each sample, B ints.
        """
        vectors = self.linear(F.silu(condition))
        return repeat_by_sample(vectors, sizes).chunk(self.count, dim=-1)


class DiffusionBlock(nn.Module):
    """Self-attention, cross-attention and a feed-forward net, conditioned on a vector per sample.

    Each part f adds gate * f((1 + scale) * norm(x) + shift), where shift, scale and gate are linear
    maps of the condition. They are 0 at first, and the block is the identity.

    Args:
        dim: width C.
        num_heads: H, of both attentions.
        source_dim: width of the sources.

    Source: Peebles and Xie, 2023 (DiT), section 3.2, "adaLN-Zero"; cross-attention to a text
    between its two parts: Chen et al., 2024, "PixArt-alpha", section 2.3, there without a gate.
    """

    def __init__(self, dim: int, num_heads: int, *, source_dim: int) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(dim, num_heads)
        self.cross_attention = MultiHeadAttention(dim, num_heads, source_dim=source_dim)
        self.mlp = FeedForward(dim)
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.modulation = Modulation(dim, 9)

    def forward(
        self,
        x: Tensor,
        adjacency: Adjacency,
        source: Tensor,
        source_adjacency: Adjacency,
        condition: Tensor,
        sizes: tuple[int, ...],
    ) -> Tensor:
        """Return [N, C] of nodes x [N, C].

        Args:
            x: nodes of all samples.
            adjacency: of the self-attention, N x N.
            source: nodes of the captions, [M, C'].
            source_adjacency: of the cross-attention, N x M; a node without sources receives the
                bias of the output alone.
            condition: of the samples, [B, C].
            sizes: number of nodes of each sample, B ints.
        """
        shift1, scale1, gate1, shift2, scale2, gate2, shift3, scale3, gate3 = self.modulation(
            condition, sizes
        )
        h = modulate(self.norm(x), shift1, scale1)
        x = x + gate1 * self.attention(h, adjacency)
        h = modulate(self.norm(x), shift2, scale2)
        x = x + gate2 * self.cross_attention(h, source_adjacency, source)
        return x + gate3 * self.mlp(modulate(self.norm(x), shift3, scale3))


class DiffusionHead(nn.Module):
    """A norm that is scaled and shifted by the condition, and a linear map that is 0 at first.

    Args:
        dim: width C of the nodes.
        out_dim: width D of the output.

    Source: Peebles and Xie, 2023 (DiT), section 3.2, "Transformer decoder".
    """

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.modulation = Modulation(dim, 2)
        self.linear = nn.Linear(dim, out_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set both maps to zero."""
        self.modulation.reset_parameters()
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, condition: Tensor, sizes: tuple[int, ...]) -> Tensor:
        """Return [N, D] of nodes x [N, C]; the other arguments are those of `DiffusionBlock`."""
        shift, scale = self.modulation(condition, sizes)
        return self.linear(modulate(self.norm(x), shift, scale))


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return (1 + scale) * x + shift."""
    return (1 + scale) * x + shift


def repeat_by_sample(x: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Return the row of its sample for each node, [N, C] of rows x [B, C]."""
    if len(set(sizes)) == 1:  # the gradient is a sum over an axis, which is faster
        return x.repeat_interleave(sizes[0], dim=0)
    repeats = torch.tensor(sizes, device=x.device)
    return x.repeat_interleave(repeats, dim=0, output_size=sum(sizes))
