"""`Family`: a model type of `transformers`, its builder, and the keys of its tensors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from torch import Tensor

from graphformer.pretrained.config import Config

Kind: TypeAlias = Literal[
    "none",
    "masked_lm",
    "causal_lm",
    "classification",
    "tagging",
    "answers",
    "embedding",
    "distilled",
    "detection",
    "seq2seq",
    "encoder",
    "pixels",
]
"""The head of a model: none, tokens (two), classes of samples, classes of nodes, spans, vectors.

"distilled" is DeiT's head, the mean of the outputs of its class token and its distillation token.
"detection" is the logit of each token of being replaced, "seq2seq" tokens of a decoder with an
encoder, "encoder" the nodes of such an encoder alone, and "pixels" those of masked patches.
"""

Table: TypeAlias = Mapping[str, str]
"""Parameter names of our models to keys of checkpoints.

`#` is the number of a block, `*` is weight or bias. `{a,b}` are tensors that are concatenated
along their rows in our models; `a|b` are alternative keys of one tensor, the first of which is
written; `a&b` are two names of one tensor, which `transformers` ties along with the embeddings: b
is read if both are stored, and both are written if the config does not tie them; `^T` marks a
matrix that is stored transposed, and `^V` one that is stored with another shape, see
`Family.stored_shapes`; `^H` marks queries, keys and values that are stored head by head.
"""


class Conversion(NamedTuple):
    """Tensors that are stored in another form than a table can express.

    Attributes:
        keys: of the stored tensors, or a function that chooses them from all canonical keys.
        to_model: the config and the stored tensors to those of our model, by key.
        to_checkpoint: all tensors of our model by key, and the prefix of keys, to the stored ones.
    """

    keys: tuple[str, ...] | Callable[[Collection[str]], list[str]]
    to_model: Callable[[Config, dict[str, Tensor]], dict[str, Tensor]]
    to_checkpoint: Callable[[dict[str, Tensor], str], dict[str, Tensor]]


class Family(NamedTuple):
    """The models of one `model_type` in config.json.

    Attributes:
        prefix: of the trunk's keys in a model with a head.
        build: the config, the kind of head, and whether it is tied, to a model.
        trunk: names and keys of the parameters that all models of the family have.
        heads: names and keys of the parameters of each kind of head.
        architectures: the class in `transformers` with each kind of head.
        aliases: other classes that are loaded with one of these kinds of head.
        ignored_keys: patterns of keys without a meaning here: buffers, and heads of other kinds.
        zero_keys: keys of tensors that are ignored if they are zero, and refused if not.
        tie_word_embeddings: whether the head shares the embedding's weight if the config has no
            such setting.
        stored_shapes: the config to the shapes of tensors marked `^V`, by the end of their key.
        conversion: of tensors that are stored in another form.
        is_text: whether the nodes are tokens, so that a text has a vector.
        eos_token_id: the token that ends a text if the config names none.
        start_token: the setting with the first token of a decoder's text, if the config has no
            `decoder_start_token_id`.
    """

    prefix: str
    build: Callable[[Config, Kind, bool], Any]
    trunk: Table
    heads: Mapping[Kind, Table]
    architectures: Mapping[Kind, str]
    aliases: Mapping[str, Kind] = {}
    ignored_keys: tuple[str, ...] = ()
    zero_keys: tuple[str, ...] = ()
    tie_word_embeddings: bool = False
    stored_shapes: Callable[[Config], dict[str, tuple[int, ...]]] | None = None
    conversion: Conversion | None = None
    is_text: bool = True
    eos_token_id: int | None = None
    start_token: str | None = None

    def kind(self, architecture: str) -> Kind | None:
        """Return the kind of head of a class in `transformers`; None if it is not supported."""
        kinds: dict[str, Kind] = {name: kind for kind, name in self.architectures.items()}
        return {**kinds, **self.aliases}.get(architecture)
