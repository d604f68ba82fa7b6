"""Span corruption and infilling: what is cut out can be put back."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from helpers.tasks import trainer
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Data

from graphformer import models
from graphformer.data import MultilingualText, TextFile
from graphformer.data.text.tokenizer import SPECIAL_TOKENS
from graphformer.data.text.tokenizer_training import train_tokenizer
from graphformer.tasks import Denoising
from graphformer.tasks.text.denoising import (
    corrupt_spans,
    draw_spans,
    infill,
    restore_spans,
    sentinel_ids,
)


@given(st.integers(0, 211), st.floats(0.01, 0.9), st.floats(1, 9), st.integers(0, 97))
def test_spans_are_apart_and_as_many_as_asked(
    length: int, rate: float, mean: float, seed: int
) -> None:
    spans = draw_spans(length, rate, mean, np.random.default_rng(seed))
    if length < 2:
        assert spans.shape == (0, 2)
        return
    starts, stops = spans.T
    assert (starts < stops).all()
    assert (stops[:-1] < starts[1:]).all()
    assert starts[0] > 0
    assert stops[-1] <= length
    assert (stops - starts).sum() == np.clip(round(length * rate), 1, length - 1)


@given(st.integers(0, 101), st.floats(0.05, 0.8), st.integers(1, 5), st.integers(0, 97))
def test_corruption_can_be_undone(length: int, rate: float, num_sentinels: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    row = generator.integers(89, size=length)
    sentinels = list(range(89, 89 + num_sentinels))
    spans = draw_spans(length, rate, 3.0, generator)
    kept, answer = corrupt_spans(row, spans, sentinels)
    assert np.array_equal(restore_spans(kept, answer, sentinels), row)
    assert len(kept) + len(answer) == length + 2 * len(spans)
    marks = kept[kept >= 89]
    assert marks.tolist() == [sentinels[i % num_sentinels] for i in range(len(spans))]
    assert answer[answer >= 89].tolist() == marks.tolist()


@given(st.integers(0, 101), st.floats(0.05, 0.8), st.integers(0, 97))
def test_infilling_hides_as_much_as_asked_and_keeps_the_rest(
    length: int, rate: float, seed: int
) -> None:
    row = np.arange(length)
    kept, answer = infill(row, rate, 3.0, 997, np.random.default_rng(seed))
    assert np.array_equal(answer, row)
    left = kept[kept != 997]
    assert (np.diff(left) > 0).all()
    assert length - len(left) == round(length * rate)


@pytest.fixture
def data(tmp_path: Path) -> TextFile:
    text = "".join(chr(97 + i * i % 23) for i in range(1009))
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    special = [*SPECIAL_TOKENS, "<extra_0>", "<extra_1>"]
    train_tokenizer("characters", [text], special_tokens=special).save(tmp_path / "v.json")
    module = TextFile(str(tmp_path / "text.txt"), 31, 3, vocabulary=str(tmp_path / "v.json"))
    module.setup()
    return module


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_denoising_trains_on_any_text(data: TextFile, tmp_path: Path, kind: str) -> None:
    network = models.encoder_decoder(data.vocab_size, dim=16, depth=1, num_heads=2)
    task = Denoising(network, kind=kind, seed=5)  # type: ignore[arg-type]
    trainer = pl.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        fast_dev_run=2,
    )
    trainer.fit(task, data)
    batch = next(iter(data.val_dataloader()))
    one, two = (task.prepare(batch, 0, training=False) for _ in range(2))
    assert torch.equal(one.source, two.source)
    assert not torch.equal(one.source, task.prepare(batch, 0, training=True).source[: len(one.x)])
    check_pairs(data, batch, one, kind)


def check_pairs(data: TextFile, batch: Data, pairs: Data, kind: str) -> None:
    tokenizer = data.need_tokenizer()
    sentinels = sentinel_ids(tokenizer)
    assert sentinels == [tokenizer.vocab_size - 2, tokenizer.vocab_size - 1]
    sources = pairs.source.split(list(pairs.source_lengths))
    answers = pairs.y.split(list(pairs.lengths))
    texts = batch.x.split(list(batch.lengths))
    for source, answer, text in zip(sources, answers, texts, strict=True):
        assert answer[-1] == tokenizer.eos_id
        if kind == "bart":
            assert torch.equal(answer[:-1], text)
            assert tokenizer.mask_id in source
        else:
            whole = restore_spans(source.numpy(), answer[:-1].numpy(), sentinels)
            assert whole.tolist() == text.tolist()


def test_without_sentinels_the_mask_serves() -> None:
    tokenizer = train_tokenizer("bytes", [])
    assert sentinel_ids(tokenizer) == [tokenizer.mask_id]
    with pytest.raises(ValueError, match="rate: got 1.5"):
        Denoising(models.encoder_decoder(7, dim=8, depth=1, num_heads=1), rate=1.5)
    with pytest.raises(ValueError, match="mean_length: got 0, expected a number above 0"):
        Denoising(models.encoder_decoder(7, dim=8, depth=1, num_heads=1), mean_length=0)
    with pytest.raises(ValueError, match="permute_sentences: got True with kind 't5'"):
        Denoising(models.encoder_decoder(7, dim=8, depth=1, num_heads=1), permute_sentences=True)


def test_documents_of_several_languages_as_in_mbart(tmp_path: Path) -> None:
    texts = {"en": "one. two. three. four.\n" * 3, "de": "eins. zwei. drei. vier.\n" * 3}
    for language, text in texts.items():
        (tmp_path / language).write_text(text, encoding="utf-8")
    paths = {language: str(tmp_path / language) for language in texts}
    data = MultilingualText(paths, vocabulary="characters", max_tokens=300)
    network = models.encoder_decoder(64, dim=16, depth=1, num_heads=2)
    task = Denoising(network, kind="bart", permute_sentences=True, rate=0.1)
    trainer(fast_dev_run=1).fit(task, data)
    tokenizer = data.need_tokenizer()
    (batch,) = data.val_dataloader()
    pairs = task.prepare(batch, 0, training=False)
    sources = pairs.source.split(list(pairs.source_lengths))
    inputs = pairs.x.split(list(pairs.lengths))
    answers = pairs.y.split(list(pairs.lengths))
    languages = [tokenizer.need("en"), tokenizer.need("de")]
    assert sorted(batch.language_ids.tolist()) == sorted(languages)
    for number, row in enumerate(batch.x.split(list(batch.lengths))):
        code = int(batch.language_ids[number])
        assert sources[number][-2:].tolist() == [tokenizer.eos_id, code]
        assert inputs[number][0] == code
        assert torch.equal(inputs[number][1:], row)
        assert answers[number].tolist() == [*row.tolist(), tokenizer.eos_id]
        text = tokenizer.decode(row)
        assert ("one" in text) == (code == languages[0])
    swapped = [task.prepare(batch, 0, training=True).source for _ in range(2)]
    assert torch.equal(*swapped)
    assert not torch.equal(swapped[0], pairs.source)
