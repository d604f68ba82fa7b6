"""Key mapping: slices of parameters, tied parameters, and keys that may be ignored."""

from __future__ import annotations

import pytest
import torch
from helpers.checkpoints import CONFIG, bert_tensors

from graphformer.pretrained.config import Config
from graphformer.pretrained.families import FAMILIES
from graphformer.pretrained.key_mapping import (
    CheckpointSlice,
    canonical_key,
    is_known_key,
    map_parameters,
)

BERT, GPT2, VIT = FAMILIES["bert"], FAMILIES["gpt2"], FAMILIES["vit"]


def mapping(family, kind, values):
    config = Config({**CONFIG, **values}, "settings")
    model = family.build(config, kind, family.tie_word_embeddings)
    shapes = {} if family.stored_shapes is None else family.stored_shapes(config)
    return model, {m.names[0]: m for m in map_parameters(model, family, kind, shapes)}


def test_every_parameter_has_keys():
    model, found = mapping(BERT, "none", {})
    model.pooler = None
    keys = {part.keys[0] for name, m in found.items() if "pooler" not in name for part in m.slices}
    assert keys == bert_tensors().keys()


def test_queries_keys_and_values_are_rows_of_one_parameter():
    model, found = mapping(BERT, "none", {})
    weight = found["transformer.blocks.1.attention.qkv.weight"]
    layer = "encoder.layer.1.attention.self"
    assert [part.keys for part in weight.slices] == [
        (f"{layer}.query.weight",), (f"{layer}.key.weight",), (f"{layer}.value.weight",)
    ]  # fmt: skip
    assert [part.rows for part in weight.slices] == [(0, 10), (10, 20), (20, 30)]
    part = weight.slices[1]
    parameter = model.transformer.blocks[1].attention.qkv.weight
    assert weight.parameter is parameter
    assert torch.equal(part.to_stored(parameter), parameter[10:20])
    assert part.view(parameter).data_ptr() == parameter[10:20].data_ptr()


def test_transposed_weights():
    _, found = mapping(GPT2, "none", {"n_positions": 11})
    (part,) = found["transformer.blocks.0.mlp.0.weight"].slices
    assert part.shape == (10, 40)
    weight = torch.arange(400.0).view(40, 10)
    assert torch.equal(part.to_stored(weight), weight.T)
    assert part.to_stored(weight).is_contiguous()
    part.view(weight).copy_(torch.zeros(10, 40))
    assert not weight.any()


def test_weights_with_another_stored_shape():
    values = {"image_size": 6, "patch_size": 3, "num_channels": 2, "num_attention_heads": 2}
    _, found = mapping(VIT, "none", values)
    (part,) = found["embedding.features.weight"].slices
    assert part.shape == (10, 2, 3, 3)
    weight = torch.arange(180.0).view(10, 18)
    assert torch.equal(part.to_stored(weight), weight.view(10, 2, 3, 3))


def test_a_scalar_parameter():
    part = CheckpointSlice(("scale",), (0, 0), (), False)
    scale = torch.tensor(5.0)
    assert part.view(scale) is scale
    assert part.to_stored(scale) is not scale
    assert part.to_stored(scale) == 5


def test_a_tied_parameter_has_the_keys_of_all_its_names():
    _, found = mapping(BERT, "masked_lm", {})
    weight = found["embedding.features.weight"]
    assert weight.names == ("embedding.features.weight", "head.linear.weight")
    assert weight.slices[0].keys == (
        "bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"
    )  # fmt: skip
    bias = found["head.linear.bias"].slices[0]
    assert bias.keys == ("cls.predictions.bias", "cls.predictions.decoder.bias")


def test_canonical_keys():
    assert canonical_key("bert.encoder.x", BERT) == "encoder.x"
    assert canonical_key("embeddings.LayerNorm.gamma", BERT) == "embeddings.LayerNorm.weight"
    assert canonical_key("bert.embeddings.LayerNorm.beta", BERT) == "embeddings.LayerNorm.bias"
    assert canonical_key("bert.x", FAMILIES["clip"]) == "bert.x"


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("pooler.dense.weight", True),
        ("classifier.bias", True),
        ("cls.seq_relationship.weight", True),
        ("embeddings.position_ids", True),
        ("encoder.layer.7.output.dense.bias", False),
        ("adapter.up", False),
    ],
)
def test_keys_that_may_be_ignored(key: str, known: bool):
    assert is_known_key(key, BERT) == known


def test_patterns_of_ignored_keys_match_any_block():
    assert is_known_key("h.13.attn.bias", GPT2)
    assert not is_known_key("h.13.attn.weight", GPT2)
