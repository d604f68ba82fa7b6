"""RoBERTa: BERT with positions counted from 2, and other heads."""

from __future__ import annotations

from torch import nn

from graphformer.models import Model
from graphformer.nn import Dropout, Embedding, Transformer
from graphformer.pretrained.config import Config
from graphformer.pretrained.families.bert import LABELS, SPANS, TRUNK, Pooler
from graphformer.pretrained.families.encoder import encoder_parts, model_with_head
from graphformer.pretrained.families.family import Family, Kind

MASKED = {
    "head.transform.0.*": "lm_head.dense.*",
    "head.transform.2.*": "lm_head.layer_norm.*",
    "head.linear.weight": "lm_head.decoder.weight",
    "head.linear.bias": "lm_head.bias&lm_head.decoder.bias",
}
CLASSES = {"head.transform.1.*": "classifier.dense.*", "head.linear.*": "classifier.out_proj.*"}


def build(config: Config, kind: Kind, tied: bool) -> Model:
    """Build RoBERTa from a config, with a kind of head; a masked LM head is tied or not."""
    config.check_unset("absolute", "position_embedding_type")
    config.check_unset(False, "is_decoder", "add_cross_attention")
    dim, eps = config.size("hidden_size"), config.get("layer_norm_eps", 1e-12)
    dropout = config.get("hidden_dropout_prob", 0.1)
    parts = encoder_parts(
        config,
        dim=dim,
        depth=config.size("num_hidden_layers"),
        num_heads=config.num_heads(dim, "num_attention_heads"),
        hidden_dim=config.size("intermediate_size"),
        activation=config.activation("hidden_act", "gelu"),
        eps=eps,
        dropout=dropout,
        attention_dropout=config.get("attention_probs_dropout_prob", 0.1),
        # The position of padding is its token id, and positions of tokens start after it.
        position_offset=config.get("pad_token_id", 1) + 1,
    )
    last = config.get("classifier_dropout", dropout)
    return with_roberta_head(parts, config, kind, tied, dropout=last)


def with_roberta_head(
    parts: tuple[Embedding, Transformer], config: Config, kind: Kind, tied: bool, *, dropout: float
) -> Model:
    """Return a model of these parts with RoBERTa's head of a kind.

    Args:
        parts: embedding and transformer.
        config: of the checkpoint.
        kind, tied: as in `build`.
        dropout: before and within the head.
    """
    dim, eps = config.size("hidden_size"), config.get("layer_norm_eps", 1e-12)
    model = model_with_head(
        parts,
        config,
        kind,
        tied,
        transform=nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim, eps=eps)),
        pooler=nn.Sequential(Dropout(dropout), nn.Linear(dim, dim), nn.Tanh(), Dropout(dropout)),
        dropout=dropout,
    )
    if kind in ("none", "embedding"):
        model.pooler = Pooler(dim)
    return model


ROBERTA = Family(
    prefix="roberta",
    build=build,
    trunk=TRUNK,
    heads={"masked_lm": MASKED, "classification": CLASSES, "tagging": LABELS, "answers": SPANS},
    architectures={
        "none": "RobertaModel",
        "masked_lm": "RobertaForMaskedLM",
        "classification": "RobertaForSequenceClassification",
        "tagging": "RobertaForTokenClassification",
        "answers": "RobertaForQuestionAnswering",
    },
    ignored_keys=("embeddings.position_ids",),
    tie_word_embeddings=True,
)
CAMEMBERT = ROBERTA._replace(
    architectures={
        kind: name.replace("Roberta", "Camembert") for kind, name in ROBERTA.architectures.items()
    }
)
XLM_ROBERTA = ROBERTA._replace(
    architectures={kind: f"XLM{name}" for kind, name in ROBERTA.architectures.items()}
)
