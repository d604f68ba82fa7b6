"""XLM and FlauBERT: encoders with a table of positions, post-norm or pre-norm."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from graphformer.models import Model
from graphformer.models.text.trunk import token_head
from graphformer.nn import Dropout, Head, Pooling
from graphformer.patterns import Complete
from graphformer.pretrained.config import Config
from graphformer.pretrained.families.encoder import encoder_parts
from graphformer.pretrained.families.family import Family, Kind

TRUNK = {
    "embedding.features.weight": "embeddings.weight",
    "embedding.positions.tables.0.weight": "position_embeddings.weight",
    "embedding.norm.*": "layer_norm_emb.*",
    "transformer.blocks.#.attention.qkv.*": "attentions.#.{q_lin,k_lin,v_lin}.*",
    "transformer.blocks.#.attention.out.*": "attentions.#.out_lin.*",
    "transformer.blocks.#.norm1.*": "layer_norm1.#.*",
    "transformer.blocks.#.mlp.0.*": "ffns.#.lin1.*",
    "transformer.blocks.#.mlp.3.*": "ffns.#.lin2.*",
    "transformer.blocks.#.norm2.*": "layer_norm2.#.*",
}
HEADS: dict[Kind, dict[str, str]] = {
    "masked_lm": {"head.linear.*": "pred_layer.proj.*"},
    "classification": {"head.linear.*": "sequence_summary.summary.*"},
    "tagging": {"head.linear.*": "classifier.*"},
}


def build(config: Config, kind: Kind, tied: bool) -> Model:
    """Build XLM from a config, with a kind of head; that of tokens is tied or not."""
    config.check_unset(False, "causal", "asm")
    if config.get("use_lang_emb", True):
        config.check_unset(1, "n_langs")  # embeddings of languages
    dim, dropout = config.size("emb_dim", "hidden_size"), config.get("dropout", 0.1)
    vocabulary = config.size("vocab_size", "n_words")
    embedding, transformer = encoder_parts(
        Config({**config.values, "vocab_size": vocabulary}, config.origin),
        dim=dim,
        depth=config.size("n_layers", "num_hidden_layers"),
        num_heads=config.num_heads(dim, "n_heads", "num_attention_heads"),
        hidden_dim=4 * dim,
        activation=nn.GELU if config.get("gelu_activation", True) else nn.ReLU,
        eps=config.get("layer_norm_eps", 1e-12),
        dropout=dropout,
        attention_dropout=config.get("attention_dropout", 0.1),
        token_types=False,
        norm_first=bool(config.get("pre_norm", False)),
    )
    transformer.norm = nn.Identity()  # pre-norm has no final norm either
    heads: dict[Kind, Callable[[], nn.Module | None]] = {
        "none": lambda: None,
        "embedding": lambda: Pooling("mean"),
        "masked_lm": lambda: token_head(embedding, tied=tied, bias=True),
        "classification": partial(summary, config, dim),
        "tagging": lambda: Head(dim, config.num_labels, transform=Dropout(dropout)),
    }
    return Model(embedding, transformer, heads[kind](), adjacency=Complete())


def summary(config: Config, dim: int) -> Head:
    """Build the classification head, a linear map of the first node."""
    config.check_unset("first", "summary_type")
    config.check_unset(True, "summary_use_proj", "summary_proj_to_labels")
    config.check_unset(None, "summary_activation")
    dropout = Dropout(config.get("summary_first_dropout", 0.1))
    return Head(dim, config.num_labels, pool="cls", transform=dropout)


XLM = Family(
    prefix="transformer",
    build=build,
    trunk=TRUNK,
    heads=HEADS,
    architectures={
        "none": "XLMModel",
        "masked_lm": "XLMWithLMHeadModel",
        "classification": "XLMForSequenceClassification",
        "tagging": "XLMForTokenClassification",
    },
    ignored_keys=("position_ids",),
    tie_word_embeddings=True,
)
FLAUBERT = XLM._replace(
    architectures={
        kind: name.replace("XLM", "Flaubert") for kind, name in XLM.architectures.items()
    }
)
