"""`Model`: embedding, Transformer and head of any modality; the builders choose the parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from typing_extensions import Unpack

from graphformer.adjacency import Adjacency
from graphformer.deprecated import renamed_attribute, renamed_keywords
from graphformer.models.base import AdjacencyModel, Patterns
from graphformer.models.exportable import Exportable
from graphformer.models.generation import (
    RENAMED,
    GenerateOptions,
    Prompts,
    generate,
    with_defaults,
)
from graphformer.models.text.embed import EncodeOptions, encode
from graphformer.nn import Transformer, weight_std
from graphformer.nn.init import initialise
from graphformer.nn.options import TransformerOptions
from graphformer.options import checked_options
from graphformer.patterns import AdjacencyLike, lengths

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike
    from graphformer.data.text.tokenizer import Tokenizer


class Model(AdjacencyModel, Exportable):
    """A model of any modality: head(transformer(embedding(batch), adjacency), batch).

    Args:
        embedding: batch to nodes [N, C].
        transformer: nodes [N, C] and an adjacency to nodes [N, C].
        head: nodes and the batch to outputs; with None, the outputs are the nodes.
        adjacency: pattern for calls without an adjacency, or one per block; see `with_adjacency`.
        std: standard deviation of the initial weights; `nn.weight_std` of the width by default.

    Attributes:
        tokenizer: of the checkpoint; None without one.
        config: the checkpoint's config.json; None for a model that is not from a checkpoint.
        extra_files: text of other small files of the checkpoint, by name.
        exporter: writes the model in the checkpoint's format, for `save_pretrained`.
        newly_initialized: names of parameters that the checkpoint lacks.
        prompt: text that precedes each text in `encode`.
        prompts: named texts for `encode(prompt_name=)`, such as those of queries and documents.
        include_prompt: whether the head pools the nodes of the prompt too.
        generation_config: defaults of `generate`.
        unused_generation_settings: settings of the checkpoint that `generate` does not apply; its
            first call warns of them.
        pooler: BERT's map from a text's first node to a vector, which the head does not use.

    `from_pretrained` sets these attributes.
    """

    include_prompt: bool = True

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
        self.tokenizer: Tokenizer | None = None
        self.config: dict[str, Any] | None = None
        self.extra_files: dict[str, str] = {}
        self.newly_initialized: list[str] = []
        self.prompt = ""
        self.prompts: dict[str, str] = {}
        self.generation_config: GenerateOptions = {}
        self.unused_generation_settings: dict[str, Any] = {}
        self.adjacency = None if adjacency is None else self.check_pattern(adjacency)
        std = weight_std(transformer.dim) if std is None else std
        initialise(self, std=std, depth=len(transformer.blocks))

    def forward(
        self,
        batch: BatchLike,
        adjacency: AdjacencyLike | None = None,
        **options: Unpack[TransformerOptions],
    ) -> Tensor:
        """Return the output of each node, [N, K], or of each sample, [B, K], as the head does.

        Args:
            batch: read by the embedding and the head. `batch.pos`, if present, is used by
                positions within attention.
            adjacency: N x N, a pattern, an edge_index, or one of these per block; the model's own
                by default.
            options: of the Transformer, such as `source`, `source_adjacency`, `bias` and `cache`.

        Raises:
            TypeError: when an option is unknown.
            ValueError: when no adjacency is passed and the model has none.
        """
        return self._answer(batch, self.resolve_adjacency(batch, adjacency), {**options})

    @property
    def depth(self) -> int:
        """The number of blocks."""
        return len(self.transformer.blocks)

    def _answer(
        self, batch: BatchLike, adjacency: Adjacency | list[Adjacency], options: dict[str, Any]
    ) -> Tensor:
        """Return head(transformer(embedding(batch), adjacency), batch)."""
        positions = getattr(batch, "pos", None)
        if self.transformer.drop_path and self.training:
            options = {"lengths": lengths(batch), **options}
        x = self.transformer(self.embedding(batch), adjacency, positions, **options)
        return x if self.head is None else self.head(x, batch)

    @renamed_keywords(**RENAMED)
    @checked_options
    def generate(
        self, prompts: Prompts, *, max_new_tokens: int, **options: Unpack[GenerateOptions]
    ) -> list[int] | list[list[int]]:
        """Continue texts token by token; see `graphformer.models.generate` for the options.

        The pattern is the model's own by default, or `Causal()` if it has none; other defaults are
        those of `generation_config`.

        Args:
            prompts: token ids of one text, or of several of any lengths.
            max_new_tokens: the maximal number of tokens added to a text.
            options: of `graphformer.models.generate`.

        Returns:
            The token ids with their prompt, a list; a list of such lists for several prompts.
        """
        if self.adjacency is not None:
            options.setdefault("adjacency", self.adjacency)
        merged = with_defaults(self, options)
        return generate(self, prompts, max_new_tokens=max_new_tokens, **merged)

    @checked_options
    def encode(self, texts: str | Sequence[str], **options: Unpack[EncodeOptions]) -> Tensor:
        """Return vectors of texts, [texts, C]; see `graphformer.models.encode` for the options."""
        return encode(self, texts, **options)

    fresh = renamed_attribute("newly_initialized")
    files = renamed_attribute("extra_files")
    defaults = renamed_attribute("generation_config")
