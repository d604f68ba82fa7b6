"""Our attention in models of `transformers`: equal to theirs, over any pattern, or an error."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.checkpoints import TEXTS, VOCAB, padded

import graphformer as gf
from graphformer import patterns

MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": (
        "BertModel",
        "BertConfig",
        {"hidden_size": 26, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 37, "max_position_embeddings": 47},
    ),
    "gpt2": (
        "GPT2LMHeadModel",
        "GPT2Config",
        {"n_embd": 26, "n_layer": 2, "n_head": 2, "n_positions": 47, "eos_token_id": None},
    ),
    "llama": (
        "LlamaForCausalLM",
        "LlamaConfig",
        {"hidden_size": 36, "num_hidden_layers": 2, "num_attention_heads": 6,
         "num_key_value_heads": 2, "intermediate_size": 41, "eos_token_id": None},
    ),
    "mistral": (
        "MistralForCausalLM",
        "MistralConfig",
        {"hidden_size": 36, "num_hidden_layers": 2, "num_attention_heads": 6, "sliding_window": 4,
         "num_key_value_heads": 2, "intermediate_size": 41, "eos_token_id": None},
    ),
}  # fmt: skip
DECODERS = ["gpt2", "llama", "mistral"]


@pytest.fixture
def model(make, request) -> Any:
    name, config, sizes = MODELS[request.param]
    return make(name, config, vocab_size=VOCAB, pad_token_id=0, **sizes)


def results(
    model: Any, kind: str, batch: dict[str, Any], valid: torch.Tensor
) -> list[torch.Tensor]:
    """The nodes that are no padding, and the gradients of all weights."""
    model.set_attn_implementation(kind)
    model.zero_grad()
    out = model(**batch)[0][valid.bool()]
    (out * torch.linspace(-1, 1, out.shape[-1])).sum().backward()
    return [out, *(p.grad for p in model.parameters() if p.grad is not None)]


def assert_equal(model: Any, batch: dict[str, Any], *, other: str = "sdpa", **theirs: Any) -> None:
    valid = batch["attention_mask"]
    found = results(model, "graphformer", batch, valid)
    expected = results(model, other, {**batch, **theirs}, valid)
    assert len(found) == len(expected)
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=3e-4, atol=3e-5)


def left(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same texts with their padding before them."""
    count = batch["attention_mask"].sum(1)
    rolled = {
        name: torch.stack([row.roll(len(row) - int(n)) for row, n in zip(x, count, strict=True)])
        for name, x in batch.items()
    }
    places = (rolled["attention_mask"].cumsum(1) - 1).clamp(min=0)
    return {**rolled, "position_ids": places}


@pytest.mark.parametrize("other", ["sdpa", "eager"])
@pytest.mark.parametrize("model", MODELS, indirect=True)
def test_without_a_pattern_it_equals_theirs(model, other: str):
    gf.register_with_transformers()
    assert_equal(model, padded(TEXTS, 0), other=other)
    assert_equal(model, left(padded(TEXTS, 0)), other=other)
    whole = padded([TEXTS[1], TEXTS[1][::-1]], 0)
    assert_equal(model, whole, other=other)


@pytest.mark.parametrize("pattern", [patterns.Window(2), patterns.Window(1) | patterns.Causal()])
@pytest.mark.parametrize("model", MODELS, indirect=True)
def test_a_pattern_equals_a_dense_mask(model, request, pattern):
    gf.register_with_transformers(pattern)
    kind = request.node.callspec.params["model"]
    batch = padded(TEXTS, 0)
    longest = batch["input_ids"].shape[1]
    dense = torch.eye(longest, dtype=torch.bool).repeat(len(TEXTS), 1, 1)  # padding sees itself
    for row, text in enumerate(TEXTS):
        mask = pattern(gf.data.pack_tokens([text])).to_mask()
        if kind != "bert":
            mask = mask.tril()
        if kind == "mistral":
            mask = mask.triu(-3)
        dense[row, : len(text), : len(text)] = mask
    assert_equal(model, batch, attention_mask=dense.unsqueeze(1))


