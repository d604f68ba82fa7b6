"""Tokenizers trained on texts, saved, restored and read by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from graphformer.data import MissingDataError, Tokenizer, load_tokenizer
from graphformer.data.text.tokenizer_training import (
    KINDS,
    ReiterableTexts,
    make_tokenizer,
    restore_tokenizer,
    train_tokenizer,
)

TEXT = "the cat sat on the mat; the dog, too. Ünïcode — 夜 и ночь\n" * 11


SIZES = {"bpe": 283, "wordpiece": 71}


@pytest.fixture(scope="module")
def trained() -> dict[str, Tokenizer]:
    return {kind: train_tokenizer(kind, [TEXT], vocab_size=SIZES.get(kind)) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_files_and_checkpoints_keep_the_tokenizer(
    trained: dict[str, Tokenizer], kind: str, tmp_path: Path
) -> None:
    tokenizer = trained[kind]
    tokenizer.save(tmp_path / "made" / "tokenizer.json")
    torch.save(tokenizer.state(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    for other in (
        load_tokenizer(tmp_path / "made" / "tokenizer.json"),
        make_tokenizer(str(tmp_path / "made"), []),
        restore_tokenizer(state),
    ):
        assert type(other) is type(tokenizer)
        assert other.vocab_size == tokenizer.vocab_size
        assert torch.equal(other.encode(TEXT), tokenizer.encode(TEXT))
        assert other.special_ids == tokenizer.special_ids
    assert [file.name for file in (tmp_path / "made").iterdir()] == ["tokenizer.json"]


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_training_gives_the_same_tokens_every_time(
    trained: dict[str, Tokenizer], kind: str
) -> None:
    for texts in ([TEXT], iter([TEXT]), ReiterableTexts(lambda: iter([TEXT]))):
        again = train_tokenizer(kind, texts, vocab_size=SIZES[kind])
        assert again.backend.get_vocab() == trained[kind].backend.get_vocab()


def test_checkpoints_of_version_0_1_are_restored() -> None:
    old = restore_tokenizer({"kind": "characters", "characters": "abd"})
    assert old.encode("dab").tolist() == [2, 0, 1]
    assert restore_tokenizer({"kind": "bytes"}).vocab_size == 256


def test_impossible_vocabularies_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'words'.*'characters', 'bytes'"):
        make_tokenizer("words", [])
    with pytest.raises(ValueError, match="kind: got 'words'"):
        train_tokenizer("words", [])
    with pytest.raises(ValueError, match="vocab_size: got 100, expected 263 or more"):
        train_tokenizer("bpe", [TEXT], vocab_size=100)
    with pytest.raises(ValueError, match="expected '<unk>' among them"):
        train_tokenizer("wordpiece", [TEXT], special_tokens=["<mask>"])
    with pytest.raises(MissingDataError, match="graphformer tokenize"):
        load_tokenizer(tmp_path / "none.json")
    for content in ("no json", "[]", json.dumps({"model": {}})):
        (tmp_path / "wrong.json").write_text(content)
        with pytest.raises(ValueError, match="wrong.json is not a tokenizer file"):
            load_tokenizer(tmp_path / "wrong.json")
