"""Builders with the architecture of a checkpoint, for `graphformer fit --model.pretrained FOLDER`.

The command line passes the checkpoint's config.json as `settings`. Weights are initialized here;
the task's `pretrained` loads those of the checkpoint.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from graphformer.models import Model
from graphformer.models.text.trunk import token_embedding
from graphformer.nn import Head
from graphformer.nn.head import Pool
from graphformer.pretrained.config import Config, set_num_classes
from graphformer.pretrained.families import FAMILIES, Kind
from graphformer.pretrained.loading import family_of
from graphformer.pretrained.saving import save_pretrained


def classifier(settings: dict[str, Any], num_classes: int, pool: Pool | None = None) -> Model:
    """Build a classifier of texts with the architecture of a checkpoint.

    Args:
        settings: the content of the checkpoint's config.json.
        num_classes: K.
        pool: how the nodes of a text become one vector, before a linear layer; by default the
            classification head of the architecture, which for BERT reads the first node only.
            "mean" is the pooling of most sentence encoders, and suits sparse adjacencies.

    Returns:
        A model from token ids [N] to logits [B, K].

    Raises:
        ValueError: when the architecture is not supported or has no such head.
    """
    if pool is None:
        return _build(settings, "classification", num_classes)
    model = _build(settings, "none")
    head = Head(token_embedding(model.embedding).embedding_dim, num_classes, pool=pool)
    nn.init.normal_(head.linear.weight, std=0.02)
    nn.init.zeros_(head.linear.bias)
    model.head, model.pooler = head, None
    return model


def tagger(settings: dict[str, Any], num_classes: int) -> Model:
    """Build a classifier of tokens with the architecture of a checkpoint.

    Args:
        settings: the content of the checkpoint's config.json.
        num_classes: K.

    Returns:
        A model from token ids [N] to logits [N, K].

    Raises:
        ValueError: when the architecture is not supported or has no head for tokens.
    """
    return _build(settings, "tagging", num_classes)


def decoder(settings: dict[str, Any]) -> Model:
    """Build a language model with the architecture of a checkpoint.

    Args:
        settings: the content of the checkpoint's config.json.

    Returns:
        A model from token ids [N] to logits [N, K].

    Raises:
        ValueError: when the architecture is not supported or is not a decoder.
    """
    return _build(settings, "causal_lm")


def head_kind(settings: dict[str, Any]) -> Kind | None:
    """Return the kind of head of a config.json; None if it is unknown."""
    family = FAMILIES.get(str(settings.get("model_type")))
    names = settings.get("architectures") or [""]
    return None if family is None else family.kind(names[0])


def _build(settings: dict[str, Any], kind: Kind, num_classes: int | None = None) -> Model:
    config = Config(dict(settings), "settings")
    family = family_of(config)
    if kind not in family.architectures:
        raise ValueError(
            f"settings: got a {settings['model_type']!r} model, which has no {kind!r} head, "
            f"expected one of {', '.join(family.architectures)}"
        )
    if num_classes is not None:
        set_num_classes(config, num_classes)
    config.values["architectures"] = [family.architectures[kind]]
    tied = bool(config.get("tie_word_embeddings", family.tie_word_embeddings))
    model: Model = family.build(config, kind, tied)
    model.config = config.values
    model.exporter = save_pretrained
    return model
