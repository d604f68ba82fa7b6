"""Vision transformers: patches as words, read from their mean or from a class token."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from graphformer import adjacency as adjacencies
from graphformer.adjacency import Adjacency, Complete, HeadEdges
from graphformer.deprecated import renamed_keywords
from graphformer.models.model import Model
from graphformer.nn import Head, Positions, Transformer, weight_std
from graphformer.nn.patches import Convolutions, GridPositions, PatchEmbedding
from graphformer.patterns import AdjacencyLike, GlobalNodes, lengths

PatchPositions = Literal["axial", "learned", "sincos"]
Stem = Literal["linear", "convolutional"]


class ViT(Model):
    """A Transformer over the patches of images, and over learned tokens ahead of each image's.

    Tokens are nodes that see all of their image and are seen by all, whatever the adjacency among
    the patches: given one over N patches, they join it. One over N + B * tokens nodes, in which
    the tokens come first in each image, is taken as it is.

    Args:
        embedding: makes nodes [N, C] of a batch of patches.
        transformer: over patches and tokens.
        head: makes answers of the nodes; None answers with those of the patches, [N, C]. One that
            pools the "first" node reads the class token, any other the patches alone.
        tokens: how many; the first is the class token, the others are registers.
        norm: normalises tokens and patches before the first block, as in CLIP.

    Source: Dosovitskiy et al., 2021 (ViT); registers: Darcet et al., 2024.
    """

    def __init__(
        self,
        embedding: nn.Module,
        transformer: Transformer,
        head: nn.Module | None = None,
        *,
        tokens: int = 0,
        norm: nn.Module | None = None,
    ) -> None:
        super().__init__(embedding, transformer, head)
        self.norm = norm
        dim = transformer.dim
        self.tokens = nn.Parameter(weight_std(dim) * torch.randn(tokens, dim)) if tokens else None
        if getattr(head, "pool", None) == "first" and not tokens:
            raise ValueError("pool 'first' reads the class token: give the model tokens")

    def forward(self, batch: Any, adjacency: AdjacencyLike | None = None, **options: Any) -> Tensor:
        """Answer for each image, [B, K], or each patch, [N, C], as the head has it.

        Args:
            batch: patches `x` [N, F], `pos` [N, 2], `lengths`, and `shapes` where they matter.
            adjacency: who attends to whom among the patches, N x N, or the pattern that says it of
                a batch, or one such for each block; an adjacency may also be over the tokens too.
            options: those of the Transformer.
        """
        nodes, sizes = self.nodes(batch, adjacency, **options)
        if getattr(self.head, "pool", None) == "first" and self.head is not None:
            return self.head(nodes, SimpleNamespace(lengths=sizes))
        nodes = nodes if self.tokens is None else nodes[self.patch_mask(sizes)]
        return nodes if self.head is None else self.head(nodes, batch)

    def nodes(
        self, batch: Any, adjacency: AdjacencyLike | None = None, **options: Any
    ) -> tuple[Tensor, tuple[int, ...]]:
        """All nodes after the blocks, tokens first in each image, and how many each image has."""
        edges = self._edges(batch, self.adjacency if adjacency is None else adjacency)
        x, sizes = self.embedding(batch), lengths(batch)
        if self.tokens is not None:
            count = len(self.tokens)
            if isinstance(edges, Adjacency):
                edges = connect_tokens(edges, sizes, count)
            else:
                edges = [connect_tokens(each, sizes, count) for each in edges]
            x, sizes = self._prepend_tokens(x, sizes), tuple(size + count for size in sizes)
        x = x if self.norm is None else self.norm(x)
        return self.transformer(x, edges, **options), sizes

    def patch_mask(self, sizes: Sequence[int]) -> Tensor:
        """Which of the nodes are patches, bool [N + B * tokens], of images with so many nodes."""
        count = 0 if self.tokens is None else len(self.tokens)
        device = next(self.parameters()).device
        total = torch.tensor(list(sizes), device=device)
        starts = (total.cumsum(0) - total).repeat_interleave(total)
        return torch.arange(len(starts), device=device) - starts >= count

    def _prepend_tokens(self, x: Tensor, sizes: tuple[int, ...]) -> Tensor:
        assert self.tokens is not None
        tokens = self.tokens.to(x.dtype)
        if len(set(sizes)) == 1:
            images = x.unflatten(0, (len(sizes), sizes[0]))
            ahead = tokens.expand(len(sizes), -1, -1)
            return torch.cat([ahead, images], dim=1).flatten(0, 1)
        return torch.cat([part for image in x.split(sizes) for part in (tokens, image)])


def connect_tokens(adjacency: Adjacency, sizes: tuple[int, ...], count: int) -> Adjacency:
    """Who attends to whom when `count` tokens come ahead of each image and see all of it.

    Args:
        adjacency: N x N among the patches; one with the tokens is returned as it is.
        sizes: patches an image.
        count: tokens an image.

    Raises ValueError for an adjacency of neither size.
    """
    patches, nodes = sum(sizes), sum(sizes) + count * len(sizes)
    if adjacency.shape == (nodes, nodes):
        return adjacency
    if adjacency.shape != (patches, patches):
        raise ValueError(
            f"adjacency must be over the {patches} patches, or over these and the {nodes - patches}"
            f" tokens, got {adjacency.shape[0]} x {adjacency.shape[1]}"
        )
    return _joined(adjacency, sizes, count)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _joined(adjacency: Adjacency, sizes: tuple[int, ...], count: int) -> Adjacency:
    if isinstance(adjacency, HeadEdges):
        return HeadEdges.of(*(_joined(part, sizes, count) for part in head_adjacencies(adjacency)))
    wider = tuple(size + count for size in sizes)
    if isinstance(adjacency, Complete) and adjacency.lengths == sizes:
        return adjacencies.complete(wider).to(adjacency.device)
    own = torch.tensor(sizes, device=adjacency.device)
    sample = torch.arange(len(sizes), device=adjacency.device).repeat_interleave(own)
    edges = adjacency.edge_index + (count * (sample + 1))[adjacency.edge_index]
    nodes = (sum(wider), sum(wider))
    shifted = adjacencies.from_edge_index(edges, nodes)
    tokens = GlobalNodes(count)(SimpleNamespace(lengths=wider, x=edges))
    return shifted | tokens


def head_adjacencies(adjacency: HeadEdges) -> list[Adjacency]:
    """The edges that each head has, as adjacencies of their own."""
    assert adjacency.heads is not None
    edges = adjacency.edge_index
    return [
        adjacencies.from_edge_index(edges[:, own], adjacency.shape) for own in adjacency.heads.T
    ]


def check_pool(pool: str) -> None:
    """Raise ValueError for what no image is read from."""
    if pool not in ("mean", "class"):
        raise ValueError(f"pool must be 'mean' or 'class', got {pool!r}")


def patch_embedding(
    num_features: int,
    dim: int,
    *,
    positions: PatchPositions = "axial",
    shape: tuple[int, int] | None = None,
    max_length: int = 64,
    stem: Stem = "linear",
    patch_size: int | None = None,
    channels: Sequence[int] | None = None,
    stem_depth: int = 0,
    dropout: float = 0.0,
) -> PatchEmbedding:
    """The embedding of patches, from the names of its parts; see `vit` for the arguments."""
    places: nn.Module
    if positions == "learned":
        if shape is None:
            raise ValueError(
                "positions='learned' needs shape, the rows and columns of patches that they are "
                "learned on; or choose 'axial' or 'sincos'"
            )
        places = GridPositions(dim, shape)
    elif positions in ("axial", "sincos"):
        places = Positions(dim, max_length, axes=2, learned=positions == "axial")
    else:
        raise ValueError(f"positions must be 'axial', 'learned' or 'sincos', got {positions!r}")
    features: nn.Module
    if stem == "linear":
        features = nn.Linear(num_features, dim)
    elif stem == "convolutional":
        if patch_size is None:
            raise ValueError(
                "stem='convolutional' needs patch_size, the side of the data's patches"
            )
        features = Convolutions(num_features, dim, patch_size, channels=channels, depth=stem_depth)
    else:
        raise ValueError(f"stem must be 'linear' or 'convolutional', got {stem!r}")
    return PatchEmbedding(features, places, dropout=dropout)


@renamed_keywords(checkpoint="activation_checkpointing")
def vit(
    num_features: int,
    num_classes: int | None,
    dim: int = 128,
    depth: int = 4,
    num_heads: int = 4,
    *,
    hidden_dim: int | None = None,
    pool: Literal["mean", "class"] = "mean",
    registers: int = 0,
    positions: PatchPositions = "axial",
    shape: tuple[int, int] | None = None,
    max_length: int = 64,
    stem: Stem = "linear",
    patch_size: int | None = None,
    channels: Sequence[int] | None = None,
    stem_depth: int = 0,
    dropout: float = 0.0,
    activation_checkpointing: bool = False,
) -> ViT:
    """A vision transformer over images of any size and aspect, packed without padding.

    Args:
        num_features: width of a flattened patch.
        num_classes: K; None for a model that answers with its patches, [N, C].
        dim, depth, num_heads, hidden_dim, activation_checkpointing: of the Transformer.
        pool: "mean" of the patches, or "class": a learned token that sees all of them, and is seen
            by all, whatever the adjacency.
        registers: further tokens of that kind.
        positions: "axial" learns one encoding a row and one a column, "learned" one a place on a
            grid, which is interpolated for images of another shape; "sincos" learns none.
        shape: rows and columns of the grid for "learned".
        max_length: the most rows or columns of patches that "axial" can number.
        stem: "linear" maps each patch (a convolution with its size as kernel and stride);
            "convolutional" halves the whole image's sides by strided kernels that overlap.
        patch_size: side of a patch, for convolutions.
        channels: of those that halve the sides, log2(patch_size) of them.
        stem_depth: convolutions after each of these.
        dropout: on embeddings, attention weights and residuals.

    Returns:
        A model from patches [N, num_features] at places [N, 2] to logits [B, K].

    Source: Dosovitskiy et al., 2021 (ViT); sines and cosines: He et al., 2022.
    """
    check_pool(pool)
    if registers < 0:
        raise ValueError(f"registers must be 0 or more, got {registers}")
    embedding = patch_embedding(
        num_features,
        dim,
        positions=positions,
        shape=shape,
        max_length=max_length,
        stem=stem,
        patch_size=patch_size,
        channels=channels,
        stem_depth=stem_depth,
        dropout=dropout,
    )
    transformer = Transformer(
        dim,
        depth,
        num_heads,
        hidden_dim=hidden_dim,
        dropout=dropout,
        attention_dropout=dropout,
        activation_checkpointing=activation_checkpointing,
    )
    head = None
    if num_classes is not None:
        head = Head(dim, num_classes, pool="first" if pool == "class" else "mean")
    return ViT(embedding, transformer, head, tokens=(pool == "class") + registers)
