from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphformer.data import Bytes, Characters, Tokenizer
from graphformer.data.text.tokenizer import SPECIAL_TOKENS
from graphformer.data.text.tokenizer_training import (
    KINDS,
    restore_tokenizer,
    train_tokenizer,
)

TEXT = "the cat sat on the mat; the dog, too. Ünïcode — 夜 и ночь\n" * 11
SIZES = {"bpe": 283, "wordpiece": 71}


@pytest.fixture(scope="module")
def trained() -> dict[str, Tokenizer]:
    return {kind: train_tokenizer(kind, [TEXT], vocab_size=SIZES.get(kind)) for kind in KINDS}


@given(st.text(min_size=1))
def test_characters_and_bytes_round_trip(text: str) -> None:
    for tokenizer in (Characters(text), Bytes(), Bytes(SPECIAL_TOKENS)):
        ids = tokenizer.encode(text)
        assert ids.dtype == torch.int64
        assert int(ids.max()) < tokenizer.vocab_size
        assert tokenizer.decode(ids) == text
        again = restore_tokenizer(tokenizer.state())
        assert type(again) is type(tokenizer)
        assert torch.equal(again.encode(text), ids)


@given(st.text())
def test_the_fast_encoders_equal_the_library(text: str) -> None:
    for tokenizer in (Characters(text + "a", SPECIAL_TOKENS), Bytes(SPECIAL_TOKENS)):
        assert tokenizer.encode(text).tolist() == tokenizer.backend.encode(text).ids


@given(st.text())
def test_byte_level_bpe_round_trips(trained: dict[str, Tokenizer], text: str) -> None:
    tokenizer = trained["bpe"]
    assert tokenizer.decode(tokenizer.encode(text)) == text
    one, two = tokenizer.encode_batch([text, "a"])
    assert torch.equal(one, tokenizer.encode(text))
    assert len(two) == 1


@given(st.text(alphabet="thecadogsm ,.;", min_size=1))
def test_wordpiece_is_stable_once_decoded(trained: dict[str, Tokenizer], text: str) -> None:
    tokenizer = trained["wordpiece"]
    once = tokenizer.decode(tokenizer.encode(text))
    assert tokenizer.decode(tokenizer.encode(once)) == once


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_are_not_recognised_in_text(
    trained: dict[str, Tokenizer], kind: str
) -> None:
    tokenizer = trained[kind]
    ids = [tokenizer.special(name[1:-1]) for name in SPECIAL_TOKENS]
    assert sorted(ids) == list(tokenizer.special_ids)
    assert [tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id] == ids[:3]
    assert [tokenizer.mask_id, tokenizer.cls_id, tokenizer.sep_id] == ids[3:]
    read = set(tokenizer.encode("cat <mask> <eos>").tolist())
    assert not read & {tokenizer.mask_id, tokenizer.eos_id}
    inner = tokenizer.encode("cat").tolist()
    assert tokenizer.decode([tokenizer.bos_id, *inner, tokenizer.eos_id]) == "cat"
    assert tokenizer.word_starts[list(tokenizer.special_ids)].all()


def test_a_plain_vocabulary_has_no_special_tokens() -> None:
    for tokenizer in (Bytes(), Characters("<mask>")):
        assert tokenizer.special_ids == ()
        assert tokenizer.mask_id is None
        with pytest.raises(ValueError, match="no token <mask>; set special_tokens"):
            tokenizer.need("mask")


@pytest.mark.parametrize(("kind", "words"), [("bpe", 3), ("wordpiece", 3), ("characters", 2)])
def test_word_starts(trained: dict[str, Tokenizer], kind: str, words: int) -> None:
    tokenizer = trained[kind]
    starts = tokenizer.word_starts[tokenizer.encode("the dogcat mat")]
    # Only a blank or ## shows that a text's first token begins a word.
    assert int(starts.sum()) == words - (kind == "bpe")


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "characters", "bytes"])
def test_chinese_characters_are_words(kind: str) -> None:
    text = "我喜 été\tmä"
    tokenizer = train_tokenizer(kind, [text * 7], vocab_size=263)
    ids = tokenizer.encode(text)
    starts = tokenizer.word_starts[ids].clone()
    starts[0] = True
    words = [tokenizer.decode(part) for part in ids.tensor_split(starts.nonzero().flatten()[1:])]
    assert [word.strip() for word in words] == ["我", "喜", "été", "mä"]


def test_vocabulary_is_sorted_and_refuses_unknown_characters() -> None:
    tokenizer = Characters("hello")
    assert tokenizer.characters == "ehlo"
    assert tokenizer.encode("").tolist() == []
    for unknown in "az€":
        with pytest.raises(ValueError, match=f"{unknown!r}"):
            tokenizer.encode(f"he{unknown}")
    lenient = Characters("hello", SPECIAL_TOKENS)
    assert lenient.encode("h€").tolist() == [1, lenient.unk_id]


def test_the_old_name_of_encode_batch_warns() -> None:
    with pytest.warns(FutureWarning, match="encode_many is now called encode_batch"):
        assert Bytes().encode_many(["a"])[0].tolist() == [97]


@given(st.text(min_size=1, max_size=50))
def test_sizes_of_tokens_add_up_to_the_text(trained: dict[str, Tokenizer], text: str) -> None:
    for tokenizer in (Characters(text), Bytes(), trained["bpe"]):
        sizes = [tokenizer.token_size(id_) for id_ in tokenizer.encode(text).tolist()]
        assert sum(size for _, size in sizes) == len(text.encode())
    assert [Characters(text).token_size(i)[0] for i in range(len(set(text)))] == [1] * len(
        set(text)
    )
    tokenizer = trained["bpe"]
    assert tokenizer.token_size(tokenizer.eos_id) == (0, 0)


def test_plain_pieces_and_prompts_have_no_special_tokens(trained: dict[str, Tokenizer]) -> None:
    for tokenizer in trained.values():
        assert torch.equal(tokenizer.encode_prompt("the cat"), tokenizer.encode("the cat"))
        (plain,) = tokenizer.encode_plain(["the cat"])
        assert torch.equal(plain, tokenizer.encode("the cat"))
