"""Fine-tuning of a folder of Hugging Face's by command: sizes, weights and vocabulary are its."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
import torch
import yaml
from helpers.chat import chat_folder
from tokenizers import models as kinds
from tokenizers import pre_tokenizers, processors

from graphformer.cli import main
from graphformer.cli.checkpoints import restore_task, restore_text_tokenizer
from graphformer.pretrained import decoder, from_pretrained, tagger
from graphformer.tasks.warm_start import load_pretrained

SETTINGS = {
    "model_type": "bert",
    "vocab_size": 13,
    "hidden_size": 12,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 23,
    "max_position_embeddings": 41,
    "type_vocab_size": 2,
}
EXPERIMENTS = Path(__file__).parents[3] / "experiments"
WORDS = ["[UNK]", "[CLS]", "[SEP]", "good", "fine", "bad", "poor", "film", "plot", "a", "the", "is"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small BERT with its tokenizer; labelled texts lie beside it, in the current folder."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = tagger(SETTINGS, 2)
    model.head = None
    model.config["architectures"] = ["BertModel"]
    model.save_pretrained(tmp_path / "bert")
    backend = tokenizers.Tokenizer(
        kinds.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens(WORDS[:3])
    backend.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    backend.save(str(tmp_path / "bert" / "tokenizer.json"))
    lines = [
        json.dumps({"text": f"the {noun} is {word}", "label": label})
        for noun in ("film", "plot")
        for word, label in (("good", 1), ("fine", 1), ("bad", 0), ("poor", 0))
    ]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines * 5) + "\n")
    return tmp_path / "bert"


def fit(*arguments: str, network: dict | None = None) -> Path:
    settings = {
        "trainer": {"max_steps": 3, "accelerator": "cpu", "enable_progress_bar": False},
        "model": {
            "class_path": "graphformer.tasks.Classification",
            "init_args": {
                "network": network or {"class_path": "graphformer.pretrained.classifier"},
                "lr": 0.01,
            },
        },
        "data": {
            "class_path": "graphformer.data.LabelledText",
            "init_args": {"path": "texts.jsonl", "max_tokens": 64},
        },
    }
    Path("tune.yaml").write_text(yaml.safe_dump(settings))
    assert main(["fit", "-c", "tune.yaml", *arguments]) == 0
    return max(Path("runs/tune").iterdir())


LLAMA = {
    "model_type": "llama",
    "vocab_size": 259,
    "hidden_size": 12,
    "num_hidden_layers": 1,
    "num_attention_heads": 3,
    "intermediate_size": 23,
    "max_position_embeddings": 97,
}


def test_the_vocabulary_of_chats_is_that_of_the_folder(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chat_folder(tmp_path / "chat")
    decoder(LLAMA).save_pretrained(tmp_path / "chat")
    pair = {"prompt": "two", "chosen": "three", "rejected": "ten"}
    Path("pairs.jsonl").write_text(f"{json.dumps(pair)}\n" * 5)
    command = ["fit", "-c", str(EXPERIMENTS / "dpo.yaml"), "--data", "PreferenceFile"]
    command += ["--data.path", "pairs.jsonl", "--data.template", "chatml"]
    short = ["--trainer.max_steps", "1", "--trainer.accelerator", "cpu"]
    assert main([*command, "--model.pretrained", "chat", *short]) == 0
    (run,) = Path("runs/dpo").iterdir()
    tokenizer = restore_text_tokenizer(run / "checkpoints" / "last.ckpt")
    expected = tokenizers.Tokenizer.from_file("chat/tokenizer.json")
    assert tokenizer.backend.get_vocab() == expected.get_vocab()


def test_sizes_weights_and_vocabulary_come_from_the_folder(folder: Path, capsys):
    run = fit("--model.pretrained", str(folder), "--model.frozen_blocks", "2")
    network = restore_task(run / "checkpoints" / "last.ckpt").network
    source = from_pretrained(folder)
    for name in ("transformer.blocks.1.attention.qkv.weight", "transformer.blocks.0.mlp.0.bias"):
        assert torch.equal(network.state_dict()[name], source.state_dict()[name])
    name = "transformer.blocks.2.attention.qkv.weight"
    assert not torch.equal(network.state_dict()[name], source.state_dict()[name])
    assert network.head.linear.out_features == 2
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["data"]["init_args"]["vocabulary"] == str(folder)
    capsys.readouterr()
    assert main(["test", "--ckpt", str(run)]) == 0
    assert "test/accuracy" in capsys.readouterr().out


def test_a_pool_of_ones_own(folder: Path):
    spec = {"class_path": "graphformer.pretrained.classifier", "init_args": {"pool": "mean"}}
    run = fit("--model.pretrained", str(folder), "--model.frozen_blocks", "3", network=spec)
    network = restore_task(run / "checkpoints" / "last.ckpt").network
    assert network.head.pool == "mean"
    name = "transformer.blocks.2.attention.qkv.weight"
    assert torch.equal(network.state_dict()[name], from_pretrained(folder).state_dict()[name])


@pytest.mark.parametrize("given", [[], ["--model.pretrained", "nowhere"]])
def test_a_network_made_after_a_folder_needs_one(folder: Path, given: list[str], capsys):
    fit("--model.pretrained", str(folder))
    assert main(["fit", "-c", "tune.yaml", *given]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "expected a Hugging Face folder with config.json" in said


def test_loading_says_what_does_not_fit(folder: Path):
    kept = load_pretrained(tagger(SETTINGS, 5), folder)
    assert kept == ["head.linear.bias", "head.linear.weight"]
    with pytest.raises(ValueError, match="expected the weights of this network"):
        load_pretrained(tagger({**SETTINGS, "num_hidden_layers": 2}, 5), folder)


def test_other_heads_are_refused_by_name(folder: Path):
    with pytest.raises(ValueError, match="has no 'causal_lm' head"):
        decoder(SETTINGS)


def test_lora_by_command(folder: Path):
    pytest.importorskip("peft", reason="needs the package peft")
    run = fit("--model.pretrained", str(folder), "--model.lora.r", "2")
    assert (run / "adapter" / "adapter_model.safetensors").is_file()
    task = restore_task(run / "checkpoints" / "last.ckpt")
    source = from_pretrained(folder).state_dict()
    name = "transformer.blocks.1.attention.qkv"
    assert torch.equal(
        task.network.state_dict()[f"{name}.base_layer.weight"], source[f"{name}.weight"]
    )
    assert not torch.equal(
        task.merge_adapter().state_dict()[f"{name}.weight"], source[f"{name}.weight"]
    )
