"""Templates with gaps: ids by hand, cut texts, words of one token, errors."""

from __future__ import annotations

import re

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, processors

from graphformer.data import Bytes
from graphformer.data.text.hf_tokenizer import PretrainedTokenizer
from graphformer.data.text.prompted.cloze_template import Cloze
from graphformer.data.text.tokenizer import Tokenizer

SPECIAL = ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = [*SPECIAL, "fine", "film", "it", "was", "good", "bad", ".", "aw", "##ful"]
WORDS = {"neg": "bad", "pos": "good"}


@pytest.fixture
def bert() -> PretrainedTokenizer:
    backend = tokenizers.Tokenizer(
        models.WordPiece({piece: i for i, piece in enumerate(PIECES)}, unk_token="[UNK]")
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens(SPECIAL)
    backend.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    roles = {"mask": "[MASK]", "cls": "[CLS]", "sep": "[SEP]"}
    return PretrainedTokenizer(backend, roles)


def test_a_masked_model_has_the_mask_in_the_gap(bert: PretrainedTokenizer) -> None:
    cloze = Cloze("{text} it was {mask} .", WORDS, bert, causal=False)
    ids, node = cloze.encode(" fine film ", 16)
    assert ids.tolist() == [1, 4, 5, 6, 7, 3, 10, 2]
    assert node == 5
    assert cloze.answer_ids.tolist() == [9, 8]
    ids, node = Cloze("{mask} : {text}", WORDS, bert, causal=False).encode("film", 16)
    assert ids.tolist() == [1, 3, 0, 5, 2]
    assert node == 1


def test_a_decoder_predicts_after_the_last_token() -> None:
    words = {"neg": "-", "pos": "+"}
    cloze = Cloze("{text} {{mask}}:{mask}", words, Bytes(), causal=True)
    ids, node = cloze.encode("ab", 16)
    assert bytes(ids.tolist()) == b"ab {mask}:"
    assert node == len(ids) - 1
    assert cloze.answer_ids.tolist() == [ord("-"), ord("+")]


def test_a_long_text_is_cut_and_not_the_template(bert: PretrainedTokenizer) -> None:
    cloze = Cloze("{text} it was {mask} .", WORDS, bert, causal=False)
    ids, node = cloze.encode("fine film film fine", 8)
    assert ids.tolist() == [1, 4, 5, 6, 7, 3, 10, 2]
    assert node == 5
    assert cloze.encode("fine film", 6)[0].tolist() == [1, 6, 7, 3, 10, 2]
    with pytest.raises(ValueError, match="max_length: got 5, expected 6 or more"):
        cloze.encode("fine film", 5)


@pytest.mark.parametrize(
    ("template", "words", "causal", "message"),
    [
        ("{text} it was", WORDS, False, "expected {text} and {mask} once each"),
        ("{mask} {text} {text}", WORDS, False, "expected {text} and {mask} once each"),
        ("{text} {mask", WORDS, False, "write other braces twice"),
        ("{text!r} {mask}", WORDS, False, "expected {text} and {mask} once each"),
        ("{mask} {text}{{mask}}", WORDS, True, "expected {mask} at its end"),
        ("{text} {mask} .", WORDS, True, "expected {mask} at its end"),
        ("{text} it was {mask}", {"a": "awful", "b": "bad"}, False, "'awful', which is 2 tokens"),
        ("{text} it was {mask}", {"a": "bad", "b": "bad"}, False, "another token for each class"),
    ],
)
def test_what_is_wrong_is_said(
    bert: PretrainedTokenizer, template: str, words: dict[str, str], causal: bool, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Cloze(template, words, bert, causal=causal)


def test_a_vocabulary_without_mask_is_refused() -> None:
    tokenizer = Tokenizer(tokenizers.Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    with pytest.raises(ValueError, match="no token <mask>"):
        Cloze("{text}{mask}", {"x": "a"}, tokenizer, causal=False)
