"""Tags of words at their first pieces; tokenizers of checkpoints in data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, processors

from graphformer.data import DependencyTrees, TaggedText

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


def test_a_word_has_its_tag_at_its_first_piece(folder: Path, tmp_path: Path):
    file = str(tmp_path / "a.conllu")
    data = TaggedText(file, file, file, vocabulary=str(folder))
    data.setup()
    assert data.labels == ["ADJ", "NOUN"]
    (batch,) = list(data.val_dataloader())
    assert batch.lengths == (7, 4)
    assert batch.x.tolist() == [1, 3, 4, 5, 6, 7, 2, 1, 5, 6, 2]
    no = -100
    assert batch.y.tolist() == [no, 0, no, 1, no, no, no, no, 1, no, no]


def test_long_sentences_are_cut_with_their_last_token_kept(folder: Path, tmp_path: Path):
    file = str(tmp_path / "a.conllu")
    data = TaggedText(file, file, file, vocabulary=str(folder), max_length=4)
    data.setup()
    (batch,) = list(data.val_dataloader())
    assert batch.x.tolist() == [1, 3, 4, 2, 1, 5, 6, 2]
    assert batch.y.tolist() == [-100, 0, -100, -100, -100, 1, -100, -100]


def test_the_vocabulary_may_be_learned(tmp_path: Path):
    (tmp_path / "a.conllu").write_text(CONLLU)
    file = str(tmp_path / "a.conllu")
    data = TaggedText(file, file, file, vocabulary_size=40)
    data.setup()
    (batch,) = list(data.val_dataloader())
    assert (batch.y >= 0).sum() == 3
    assert len(batch.x) >= 4


@pytest.mark.parametrize("kind", [TaggedText, DependencyTrees])
def test_a_run_keeps_its_tags(tmp_path: Path, kind: type):
    (tmp_path / "a.conllu").write_text(CONLLU)
    (tmp_path / "b.conllu").write_text(CONLLU.replace("ADJ", "X"))
    file, other = str(tmp_path / "a.conllu"), str(tmp_path / "b.conllu")
    run = kind(file, file, file)
    run.setup()
    data = kind(other, other, other)
    data.setup()
    assert data.labels == ["NOUN", "X"]
    data.load_state_dict(run.state_dict())
    assert data.labels == run.labels == ["ADJ", "NOUN"]
    (batch,) = list(data.val_dataloader())
    assert sorted(set(batch.y.tolist())) == [-100, 1]


@pytest.mark.parametrize("kind", [TaggedText, DependencyTrees])
def test_other_data_of_a_run_keeps_its_classes(tmp_path: Path, kind: type) -> None:
    def write(name: str, tags: str) -> str:
        rows = [f"{i}\tw\t_\t{tag}\t_\t_\t{i - 1}\tx\t_\t_" for i, tag in enumerate(tags, 1)]
        (tmp_path / name).write_text(("\n".join(rows) + "\n\n") * 20)
        return str(tmp_path / name)

    run = {"labels": ["A", "B", "C", "D"]}
    options = {} if kind is DependencyTrees else {"vocabulary": "wordpiece"}
    data = kind(write("a.conllu", "DBD"), **options)
    data.setup()
    assert data.labels == ["B", "D"]
    data.load_state_dict(run)
    assert next(iter(data.batches("test"))).y[:3].tolist() == [3, 1, 3]
    assert data.num_classes == 4
    other = kind(write("b.conllu", "XY"), **options)
    other.load_state_dict(run)
    other.setup()
    with pytest.raises(ValueError, match="labels: got X, Y, none of which is a class of the run"):
        other.batches("test")
