"""BERT, RoBERTa and DistilBERT: outputs and gradients equal those of `transformers`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.checkpoints import TEXTS, VOCAB, compare
from helpers.families import ENCODERS

import graphformer as gf
from graphformer import patterns

SIZES: dict[str, dict[str, Any]] = {
    "Bert": {
        "vocab_size": VOCAB,
        "hidden_size": 26,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 37,
        "max_position_embeddings": 19,
        "type_vocab_size": 2,
        "num_labels": 5,
        "hidden_act": "gelu_new",
        "layer_norm_eps": 1e-5,
    },
    "Roberta": {
        "vocab_size": VOCAB,
        "hidden_size": 22,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 31,
        "max_position_embeddings": 19,
        "type_vocab_size": 1,
        "num_labels": 5,
        "pad_token_id": 1,
        "layer_norm_eps": 1e-5,
    },
    "DistilBert": {
        "vocab_size": VOCAB,
        "dim": 33,
        "n_layers": 2,
        "n_heads": 3,
        "hidden_dim": 41,
        "max_position_embeddings": 19,
        "num_labels": 5,
    },
}
HEADS = ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification")
PAD = {"Bert": 0, "Roberta": 1, "DistilBert": 0}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", SIZES)
def test_equal_to_transformers(make, tmp_path, family: str, head: str, dtype: torch.dtype):
    theirs = make(f"{family}{head}", f"{family}Config", dtype, **SIZES[family])
    theirs.save_pretrained(tmp_path / "there", max_shard_size="12KB")
    assert len(list((tmp_path / "there").glob("*.safetensors"))) > 1
    for source in (theirs, tmp_path / "there"):
        ours = gf.from_pretrained(source)
        assert ours.adjacency == patterns.Complete()
        assert next(ours.parameters()).dtype == dtype
        theirs.zero_grad()
        compare(theirs, ours, pad=PAD[family], tolerance=2e-5 if dtype == torch.float32 else 1e-11)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", SIZES)
def test_there_and_back(make, transformers, tmp_path, family: str, head: str):
    theirs = make(f"{family}{head}", f"{family}Config", **SIZES[family])
    gf.from_pretrained(theirs).save_pretrained(tmp_path / "here")
    again, report = getattr(transformers, f"{family}{head}").from_pretrained(
        tmp_path / "here", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    expected = theirs.state_dict()
    assert again.state_dict().keys() == expected.keys()
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    ids = torch.tensor([[5, 7, 11, 13, 17]])
    torch.testing.assert_close(again(input_ids=ids)[0], theirs(input_ids=ids)[0])


@pytest.mark.parametrize("family", ["Bert", "Roberta"])
def test_heads_that_are_not_tied(make, transformers, tmp_path, family: str):
    name, sizes = f"{family}ForMaskedLM", SIZES[family] | {"tie_word_embeddings": False}
    theirs = make(name, f"{family}Config", torch.float64, **sizes)
    theirs.save_pretrained(tmp_path / "there")  # with two biases that differ
    ours = gf.from_pretrained(tmp_path / "there")
    compare(theirs, ours, pad=PAD[family], tolerance=1e-11)
    ours.save_pretrained(tmp_path / "here")
    again, report = getattr(transformers, name).from_pretrained(
        tmp_path / "here", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids = torch.tensor([[5, 7, 11, 13, 17]])
    torch.testing.assert_close(again(input_ids=ids)[0], theirs(input_ids=ids)[0])


@pytest.mark.parametrize("name", ["convbert", "xlnet"])
def test_explicit_edges_give_what_the_complete_graph_gives(make, name: str):
    case = ENCODERS[name]
    model = gf.from_pretrained(make(case.models[0], case.config, **case.sizes))
    batch = gf.data.pack_tokens(TEXTS)
    edges = gf.complete([len(text) for text in TEXTS]).to_csr()
    torch.testing.assert_close(model(batch, edges), model(batch), rtol=1e-4, atol=1e-5)
    first = model(batch)[: len(TEXTS[0])]
    torch.testing.assert_close(first, model(gf.data.pack_tokens(TEXTS[:1])), rtol=1e-4, atol=1e-5)


def test_xlnet_has_one_segment(make):
    case = ENCODERS["xlnet"]
    model = gf.from_pretrained(make("XLNetModel", case.config, **case.sizes))
    batch = gf.data.pack_tokens(TEXTS[:1])
    expected = model(batch)
    batch.token_types = torch.zeros_like(batch.x)
    assert torch.equal(model(batch), expected)
    batch.token_types[-1] = 2
    with pytest.raises(ValueError, match="token_types: got several segments, expected one"):
        model(batch)
