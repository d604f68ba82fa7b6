"""CLIP: an image encoder and a text encoder with one embedding space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphformer.adjacency import Adjacency
from graphformer.batch_type import Batch, BatchLike
from graphformer.data.batch import pack_tokens, source_batch
from graphformer.deprecated import renamed_keywords
from graphformer.models.exportable import Exportable
from graphformer.models.model import Model
from graphformer.models.text.trunk import text_trunk
from graphformer.models.vision.embedding import (
    ImagePool,
    PatchPositions,
    Stem,
    check_image_pool,
    old_patch_arguments,
    patch_embedding,
)
from graphformer.models.vision.vit import ViT
from graphformer.nn import Head, Transformer
from graphformer.ops.common import upcast
from graphformer.patterns import Causal, Complete, Pattern, lengths
from graphformer.recorded import recorded

MAX_LOG_SCALE = math.log(100)
"""The largest scale of similarities, as a logarithm; larger ones make training unstable."""


class CLIP(nn.Module, Exportable):
    """An image encoder and a text encoder, whose embeddings of length one are compared.

    `models.search` finds the nearest images of a text, or the nearest texts of an image. A batch
    is one of captions: texts `y` [M] with `pos` and `lengths`, and images `source`,
    `source_lengths`, `source_pos` and `source_shapes`.

    Args:
        image, text: the encoders, which return one embedding per sample, [B, C].
        image_adjacency: pattern among the patches of an image; may be replaced at any time.
        scale: initial factor of the similarities; learned, and at most `max_scale`.
        max_scale: its maximum.
        bias: initial value of a learned number that is added to the scaled similarities, as in
            SigLIP; None for none.

    Attributes:
        tokenizer, config, files: the tokenizer, config and text of other files of the checkpoint
            that the model comes from; None or empty otherwise.

    Source: Radford et al., 2021, "Learning transferable visual models from natural language";
    bias: Zhai et al., 2023 (SigLIP).
    """

    def __init__(
        self,
        image: ViT,
        text: Model,
        *,
        image_adjacency: Pattern = Complete(),
        scale: float = 1 / 0.07,
        max_scale: float = 100.0,
        bias: float | None = None,
    ) -> None:
        super().__init__()
        self.image, self.text, self.image_adjacency = image, text, image_adjacency
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.max_log_scale = math.log(max_scale)
        self.logit_bias = None if bias is None else nn.Parameter(torch.tensor(bias))
        self.tokenizer: Any = None
        self.config: dict[str, Any] | None = None
        self.extra_files: dict[str, str] = {}

    @property
    def scale(self) -> Tensor:
        """The factor of the similarities, the inverse of the temperature, []."""
        return self.log_scale.clamp(max=self.max_log_scale).exp()

    def logits(self, image: Tensor, text: Tensor) -> Tensor:
        """Return the scaled similarities of images [B, C] and texts [T, C], with the bias; [B, T].

        With a bias, as in SigLIP, their sigmoid is the probability that both belong together.
        """
        logits = self.scale * image @ text.T
        return logits if self.logit_bias is None else logits + self.logit_bias

    def forward(self, batch: BatchLike, adjacency: Adjacency) -> tuple[Tensor, Tensor]:
        """Return the embeddings of images and of texts, [B, C] each.

        Args:
            batch: captions, see the class.
            adjacency: among the tokens, M x M.
        """
        image = self.encode_image(source_batch(batch))
        return image, self.encode_text(caption_batch(batch), adjacency)

    def encode_image(self, batch: BatchLike) -> Tensor:
        """Return the embeddings of a batch of patches, [B, C], of length one."""
        (vectors,) = upcast(self.image(batch, self.image_adjacency(batch)))
        return F.normalize(vectors, dim=-1)

    def encode_text(self, batch: BatchLike, adjacency: Adjacency) -> Tensor:
        """Return the embeddings of texts, [B, C], of length one.

        Args:
            batch: tokens `x` [M], each text with its end token.
            adjacency: among the tokens, M x M.
        """
        (vectors,) = upcast(self.text(batch, adjacency))
        return F.normalize(vectors, dim=-1)

    @renamed_keywords(said="prompts")
    def class_vectors(
        self, prompts: Sequence[Sequence[Sequence[int]]], pattern: Pattern = Causal()
    ) -> Tensor:
        """Return one embedding per class, [K, C]: the mean over its prompts, of length one.

        Args:
            prompts: token ids of the texts that describe each of the K classes, with end token.
            pattern: among the tokens of a text.

        Raises:
            ValueError: when there is no class, or a class without a prompt.

        Source: Radford et al., 2021, section 3.1.4 (prompt ensembling).
        """
        if not prompts:
            raise ValueError("prompts: got no class, expected one or more")
        empty = [number for number, texts in enumerate(prompts) if not texts]
        if empty:
            raise ValueError(f"prompts: got no text for class {empty[0]}, expected one or more")
        texts = [text for of_class in prompts for text in of_class]
        batch = pack_tokens(texts, device=self.log_scale.device)
        embeddings = self.encode_text(batch, pattern(batch))
        means = [rows.mean(0) for rows in embeddings.split(list(map(len, prompts)))]
        return F.normalize(torch.stack(means), dim=-1)

    def zero_shot(self, batch: BatchLike, classes: Tensor) -> Tensor:
        """Return class probabilities of a batch of patches, [B, K].

        Args:
            batch: patches `x` [N, F].
            classes: embeddings [K, C], as `class_vectors` returns them.
        """
        return (self.scale * self.encode_image(batch) @ classes.T).softmax(-1)


def caption_batch(batch: BatchLike) -> Batch:
    """Return the texts of a batch of captions, each up to its end token, as a batch."""
    return Batch(x=batch.y, pos=batch.pos, lengths=lengths(batch))


@old_patch_arguments("vocab_size", "num_features", stem="convolutional")
@recorded
def clip(
    vocab_size: int,
    *,
    channels: int,
    patch_size: int,
    dim: int = 96,
    depth: int = 3,
    num_heads: int = 4,
    text_dim: int | None = None,
    text_depth: int = 2,
    embedding_dim: int = 128,
    pool: ImagePool = "mean",
    stem: Stem = "convolutional",
    positions: PatchPositions = "sincos",
    shape: tuple[int, int] | None = None,
    max_length: int = 77,
    dropout: float = 0.0,
    image_adjacency: Pattern = Complete(),
) -> CLIP:
    """Build CLIP from a ViT and a causal Transformer that is read at its last token.

    Args:
        vocab_size: number of tokens.
        channels, patch_size, dim, depth, num_heads, pool, stem, positions, shape, dropout: of the
            image encoder, as in `vit`.
        text_dim, text_depth, max_length: of the text encoder; `text_dim` is `dim` by default.
        embedding_dim: width C of the embeddings.
        image_adjacency: pattern among the patches of an image.

    Returns:
        A model from images and texts to embeddings of both, [B, C] each.

    Source: Radford et al., 2021.
    """
    pool = check_image_pool(pool)
    image_encoder = ViT(
        patch_embedding(
            dim,
            channels=channels,
            patch_size=patch_size,
            positions=positions,
            shape=shape,
            stem=stem,
            dropout=dropout,
        ),
        Transformer(dim, depth, num_heads, dropout=dropout, attention_dropout=dropout),
        Head(dim, embedding_dim, pool=pool, bias=False),
        tokens=int(pool == "cls"),
    )
    width = dim if text_dim is None else text_dim
    trunk = text_trunk(
        vocab_size, width, text_depth, num_heads, max_length=max_length, dropout=dropout
    )
    text_encoder = Model(*trunk, Head(width, embedding_dim, pool="last", bias=False))
    return CLIP(image_encoder, text_encoder, image_adjacency=image_adjacency)
