from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from graphformer.data import NgramText
from graphformer.patterns import Documents, Edges

TEXTS = ["abxab", "ab", "cab", "xx"]


def data(tmp_path: Path, **options: int) -> NgramText:
    file = tmp_path / "texts.tsv"
    file.write_text("text\tlabel\n" + "".join(f"{text}\t{text[0]}\n" for text in TEXTS))
    limits = {"max_ngram_length": 2, "min_count": 3, "min_information": 0.1, **options}
    return NgramText(str(file), str(file), str(file), **limits)


def test_ngrams_attend_to_their_characters(tmp_path: Path) -> None:
    module = data(tmp_path)
    module.setup()
    tokens = module.need_tokenizer().vocab_size
    a, b = (module.encode(letter).item() for letter in "ab")
    assert module.lexicon == [(a, b)]
    assert module.vocab_size == tokens + 1
    batch = module.samples("train")[torch.tensor([0, 3])]  # "abxab" and "xx"
    assert batch.x[5] == tokens
    assert batch.lengths == (6, 2)
    assert batch.token_types.tolist() == [0, 0, 0, 0, 0, 1, 0, 0]
    assert batch.pos.tolist() == [0, 1, 2, 3, 4, 0, 0, 1]
    expected = np.zeros((8, 8), bool)
    expected[:5, :5] = True
    expected[5, 5] = True
    expected[6:, 6:] = True
    expected[5, [0, 1, 3, 4]] = expected[[0, 1, 3, 4], 5] = True
    pattern = Documents() | Edges(undirected=True)
    assert np.array_equal(pattern(batch).to_mask().numpy(), expected)


def test_the_lexicon_is_part_of_a_checkpoint(tmp_path: Path) -> None:
    module = data(tmp_path)
    module.setup()
    packed = module.pack(["cab"])
    other = data(tmp_path, min_count=1)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other.pack(["cab"]).x, packed.x)
    other.setup()
    assert other.lexicon == module.lexicon


def test_a_lexicon_without_ngrams_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"min_count, min_information: got 99 and 0\.1"):
        data(tmp_path, min_count=99).setup()


def test_files_of_another_encoding(tmp_path: Path) -> None:
    file = tmp_path / "texts.tsv"
    file.write_text("text\tlabel\n" + "éa\tx\néa\ty\n", encoding="latin-1")
    limits = {"max_ngram_length": 2, "min_count": 2, "min_information": 0.1}
    module = NgramText(str(file), str(file), str(file), encoding="latin-1", **limits)
    module.setup()
    assert module.lexicon == [tuple(module.encode(letter).item() for letter in "éa")]
