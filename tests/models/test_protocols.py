"""Protocols of models: which networks have a cache, and which pool."""

from __future__ import annotations

from torch import nn

from graphformer import models
from graphformer.models.protocols import is_cached_model, pools_nodes


def test_models_have_a_transformer():
    assert is_cached_model(models.language_model(11, dim=12, depth=1, num_heads=2))
    assert not is_cached_model(models.recurrent_language_model(11, 12))
    assert not is_cached_model(nn.Identity())


def test_heads_that_pool():
    sizes = {"dim": 12, "depth": 1, "num_heads": 2}
    assert pools_nodes(models.text_classifier(11, 3, **sizes))
    assert pools_nodes(models.sentence_embedder(11, **sizes))
    assert not pools_nodes(models.token_tagger(11, 3, **sizes))
    assert not pools_nodes(nn.Identity())
