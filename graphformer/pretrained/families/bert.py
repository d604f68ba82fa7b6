"""BERT, and models of its architecture: MiniLM and most sentence encoders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from graphformer.models import Model
from graphformer.nn import Dropout, pool
from graphformer.patterns import lengths
from graphformer.pretrained.config import Config
from graphformer.pretrained.families.encoder import encoder_parts, model_with_head
from graphformer.pretrained.families.family import Family, Kind

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike

TRUNK = {
    "embedding.features.weight": "embeddings.word_embeddings.weight",
    "embedding.positions.tables.0.weight": "embeddings.position_embeddings.weight",
    "embedding.types.weight": "embeddings.token_type_embeddings.weight",
    "embedding.norm.*": "embeddings.LayerNorm.*",
    "transformer.blocks.#.attention.qkv.*": "encoder.layer.#.attention.self.{query,key,value}.*",
    "transformer.blocks.#.attention.out.*": "encoder.layer.#.attention.output.dense.*",
    "transformer.blocks.#.norm1.*": "encoder.layer.#.attention.output.LayerNorm.*",
    "transformer.blocks.#.mlp.0.*": "encoder.layer.#.intermediate.dense.*",
    "transformer.blocks.#.mlp.3.*": "encoder.layer.#.output.dense.*",
    "transformer.blocks.#.norm2.*": "encoder.layer.#.output.LayerNorm.*",
    "pooler.dense.*": "pooler.dense.*",
}
MASKED = {
    "head.transform.0.*": "cls.predictions.transform.dense.*",
    "head.transform.2.*": "cls.predictions.transform.LayerNorm.*",
    "head.linear.weight": "cls.predictions.decoder.weight",
    "head.linear.bias": "cls.predictions.bias&cls.predictions.decoder.bias",
}
CLASSES = {"head.transform.0.*": "bert.pooler.dense.*", "head.linear.*": "classifier.*"}
LABELS = {"head.linear.*": "classifier.*"}
SPANS = {"head.linear.*": "qa_outputs.*"}


def build(config: Config, kind: Kind, tied: bool) -> Model:
    """Build BERT from a config, with a kind of head; a masked LM head is tied or not."""
    config.check_unset("absolute", "position_embedding_type")
    config.check_unset(False, "is_decoder", "add_cross_attention")
    dim, eps = config.size("hidden_size"), config.get("layer_norm_eps", 1e-12)
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
    )
    last = config.get("classifier_dropout", dropout)
    model = model_with_head(
        parts,
        config,
        kind,
        tied,
        transform=nn.Sequential(nn.Linear(dim, dim), act(), nn.LayerNorm(dim, eps=eps)),
        pooler=nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), Dropout(last)),
        dropout=last,
    )
    if kind in ("none", "embedding"):
        model.pooler = Pooler(dim)
    return model


class Pooler(nn.Module):
    """BERT's vector of a text, tanh(W x + b) of its first node; most heads do not use it.

    Args:
        dim: width C.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, dim)

    def forward(self, x: Tensor, batch: BatchLike) -> Tensor:
        """Return the vector of each sample, x [N, C] -> [B, C]."""
        return self.dense(pool(x, lengths(batch), "cls")).tanh()


BERT = Family(
    prefix="bert",
    build=build,
    trunk=TRUNK,
    heads={"masked_lm": MASKED, "classification": CLASSES, "tagging": LABELS, "answers": SPANS},
    architectures={
        "none": "BertModel",
        "masked_lm": "BertForMaskedLM",
        "classification": "BertForSequenceClassification",
        "tagging": "BertForTokenClassification",
        "answers": "BertForQuestionAnswering",
    },
    aliases={"BertForPreTraining": "masked_lm"},
    ignored_keys=("cls.seq_relationship.*", "embeddings.position_ids"),
    tie_word_embeddings=True,
)
