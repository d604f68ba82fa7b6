"""`graphformer tokenize`: trained tokenizers and refused arguments."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.runs import TEXT

from graphformer.cli import main
from graphformer.data import load_tokenizer


@pytest.mark.parametrize("kind", ["characters", "bytes", "bpe", "wordpiece"])
def test_vocabularies_are_learned_from_files(
    text_folder: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    arguments = ["tokenize", "--kind", kind, "--vocab-size", "300", "--sentinels", "3"]
    assert main([*arguments, "--out", "made/v.json", "text.txt"]) == 0
    tokenizer = load_tokenizer("made/v.json")
    assert f"{tokenizer.vocab_size} tokens ({kind}) in made/v.json" in capsys.readouterr().out
    assert len(tokenizer.special_ids) == 9
    assert tokenizer.special("extra_2") is not None
    if kind != "wordpiece":
        assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT


def test_vocabularies_are_learned_from_folders_and_records(text_folder: Path) -> None:
    (text_folder / "folder").mkdir()
    (text_folder / "folder" / "a.md").write_text("xyz")
    (text_folder / "a.jsonl").write_text('{"q": "mno"}\n')
    arguments = ["tokenize", "--kind", "characters", "--out", "v.json"]
    assert main([*arguments, "folder", "--glob", "*.md"]) == 0
    assert load_tokenizer("v.json").vocab_size == 3 + 6
    assert main([*arguments, "a.jsonl", "--template", "{q}?"]) == 0
    assert load_tokenizer("v.json").vocab_size == 4 + 6
    (text_folder / "folder" / "b.csv").write_text("q,r\nabc,x\n")
    (text_folder / "folder" / "c.csv").write_text("q\nde\n")
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
        (
            ["--out", "v.json", "--sentinels", "-1", "text.txt"],
            "--sentinels: got -1, expected",
        ),
        (
            ["--out", "v.json", "--lowercase", "text.txt"],
            "--lowercase: got --kind bpe, expected",
        ),
        (["--out", "text.txt/v.json", "text.txt"], "cannot write --out text.txt/v.json: File exi"),
    ],
)
def test_wrong_usage_of_tokenize_is_one_line(
    text_folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["tokenize", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (text_folder / "v.json").exists()
