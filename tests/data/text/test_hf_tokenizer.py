"""Tokenizers of checkpoints: special tokens in texts, streams and prompts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
import torch
from tokenizers import models, pre_tokenizers, processors

from graphformer.data import LabelledText, TextFile
from graphformer.data.text.hf_tokenizer import PretrainedTokenizer
from graphformer.data.text.tokenizer_training import make_tokenizer, restore_tokenizer

CONLLU = """\
1\tunseen\tx\tADJ\t_\t_\t2\tamod\t_\t_
2\tcats\tx\tNOUN\t_\t_\t3\tnsubj\t_\t_
3\tsleep\tx\t_\t_\t_\t0\troot\t_\t_

1\tcats\tx\tNOUN\t_\t_\t0\troot\t_\t_

"""


PIECES = ["[UNK]", "[CLS]", "[SEP]", "un", "##seen", "cat", "##s", "sleep"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The small files of a checkpoint of BERT's."""
    backend = tokenizers.Tokenizer(
        models.WordPiece({piece: i for i, piece in enumerate(PIECES)}, unk_token="[UNK]")
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens(PIECES[:3])
    backend.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    made = tmp_path / "bert"
    made.mkdir()
    backend.save(str(made / "tokenizer.json"))
    (made / "config.json").write_text("{}")
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    (made / "tokenizer_config.json").write_text(json.dumps(names))
    (tmp_path / "a.conllu").write_text(CONLLU)
    return made


def test_texts_get_the_special_tokens_of_a_checkpoint(folder: Path, tmp_path: Path):
    (tmp_path / "a.tsv").write_text("cats sleep sleep sleep\tgood\nunseen\tbad\n")
    file = str(tmp_path / "a.tsv")
    data = LabelledText(file, file, file, text="0", label="1", vocabulary=str(folder), max_length=5)
    data.setup()
    (batch,) = list(data.val_dataloader())
    assert batch.x.tolist() == [1, 5, 6, 7, 2, 1, 3, 4, 2]
    assert data.vocab_size == len(PIECES)


def test_a_stream_of_text_has_none(folder: Path, tmp_path: Path):
    (tmp_path / "a.txt").write_text("cats sleep\n" * 20)
    data = TextFile(str(tmp_path / "a.txt"), block_size=3, vocabulary=str(folder))
    data.setup()
    assert set(data.stream("train").tokens.tolist()) == {5, 6, 7}


def test_a_tokenizer_of_a_checkpoint_is_restored_as_it_was(folder: Path):
    tokenizer = make_tokenizer(str(folder), [])
    assert isinstance(tokenizer, PretrainedTokenizer)
    restored = restore_tokenizer(tokenizer.state())
    assert isinstance(restored, PretrainedTokenizer)
    assert torch.equal(restored.encode("cats"), torch.tensor([1, 5, 6, 2]))
    assert restored.cls_id == 1
