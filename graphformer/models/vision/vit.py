"""Vision transformers: patches as nodes, pooled by their mean or by a class token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from graphformer.adjacency import Adjacency
from graphformer.batch_type import BatchLike
from graphformer.deprecated import renamed_attribute, renamed_keywords
from graphformer.models.model import Model
from graphformer.models.vision.embedding import (
    ImagePool,
    PatchPositions,
    Stem,
    check_image_pool,
    old_patch_arguments,
    patch_embedding,
)
from graphformer.models.vision.tokens import connect_tokens
from graphformer.nn import Head, Transformer, weight_std
from graphformer.nn.block import ActivationCheckpointing
from graphformer.nn.options import TransformerOptions
from graphformer.patterns import AdjacencyLike, lengths
from graphformer.patterns.fields import Layout
from graphformer.recorded import recorded


class ViT(Model):
    """A Transformer over the patches of images, and over learned tokens before each image's.

    Tokens are nodes that attend to all of their image and are attended to by all of it. An
    adjacency over the N patches is extended by them; one over N + B * tokens nodes, where the
    tokens come first in each image, is used as it is.

    Args:
        embedding: from a batch of patches to nodes [N, C].
        transformer: over patches and tokens.
        head: from nodes to outputs; None returns the nodes of the patches, [N, C]. A head that
            pools by "cls" reads the class token, any other the patches only.
        tokens: number of tokens; the first is the class token, the others are registers.
        norm: normalises tokens and patches before the first block, as in CLIP.

    Raises:
        ValueError: when the head pools the first node and there are no tokens.

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
        if self.pools_class_token and not tokens:
            raise ValueError(
                "tokens: got 0, expected 1 or more for a head with pool='cls', which reads the "
                "class token"
            )

    @property
    def pools_class_token(self) -> bool:
        """Whether the output is read from the class token, not from the patches."""
        return getattr(self.head, "pool", None) == "cls"

    @property
    def num_tokens(self) -> int:
        """Number of learned tokens per image, class token and registers."""
        return 0 if self.tokens is None else len(self.tokens)

    def forward(
        self,
        batch: BatchLike,
        adjacency: AdjacencyLike | None = None,
        **options: Unpack[TransformerOptions],
    ) -> Tensor:
        """Return the output for each image, [B, K], or for each patch, [N, C] or [N, K].

        Args:
            batch: patches `x` [N, F], `pos` [N, 2], `lengths`, and `shapes` if the embedding
                needs them.
            adjacency: among the patches, N x N, or a pattern, or one of either per block; an
                adjacency may also include the tokens. The default is the model's own.
            options: those of the Transformer.
        """
        nodes, sizes = self.nodes(batch, adjacency, **options)
        if self.pools_class_token and self.head is not None:
            return self.head(nodes, Layout(sizes, nodes.device))
        nodes = nodes if self.tokens is None else nodes[self.patch_mask(sizes)]
        return nodes if self.head is None else self.head(nodes, batch)

    def nodes(
        self,
        batch: BatchLike,
        adjacency: AdjacencyLike | None = None,
        **options: Unpack[TransformerOptions],
    ) -> tuple[Tensor, tuple[int, ...]]:
        """Return all nodes after the blocks, tokens first in each image, and nodes per image."""
        edges = self.resolve_adjacency(batch, adjacency)
        x, sizes = self.embedding(batch), lengths(batch)
        if self.tokens is not None:
            count = self.num_tokens
            if isinstance(edges, Adjacency):
                edges = connect_tokens(edges, sizes, count)
            else:
                edges = [connect_tokens(each, sizes, count) for each in edges]
            x, sizes = self._prepend_tokens(x, sizes), tuple(size + count for size in sizes)
        x = x if self.norm is None else self.norm(x)
        if self.transformer.drop_path and self.training:
            options = {"lengths": sizes, **options}
        return self.transformer(x, edges, **options), sizes

    def patch_mask(self, sizes: Sequence[int]) -> Tensor:
        """Return which nodes are patches, bool [N + B * tokens].

        Args:
            sizes: nodes per image, tokens included, B ints.
        """
        device = next(self.parameters()).device
        total = torch.tensor(list(sizes), device=device)
        starts = (total.cumsum(0) - total).repeat_interleave(total)
        return torch.arange(len(starts), device=device) - starts >= self.num_tokens

    is_patch = renamed_attribute("patch_mask")

    def _prepend_tokens(self, x: Tensor, sizes: tuple[int, ...]) -> Tensor:
        assert self.tokens is not None
        tokens = self.tokens.to(x.dtype)
        if len(set(sizes)) == 1:
            images = x.unflatten(0, (len(sizes), sizes[0]))
            prefix = tokens.expand(len(sizes), -1, -1)
            return torch.cat([prefix, images], dim=1).flatten(0, 1)
        return torch.cat([part for image in x.split(sizes) for part in (tokens, image)])


@renamed_keywords(checkpoint="activation_checkpointing")
@old_patch_arguments("num_features", "num_classes", "dim", "depth", "num_heads")
@recorded
def vit(
    num_classes: int | None,
    dim: int = 128,
    depth: int = 4,
    num_heads: int = 4,
    *,
    channels: int,
    patch_size: int,
    hidden_dim: int | None = None,
    pool: ImagePool = "mean",
    registers: int = 0,
    positions: PatchPositions = "axial",
    shape: tuple[int, int] | None = None,
    max_length: int = 64,
    stem: Stem = "linear",
    stem_channels: Sequence[int] | None = None,
    stem_depth: int = 0,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    activation_checkpointing: ActivationCheckpointing = False,
) -> ViT:
    """Build a vision transformer for images of any size and aspect, packed without padding.

    Args:
        num_classes: K; None for a model that returns the nodes of its patches, [N, C].
        dim, depth, num_heads, hidden_dim, activation_checkpointing: of the Transformer.
        channels: of the images, 3 for colour.
        patch_size: side of a patch in pixels.
        pool: "mean" of the patches, or "cls": a learned token that attends to all patches and is
            attended to by all, whatever the adjacency.
        registers: number of further tokens of that kind.
        positions: "axial" learns one encoding per row and one per column; "learned" one per cell
            of a grid, interpolated for images of another shape; "sincos" is fixed.
        shape: rows and columns of the grid for "learned".
        max_length: the largest number of rows or columns of patches for "axial".
        stem: "linear" maps each patch (a convolution with the patch as kernel and stride);
            "convolutional" halves the sides of the whole image by strided, overlapping kernels.
        stem_channels: widths of the convolutions that halve the sides, log2(patch_size) of them.
        stem_depth: convolutions after each of these.
        dropout: of embeddings, attention weights and residual branches.
        drop_path: probability of leaving out the last block for an image, of the Transformer.

    Returns:
        A model from patches [N, channels * patch_size**2] with positions [N, 2] to logits [B, K].

    Raises:
        ValueError: when an option is unknown, or "learned" positions have no shape.

    Source: Dosovitskiy et al., 2021 (ViT); sines and cosines: He et al., 2022.
    """
    pool = check_image_pool(pool)
    if registers < 0:
        raise ValueError(f"registers: got {registers}, expected 0 or more")
    embedding = patch_embedding(
        dim,
        channels=channels,
        patch_size=patch_size,
        positions=positions,
        shape=shape,
        max_length=max_length,
        stem=stem,
        stem_channels=stem_channels,
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
        drop_path=drop_path,
        activation_checkpointing=activation_checkpointing,
    )
    head = None
    if num_classes is not None:
        head = Head(dim, num_classes, pool=pool)
    return ViT(embedding, transformer, head, tokens=(pool == "cls") + registers)
