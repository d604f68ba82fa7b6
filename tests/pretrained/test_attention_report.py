"""Which attention modules of models of `transformers` run ours."""

from __future__ import annotations

import logging

import pytest

import graphformer as gf
from graphformer.pretrained import report_attention

SIZES = {"vocab_size": 31, "hidden_size": 26, "max_position_embeddings": 47}
BERT = SIZES | {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 37}
NEO = SIZES | {"num_layers": 3, "num_heads": 2, "attention_types": [[["global"], 3]]}


@pytest.fixture(autouse=True)
def registered():
    pytest.importorskip("transformers")
    gf.register_with_transformers()


def test_all_modules_of_a_model_that_calls_the_interface(make, caplog):
    model = make("BertModel", "BertConfig", **BERT)
    model.set_attn_implementation("sdpa")
    before = report_attention(model, quiet=True)
    assert not before.served
    assert set(before.others.values()) == {"its attn_implementation is 'sdpa'"}
    model.set_attn_implementation("graphformer")
    with caplog.at_level(logging.INFO, "graphformer"):
        report = report_attention(model)
    assert report.served == tuple(f"encoder.layer.{i}.attention.self" for i in range(2))
    assert report.others == {}
    assert "2 of 2 attention modules run 'graphformer'" in caplog.text


def test_a_model_with_attention_of_its_own(make, caplog):
    model = make("GPTNeoModel", "GPTNeoConfig", **NEO)
    model.set_attn_implementation("graphformer")  # transformers logs a warning only
    with caplog.at_level(logging.INFO, "graphformer"):
        report = report_attention(model)
    assert not report.served
    assert len(report.others) == 3
    assert "0 of 3" in caplog.text
    assert "3 x GPTNeoSelfAttention: it computes attention in its own code" in caplog.text
