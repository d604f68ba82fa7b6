"""ELECTRA: BERT with narrower embeddings, as generator or as detector of replaced tokens."""

from __future__ import annotations

from torch import nn

from graphformer.models import Model
from graphformer.nn import Dropout
from graphformer.pretrained.config import Config
from graphformer.pretrained.families.bert import LABELS, SPANS
from graphformer.pretrained.families.bert import TRUNK as BERT_TRUNK
from graphformer.pretrained.families.encoder import encoder_parts, model_with_head
from graphformer.pretrained.families.family import Family, Kind

TRUNK = {
    **{name: key for name, key in BERT_TRUNK.items() if not name.startswith("pooler.")},
    "embedding.projection.*": "embeddings_project.*",
}
MASKED = {
    "head.transform.0.*": "generator_predictions.dense.*",
    "head.transform.2.*": "generator_predictions.LayerNorm.*",
    "head.linear.weight": "generator_lm_head.weight",
    "head.linear.bias": "generator_lm_head.bias",
}
DETECTION = {
    "head.transform.0.*": "discriminator_predictions.dense.*",
    "head.linear.*": "discriminator_predictions.dense_prediction.*",
}
CLASSES = {"head.transform.1.*": "classifier.dense.*", "head.linear.*": "classifier.out_proj.*"}


def build(config: Config, kind: Kind, tied: bool) -> Model:
    """Build ELECTRA from a config, with a kind of head; a generator's head is tied or not."""
    config.check_unset("absolute", "position_embedding_type")
    config.check_unset(False, "is_decoder", "add_cross_attention")
    dim, eps = config.size("hidden_size"), config.get("layer_norm_eps", 1e-12)
    width = config.get("embedding_size", 128)
    act = config.activation("hidden_act", "gelu")
    dropout = config.get("hidden_dropout_prob", 0.1)
    parts = encoder_parts(
        config,
        dim=dim,
        depth=config.size("num_hidden_layers"),
        num_heads=config.num_heads(dim, "num_attention_heads"),
        hidden_dim=config.size("intermediate_size"),
        activation=act,
        eps=eps,
        dropout=dropout,
        attention_dropout=config.get("attention_probs_dropout_prob", 0.1),
        embedding_dim=width,
    )
    last = config.get("classifier_dropout", dropout)
    return model_with_head(
        parts,
        config,
        kind,
        tied,
        transform=nn.Sequential(nn.Linear(dim, width), nn.GELU(), nn.LayerNorm(width, eps=eps)),
        pooler=nn.Sequential(Dropout(last), nn.Linear(dim, dim), nn.GELU(), Dropout(last)),
        dropout=last,
        detector=nn.Sequential(nn.Linear(dim, dim), act()),
    )


ELECTRA = Family(
    prefix="electra",
    build=build,
    trunk=TRUNK,
    heads={
        "masked_lm": MASKED,
        "detection": DETECTION,
        "classification": CLASSES,
        "tagging": LABELS,
        "answers": SPANS,
    },
    architectures={
        "none": "ElectraModel",
        "masked_lm": "ElectraForMaskedLM",
        "detection": "ElectraForPreTraining",
        "classification": "ElectraForSequenceClassification",
        "tagging": "ElectraForTokenClassification",
        "answers": "ElectraForQuestionAnswering",
    },
    ignored_keys=("embeddings.position_ids",),
    tie_word_embeddings=True,
)
