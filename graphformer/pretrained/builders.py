"""Builders with the architecture of a checkpoint, for `graphformer fit --model.pretrained FOLDER`.

The command line passes the checkpoint's config.json as `settings`. Weights are initialized here;
the task's `pretrained` loads those of the checkpoint.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from graphformer.models import Model
from graphformer.models.text.trunk import token_embedding
from graphformer.nn import Head, Pooling, Positions
from graphformer.nn.head import Pool
from graphformer.pretrained.config import Config, set_num_classes
from graphformer.pretrained.families import FAMILIES, Family, Kind
from graphformer.pretrained.loading import family_of
from graphformer.pretrained.saving import save_pretrained

POSITIONS = ("n_positions", "max_position_embeddings", "n_ctx")
"""Names of the setting with the number of learned positions."""


def classifier(
    settings: dict[str, Any],
    num_classes: int,
    pool: Pool | None = None,
    max_length: int | None = None,
) -> Model:
    """Build a classifier of texts with the architecture of a checkpoint.

    Args:
        settings: the content of the checkpoint's config.json.
        num_classes: K.
        pool: how the nodes of a text become one vector, before a linear layer; by default the
            classification head of the architecture, which for BERT reads the first node only.
            "mean" is the pooling of most sentence encoders, and suits sparse adjacencies.
        max_length: number of learned positions, if it differs from the checkpoint's: the task's
            `pretrained` interpolates or cuts them.

    Returns:
        A model from token ids [N] to logits [B, K].

    Raises:
        ValueError: when the architecture is not supported or has no such head.
    """
    if pool is None:
        return _build(settings, "classification", num_classes, max_length=max_length)
    model = _build(settings, "none", max_length=max_length)
    head = Head(token_embedding(model.embedding).embedding_dim, num_classes, pool=pool)
    nn.init.normal_(head.linear.weight, std=0.02)
    nn.init.zeros_(head.linear.bias)
    model.head, model.pooler = head, None
    return model


def tagger(settings: dict[str, Any], num_classes: int, max_length: int | None = None) -> Model:
    """Build a classifier of tokens with the architecture of a checkpoint.

    Args:
        settings: the content of the checkpoint's config.json.
        num_classes: K.
        max_length: number of learned positions, if it differs from the checkpoint's: the task's
            `pretrained` interpolates or cuts them.

    Returns:
        A model from token ids [N] to logits [N, K].

    Raises:
        ValueError: when the architecture is not supported or has no head for tokens.
    """
    return _build(settings, "tagging", num_classes, max_length=max_length)


def sentence_encoder(
    settings: dict[str, Any], pool: Pool = "mean", max_length: int | None = None
) -> Model:
    """Build an encoder of texts with the architecture of a checkpoint.

    Args:
        settings: the content of the checkpoint's config.json.
        pool: how the nodes of a text become one vector.
        max_length: number of learned positions, if it differs from the checkpoint's: the task's
            `pretrained` interpolates or cuts them.

    Returns:
        A model from token ids [N] to vectors [B, C].

    Raises:
        ValueError: when the architecture is not supported.
    """
    model = _build(settings, "none", max_length=max_length)
    model.head, model.pooler = Pooling(pool), None
    return model


def decoder(settings: dict[str, Any], max_length: int | None = None) -> Model:
    """Build a language model with the architecture of a checkpoint.

    Args:
        settings: the content of the checkpoint's config.json.
        max_length: number of learned positions, if it differs from the checkpoint's: the task's
            `pretrained` interpolates or cuts them.

    Returns:
        A model from token ids [N] to logits [N, K].

    Raises:
        ValueError: when the architecture is not supported or is not a decoder.
    """
    return _build(settings, "causal_lm", max_length=max_length)


def masked_language_model(settings: dict[str, Any], max_length: int | None = None) -> Model:
    """Build a model that predicts masked or permuted tokens with the architecture of a checkpoint.

    Args:
        settings: the content of the checkpoint's config.json.
        max_length: number of learned positions, if it differs from the checkpoint's: the task's
            `pretrained` interpolates or cuts them.

    Returns:
        A model from token ids [N] to logits [N, K].

    Raises:
        ValueError: when the architecture is not supported or has no such head.
    """
    return _build(settings, "masked_lm", max_length=max_length)


def head_kind(settings: dict[str, Any]) -> Kind | None:
    """Return the kind of head of a config.json; None if it is unknown."""
    family = FAMILIES.get(str(settings.get("model_type")))
    names = settings.get("architectures") or [""]
    return None if family is None else family.kind(names[0])


def _build(
    settings: dict[str, Any],
    kind: Kind,
    num_classes: int | None = None,
    *,
    max_length: int | None = None,
) -> Model:
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
    if max_length is not None:
        _set_max_length(config, family, max_length)
    model: Model = family.build(config, kind, tied)
    model.config = config.values
    model.exporter = save_pretrained
    return model


def _set_max_length(config: Config, family: Family, max_length: int) -> None:
    """Change the number of learned positions in a config.

    Raises:
        ValueError: when the architecture has no learned positions, or max_length is below 1.
    """
    with torch.device("meta"):
        positions = getattr(family.build(config, "none", False).embedding, "positions", None)
    if not isinstance(positions, Positions) or max_length < 1:
        limit = "None for positions without a limit" if positions is None else "1 or more"
        raise ValueError(f"max_length: got {max_length}, expected {limit}; change it")
    name = next(n for n in POSITIONS if n in config.values)
    config.values[name] = max_length + positions.offset
