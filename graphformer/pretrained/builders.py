"""Networks with the architecture of a checkpoint, for `graphformer fit --model.pretrained FOLDER`.

Their `settings` are what the checkpoint's config.json says; the command fills them in. Weights are
drawn: the task's `pretrained` loads them.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from graphformer.models import Model
from graphformer.nn import Head
from graphformer.nn.head import Pool
from graphformer.pretrained.config import Config
from graphformer.pretrained.families import FAMILIES, Kind
from graphformer.pretrained.loading import family_of
from graphformer.pretrained.saving import save_pretrained


def classifier(settings: dict[str, Any], num_classes: int, pool: Pool | None = None) -> Model:
    """A classifier of texts, with the architecture of a checkpoint.

    Args:
        settings: of the checkpoint's config.json.
        num_classes: K.
        pool: how a text's nodes become one, before one linear map; by default the head that the
            architecture has for classes, which for BERT reads the first node alone. "mean" is what
            sentence encoders were trained with, and what a sparse adjacency wants.

    Returns:
        A model from token ids [N] to logits [B, K].

    Raises ValueError for an architecture that is not known, or that has no such head.
    """
    if pool is None:
        return _build(settings, "classification", num_classes)
    model = _build(settings, "none")
    dim = model.embedding.features.embedding_dim  # type: ignore[union-attr]
    model.head, model.pooler = Head(dim, num_classes, pool=pool), None  # type: ignore[arg-type]
    nn.init.normal_(model.head.linear.weight, std=0.02)
    nn.init.zeros_(model.head.linear.bias)
    return model


def tagger(settings: dict[str, Any], num_classes: int) -> Model:
    """A classifier of every token, with the architecture of a checkpoint.

    Args:
        settings: of the checkpoint's config.json.
        num_classes: K.

    Returns:
        A model from token ids [N] to logits [N, K].

    Raises ValueError for an architecture that is not known, or that has no such head.
    """
    return _build(settings, "tagging", num_classes)


def decoder(settings: dict[str, Any]) -> Model:
    """A language model with the architecture of a checkpoint.

    Args:
        settings: of the checkpoint's config.json.

    Returns:
        A model from token ids [N] to logits [N, K].

    Raises ValueError for an architecture that is not known, or that has no such head.
    """
    return _build(settings, "causal_lm")


def kind_of(settings: dict[str, Any]) -> Kind | None:
    """The kind of head that a model with these settings has; None where they do not say."""
    family = FAMILIES.get(str(settings.get("model_type")))
    names = settings.get("architectures") or [""]
    return None if family is None else family.kind(names[0])


def _build(settings: dict[str, Any], kind: Kind, num_classes: int | None = None) -> Model:
    config = Config(dict(settings), "settings")
    family = family_of(config)
    if kind not in family.classes:
        raise ValueError(
            f"settings are of a {settings['model_type']!r} model, which has no head for "
            f"{kind!r}: it knows {', '.join(family.classes)}"
        )
    if num_classes is not None:
        config.values["id2label"] = {str(i): f"LABEL_{i}" for i in range(num_classes)}
        config.values["label2id"] = {f"LABEL_{i}": i for i in range(num_classes)}
    config.values["architectures"] = [family.classes[kind]]
    model = family.build(config, kind, bool(config.get("tie_word_embeddings", family.tied)))
    model.config = config.values
    model.exporter = save_pretrained
    return model
