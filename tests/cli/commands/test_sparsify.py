"""`graphformer sparsify`: patterns spelled on the command line, measured, drawn, refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from graphformer import models
from graphformer.cli import main
from graphformer.cli.config.pattern_syntax import parse_pattern
from graphformer.cli.errors import UsageError
from graphformer.cli.tradeoff import MeasuredModel, measure_tradeoff
from graphformer.data import pack_tokens
from graphformer.patterns import (
    Causal,
    Complete,
    GlobalNodes,
    Learned,
    Offsets,
    PerHead,
    PerLayer,
    Random,
    Window,
    load_pattern,
    save_pattern,
)

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Complete", Complete()),
        ("Window:radius=16", Window(16)),
        ("Window:radius=3,causal=true", Window(3, causal=True)),
        ("Window:radius=2+GlobalNodes:count=3", Window(2) | GlobalNodes(3)),
        ("Window:radius=2+GlobalNodes+Random:seed=5", Window(2) | GlobalNodes() | Random(seed=5)),
        ("Offsets:offsets=[-1,4],sources=[0]", Offsets((-1, 4), (0,))),
    ],
)
def test_spelling(text, expected):
    assert parse_pattern(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Windw:radius=1", "unknown pattern 'Windw': did you mean 'Window'?"),
        ("Window:radus=1", "Window has no setting 'radus=1': did you mean 'radius'?"),
        ("Window", "Window needs radius, as in Window:radius=..."),
        ("Window:radius=a", "radius must be int, got 'a'"),
        ("Window:radius=1,causal=1", "causal must be bool, got '1'"),
        ("Complete:radius=1", "Complete has no setting 'radius=1'"),
        ("Offsets:offsets=3", "offsets must be a sequence such as"),
        ("GlobalNodes:count=0", "count: got 0, expected at least 1"),
        (
            "Complete+Learned:path=nowhere.json",
            "got 'nowhere.json', expected an existing",
        ),
        ("PerHead", "unknown pattern 'PerHead'"),
    ],
)
def test_wrong_spelling(text, message):
    with pytest.raises(UsageError) as error:
        parse_pattern(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_stored_pattern_is_spelled_by_its_file(tmp_path: Path):
    save_pattern(Window(5), tmp_path / "w.json")
    assert parse_pattern(f"Learned:path={tmp_path / 'w.json'}") == Window(5)
    assert parse_pattern(f"Learned:path={tmp_path / 'w.json'}+GlobalNodes") == (
        Learned(str(tmp_path / "w.json")) | GlobalNodes()
    )


def encoder() -> models.Model:
    torch.manual_seed(0)
    model = models.sentence_embedder(17, dim=12, depth=2, num_heads=3, max_length=64)
    with torch.no_grad():  # at random, attention is almost a mean, and its output small
        for block in model.transformer.blocks:
            block.attention.qkv.weight.mul_(40)
            block.attention.out.weight.mul_(40)
    return model


def batches(size: int) -> list[SimpleNamespace]:
    generator = torch.Generator().manual_seed(2)
    texts = [torch.randint(17, (n,), generator=generator).tolist()[:size] for n in (23, 11, 7)]
    return [pack_tokens(texts[:2]), pack_tokens(texts[2:])]


def test_figures_of_an_encoder():
    subject = MeasuredModel(encoder(), Complete(), None)
    subject.choose_measure(batches(13)[0])
    assert subject.measure == "cosine"
    patterns = {"all": Complete(), "wide": Window(64), "narrow": Window(1)}
    figures = list(measure_tradeoff(subject, patterns, batches, [13, 5], rounds=1))
    assert [(f.pattern, f.length) for f in figures[:3]] == [(n, 13) for n in patterns]
    every, wide, narrow = figures[:3]
    assert every.quality == pytest.approx(1)
    assert wide.quality == pytest.approx(1)
    assert narrow.quality < 0.9999
    assert every.edges == (13**2 + 11**2) / 24
    assert narrow.edges == (3 * 13 - 2 + 3 * 11 - 2) / 24
    assert all(f.milliseconds > 0 and f.memory > 0 for f in figures)


def test_edges_of_heads_and_layers_are_averaged():
    subject = MeasuredModel(encoder(), Complete(), None)
    heads = PerHead((Window(0), Window(0), Window(1)))
    layers = {"layers": PerLayer((Window(0), heads))}
    (figures,) = measure_tradeoff(subject, layers, batches, [13], rounds=1)
    assert figures.edges == pytest.approx((24 + (24 + 24 + 37 + 31) / 3) / 2 / 24)


def test_perplexity_of_a_causal_model_by_its_definition():
    torch.manual_seed(0)
    model = models.language_model(17, dim=12, depth=2, num_heads=3, max_length=64).eval()
    subject = MeasuredModel(model, Causal(), None)
    (batch, _) = batches(23)
    subject.choose_measure(batch)
    assert subject.measure == "perplexity"
    log = model(batch, Causal()).log_softmax(-1)
    terms = [log[i, batch.x[i + 1]] for i in range(batch.num_nodes - 1) if i + 1 != 23]
    expected = torch.stack(terms).mean().neg().exp().item()
    assert subject.quality([batch], Causal(), []) == pytest.approx(expected, rel=1e-5)


def test_no_pattern_shows_a_causal_model_what_follows():
    model = models.language_model(17, dim=12, depth=2, num_heads=3)
    kept = MeasuredModel(model, Causal(), None).restrict(Window(3) | GlobalNodes())
    source, target = kept(batches(23)[0]).edge_index
    assert (source <= target).all()
    assert (source != target).any()


def test_accuracy_counts_right_answers():
    torch.manual_seed(0)
    model = models.text_classifier(17, 5, dim=12, depth=2, num_heads=3)
    made = batches(13)
    answers = torch.cat([model.eval()(b, Complete()).argmax(-1) for b in made]).tolist()
    labels = [answers[0], answers[1], (answers[2] + 1) % 5]
    subject = MeasuredModel(model, Complete(), labels)
    subject.choose_measure(made[0])
    assert subject.quality(made, Complete(), []) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="classes, expected a model"):
        MeasuredModel(model, Complete(), [5, 0, 1]).choose_measure(made[0])


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
