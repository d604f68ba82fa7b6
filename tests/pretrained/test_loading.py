"""`from_pretrained`: folders, heads and dtypes, and one error that lists all problems."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.checkpoints import CONFIG, bert_tensors, configured
from safetensors.torch import load_file, save_file

import graphformer as gf
from graphformer import patterns

LLAMA = CONFIG | {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
GPT2 = CONFIG | {"model_type": "gpt2", "architectures": ["GPT2Model"], "n_positions": 11}
TEXTS = [[3, 5], [7, 11, 13]]


def test_a_valid_folder(folder):
    model = gf.from_pretrained(folder)
    assert model(gf.data.pack_tokens(TEXTS)).shape == (5, 10)
    assert model.adjacency == patterns.Complete()
    assert model.config["hidden_size"] == 10
    assert model.pooler is None
    assert model.tokenizer is None
    assert not model.training


def test_attributes_of_the_docstring_exist(folder):
    model = gf.from_pretrained(folder)
    for name in ("adjacency", "config", "tokenizer", "newly_initialized"):
        assert f"`model.{name}`" in gf.from_pretrained.__doc__
        assert hasattr(model, name)


def test_shards_hold_the_same(shards):
    model = gf.from_pretrained(shards)
    key = "encoder.layer.1.attention.self.key.bias"
    stored = {**load_file(shards / "a.safetensors"), **load_file(shards / "b.safetensors")}
    assert torch.equal(model.transformer.blocks[1].attention.qkv.bias[10:20], stored[key])


def test_old_names_and_keys_of_heads(folder):
    tensors = load_file(folder / "model.safetensors")
    renamed = {
        "bert."
        + n.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): t
        for n, t in tensors.items()
    }
    renamed["bert.embeddings.position_ids"] = torch.arange(11).unsqueeze(0)
    renamed["cls.seq_relationship.weight"] = torch.zeros(2, 10)
    save_file(renamed, folder / "model.safetensors")
    model = gf.from_pretrained(folder)
    assert torch.equal(model.embedding.norm.weight, tensors["embeddings.LayerNorm.weight"])


def test_a_key_with_and_without_the_prefix(folder):
    tensors = bert_tensors()
    tensors["bert.embeddings.LayerNorm.bias"] = torch.zeros(10)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"both .*embeddings\.LayerNorm\.bias.*expected one"):
        gf.from_pretrained(folder)


def test_all_problems_are_listed(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.bias"], tensors["embeddings.LayerNorm.weight"]
    tensors["encoder.layer.0.intermediate.dense.weight"] = torch.zeros(13, 11)
    tensors["encoder.layer.2.output.dense.bias"] = torch.zeros(10)
    tensors["adapter.up"] = torch.zeros(3)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ValueError, match="do not match") as error:
        gf.from_pretrained(folder)
    for part in (
        "missing keys: embeddings.LayerNorm.weight, encoder.layer.1.output.dense.bias;",
        "intermediate.dense.weight ([13, 11] stored, [13, 10] by the config)",
        "unexpected keys: adapter.up, encoder.layer.2.output.dense.bias",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_size": 15}, r"word_embeddings\.weight \(\[29, 10\] stored, \[29, 15\] by"),
        ({"num_hidden_layers": 3}, r"missing keys: encoder\.layer\.2"),
        ({"num_hidden_layers": 1}, r"unexpected keys: encoder\.layer\.1"),
        ({"num_attention_heads": 3}, r"'num_attention_heads': 3, expected a divisor"),
        ({"num_attention_heads": "REMOVE"}, r"lacks 'num_attention_heads'"),
        ({"vocab_size": "many"}, r"'vocab_size': 'many', expected a whole number"),
        ({"hidden_act": "mish"}, r"'hidden_act': 'mish', expected one of"),
        ({"position_embedding_type": "relative_key"}, r"'position_embedding_type': 'relative_key'"),
        ({"is_decoder": True}, r"'is_decoder': True"),
        ({"model_type": "x5"}, r"'model_type': 'x5', expected one of bart, "),
        ({"architectures": ["BertForMultipleChoice"]}, r"BertForMultipleChoice.*expected one of"),
        ({"architectures": ["BertForMaskedLM"]}, r"missing keys: cls\.predictions\.transform"),
        ({"quantization_config": {"bits": 4}}, r"not quantized"),
        (LLAMA | {"rope_scaling": {"type": "longrope", "factor": 4.0}}, r"'rope_type': 'longrope'"),
        (LLAMA | {"num_key_value_heads": 3}, r"num_kv_heads"),
        (LLAMA | {"hidden_act": "relu2"}, r"'hidden_act': 'relu2'"),
        (LLAMA | {"rope_parameters": {"a": {}}}, r"got settings by layer type"),
        (GPT2 | {"add_cross_attention": True}, r"'add_cross_attention': True"),
    ],
)
def test_unsupported_configs(folder, settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        gf.from_pretrained(configured(folder, **settings))


def test_sources_that_are_no_checkpoint(folder):
    with pytest.raises(FileNotFoundError, match="expected a folder; download"):
        gf.from_pretrained("bert-base-uncased")
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json: got malformed JSON"):
        gf.from_pretrained(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="got list, expected an object of settings"):
        gf.from_pretrained(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no config\.json"):
        gf.from_pretrained(folder)
    with pytest.raises(TypeError, match="got dict, expected a folder or a model of transformers"):
        gf.from_pretrained({})


def test_a_chosen_head_is_initialized_if_absent(folder):
    model = gf.from_pretrained(folder, head="classification", num_classes=7)
    parts = ("transform.0.weight", "transform.0.bias", "linear.weight", "linear.bias")
    assert model.newly_initialized == [f"head.{part}" for part in parts]
    assert model(gf.data.pack_tokens(TEXTS)).shape == (2, 7)
    assert 0.01 < model.head.linear.weight.std() < 0.03
    assert not model.head.linear.bias.any()
    with pytest.raises(ValueError, match="got 'causal_lm', expected auto or one of none, masked"):
        gf.from_pretrained(folder, head="causal_lm")


def test_initialized_norms_are_ones(folder):
    model = gf.from_pretrained(folder, head="masked_lm")
    assert torch.equal(model.head.transform[2].weight, torch.ones(10))
    assert "head.linear.weight" not in model.newly_initialized, "tied"


def test_a_tied_weight_that_is_stored_twice(folder):
    tensors = bert_tensors()
    tensors = {f"bert.{name}": tensor for name, tensor in tensors.items()}
    head = {"transform.dense": (10, 10), "transform.LayerNorm": (10,)}
    for name, shape in head.items():
        tensors[f"cls.predictions.{name}.weight"] = torch.randn(shape)
        tensors[f"cls.predictions.{name}.bias"] = torch.randn(10)
    tensors["cls.predictions.bias"] = torch.randn(29)
    embedding = tensors["bert.embeddings.word_embeddings.weight"]
    for other, tied in ((embedding.clone(), True), (embedding + 1, False)):
        tensors["cls.predictions.decoder.weight"] = other
        save_file(tensors, folder / "model.safetensors")
        model = gf.from_pretrained(configured(folder, architectures=["BertForMaskedLM"]))
        assert (model.head.linear.weight is model.embedding.features.weight) == tied
        assert model.config.get("tie_word_embeddings", True) == tied
        assert torch.equal(model.head.linear.weight, other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_stored_dtype_is_kept_by_default(folder, dtype: torch.dtype):
    tensors = load_file(folder / "model.safetensors")
    save_file({n: t.to(dtype) for n, t in tensors.items()}, folder / "model.safetensors")
    assert {p.dtype for p in gf.from_pretrained(folder).parameters()} == {dtype}
    wide = gf.from_pretrained(folder, dtype=torch.float32).embedding.norm.bias
    assert torch.equal(wide, tensors["embeddings.LayerNorm.bias"].to(dtype).float())


def test_mixed_dtypes(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["embeddings.LayerNorm.bias"] = tensors["embeddings.LayerNorm.bias"].bfloat16()
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"got torch\.bfloat16, torch\.float32, .*pass dtype="):
        gf.from_pretrained(folder)
    model = gf.from_pretrained(configured(folder, torch_dtype="float16"))
    assert {p.dtype for p in model.parameters()} == {torch.float16}


def test_whole_numbers_are_no_weights(folder):
    tensors = {name: tensor.long() for name, tensor in bert_tensors().items()}
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"got torch\.int64, expected floating point"):
        gf.from_pretrained(folder)


def test_a_model_that_transformers_dequantized(make):
    sizes = {"hidden_size": 10, "num_attention_heads": 5, "intermediate_size": 13}
    theirs = make("BertModel", "BertConfig", vocab_size=29, num_hidden_layers=1, **sizes)
    theirs.config.quantization_config = {"quant_method": "gguf"}
    model = gf.from_pretrained(theirs)
    assert "quantization_config" not in model.config
