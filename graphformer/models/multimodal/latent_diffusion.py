"""Latent diffusion: a diffusion transformer over latents of images, and their captions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from graphformer.adjacency import Adjacency, complete
from graphformer.batch_type import BatchLike
from graphformer.data.multimodal.latents import pack_latents, repeat_without_captions
from graphformer.models.base import AdjacencyModel, Patterns
from graphformer.models.generation import eval_mode
from graphformer.models.model import Model
from graphformer.models.multimodal.diffusion_block import (
    DiffusionBlock,
    DiffusionHead,
    TimeEmbedding,
)
from graphformer.models.multimodal.diffusion_process import ddim_step, guide
from graphformer.models.text.seq2seq import encode_source
from graphformer.models.text.trunk import text_trunk
from graphformer.nn import PatchEmbedding, Positions, weight_std
from graphformer.nn.init import initialise
from graphformer.patterns import AdjacencyLike, Complete, Pattern, lengths
from graphformer.recorded import recorded


class LatentDiffusionModel(AdjacencyModel):
    """Predicts the velocity of the noisy latents of images from their time and caption.

    Batches are those of `data.pack_latents`. The cells of an image attend to one another by the
    adjacency, and to all tokens of its caption; a caption without tokens is none.
    `latent_diffusion` builds it.

    Args:
        embedding: of noisy latents [N, D], with positions, as nodes [N, C].
        encoder: of captions, to nodes [M, C].
        blocks: over the nodes.
        head: from nodes to velocities [N, D].
        source_adjacency: pattern among the tokens of a caption; may be replaced at any time.

    Attributes:
        latent_dim: D.
    """

    def __init__(
        self,
        embedding: PatchEmbedding,
        encoder: Model,
        blocks: Sequence[DiffusionBlock],
        head: DiffusionHead,
        *,
        source_adjacency: Pattern = Complete(),
    ) -> None:
        super().__init__()
        dim, self.latent_dim = head.linear.in_features, head.linear.out_features
        self.embedding, self.encoder = embedding, encoder
        self.time_embedding = TimeEmbedding(dim)
        self.blocks, self.head = nn.ModuleList(blocks), head
        self.source_adjacency = source_adjacency
        for part in (embedding, self.time_embedding, self.blocks):
            initialise(part, std=weight_std(dim), depth=len(blocks))
        for block in blocks:
            block.modulation.reset_parameters()

    @property
    def depth(self) -> int:
        """The number of blocks over the latents."""
        return len(self.blocks)

    def forward(
        self,
        batch: BatchLike,
        adjacency: AdjacencyLike | None,
        times: Tensor,
        *,
        source: Tensor | None = None,
    ) -> Tensor:
        """Return the velocity of each latent, [N, D]; see `diffusion_process`.

        Args:
            batch: noisy latents x [N, D] and captions.
            adjacency: among the cells, N x N, a pattern, or one of these per block; the model's own
                by default.
            times: of the images, [B], from 0 (no noise) to 1.
            source: the encoder's nodes [M, C], if they are already computed.

        Raises:
            ValueError: when there is not one time for each image; when there is no adjacency, or
                another number of them than blocks.
        """
        sizes = lengths(batch)
        if times.shape != (len(sizes),):
            raise ValueError(
                f"times: got shape {list(times.shape)}, expected [{len(sizes)}], one for each image"
            )
        per_block = self._adjacency_of_blocks(batch, adjacency)
        across = complete(sizes, batch.source_lengths)
        source = self.encode(batch) if source is None else source
        x = self.embedding(batch).to(batch.x.dtype)  # positions are float32
        condition = self.time_embedding(times)
        for block, own in zip(self.blocks, per_block, strict=True):
            x = block(x, own, source, across, condition, sizes)
        return self.head(x, condition, sizes)

    def encode(self, batch: BatchLike) -> Tensor:
        """Return the encoder's nodes of the captions, [M, C]."""
        return encode_source(self.encoder, self.source_adjacency, batch)

    @torch.no_grad()
    def sample_latents(
        self,
        captions: BatchLike,
        shapes: Sequence[Sequence[int]],
        pattern: Patterns | None = None,
        *,
        steps: int = 50,
        guidance: float = 1.0,
        seed: int = 0,
    ) -> Tensor:
        """Return the latents of an image for each caption, row by row, [N, D].

        Noise is removed by the deterministic steps of DDIM. With a guidance other than 1 the model
        runs on each image twice, with and without its caption, in one batch.

        Args:
            captions: B texts, such as of `data.pack_tokens`; one without tokens for any image.
            shapes: rows and columns of each image, B pairs.
            pattern: of the adjacency among the cells; the model's own by default.
            steps: number of steps, 1 or more.
            guidance: weight of the caption, see `diffusion_process.guide`; 1 for none beyond the
                model's own.
            seed: of the noise, which is the same on all devices.

        Raises:
            ValueError: when steps is below 1, or shapes and captions do not fit.

        Source: Song et al., 2021 (DDIM); Ho and Salimans, 2022 (guidance); captions without tokens
        for it: Nichol et al., 2022, "GLIDE".
        """
        if steps < 1:
            raise ValueError(f"steps: got {steps}, expected 1 or more")
        batch = pack_latents(self._noise(shapes, seed), shapes, captions)
        x, is_guided = batch.x, guidance != 1
        batch = repeat_without_captions(batch) if is_guided else batch
        times = torch.linspace(1, 0, steps + 1, dtype=x.dtype, device=x.device)
        with eval_mode(self):
            edges, source = self.resolve_adjacency(batch, pattern), self.encode(batch)
            for now, after in pairwise(times):
                batch.x = torch.cat([x, x]) if is_guided else x
                v = self(batch, edges, now.expand(len(batch.lengths)), source=source)
                if is_guided:
                    conditional, unconditional = v.chunk(2)
                    v = guide(unconditional, conditional, guidance)
                x = ddim_step(x, v, now, after)
        return x

    def _adjacency_of_blocks(
        self, batch: BatchLike, adjacency: AdjacencyLike | None
    ) -> list[Adjacency]:
        edges = self.resolve_adjacency(batch, adjacency)
        if isinstance(edges, Adjacency):
            return [edges] * self.depth
        if len(edges) != self.depth:
            raise ValueError(
                f"adjacency: got {len(edges)} adjacencies, expected one, or one for each of the "
                f"{self.depth} blocks"
            )
        return edges

    def _noise(self, shapes: Sequence[Sequence[int]], seed: int) -> Tensor:
        """Return normal noise for the cells of images, [N, D]."""
        weight = self.head.linear.weight
        count = sum(rows * columns for rows, columns in shapes)
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(count, self.latent_dim, generator=generator, dtype=torch.float64)
        return noise.to(weight.device, weight.dtype)


