"""GPT-2: pre-norm, learned positions, weights of linear layers stored transposed."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from graphformer.models import Model
from graphformer.models.text.trunk import token_head
from graphformer.nn import (
    Dropout,
    Embedding,
    FeedForward,
    Head,
    MultiHeadAttention,
    Pooling,
    Positions,
    Transformer,
)
from graphformer.patterns import Causal
from graphformer.pretrained.config import Config
from graphformer.pretrained.families.family import Family, Kind

TRUNK = {
    "embedding.features.weight": "wte.weight",
    "embedding.positions.tables.0.weight": "wpe.weight",
    "transformer.blocks.#.norm1.*": "h.#.ln_1.*",
    "transformer.blocks.#.attention.qkv.*": "h.#.attn.c_attn.*^T",
    "transformer.blocks.#.attention.out.*": "h.#.attn.c_proj.*^T",
    "transformer.blocks.#.norm2.*": "h.#.ln_2.*",
    "transformer.blocks.#.mlp.0.*": "h.#.mlp.c_fc.*^T",
    "transformer.blocks.#.mlp.3.*": "h.#.mlp.c_proj.*^T",
    "transformer.norm.*": "ln_f.*",
}
HEADS: dict[Kind, dict[str, str]] = {
    "causal_lm": {"head.linear.weight": "lm_head.weight"},
    "classification": {"head.linear.weight": "score.weight"},
    "tagging": {"head.linear.*": "classifier.*"},
}


def build(config: Config, kind: Kind, tied: bool) -> Model:
    """Build GPT-2 from a config, with a kind of head; a language modeling head is tied or not."""
    config.check_unset(False, "add_cross_attention")
    dim, eps = config.size("n_embd", "hidden_size"), config.get("layer_norm_epsilon", 1e-5)
    num_heads = config.num_heads(dim, "n_head", "num_attention_heads")
    by_layer = config.get("scale_attn_by_inverse_layer_idx", False)
    scale = (dim // num_heads) ** -0.5 if config.get("scale_attn_weights", True) else 1.0
    act = config.activation("activation_function", "gelu_new")
    hidden_dim = config.get("n_inner", 4 * dim)

    def attention(number: int) -> nn.Module:
        own = scale / (number + 1) if by_layer else scale
        return MultiHeadAttention(dim, num_heads, scale=own, dropout=config.get("attn_pdrop", 0.1))

    embedding = Embedding(
        nn.Embedding(config.size("vocab_size"), dim),
        Positions(dim, config.size("n_positions", "max_position_embeddings", "n_ctx")),
        dropout=config.get("embd_pdrop", 0.1),
    )
    transformer = Transformer(
        dim,
        config.size("n_layer", "num_hidden_layers"),
        num_heads,
        norm=lambda width: nn.LayerNorm(width, eps=eps),
        dropout=config.get("resid_pdrop", 0.1),
        attention=attention,
        mlp=lambda _: FeedForward(dim, hidden_dim, activation=act),
    )
    dropout = config.get("classifier_dropout", config.get("hidden_dropout", 0.1))
    head = decoder_head(embedding, dim, config.num_labels, kind, tied, dropout)
    return Model(embedding, transformer, head, adjacency=Causal())


def decoder_head(
    embedding: Embedding, dim: int, count: int, kind: Kind, tied: bool, dropout: float
) -> nn.Module | None:
    """Build the head of a decoder; None for a model without one.

    Args:
        embedding: of the model.
        dim: width C.
        count: number of classes.
        kind: of the head; classification reads the last node.
        tied: whether a language modeling head shares the embedding's weight.
        dropout: dropout probability before the tagging head.
    """
    heads: dict[Kind, Callable[[], nn.Module | None]] = {
        "none": lambda: None,
        "embedding": lambda: Pooling("last"),
        "causal_lm": lambda: token_head(embedding, tied=tied),
        "classification": lambda: Head(dim, count, pool="last", bias=False),
        "tagging": lambda: Head(dim, count, transform=Dropout(dropout)),
    }
    return heads[kind]()


GPT2 = Family(
    prefix="transformer",
    build=build,
    trunk=TRUNK,
    heads=HEADS,
    architectures={
        "none": "GPT2Model",
        "causal_lm": "GPT2LMHeadModel",
        "classification": "GPT2ForSequenceClassification",
        "tagging": "GPT2ForTokenClassification",
    },
    aliases={"GPT2DoubleHeadsModel": "causal_lm"},
    ignored_keys=("h.#.attn.bias", "h.#.attn.masked_bias", "multiple_choice_head.*"),
    tie_word_embeddings=True,
    eos_token_id=50256,
)
