"""Documents in several languages: shares, splits, tokens of languages, errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphformer.data import MultilingualText
from graphformer.data.text.multilingual.documents import smoothed


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, str]:
    for language, count in (("en", 20), ("de", 5)):
        lines = "".join(f"{language} {i}\n\n" for i in range(count))
        (tmp_path / f"{language}.txt").write_text(lines)
    return {language: str(tmp_path / f"{language}.txt") for language in ("en", "de")}


def test_shares_of_rare_languages_are_raised() -> None:
    texts = {"a": [f"a{i}" for i in range(16)], "b": ["b0", "b1", "b2", "b3"], "c": []}
    assert smoothed(texts, 1.0, 0) == texts
    even = smoothed(texts, 0.0, 0)
    assert [len(own) for own in even.values()] == [10, 10, 0]
    assert len(set(even["a"])) == 10
    assert {even["b"].count(text) for text in texts["b"]} == {2, 3}
    root = smoothed(texts, 0.5, 0)  # shares 4 : 2
    assert [len(own) for own in root.values()] == [13, 7, 0]


def test_samples_have_the_token_of_their_language(paths: dict[str, str]) -> None:
    data = MultilingualText(paths, alpha=1, vocabulary="bytes", max_length=4, test_fraction=0)
    data.setup()
    tokenizer = data.need_tokenizer()
    assert [tokenizer.special(name) for name in paths] == [262, 263]
    assert [len(data.documents[name]["train"]) for name in paths] == [18, 4]
    assert [len(data.documents[name]["val"]) for name in paths] == [2, 1]
    (batch,) = data.batches("val")
    rows = batch.x.split(list(batch.lengths))
    assert max(batch.lengths) == 4
    for row, language in zip(rows, batch.language_ids.tolist(), strict=True):
        if len(row) == 4:  # not the rest of a longer document
            assert data.decode(row)[:2] == ("en" if language == 262 else "de")


def test_what_is_wrong_is_said(paths: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="paths: got none"):
        MultilingualText({})
    with pytest.raises(ValueError, match="alpha: got -1"):
        MultilingualText(paths, alpha=-1)
    data = MultilingualText(paths, vocabulary="bytes")
    data.setup()
    data.need_tokenizer().save(tmp_path / "v.json")
    other = MultilingualText({"fr": paths["de"]}, vocabulary=str(tmp_path / "v.json"))
    with pytest.raises(ValueError, match="vocabulary: got one without <fr>"):
        other.setup()
