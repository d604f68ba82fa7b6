"""DistilBERT: BERT without token types, with keys of its own."""

from __future__ import annotations

from torch import nn

from graphformer.models import Model
from graphformer.nn import Dropout
from graphformer.pretrained.config import Config
from graphformer.pretrained.families.bert import LABELS, SPANS
from graphformer.pretrained.families.encoder import encoder_parts, model_with_head
from graphformer.pretrained.families.family import Family, Kind

TRUNK = {
    "embedding.features.weight": "embeddings.word_embeddings.weight",
    "embedding.positions.tables.0.weight": "embeddings.position_embeddings.weight",
    "embedding.norm.*": "embeddings.LayerNorm.*",
    "transformer.blocks.#.attention.qkv.*": "transformer.layer.#.attention.{q_lin,k_lin,v_lin}.*",
    "transformer.blocks.#.attention.out.*": "transformer.layer.#.attention.out_lin.*",
    "transformer.blocks.#.norm1.*": "transformer.layer.#.sa_layer_norm.*",
    "transformer.blocks.#.mlp.0.*": "transformer.layer.#.ffn.lin1.*",
    "transformer.blocks.#.mlp.3.*": "transformer.layer.#.ffn.lin2.*",
    "transformer.blocks.#.norm2.*": "transformer.layer.#.output_layer_norm.*",
}
MASKED = {
    "head.transform.0.*": "vocab_transform.*",
    "head.transform.2.*": "vocab_layer_norm.*",
    "head.linear.*": "vocab_projector.*",
}
CLASSES = {"head.transform.0.*": "pre_classifier.*", "head.linear.*": "classifier.*"}


def build(config: Config, kind: Kind, tied: bool) -> Model:
    """Build DistilBERT from a config, with a kind of head; a masked LM head is tied or not."""
    dim, act = config.size("dim", "hidden_size"), config.activation("activation", "gelu")
    dropout = config.get("dropout", 0.1)
    parts = encoder_parts(
        config,
        dim=dim,
        depth=config.size("n_layers", "num_hidden_layers"),
        num_heads=config.num_heads(dim, "n_heads", "num_attention_heads"),
        hidden_dim=config.size("hidden_dim"),
        activation=act,
        eps=1e-12,
        dropout=dropout,
        attention_dropout=config.get("attention_dropout", 0.1),
        token_types=False,
    )
    last = Dropout(config.get("seq_classif_dropout", 0.2))
    return model_with_head(
        parts,
        config,
        kind,
        tied,
        transform=nn.Sequential(nn.Linear(dim, dim), act(), nn.LayerNorm(dim, eps=1e-12)),
        pooler=nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), last),
        dropout=dropout,
    )


DISTILBERT = Family(
    prefix="distilbert",
    build=build,
    trunk=TRUNK,
    heads={"masked_lm": MASKED, "classification": CLASSES, "tagging": LABELS, "answers": SPANS},
    architectures={
        "none": "DistilBertModel",
        "masked_lm": "DistilBertForMaskedLM",
        "classification": "DistilBertForSequenceClassification",
        "tagging": "DistilBertForTokenClassification",
        "answers": "DistilBertForQuestionAnswering",
    },
    ignored_keys=("embeddings.position_ids",),
    tie_word_embeddings=True,
)