@pytest.mark.parametrize("model", DECODERS, indirect=True)
def test_generation_with_a_cache(model):
    gf.register_with_transformers()
    batch = left(padded(TEXTS, 0))
    batch.pop("position_ids")
    settings: dict[str, Any] = {"max_new_tokens": 13, "do_sample": False, "pad_token_id": 0}
    texts = {}
    for kind in ("sdpa", "graphformer"):
        model.set_attn_implementation(kind)
        texts[kind] = model.generate(**batch, **settings)
        static = model.generate(**batch, **settings, cache_implementation="static")
        assert torch.equal(texts[kind], static)
    assert torch.equal(texts["graphformer"], texts["sdpa"])


@pytest.mark.parametrize("model", DECODERS, indirect=True)
def test_a_pattern_in_generation_with_and_without_cache(model):
    gf.register_with_transformers(patterns.Window(3), name="near")
    model.set_attn_implementation("near")
    ids = torch.tensor([TEXTS[1]])
    settings: dict[str, Any] = {"max_new_tokens": 13, "do_sample": False, "pad_token_id": 0}
    cached = model.generate(ids, **settings)
    assert torch.equal(cached, model.generate(ids, **settings, use_cache=False))
    ours = gf.from_pretrained(model).with_adjacency(patterns.Window(3, causal=True))
    assert ours.generate(TEXTS[1], max_new_tokens=13, temperature=0) == cached[0].tolist()


@pytest.mark.parametrize("model", ["bert"], indirect=True)
def test_a_mask_that_is_a_bias_is_an_error(model):
    gf.register_with_transformers()
    model.set_attn_implementation("graphformer")
    ids = torch.tensor([TEXTS[1]])
    bias = torch.randn(1, 1, ids.shape[1], ids.shape[1])
    with pytest.raises(ValueError, match="got numbers other than 0 and minus infinity"):
        model(input_ids=ids, attention_mask=bias)
    by_head = torch.rand(1, 2, ids.shape[1], ids.shape[1]) > 0.5
    with pytest.raises(ValueError, match="got one that differs by head"):
        model(input_ids=ids, attention_mask=by_head)
    some = torch.rand(1, 1, ids.shape[1], ids.shape[1]) > 0.5
    some |= torch.eye(ids.shape[1], dtype=torch.bool)
    found = model(input_ids=ids, attention_mask=some)[0]
    model.set_attn_implementation("sdpa")
    torch.testing.assert_close(
        found, model(input_ids=ids, attention_mask=some)[0], rtol=1e-5, atol=1e-5
    )


def test_bounded_logits(make):
    sizes = {"vocab_size": VOCAB, "hidden_size": 26, "num_hidden_layers": 2, "head_dim": 10}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 37}
    model = make("Gemma2Model", "Gemma2Config", **sizes, attn_logit_softcapping=0.7)
    gf.register_with_transformers()
    assert_equal(model, padded(TEXTS, pad=0), other="eager")


@pytest.mark.parametrize("option", ["s_aux", "position_bias"])
def test_an_option_that_ours_lacks_is_an_error(transformers, option: str):
    gf.register_with_transformers()
    attend = transformers.AttentionInterface()["graphformer"]
    q = torch.randn(1, 2, 5, 3)
    with pytest.raises(ValueError, match=f"{option}: got a value, expected none"):
        attend(torch.nn.Identity(), q, q, q, None, **{option: torch.tensor(5.0)})


def test_a_mask_of_the_keys_alone(make):
    sizes = {"hidden_size": 26, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 37, "max_position_embeddings": 47}
    model = make("LayoutLMModel", "LayoutLMConfig", vocab_size=VOCAB, **sizes)
    gf.register_with_transformers()
    assert_equal(model, padded(TEXTS, pad=0), other="eager")
