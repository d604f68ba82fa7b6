"""Families of models by a table: outputs, gradients, texts and files equal `transformers`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.checkpoints import TEXTS, compare, configured
from helpers.families import DECODERS, ENCODERS, SEQ2SEQ, Case

import graphformer as gf

CASES = {**ENCODERS, **DECODERS, **SEQ2SEQ}
MODELS = [(name, model) for name, case in CASES.items() for model in case.models]


def made(make: Any, case: Case, model: str, dtype: torch.dtype = torch.float32) -> Any:
    theirs = make(model, case.config, dtype, **case.sizes)
    if hasattr(theirs, "set_experts_implementation"):
        theirs.set_experts_implementation("eager")  # others need sizes that are multiples of 4
    return theirs


@pytest.mark.parametrize(
    "dtype", [torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(("name", "model"), MODELS)
def test_outputs_and_gradients(make, tmp_path, name: str, model: str, dtype: torch.dtype):
    case = CASES[name]
    tolerance = 5e-5 if dtype == torch.float32 else case.tolerance
    if tolerance is None:
        pytest.skip("transformers has no float64 there")
    theirs = made(make, case, model, dtype)
    source = theirs
    if dtype == torch.float64:
        theirs.save_pretrained(tmp_path, max_shard_size="12KB")
        source = tmp_path
    options = {"pad": case.pad, "tolerance": tolerance, "padding": case.padding}
    compare(theirs, gf.from_pretrained(source), **options)


@pytest.mark.parametrize(("name", "model"), MODELS)
def test_there_and_back(make, transformers, tmp_path, name: str, model: str):
    theirs = made(make, CASES[name], model)
    ours = gf.from_pretrained(theirs)
    ours.save_pretrained(tmp_path)
    again, report = getattr(transformers, model).from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    expected = theirs.state_dict()
    assert again.state_dict().keys() == expected.keys()
    for key, tensor in again.state_dict().items():
        assert torch.equal(tensor, expected[key]), key
    twice = gf.from_pretrained(tmp_path).state_dict()
    for key, tensor in ours.state_dict().items():
        assert torch.equal(twice[key], tensor), key


@pytest.mark.parametrize("name", [*DECODERS, *SEQ2SEQ])
def test_greedy_texts(make, name: str):
    theirs = made(make, CASES[name], CASES[name].models[0])
    with torch.no_grad():  # so that texts matter more than biases and than their last token
        for parameter in theirs.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.5)
    ours = gf.from_pretrained(theirs)
    options = {"max_new_tokens": 17, "do_sample": False}
    expected = [
        theirs.generate(ids, attention_mask=torch.ones_like(ids), **options)[0].tolist()
        for ids in (torch.tensor([text]) for text in TEXTS)
    ]
    assert len({tuple(text[-17:]) for text in expected}) > 1, "the texts differ"
    if name in SEQ2SEQ:
        assert ours.start_id == 1
    for cache in (True, False):
        assert ours.generate(TEXTS, max_new_tokens=17, temperature=0, cache=cache) == expected


def test_flaubert_before_its_norms(make):
    # transformers (5.23) cannot run this option.
    case = ENCODERS["flaubert"]
    theirs = make("FlaubertModel", case.config, pre_norm=True, **case.sizes)
    ours, batch = gf.from_pretrained(theirs), gf.data.pack_tokens([[7, 13, 96]])
    x, states = ours.embedding(batch), theirs.state_dict()
    for number, block in enumerate(ours.transformer.blocks):
        norm = [states[f"layer_norm1.{number}.{name}"] for name in ("weight", "bias")]
        h = torch.nn.functional.layer_norm(x, x.shape[-1:], *norm, eps=1e-12)
        x = x + block.attention(h, gf.complete([3]))
        norm = [states[f"layer_norm2.{number}.{name}"] for name in ("weight", "bias")]
        x = x + block.mlp(torch.nn.functional.layer_norm(x, x.shape[-1:], *norm, eps=1e-12))
    torch.testing.assert_close(ours(batch), x)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("electra", {"position_embedding_type": "relative_key"}, "'position_embedding_type'"),
        ("mpnet", {"relative_attention_num_buckets": 16}, "'relative_attention_num_buckets'"),
        ("gemma3", {"attn_logit_softcapping": 50.0}, "got 'attn_logit_softcapping': 50.0"),
        ("gemma3", {"use_bidirectional_attention": True}, "'use_bidirectional_attention': True"),
        ("t5", {"feed_forward_proj": "gated-sine"}, "got 'feed_forward_proj': 'gated-sine'"),
        ("xlnet", {"bi_data": True}, "got 'bi_data': True, expected False"),
        ("convbert", {"conv_kernel_size": 4}, "got 'conv_kernel_size': 4, expected an odd"),
        ("xlm", {"n_langs": 3}, "got 'n_langs': 3, expected 1"),
        ("gpt-neox", {"rope_parameters": {"rope_type": "longrope"}}, "'rope_type': 'longrope'"),
        ("deepseek-v2", {"norm_topk_prob": True}, "got 'norm_topk_prob': True, expected False"),
        ("deepseek-v3", {"scoring_func": "softmax"}, "got 'scoring_func': 'softmax'"),
    ],
)
def test_unsupported_options_are_named(make, tmp_path, name: str, settings: Any, message: str):
    made(make, CASES[name], CASES[name].models[0]).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        gf.from_pretrained(configured(tmp_path, **settings))
