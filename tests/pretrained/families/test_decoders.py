"""GPT-2, Llama, Mistral and Qwen: logits, gradients and texts equal those of `transformers`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.checkpoints import TEXTS, VOCAB, compare

import graphformer as gf
from graphformer import patterns

LLAMA = {
    "vocab_size": VOCAB,
    "hidden_size": 36,
    "intermediate_size": 41,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 53,
    "eos_token_id": None,
    "pad_token_id": 0,
    "num_labels": 5,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 29,
}
GPT2 = {
    "vocab_size": VOCAB,
    "n_embd": 26,
    "n_layer": 3,
    "n_head": 2,
    "n_positions": 53,
    "eos_token_id": None,
    "pad_token_id": 0,
    "num_labels": 5,
}
SIZES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2", GPT2),
    "gpt2-scaled": (
        "GPT2",
        GPT2
        | {"scale_attn_by_inverse_layer_idx": True, "n_inner": 31, "scale_attn_weights": False},
    ),
    "gpt2-untied": ("GPT2", GPT2 | {"tie_word_embeddings": False, "activation_function": "relu"}),
    "llama": ("Llama", LLAMA),
    "smollm": ("Llama", LLAMA | {"tie_word_embeddings": True, "rms_norm_eps": 1e-5}),
    "llama3": ("Llama", LLAMA | {"rope_parameters": LLAMA3, "head_dim": 10}),
    "llama-biases": (
        "Llama",
        LLAMA
        | {"attention_bias": True, "mlp_bias": True, "hidden_act": "gelu"}
        | {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
    ),
    "mistral": ("Mistral", LLAMA | {"sliding_window": 3}),
    "mistral-unbounded": ("Mistral", LLAMA | {"sliding_window": None}),
    "qwen2": ("Qwen2", LLAMA | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
    "qwen2-windows": (
        "Qwen2",
        LLAMA | {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    ),
    "qwen3": ("Qwen3", LLAMA | {"head_dim": 14, "tie_word_embeddings": True}),
}
HEADS = {"Model": "Model", "lm": "ForCausalLM", "classes": "ForSequenceClassification",
         "tags": "ForTokenClassification"}  # fmt: skip


def name(family: str, head: str) -> str:
    return "GPT2LMHeadModel" if (family, head) == ("GPT2", "lm") else f"{family}{HEADS[head]}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("kind", "head"),
    [(kind, "lm") for kind in SIZES]
    + [
        (kind, head) for kind in ("gpt2", "llama", "qwen2") for head in ("Model", "classes", "tags")
    ],
)
def test_equal_to_transformers(make, tmp_path, kind: str, head: str, dtype: torch.dtype):
    family, sizes = SIZES[kind]
    theirs = make(name(family, head), f"{family}Config", dtype, **sizes)
    theirs.save_pretrained(tmp_path / "there", max_shard_size="12KB")
    for source in (theirs, tmp_path / "there"):
        ours = gf.from_pretrained(source)
        theirs.zero_grad()
        compare(theirs, ours, pad=0, tolerance=3e-5 if dtype == torch.float32 else 1e-11)


@pytest.mark.parametrize("kind", SIZES)
def test_greedy_texts_are_those_of_transformers(make, kind: str):
    family, sizes = SIZES[kind]
    theirs = make(name(family, "lm"), f"{family}Config", **sizes)
    with torch.no_grad():  # so that tokens matter more than biases
        theirs.get_input_embeddings().weight.mul_(9)
    ours = gf.from_pretrained(theirs)
    expected = [
        theirs.generate(torch.tensor([text]), max_new_tokens=23, do_sample=False)[0].tolist()
        for text in TEXTS
    ]
    assert len({tuple(text[-5:]) for text in expected}) > 1, "the texts differ"
    for options in ({}, {"cache": False}):
        assert ours.generate(TEXTS, max_new_tokens=23, temperature=0, **options) == expected


def test_a_text_ends_as_its_config_says(make, tmp_path):
    theirs = make("LlamaForCausalLM", "LlamaConfig", **LLAMA)
    text = theirs.generate(torch.tensor([TEXTS[0]]), max_new_tokens=23, do_sample=False)
    end, other = text[0, 9].item(), text[0, 20].item()
    theirs.generation_config.eos_token_id = [other, end]
    theirs.generation_config.repetition_penalty = 1.3
    theirs.save_pretrained(tmp_path)
    expected = theirs.generate(torch.tensor([TEXTS[0]]), max_new_tokens=23, do_sample=False)
    for source in (theirs, tmp_path):
        ours = gf.from_pretrained(source)
        assert ours.generation_config == {"eos_token_id": [other, end], "repetition_penalty": 1.3}
        found = ours.generate(TEXTS[0], max_new_tokens=23, temperature=0)
        assert found == expected[0].tolist()
    longer = ours.generate(TEXTS[0], max_new_tokens=23, temperature=0, eos_token_id=())
    assert len(longer) == len(TEXTS[0]) + 23


@pytest.mark.parametrize("kind", SIZES)
def test_there_and_back(make, transformers, tmp_path, kind: str):
    family, sizes = SIZES[kind]
    theirs = make(name(family, "lm"), f"{family}Config", **sizes)
    gf.from_pretrained(theirs).save_pretrained(tmp_path / "here")
    again, report = getattr(transformers, name(family, "lm")).from_pretrained(
        tmp_path / "here", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids = torch.tensor([TEXTS[1]])
    torch.testing.assert_close(again(input_ids=ids)[0], theirs(input_ids=ids)[0])
    twice = gf.from_pretrained(tmp_path / "here")
    for key, tensor in gf.from_pretrained(theirs).state_dict().items():
        assert torch.equal(twice.state_dict()[key], tensor), key


def test_windows_become_patterns(make):
    family, sizes = SIZES["mistral"]
    mistral = gf.from_pretrained(make(name(family, "lm"), f"{family}Config", **sizes))
    assert mistral.adjacency == patterns.Window(2, causal=True)
    family, sizes = SIZES["qwen2-windows"]
    qwen = gf.from_pretrained(make(name(family, "lm"), f"{family}Config", **sizes))
    window = patterns.Window(3, causal=True)
    assert qwen.adjacency == patterns.PerLayer((patterns.Causal(), window, window))
