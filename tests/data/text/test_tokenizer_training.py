"""Tokenizers trained on texts, saved, restored and read by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from graphformer.data import Bytes, MissingDataError, Tokenizer, load_tokenizer
from graphformer.data.text.hf_tokenizer import PretrainedTokenizer
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


@pytest.mark.parametrize("size", [11, 29, 50, 71, 997])
@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_a_vocabulary_has_at_most_the_requested_size(kind: str, size: int) -> None:
    texts = [TEXT, "the quick brown fox and 日本語の文章も読む, 私は東京に住んでいます"]
    if kind == "bpe":
        size += 256
    tokenizer = train_tokenizer(kind, texts * 5, vocab_size=size)
    assert tokenizer.vocab_size <= size
    again = train_tokenizer(kind, texts * 5, vocab_size=size)
    assert again.backend.get_vocab() == tokenizer.backend.get_vocab()


def test_a_small_wordpiece_vocabulary_keeps_the_most_frequent_characters() -> None:
    special = ["<unk>"]
    texts = ["aaab" * 9 + " aab", "c!" + "日"]
    tokenizer = train_tokenizer("wordpiece", texts, vocab_size=6, special_tokens=special)
    assert {"a", "##a", "b", "##b"} <= tokenizer.backend.get_vocab().keys()
    assert tokenizer.encode("日").tolist() == [tokenizer.unk_id]


def test_folders_and_files_by_name(tmp_path: Path) -> None:
    Bytes().save(tmp_path / "tokenizer.json")
    (tmp_path / "config.json").write_text("{}")
    assert isinstance(make_tokenizer(str(tmp_path), []), PretrainedTokenizer)
    (tmp_path / "config.json").unlink()
    assert isinstance(make_tokenizer(str(tmp_path), []), Bytes)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(MissingDataError, match=r"tokenizer.json; make one with"):
        make_tokenizer(str(tmp_path), [])


def test_a_tokenizer_like_ours_but_not_equal_stays_as_it_is() -> None:
    spec = json.loads(Bytes().state()["json"])
    spec["normalizer"] = {"type": "Lowercase"}
    restored = restore_tokenizer({"json": json.dumps(spec)})
    assert type(restored) is Tokenizer
    assert restored.encode("AB").tolist() == [97, 98]


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_a_vocabulary_is_trained_once_for_the_same_texts(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["one two three", "four five"] * 7
    trained = make_tokenizer(kind, texts, vocab_size=280)
    other = make_tokenizer(kind, [*texts, "six"], vocab_size=280)
    larger = make_tokenizer(kind, texts, vocab_size=290)
    assert len({t.backend.to_str() for t in (trained, other, larger)}) > 1

    def fail(*args: object, **kwargs: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("graphformer.data.text.tokenizer_training.train_tokenizer", fail)
    again = make_tokenizer(kind, iter(texts), vocab_size=280)
    assert again.backend.to_str() == trained.backend.to_str()
    with pytest.raises(AssertionError, match="trained again"):
        make_tokenizer(kind, ["one two", "three", "four five"], vocab_size=280)
