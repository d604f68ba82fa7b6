"""MPNet: RoBERTa without token types, with a bias of relative positions in attention."""

from __future__ import annotations

from graphformer.models import Model
from graphformer.nn import RelativeBias
from graphformer.pretrained.config import Config
from graphformer.pretrained.families.bert import LABELS, SPANS
from graphformer.pretrained.families.encoder import encoder_parts
from graphformer.pretrained.families.family import Family, Kind
from graphformer.pretrained.families.roberta import CLASSES, MASKED, with_roberta_head

TRUNK = {
    "embedding.features.weight": "embeddings.word_embeddings.weight",
    "embedding.positions.tables.0.weight": "embeddings.position_embeddings.weight",
    "embedding.norm.*": "embeddings.LayerNorm.*",
    "transformer.relative.buckets.weight": "encoder.relative_attention_bias.weight",
    "transformer.blocks.#.attention.qkv.*": "encoder.layer.#.attention.attn.{q,k,v}.*",
    "transformer.blocks.#.attention.out.*": "encoder.layer.#.attention.attn.o.*",
    "transformer.blocks.#.norm1.*": "encoder.layer.#.attention.LayerNorm.*",
    "transformer.blocks.#.mlp.0.*": "encoder.layer.#.intermediate.dense.*",
    "transformer.blocks.#.mlp.3.*": "encoder.layer.#.output.dense.*",
    "transformer.blocks.#.norm2.*": "encoder.layer.#.output.LayerNorm.*",
    "pooler.dense.*": "pooler.dense.*",
}


def build(config: Config, kind: Kind, tied: bool) -> Model:
    """Build MPNet from a config, with a kind of head; a masked LM head is tied or not."""
    config.check_unset(32, "relative_attention_num_buckets")  # transformers buckets by 32 always
    dim, eps = config.size("hidden_size"), config.get("layer_norm_eps", 1e-12)
    num_heads = config.num_heads(dim, "num_attention_heads")
    dropout = config.get("hidden_dropout_prob", 0.1)
    parts = encoder_parts(
        config,
        dim=dim,
        depth=config.size("num_hidden_layers"),
        num_heads=num_heads,
        hidden_dim=config.size("intermediate_size"),
        activation=config.activation("hidden_act", "gelu"),
        eps=eps,
        dropout=dropout,
        attention_dropout=config.get("attention_probs_dropout_prob", 0.1),
        position_offset=2,  # in transformers whatever the padding token
        token_types=False,
        position_encoding=RelativeBias(num_heads),
    )
    return with_roberta_head(parts, config, kind, tied, dropout=dropout)


MPNET = Family(
    prefix="mpnet",
    build=build,
    trunk=TRUNK,
    heads={"masked_lm": MASKED, "classification": CLASSES, "tagging": LABELS, "answers": SPANS},
    architectures={
        "none": "MPNetModel",
        "masked_lm": "MPNetForMaskedLM",
        "classification": "MPNetForSequenceClassification",
        "tagging": "MPNetForTokenClassification",
        "answers": "MPNetForQuestionAnswering",
    },
    ignored_keys=("embeddings.position_ids",),
    tie_word_embeddings=True,
)
