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
        ("gpt-neox", {"rope_parameters": {"partial_rotary_factor": 0.2}}, "'partial_rotary_fac"),
        ("phi3", {"rope_parameters": {"rope_type": "yarn"}}, "got 'rope_type': 'yarn', expected"),
        ("gemma2", {"layer_types": ["chunked_attention"] * 3}, "got 'layer_types': .'chunked"),
        ("gemma3", {"layer_types": ["full_attention"]}, "got 'layer_types': .'full_attention'., "),
        ("gemma3", {"rope_parameters": {"factor": 2.0}}, "got 'rope_parameters' with 'factor'"),
        ("deepseek-v2", {"norm_topk_prob": True}, "got 'norm_topk_prob': True, expected False"),
        ("deepseek-v3", {"scoring_func": "softmax"}, "got 'scoring_func': 'softmax'"),
    ],
)
def test_unsupported_options_are_named(make, tmp_path, name: str, settings: Any, message: str):
    made(make, CASES[name], CASES[name].models[0]).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        gf.from_pretrained(configured(tmp_path, **settings))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("phi3", {"rms_norm_eps": "REMOVE"}),
        ("mixtral", {"rope_parameters": "REMOVE"}),
        ("mixtral", {"rms_norm_eps": "REMOVE", "hidden_act": "REMOVE"}),
        ("gemma2-capped", {"layer_types": "REMOVE", "sliding_window_pattern": 3}),
        ("gemma3", {"layer_types": "REMOVE", "rope_parameters": "REMOVE"}),
        ("gemma3", {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2.0}}}),
    ],
)
def test_defaults(make, transformers, tmp_path, name: str, settings: Any):
    case = CASES[name]
    made(make, case, case.models[0]).save_pretrained(tmp_path)
    configured(tmp_path, **settings)
    theirs = getattr(transformers, case.models[0]).from_pretrained(
        tmp_path, attn_implementation="eager", experts_implementation="eager"
    )
    expected = theirs(torch.tensor([TEXTS[1]]))[0][0]
    found = gf.from_pretrained(tmp_path)(gf.data.pack_tokens([TEXTS[1]]))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["bart", "mbart"])
def test_embeddings_that_are_not_shared(make, transformers, tmp_path, name: str):
    case = CASES[name]
    theirs = make(case.models[0], case.config, tie_word_embeddings=False, **case.sizes)
    with pytest.raises(ValueError, match="tensors that differ in model.encoder.embed_tokens.weigh"):
        gf.from_pretrained(theirs)
    with torch.no_grad():
        for part in (theirs.model.encoder, theirs.model.decoder):
            part.embed_tokens.weight.copy_(theirs.model.shared.weight)
    ours = gf.from_pretrained(theirs)
    ours.save_pretrained(tmp_path)
    kind = getattr(transformers, case.models[0])
    again, report = kind.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    for key, tensor in again.state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[key]), key


def test_a_bias_of_the_output(make):
    theirs = make(CASES["bart"].models[0], CASES["bart"].config, **CASES["bart"].sizes)
    theirs.final_logits_bias[0, 3] = 0.5
    with pytest.raises(ValueError, match="got final_logits_bias with other values than 0"):
        gf.from_pretrained(theirs)
