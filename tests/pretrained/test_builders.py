"""Builders with the architecture of a checkpoint."""

from __future__ import annotations

import pytest
import torch
from helpers.checkpoints import CONFIG

import graphformer as gf
from graphformer import pretrained

GPT2 = CONFIG | {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_positions": 11}
TEXTS = [[3, 5], [7, 11, 13]]


def test_shapes_of_outputs():
    batch = gf.data.pack_tokens(TEXTS)
    assert pretrained.classifier(CONFIG, 7)(batch).shape == (2, 7)
    assert pretrained.classifier(CONFIG, 7, pool="mean")(batch).shape == (2, 7)
    assert pretrained.tagger(CONFIG, 7)(batch).shape == (5, 7)
    assert pretrained.decoder(GPT2)(batch).shape == (5, 29)
    assert pretrained.masked_language_model(CONFIG)(batch).shape == (5, 29)


def test_the_head_can_be_replaced_by_pooling():
    model = pretrained.classifier(CONFIG, 7, pool="max")
    assert (model.head.pool, model.pooler) == ("max", None)
    assert 0.01 < model.head.linear.weight.std() < 0.03
    assert not model.head.linear.bias.any()


def test_settings_are_not_changed():
    before = dict(CONFIG)
    pretrained.classifier(CONFIG, 7)
    assert before == CONFIG


def test_models_can_be_saved_and_loaded(tmp_path):
    model = pretrained.classifier(CONFIG, 7)
    model.save_pretrained(tmp_path)
    again = gf.from_pretrained(tmp_path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_kinds_of_heads():
    assert pretrained.head_kind(CONFIG) == "none"
    assert pretrained.head_kind(GPT2) == "causal_lm"
    assert pretrained.head_kind({"model_type": "x5"}) is None
    assert pretrained.head_kind({"model_type": "bert"}) is None
    with pytest.warns(FutureWarning, match="kind_of is now called .*head_kind"):
        assert pretrained.kind_of(CONFIG) == "none"


def test_architectures_without_a_head():
    with pytest.raises(ValueError, match="got a 'bert' model, which has no 'causal_lm' head"):
        pretrained.decoder(CONFIG)
    with pytest.raises(ValueError, match="'model_type': 'x5', expected one of"):
        pretrained.tagger({"model_type": "x5"}, 3)


def test_other_numbers_of_positions(tmp_path):
    roberta = CONFIG | {"model_type": "roberta", "pad_token_id": 1, "type_vocab_size": 1}
    for settings, build in ((CONFIG, pretrained.tagger), (roberta, pretrained.tagger)):
        model = build(settings, 7, max_length=17)
        assert model.embedding.positions.max_length == 17
        model.save_pretrained(tmp_path / settings["model_type"])
        again = gf.from_pretrained(tmp_path / settings["model_type"])
        assert again.embedding.positions.max_length == 17
    assert pretrained.decoder(GPT2, max_length=3).embedding.positions.max_length == 3
    llama = {"model_type": "llama", "num_key_value_heads": 5, "hidden_size": 20}
    with pytest.raises(ValueError, match="max_length: got 17, expected None for positions without"):
        pretrained.decoder(CONFIG | llama, max_length=17)
    with pytest.raises(ValueError, match="max_length: got 0, expected 1 or more"):
        pretrained.decoder(GPT2, max_length=0)
