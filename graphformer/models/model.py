"""A whole model: embedding, blocks, head. Which ones, the builders say."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from typing_extensions import Unpack

from graphformer.adjacency import Adjacency
from graphformer.deprecated import renamed_keywords
from graphformer.models.base import AdjacencyModel, Patterns
from graphformer.models.generation import RENAMED, generate
from graphformer.models.text.embed import encode
from graphformer.nn import Transformer, weight_std
from graphformer.nn.init import initialise
from graphformer.nn.options import TransformerOptions
from graphformer.patterns import AdjacencyLike

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike


class Model(AdjacencyModel):
    """The one model, of any modality: head(transformer(embedding(batch), adjacency)).

    Args:
        embedding: makes nodes [N, C] of a batch.
        transformer: [N, C] and an adjacency to [N, C].
        head: makes answers of the nodes and the batch; None answers with the nodes.
        adjacency: who attends to whom where a call does not say it; see `with_adjacency`.
        std: the deviation that weights start with; that of `nn.weight_std` by default.

    What comes from a checkpoint, by `from_pretrained`, also has its `tokenizer`, its `config`, the
    text of other `files` of its folder, the `prompt` that comes before texts to encode, a `pooler`
    where BERT has one beside its nodes, the `defaults` of `generate`, and the names of weights that
    are `newly_initialized`.
    """

    def __init__(
        self,
        embedding: nn.Module,
        transformer: Transformer,
        head: nn.Module | None = None,
        *,
        adjacency: Patterns | None = None,
        std: float | None = None,
    ) -> None:
        super().__init__()
        self.embedding, self.transformer, self.head = embedding, transformer, head
        self.pooler: nn.Module | None = None
        self.tokenizer: Any = None
        self.config: dict[str, Any] | None = None
        self.extra_files: dict[str, str] = {}
        self.exporter: Callable[[Any, str | os.PathLike[str]], None] | None = None
        self.newly_initialized: list[str] = []
        self.prompt = ""
        self.generation_config: dict[str, Any] = {}
        self.adjacency = None if adjacency is None else self.check_pattern(adjacency)
        std = weight_std(transformer.dim) if std is None else std
        initialise(self, std=std, depth=len(transformer.blocks))

    def forward(
        self,
        batch: BatchLike,
        adjacency: AdjacencyLike | None = None,
        **options: Unpack[TransformerOptions],
    ) -> Tensor:
        """Return the output of the head: [N, K] by node or [B, K] by sample.

        Args:
            batch: what the embedding and the head read; `batch.pos`, if present, are the positions
                of the nodes for position encodings inside attention.
            adjacency: N x N, a pattern, an edge_index, or one of these per block; that of the model
                by default.
            options: of the Transformer.

        Raises:
            ValueError: when neither the call nor the model has an adjacency.
            TypeError: for an unknown option.
        """
        return self._answer(batch, self.resolve_adjacency(batch, adjacency), {**options})

    @property
    def depth(self) -> int:
        """The number of blocks."""
        return len(self.transformer.blocks)

    def _answer(
        self,
        batch: BatchLike,
        adjacency: Adjacency | list[Adjacency],
        options: dict[str, Any],
    ) -> Tensor:
        """Return head(transformer(embedding(batch), adjacency)) for a resolved adjacency."""
        positions = getattr(batch, "pos", None)
        x = self.transformer(self.embedding(batch), adjacency, positions, **options)
        return x if self.head is None else self.head(x, batch)

    @renamed_keywords(**RENAMED)
    def generate(self, prompts: Any, *, max_new_tokens: int, **options: Any) -> Any:
        """Continue texts token by token; see `graphformer.models.generate` for the options.

        The adjacency is the model's own, if it has one, and `Causal()` otherwise.

        Args:
            prompts: token ids of one text, or of several of whatever lengths.
            max_new_tokens: how many tokens are added at most.

        Returns:
            The ids with their prompt, a list; a list of such lists for several prompts.
        """
        if self.adjacency is not None:
            options.setdefault("adjacency", self.adjacency)
        options = self.generation_config | options
        return generate(self, prompts, max_new_tokens=max_new_tokens, **options)

    def encode(self, texts: str | Sequence[str], **options: Any) -> Tensor:
        """Vectors of texts, [texts, C]; see `graphformer.models.encode` for the options."""
        return encode(self, texts, **options)

    def save_pretrained(self, path: str | os.PathLike[str]) -> None:
        """Write a folder that `transformers` opens; see `graphformer.pretrained`."""
        if self.exporter is None:
            raise ValueError(
                "save_pretrained: got a model that is not from a checkpoint, expected one from "
                "gf.from_pretrained; save it by torch.save(model.state_dict(), path) instead."
            )
        self.exporter(self, path)
