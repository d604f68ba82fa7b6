"""Folders that are not as they should be: one error that says what is wrong, never a guess."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import graphformer as gf

CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "vocab_size": 29,
    "hidden_size": 10,
    "num_hidden_layers": 2,
    "num_attention_heads": 5,
    "intermediate_size": 13,
    "max_position_embeddings": 11,
    "type_vocab_size": 2,
}
LLAMA = CONFIG | {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
GPT2 = CONFIG | {"model_type": "gpt2", "architectures": ["GPT2Model"], "n_positions": 11}


def bert_tensors() -> dict[str, torch.Tensor]:
    """The tensors of a BertModel of the config, without a pooler."""
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (29, 10),
        "embeddings.position_embeddings.weight": (11, 10),
        "embeddings.token_type_embeddings.weight": (2, 10),
        "embeddings.LayerNorm": (10,),
    }
    for layer in (f"encoder.layer.{i}." for i in range(2)):
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            shapes[f"{layer}attention.{name}"] = (10, 10)
        shapes[f"{layer}attention.output.LayerNorm"] = (10,)
        shapes[f"{layer}intermediate.dense"] = (13, 10)
        shapes[f"{layer}output.dense"] = (10, 13)
        shapes[f"{layer}output.LayerNorm"] = (10,)
    tensors = {}
    for name, shape in shapes.items():
        if name.endswith("weight"):
            tensors[name] = torch.randn(shape)
        else:
            tensors[f"{name}.weight"] = torch.randn(shape)
            tensors[f"{name}.bias"] = torch.randn(shape[0])
    return tensors


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A BERT as it should be."""
    place = tmp_path / "bert"
    place.mkdir()
    (place / "config.json").write_text(json.dumps(CONFIG))
    save_file(bert_tensors(), place / "model.safetensors")
    return place


@pytest.fixture
def shards(folder: Path) -> Path:
    """The same in two shards."""
    tensors = load_file(folder / "model.safetensors")
    parts = {"a.safetensors": list(tensors)[::2], "b.safetensors": list(tensors)[1::2]}
    for file, names in parts.items():
        save_file({name: tensors[name] for name in names}, folder / file)
    weight_map = {name: file for file, names in parts.items() for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "model.safetensors").unlink()
    return folder


def configured(folder: Path, **settings: Any) -> Path:
    config = {**json.loads((folder / "config.json").read_text()), **settings}
    (folder / "config.json").write_text(
        json.dumps({key: value for key, value in config.items() if value != "REMOVE"})
    )
    return folder


def test_a_folder_as_it_should_be(folder):
    model = gf.from_pretrained(folder)
    assert model(gf.models.packed([[3, 5], [7, 11, 13]])).shape == (5, 10)
    assert model.pooler is None
    assert model.tokenizer is None
    assert not model.training


def test_shards_hold_the_same(shards):
    model = gf.from_pretrained(shards)
    key = "encoder.layer.1.attention.self.key.bias"
    stored = {**load_file(shards / "a.safetensors"), **load_file(shards / "b.safetensors")}
    assert torch.equal(model.transformer.blocks[1].attention.qkv.bias[10:20], stored[key])


def test_names_of_the_first_files_and_of_heads(folder):
    tensors = load_file(folder / "model.safetensors")
    old = {
        "bert."
        + n.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): t
        for n, t in tensors.items()
    }
    old["bert.embeddings.position_ids"] = torch.arange(11).unsqueeze(0)
    old["cls.seq_relationship.weight"] = torch.zeros(2, 10)
    save_file(old, folder / "model.safetensors")
    model = gf.from_pretrained(folder)
    assert torch.equal(model.embedding.norm.weight, tensors["embeddings.LayerNorm.weight"])


def test_a_missing_shard_is_named(shards):
    (shards / "b.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks b\.safetensors, of the 2 shards"):
        gf.from_pretrained(shards)


def test_an_index_that_names_what_is_not_there(shards):
    index = shards / "model.safetensors.index.json"
    names = json.loads(index.read_text())["weight_map"]
    index.write_text(json.dumps({"weight_map": names | {"encoder.more": "a.safetensors"}}))
    with pytest.raises(ValueError, match=r"not in their shards: encoder\.more"):
        gf.from_pretrained(shards)
    index.write_text(json.dumps({"weight_map": {"x": "../elsewhere.safetensors"}}))
    with pytest.raises(ValueError, match=r"no file beside it"):
        gf.from_pretrained(shards)


@pytest.mark.parametrize("keep", [0, 5, 100, 5_000])
def test_a_truncated_file_is_named(folder, keep: int):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"model\.safetensors is truncated or no safetensors file"):
        gf.from_pretrained(folder)


def test_a_file_of_noise(folder):
    (folder / "model.safetensors").write_bytes(b"\x10" + bytes(7) + b"{" * 200)
    with pytest.raises(ValueError, match="no safetensors file"):
        gf.from_pretrained(folder)


