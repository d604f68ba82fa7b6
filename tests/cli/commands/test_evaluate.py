"""`graphformer evaluate`: scored options, generated answers and refused arguments."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.runs import fit_language_model

from graphformer.cli import main


def test_questions_are_answered_by_options_and_by_text(
    text_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sacrebleu")
    run = str(fit_language_model())
    records = [
        {"q": "one two", "options": ["three", "ten"], "answer": 0},
        {"q": "two three", "options": ["one", "four"], "answer": "four"},
        {"q": "six seven", "options": ["eight", "five"], "answer": "eight"},
    ]
    (text_folder / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
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
        (["--extract", "("], "extract: got"),
        (["--shots", "-1"], "--shots: got -1, expected an integer of 0 or more"),
        (["--limit", "0"], "--limit: got 0, expected an integer of 1 or more"),
    ]:
        assert main([*asked, *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_wrong_usage_of_evaluate_is_one_line(
    text_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (text_folder / "a.jsonl").write_text('{"q": "one", "answer": "two"}\n')
    (text_folder / "empty.jsonl").write_text("")
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


def test_folders_of_hugging_face(
    chat_folder: Path, text_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sacrebleu")
    (text_folder / "b.jsonl").write_text('{"q": "one", "o": ["two", "ten"], "answer": "two"}\n')
    asked = ["evaluate", "--ckpt", str(chat_folder), "--tasks", "b.jsonl", "--template", "{q}"]
    for chat in ([], ["--chat"]):
        assert main([*asked, *chat, "--options", "o"]) == 0
        assert "accuracy_per_byte" in capsys.readouterr().out
        assert main([*asked, *chat, "--max-new-tokens", "5"]) == 0
        assert "exact_match" in capsys.readouterr().out
    assert main([*asked, "--ckpt", str(fit_language_model()), "--chat"]) == 2
    assert "--chat: got a model without a chat template" in capsys.readouterr().err
