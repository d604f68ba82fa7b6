"""What there is to know of a family of models: its parts, and what it calls its tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from graphformer.pretrained.config import Config

Kind = Literal[
    "none",
    "masked_lm",
    "causal_lm",
    "classification",
    "tagging",
    "answers",
    "embedding",
    "distilled",
]
"""What a model answers: nodes, tokens (the next two), samples, nodes' classes, spans, vectors.

The last one is the head of DeiT that also asks the token which learned from a teacher.
"""

Table = Mapping[str, str]
"""Our names of tensors, and theirs.

`#` is the number of a block, `*` is weight or bias. `{a,b}` are tensors that are one here, joined
along their rows; `a|b` are names of the same tensor, the first of which is written; `^T` marks a
matrix that is stored transposed, and `^V` one that is stored with other axes, see `Family.views`.
"""


class Family(NamedTuple):
    """A family of models, of one `model_type` in config.json.

    Attributes:
        prefix: comes before the trunk's names in a model with a head.
        build: makes the model of a config, with the head of that kind, tied or not.
        trunk: our names and theirs, of all models of the family.
        heads: the same for each kind of head.
        classes: how `transformers` calls the model with a head of each kind.
        aliases: other classes that are loaded as one of these kinds.
        known: patterns of names that mean nothing here: buffers, and heads of other kinds.
        tied: whether the head has the embedding's weights unless the config says otherwise.
        views: the shapes in which tensors marked `^V` are stored, by their name.
        joins: tensors that together are others here: their names, what makes ours of them, by a
            config, and what makes them of ours, by a prefix of names.
        texts: whether its nodes are those of texts, which vectors are made of.
        eos: the token that ends a text where no config names one.
    """

    prefix: str
    build: Callable[[Config, Kind, bool], Any]
    trunk: Table
    heads: Mapping[Kind, Table]
    classes: Mapping[Kind, str]
    aliases: Mapping[str, Kind] = {}
    known: tuple[str, ...] = ()
    tied: bool = False
    views: Callable[[Config], dict[str, tuple[int, ...]]] | None = None
    joins: tuple[tuple[str, ...], Callable[..., Any], Callable[..., Any]] | None = None
    texts: bool = True
    eos: int | None = None

    def kind(self, architecture: str) -> Kind | None:
        """The kind of head that a class of `transformers` has; None if it is not known."""
        kinds: dict[str, Any] = {name: kind for kind, name in self.classes.items()}
        return {**kinds, **self.aliases}.get(architecture)