def test_pickled_weights_are_not_opened(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin only.*save_pretrained"):
        gf.from_pretrained(folder)


def test_missing_and_surplus_tensors_and_other_shapes_are_all_listed(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.bias"], tensors["embeddings.LayerNorm.weight"]
    tensors["encoder.layer.0.intermediate.dense.weight"] = torch.zeros(13, 11)
    tensors["encoder.layer.2.output.dense.bias"] = torch.zeros(10)
    tensors["adapter.up"] = torch.zeros(3)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ValueError, match="do not fit") as error:
        gf.from_pretrained(folder)
    for part in (
        "missing: embeddings.LayerNorm.weight, encoder.layer.1.output.dense.bias;",
        "intermediate.dense.weight ([13, 11] there, [13, 10] by the config)",
        "not known: adapter.up, encoder.layer.2.output.dense.bias",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_size": 15}, r"word_embeddings\.weight \(\[29, 10\] there, \[29, 15\] by"),
        ({"num_hidden_layers": 3}, r"missing: encoder\.layer\.2"),
        ({"num_hidden_layers": 1}, r"not known: encoder\.layer\.1"),
        ({"num_attention_heads": 3}, r"'num_attention_heads': 3, which does not divide"),
        ({"num_attention_heads": "REMOVE"}, r"lacks 'num_attention_heads'"),
        ({"vocab_size": "many"}, r"'vocab_size': 'many', which must be a whole number"),
        ({"hidden_act": "mish"}, r"'hidden_act': 'mish', but the known activations"),
        ({"position_embedding_type": "relative_key"}, r"'position_embedding_type': 'relative_key'"),
        ({"is_decoder": True}, r"'is_decoder': True"),
        ({"model_type": "t5"}, r"'model_type': 't5', but the known ones are bert, "),
        ({"architectures": ["BertForMultipleChoice"]}, r"BertForMultipleChoice.*the known ones"),
        ({"architectures": ["BertForMaskedLM"]}, r"missing: cls\.predictions\.transform"),
        ({"quantization_config": {"bits": 4}}, r"not quantised"),
        (LLAMA | {"rope_scaling": {"type": "yarn", "factor": 4.0}}, r"'rope_type': 'yarn'"),
        (LLAMA | {"num_key_value_heads": 3}, "num_kv_heads: got 3, expected a divisor"),
        (LLAMA | {"hidden_act": "relu2"}, r"'hidden_act': 'relu2'"),
        (GPT2 | {"add_cross_attention": True}, r"'add_cross_attention': True"),
    ],
)
def test_a_config_that_cannot_be_served(folder, settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        gf.from_pretrained(configured(folder, **settings))


def test_no_folder_and_no_config(folder):
    with pytest.raises(FileNotFoundError, match="no folder: download"):
        gf.from_pretrained("bert-base-uncased")
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is no readable JSON"):
        gf.from_pretrained(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no config\.json"):
        gf.from_pretrained(folder)
    with pytest.raises(TypeError, match="a folder or a model of transformers, got dict"):
        gf.from_pretrained({})


def test_a_chosen_head_is_drawn_where_it_lacks(folder):
    model = gf.from_pretrained(folder, head="classification", num_classes=7)
    parts = ("transform.0.weight", "transform.0.bias", "linear.weight", "linear.bias")
    assert model.newly_initialized == [f"head.{part}" for part in parts]
    assert model(gf.models.packed([[3, 5], [7, 11, 13]])).shape == (2, 7)
    assert 0.01 < model.head.linear.weight.std() < 0.03
    assert not model.head.linear.bias.any()
    model.save_pretrained(folder)
    again = gf.from_pretrained(folder)
    assert again.config["architectures"] == ["BertForSequenceClassification"]
    assert not again.newly_initialized
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    with pytest.raises(ValueError, match="head must be auto or one of none, masked_lm"):
        gf.from_pretrained(folder, head="causal_lm")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_types_are_kept_unless_asked(folder, dtype: torch.dtype):
    tensors = load_file(folder / "model.safetensors")
    save_file({n: t.to(dtype) for n, t in tensors.items()}, folder / "model.safetensors")
    assert {p.dtype for p in gf.from_pretrained(folder).parameters()} == {dtype}
    wide = gf.from_pretrained(folder, dtype=torch.float32).embedding.norm.bias
    assert torch.equal(wide, tensors["embeddings.LayerNorm.bias"].to(dtype).float())


def test_mixed_types_need_to_be_settled(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["embeddings.LayerNorm.bias"] = tensors["embeddings.LayerNorm.bias"].bfloat16()
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"torch\.bfloat16, torch\.float32: give the dtype"):
        gf.from_pretrained(folder)
    model = gf.from_pretrained(configured(folder, torch_dtype="float16"))
    assert {p.dtype for p in model.parameters()} == {torch.float16}


def test_a_failed_save_leaves_what_was_there(folder):
    model = gf.from_pretrained(folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    model.extra_files = {"notes.json": 5}  # what cannot be written
    with pytest.raises(TypeError):
        model.save_pretrained(folder)
    with pytest.raises(TypeError):
        model.save_pretrained(folder.parent / "other")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert [file.name for file in folder.parent.iterdir()] == ["bert"]


def test_saving_over_shards_leaves_one_file(shards):
    gf.from_pretrained(shards).save_pretrained(shards)
    assert (shards / "model.safetensors").is_file()
    assert not (shards / "model.safetensors.index.json").exists()
    gf.from_pretrained(shards)


def test_only_checkpoints_are_saved(tmp_path):
    with pytest.raises(ValueError, match="expected one from gf.from_pretrained"):
        gf.models.bert(29, dim=10, depth=1, num_heads=2).save_pretrained(tmp_path / "x")
