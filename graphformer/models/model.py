"""A whole model: embedding, blocks, head. Which ones, the builders say."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from typing_extensions import Self

from graphformer.adjacency import Adjacency
from graphformer.deprecated import renamed_keywords
from graphformer.models.generation import RENAMED, generate
from graphformer.models.text.embed import encode
from graphformer.nn import Transformer, weight_std
from graphformer.nn.init import initialise
from graphformer.patterns import AdjacencyLike, Learned, Pattern, PerLayer, resolve

Patterns = Pattern | Sequence[Pattern]


class Model(nn.Module):
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

    adjacency: Pattern | None

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
        self.adjacency = None if adjacency is None else self._checked(adjacency)
        std = weight_std(transformer.dim) if std is None else std
        initialise(self, std=std, depth=len(transformer.blocks))

    def forward(self, batch: Any, adjacency: AdjacencyLike | None = None, **options: Any) -> Tensor:
        """Answer for each node, [N, K], or each sample, [B, K], as the head has it.

        Args:
            batch: what the embedding and the head read; `batch.pos`, if there is one, is where the
                nodes are, for positions that act within attention.
            adjacency: N x N, a pattern, an edge_index, or one of these per block; the model's own
                by default.
            options: those of the Transformer (`source`, `source_adjacency`, `bias`, `cache` ...).

        Raises ValueError without an adjacency where the model has none of its own.
        """
        edges = self._edges(batch, self.adjacency if adjacency is None else adjacency)
        positions = getattr(batch, "pos", None)
        x = self.transformer(self.embedding(batch), edges, positions, **options)
        return x if self.head is None else self.head(x, batch)

    def with_adjacency(self, pattern: Patterns) -> Self:
        """This model with another adjacency: the same weights, shared, over other edges.

        Whatever trains one of the two trains both; the model itself keeps the adjacency it had.

        Args:
            pattern: who attends to whom from now on, or one pattern a block.

        Raises ValueError for another number of patterns than blocks.
        """
        other = copy.copy(self)
        other._modules = dict(self._modules)
        other.adjacency = self._checked(pattern)
        return other

    def _checked(self, pattern: Patterns) -> Pattern:
        if isinstance(pattern, Learned):
            pattern = pattern.pattern
        if isinstance(pattern, Pattern) and not isinstance(pattern, PerLayer):
            return pattern
        several = pattern if isinstance(pattern, PerLayer) else PerLayer(tuple(pattern))
        depth = len(self.transformer.blocks)
        if len(several.patterns) != depth:
            raise ValueError(
                f"pattern must be one, or one a block: got {len(several.patterns)} for {depth} "
                "blocks"
            )
        return several

    def _edges(self, batch: Any, adjacency: AdjacencyLike | None) -> Adjacency | list[Adjacency]:
        """The adjacency of the batch, or one a block."""
        if adjacency is None:
            raise ValueError(
                "adjacency is missing: pass a pattern such as graphformer.patterns.Complete(), or "
                "give the model one of its own by model.with_adjacency(pattern)"
            )
        return resolve(adjacency, batch)

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
