"""`graphformer sparsify`: measured and learned patterns, and refused arguments."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from graphformer.cli import main
from graphformer.patterns import (
    PerLayer,
    load_pattern,
)

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sentence encoder as a folder of Hugging Face's, and texts beside it."""
    from graphformer.data.text.tokenizer_training import train_tokenizer
    from graphformer.pretrained import tagger

    monkeypatch.chdir(tmp_path)
    lines = [" ".join(WORDS[(i * j) % 10] for j in range(9 + i)) for i in range(11)]
    (tmp_path / "texts.txt").write_text("\n".join(lines) + "\n")
    torch.manual_seed(0)
    settings = {
        "model_type": "bert",
        "vocab_size": 64,
        "hidden_size": 12,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 23,
        "max_position_embeddings": 41,
        "type_vocab_size": 2,
    }
    model = tagger(settings, 3)
    model.save_pretrained(tmp_path / "bert")
    tokenizer = train_tokenizer("bpe", lines, vocab_size=300)
    tokenizer.save(tmp_path / "bert" / "tokenizer.json")
    config = json.loads((tmp_path / "bert" / "config.json").read_text())
    assert config["vocab_size"] == 64
    return tmp_path / "bert"


def run(folder: Path, *arguments: str) -> int:
    data = ["--data", "texts.txt", "--limit", "5", "--rounds", "1"]
    return main(["sparsify", "--model", str(folder), *data, *arguments])


def test_by_command(folder: Path, monkeypatch, capsys):
    monkeypatch.setattr("graphformer.data.text.hf_tokenizer.PretrainedTokenizer.ids", some_ids)
    patterns = ["--patterns", "Complete", "Window:radius=2", "Window:radius=2+GlobalNodes"]
    learn = ["--learn", "0.8", "--per", "head", "--learn-texts", "3"]
    assert run(folder, *patterns, *learn, "--lengths", "13", "7", "--out", "made") == 0
    report = json.loads(Path("made/results.json").read_text())
    names = ["Complete", *patterns[2:], "learned 0.8 a head"]
    assert [f["pattern"] for f in report["figures"]] == names * 2
    assert [f["length"] for f in report["figures"]] == [7] * 4 + [13] * 4
    assert report["measure"] == "cosine"
    assert report["texts"] == 5
    assert Path("made/tradeoff.png").stat().st_size > 10_000
    assert isinstance(load_pattern("made/learned_0.8_head.json"), PerLayer)
    assert "learned 0.8 a head" in capsys.readouterr().out


def some_ids(self, texts, *, max_length):
    """Ids that a model of 64 tokens knows."""
    return [[5 + len(word) * 3 for word in text.split()][:max_length] for text in texts]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--patterns", "Windw:radius=1"], "did you mean 'Window'?"),
        (
            ["--patterns", "Complete", "--lengths", "42"],
            "got 42, expected at least 2 and at most 41",
        ),
        (
            ["--patterns", "Complete", "--learn", "1.5"],
            "--learn: got 1.5, expected a number above 0",
        ),
        (
            ["--patterns", "Complete", "--limit", "0"],
            "--limit: got 0, expected an integer",
        ),
        (["--patterns", "Complete", "--label", "x"], "--label: got texts.txt"),
        (["--patterns", "Complete", "--data", "no.txt"], "no.txt"),
        (["--patterns", "Complete", "--model", "nowhere"], "there is no checkpoint 'nowhere'"),
        ([], "--patterns"),
    ],
)
def test_wrong_use(folder: Path, capsys, arguments, message):
    assert run(folder, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
