"""RoBERTa: BERT with places that are counted from 2, and heads of other make."""

from __future__ import annotations

from torch import nn

from graphformer.models import Model
from graphformer.nn import Dropout
from graphformer.pretrained.config import Config
from graphformer.pretrained.families.bert import LABELS, SPANS, TRUNK, Pooler
from graphformer.pretrained.families.encoder import encoder, with_head
from graphformer.pretrained.families.family import Family, Kind

MASKED = {
    "head.transform.0.*": "lm_head.dense.*",
    "head.transform.2.*": "lm_head.layer_norm.*",
    "head.linear.weight": "lm_head.decoder.weight",
    "head.linear.bias": "lm_head.bias|lm_head.decoder.bias",
}
CLASSES = {"head.transform.1.*": "classifier.dense.*", "head.linear.*": "classifier.out_proj.*"}


def build(config: Config, kind: Kind, tied: bool) -> Model:
    """RoBERTa of a config, with the head of that kind."""
    config.demand("absolute", "position_embedding_type")
    config.demand(False, "is_decoder", "add_cross_attention")
    dim, eps = config.size("hidden_size"), config.get("layer_norm_eps", 1e-12)
    dropout = config.get("hidden_dropout_prob", 0.1)
    parts = encoder(
        config,
        dim=dim,
        depth=config.size("num_hidden_layers"),
        num_heads=config.heads(dim, "num_attention_heads"),
        hidden_dim=config.size("intermediate_size"),
        activation=config.activation("hidden_act", "gelu"),
        eps=eps,
        dropout=dropout,
        attention_dropout=config.get("attention_probs_dropout_prob", 0.1),
        # The place of padding is that token's number, and places begin after it.
        position_offset=config.get("pad_token_id", 1) + 1,
    )
    last = config.get("classifier_dropout", dropout)
    model = with_head(
        parts,
        config,
        kind,
        tied,
        transform=nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim, eps=eps)),
        pooler=nn.Sequential(Dropout(last), nn.Linear(dim, dim), nn.Tanh(), Dropout(last)),
        dropout=last,
    )
    if kind in ("none", "embedding"):
        model.pooler = Pooler(dim)
    return model


ROBERTA = Family(
    prefix="roberta",
    build=build,
    trunk=TRUNK,
    heads={"masked_lm": MASKED, "classification": CLASSES, "tagging": LABELS, "answers": SPANS},
    classes={
        "none": "RobertaModel",
        "masked_lm": "RobertaForMaskedLM",
        "classification": "RobertaForSequenceClassification",
        "tagging": "RobertaForTokenClassification",
        "answers": "RobertaForQuestionAnswering",
    },
    known=("embeddings.position_ids",),
    tied=True,
)
XLM_ROBERTA = ROBERTA._replace(
    classes={kind: f"XLM{name}" for kind, name in ROBERTA.classes.items()}
)
