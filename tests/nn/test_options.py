"""Names of options of the forward pass."""

from __future__ import annotations

import pytest

from graphformer.nn.options import (
    BlockOptions,
    LayerOptions,
    TransformerOptions,
    check_options,
)


def test_all_declared_options_are_accepted():
    check_options(TransformerOptions.__annotations__)
    check_options({})


def test_options_of_layers_are_those_of_blocks_and_transformers():
    layer = set(LayerOptions.__annotations__)
    assert set(BlockOptions.__annotations__) == layer | {"cache"}
    assert layer < set(TransformerOptions.__annotations__)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("edge_weigth", "did you mean 'edge_weight'?"),
        ("sorce_adjacency", "did you mean 'source_adjacency'?"),
        ("kache", "did you mean 'cache'?"),
        ("zzz", "choose from backend, bias, cache"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(name, hint):
    with pytest.raises(TypeError) as error:
        check_options({"bias": None, name: None})
    assert f"forward() got an unexpected option '{name}'" in str(error.value)
    assert hint in str(error.value)
