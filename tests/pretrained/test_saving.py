"""`save_pretrained`: round trips, existing folders, and models without a checkpoint."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

import graphformer as gf
from graphformer.nn import Head
from graphformer.pretrained import save_pretrained
from graphformer.tasks.finetuning import add_lora, merge_lora


def assert_same_weights(model, other) -> None:
    assert model.state_dict().keys() == other.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name


def test_a_new_head_is_stored(folder):
    model = gf.from_pretrained(folder, head="classification", num_classes=7)
    model.save_pretrained(folder)
    again = gf.from_pretrained(folder)
    assert again.config["architectures"] == ["BertForSequenceClassification"]
    assert not again.newly_initialized
    assert_same_weights(model, again)


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]
)
def test_copies_can_be_saved(folder, tmp_path, duplicate):
    model = gf.from_pretrained(folder)
    duplicate(model).save_pretrained(tmp_path / "copy")
    assert_same_weights(model, gf.from_pretrained(tmp_path / "copy"))
    model.with_adjacency(gf.patterns.Window(2)).save_pretrained(tmp_path / "window")
    assert_same_weights(model, gf.from_pretrained(tmp_path / "window"))


def test_the_stored_dtype_is_that_of_the_weights(folder, tmp_path):
    gf.from_pretrained(folder, dtype=torch.float16).save_pretrained(tmp_path / "half")
    again = gf.from_pretrained(tmp_path / "half")
    assert again.config["dtype"] == "float16"
    assert {p.dtype for p in again.parameters()} == {torch.float16}


def test_side_files_are_kept(folder, tmp_path):
    (folder / "generation_config.json").write_text('{"eos_token_id": 5}')
    model = gf.from_pretrained(folder)
    model.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "generation_config.json").read_text() == '{"eos_token_id": 5}'
    assert gf.from_pretrained(tmp_path / "again").generation_config == {"eos_token_id": [5]}


def test_a_failed_save_leaves_the_folder_unchanged(folder):
    model = gf.from_pretrained(folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    model.extra_files = {"notes.json": 5}  # not a text
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


def test_models_that_are_not_from_a_checkpoint(tmp_path):
    model = gf.models.bert(29, dim=10, depth=1, num_heads=2)
    with pytest.raises(ValueError, match="expected one from gf.from_pretrained"):
        model.save_pretrained(tmp_path / "x")
    with pytest.raises(ValueError, match="got one without a config, expected one from"):
        save_pretrained(model, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_merged_adapters(folder, tmp_path):
    pytest.importorskip("peft", reason="needs the extra `peft`")
    ours = gf.models.bert(29, dim=10, depth=1, num_heads=2)
    merged = merge_lora(add_lora(ours, {"r": 2, "init_lora_weights": False}))
    with pytest.raises(ValueError, match="expected one from gf.from_pretrained"):
        merged.save_pretrained(tmp_path / "x")
    model = gf.from_pretrained(folder)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    merged = merge_lora(add_lora(model, {"r": 2, "init_lora_weights": False}))
    merged.save_pretrained(tmp_path / "merged")
    again = gf.from_pretrained(tmp_path / "merged")
    assert_same_weights(merged, again)
    name = "transformer.blocks.1.attention.qkv.weight"
    assert not torch.equal(again.state_dict()[name], before[name])


def test_adapters_merged_into_a_tied_head(make, transformers, tmp_path):
    pytest.importorskip("peft", reason="needs the extra `peft`")
    sizes = {"vocab_size": 29, "n_embd": 10, "n_layer": 1, "n_head": 2, "n_positions": 11}
    theirs = make("GPT2LMHeadModel", "GPT2Config", **sizes)
    adapted = add_lora(gf.from_pretrained(theirs), {"r": 2, "init_lora_weights": False})
    with torch.no_grad():  # the head is trained as a whole, apart from the embedding
        for name, parameter in adapted.named_parameters():
            if "modules_to_save" in name:
                parameter.add_(1)
    merged = merge_lora(adapted).eval()
    assert merged.head.linear.weight is not merged.embedding.features.weight
    merged.save_pretrained(tmp_path)
    again = gf.from_pretrained(tmp_path)
    assert again.config["tie_word_embeddings"] is False
    assert_same_weights(merged, again)
    library = transformers.GPT2LMHeadModel.from_pretrained(tmp_path).eval()
    ids = torch.tensor([[3, 5, 7]])
    expected = merged(gf.data.pack_tokens([[3, 5, 7]]))
    torch.testing.assert_close(library(ids).logits[0], expected, rtol=1e-5, atol=1e-5)


def test_a_head_of_another_pooling_is_saved_with_a_warning(folder, transformers, tmp_path):
    model = gf.from_pretrained(folder)
    model.head = Head(10, 3, pool="mean")
    with pytest.warns(UserWarning, match="no pooling 'mean' before its linear layer"):
        model.save_pretrained(tmp_path / "x")
    again = gf.from_pretrained(tmp_path / "x")
    batch = gf.data.pack_tokens([[3, 5, 7], [11, 2]])
    torch.testing.assert_close(again(batch), model(batch))
    library = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "x")
    assert torch.equal(library.classifier.weight, model.head.linear.weight)


def test_a_new_head_for_tokens_is_that_of_a_tagger(folder, transformers, tmp_path):
    model = gf.from_pretrained(folder)
    model.head = Head(10, 5)
    model.save_pretrained(tmp_path / "x")
    library = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path / "x").eval()
    expected = model(gf.data.pack_tokens([[3, 5, 7]]))
    torch.testing.assert_close(library(torch.tensor([[3, 5, 7]])).logits[0], expected)
    torch.testing.assert_close(
        gf.from_pretrained(tmp_path / "x")(gf.data.pack_tokens([[3, 5, 7]])), expected
    )


def test_a_head_that_the_architecture_lacks_is_refused(folder, tmp_path):
    model = gf.from_pretrained(folder)
    model.head = Head(10, 3, pool="cls", transform=torch.nn.Linear(10, 10))
    with pytest.raises(ValueError, match=r"got the parameter head\.transform\.weight, which its"):
        model.save_pretrained(tmp_path / "x")
