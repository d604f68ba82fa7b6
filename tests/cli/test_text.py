"""Vocabularies, text runs and questions by command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from graphformer.cli import main
from graphformer.cli.checkpoints import restore_task, restore_text_tokenizer
from graphformer.data import load_tokenizer

TEXT = "one two three four five six seven eight nine ten\n" * 40


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a text in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


def fit(*arguments: str) -> Path:
    settings = {
        "trainer": {"max_steps": 3, "accelerator": "cpu", "enable_progress_bar": False},
        "model": {
            "class_path": "graphformer.tasks.LanguageModeling",
            "init_args": {
                "network": {
                    "class_path": "graphformer.models.language_model",
                    "init_args": {"dim": 16, "depth": 1, "num_heads": 2, "max_length": 96},
                },
                "adjacency": {"class_path": "graphformer.patterns.Causal"},
            },
        },
        "data": {
            "class_path": "graphformer.data.TextFile",
            "init_args": {"path": "text.txt", "block_size": 17, "batch_size": 3},
        },
    }
    Path("lm.yaml").write_text(yaml.safe_dump(settings))
    assert main(["fit", "-c", "lm.yaml", *arguments]) == 0
    return max(Path("runs/lm").iterdir())


@pytest.mark.parametrize("kind", ["characters", "bytes", "bpe", "wordpiece"])
def test_vocabularies_are_learned_from_files(
    workplace: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    arguments = ["tokenize", "--kind", kind, "--vocab-size", "300", "--sentinels", "3"]
    assert main([*arguments, "--out", "made/v.json", "text.txt"]) == 0
    tokenizer = load_tokenizer("made/v.json")
    assert f"{tokenizer.vocab_size} tokens ({kind}) in made/v.json" in capsys.readouterr().out
    assert len(tokenizer.special_ids) == 9
    assert tokenizer.special("extra_2") is not None
    if kind != "wordpiece":
        assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT


def test_vocabularies_are_learned_from_folders_and_records(workplace: Path) -> None:
    (workplace / "folder").mkdir()
    (workplace / "folder" / "a.md").write_text("xyz")
    (workplace / "a.jsonl").write_text('{"q": "mno"}\n')
    arguments = ["tokenize", "--kind", "characters", "--out", "v.json"]
    assert main([*arguments, "folder", "--glob", "*.md"]) == 0
    assert load_tokenizer("v.json").vocab_size == 3 + 6
    assert main([*arguments, "a.jsonl", "--template", "{q}?"]) == 0
    assert load_tokenizer("v.json").vocab_size == 4 + 6
    (workplace / "folder" / "b.csv").write_text("q,r\nabc,x\n")
    (workplace / "folder" / "c.csv").write_text("q\nde\n")
    assert main([*arguments, "folder", "--glob", "*.csv", "--template", "{q}"]) == 0
    assert load_tokenizer("v.json").vocab_size == 5 + 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "v.json"], "the following arguments are required: files"),
        (["--out", "v.txt", "text.txt"], "--out: got v.txt, expected a name that ends in .json"),
        (["--out", "v.json", "none.txt"], "path: got 'none.txt', but neither"),
        (["--out", "v.json", "--kind", "words", "text.txt"], "invalid choice: 'words'"),
        (["--out", "v.json", "--vocab-size", "7", "text.txt"], "vocab_size: got 7, expected"),
        (["--out", "v.json", "--sentinels", "-1", "text.txt"], "--sentinels: got -1, expected an integer of 0 or more"),
        (["--out", "v.json", "--lowercase", "text.txt"], "--lowercase: got --kind bpe, expected --kind wordpiece"),
        (["--out", "text.txt/v.json", "text.txt"], "cannot write --out text.txt/v.json: File exi"),
    ],
)
def test_wrong_usage_of_tokenize_is_one_line(
    workplace: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["tokenize", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (workplace / "v.json").exists()


def test_a_run_keeps_its_vocabulary_beside_the_checkpoint(workplace: Path) -> None:
    run = fit("--data.vocabulary", "bpe", "--data.vocabulary_size", "280")
    checkpoint = run / "checkpoints" / "last.ckpt"
    beside, within = load_tokenizer(run / "tokenizer.json"), restore_text_tokenizer(checkpoint)
    assert beside.backend.to_str() == within.backend.to_str()
    task = restore_task(checkpoint)
    weights = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert all(torch.equal(w, weights[name]) for name, w in task.state_dict().items())
    (workplace / "text.txt").write_text("zebra " * 300)  # another text, the same vocabulary
    assert main(["test", "--ckpt", str(run)]) == 0
    again = fit("--data.vocabulary", str(run), "--model.pretrained", str(run))
    assert (again / "tokenizer.json").read_text() == (run / "tokenizer.json").read_text()


def test_questions_are_answered_by_options_and_by_text(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sacrebleu")
    run = str(fit())
    records = [
        {"q": "one two", "options": ["three", "ten"], "answer": 0},
        {"q": "two three", "options": ["one", "four"], "answer": "four"},
        {"q": "six seven", "options": ["eight", "five"], "answer": "eight"},
    ]
    (workplace / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    asked = ["evaluate", "--ckpt", run, "--tasks", "a.jsonl", "--template", "{q}"]
    assert main([*asked, "--options", "options", "--shots", "2"]) == 0
    shown = capsys.readouterr().out
    assert "a.jsonl, 3 questions, 2 shots" in shown
    assert "accuracy_per_byte" in shown
    assert main([*asked, "--max-new-tokens", "5", "--limit", "2", "--show"]) == 0
    shown = capsys.readouterr().out
    assert "a.jsonl, 2 questions, 0 shots" in shown
    assert "reference: four" in shown
    for name in ("exact_match", "f1", "bleu"):
        assert name in shown
    assert main([*asked, "--answer", "wrong"]) == 2
    assert "a.jsonl, line 1: there is no field 'wrong'" in capsys.readouterr().err
    for arguments, message in [
        (["--options", "options", "--shots", "9"], "shots: got 9, but there are only 2"),
        (["--extract", "("], "extract is '(', no regular expression"),
        (["--shots", "-1"], "--shots must be 0 or more, got -1"),
        (["--limit", "0"], "--limit must be 1 or more, got 0"),
    ]:
        assert main([*asked, *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_wrong_usage_of_evaluate_is_one_line(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "a.jsonl").write_text('{"q": "one", "answer": "two"}\n')
    (workplace / "empty.jsonl").write_text("")
    asked = ["--ckpt", "none", "--template", "{q}"]
    for arguments, message in [
        (["--ckpt", "none"], "the following arguments are required: --tasks, --template"),
        ([*asked, "--tasks", "none.jsonl"], "neither a file"),
        ([*asked, "--tasks", "empty.jsonl"], "no questions in"),
        ([*asked, "--tasks", "a.jsonl"], "there is no checkpoint 'none'"),
    ]:
        assert main(["evaluate", *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