@recorded
def latent_diffusion(
    vocab_size: int,
    *,
    latent_dim: int = 8,
    dim: int = 96,
    depth: int = 4,
    num_heads: int = 4,
    text_depth: int = 2,
    text_adjacency: Pattern = Complete(),
) -> LatentDiffusionModel:
    """Build a diffusion transformer over the latents of an image, with attention to its caption.

    A cell of an image has sines and cosines of its row and column, a token rotary positions in its
    caption. With the pattern `Complete` all cells attend to one another, with `Grid` those nearby.

    Args:
        vocab_size: number of tokens of the captions.
        latent_dim: width D of a latent, the `code_dim` of the `vq_autoencoder`.
        dim: width C of cells and tokens; a multiple of 4 and of num_heads.
        depth: blocks over the cells, each with cross-attention.
        num_heads: of all attentions.
        text_depth: blocks of the encoder of captions, which is trained with the rest.
        text_adjacency: pattern among the tokens of a caption.

    Returns:
        A model from the noisy latents of `data.pack_latents`, and their times, to velocities
        [N, D].

    Raises:
        ValueError: when dim is no multiple of 4 or of num_heads.

    Source: Rombach et al., 2022 (latents and cross-attention); Peebles and Xie, 2023 (the blocks).
    """
    tokens, transformer = text_trunk(
        vocab_size, dim, text_depth, num_heads, positions="rotary", bidirectional=True
    )
    positions = Positions(dim, axes=2, learned=False)
    return LatentDiffusionModel(
        PatchEmbedding(nn.Linear(latent_dim, dim), positions),
        Model(tokens, transformer),
        [DiffusionBlock(dim, num_heads, source_dim=dim) for _ in range(depth)],
        DiffusionHead(dim, latent_dim),
        source_adjacency=text_adjacency,
    )
