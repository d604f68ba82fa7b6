"""Tokenizers of checkpoints: special tokens in texts, streams and prompts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
import torch
from tokenizers import models, pre_tokenizers, processors

from graphformer import pretrained
from graphformer.data import LabelledText, TextFile, TextRecords
from graphformer.data.text.hf_tokenizer import PretrainedTokenizer, read_pretrained_tokenizer
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


def test_prompts_and_pieces_of_a_text(folder: Path) -> None:
    tokenizer = make_tokenizer(str(folder), [])
    assert tokenizer.encode("cats sleep").tolist() == [1, 5, 6, 7, 2]
    assert tokenizer.encode_prompt("cats sleep").tolist() == [1, 5, 6, 7]
    assert [ids.tolist() for ids in tokenizer.encode_plain(["cats", "sleep"])] == [[5, 6], [7]]
    assert [ids.tolist() for ids in tokenizer.encode_batch(["cats"])] == [[1, 5, 6, 2]]
    assert tokenizer.encode("cats", "sleep").tolist() == [1, 5, 6, 2, 7, 2]
    assert tokenizer.ids(["cats sleep sleep"], max_length=4) == [[1, 5, 6, 2]]
    assert tokenizer.special("mask") is None
    # A special token that is written in the text is recognised, and is not cut off.
    assert tokenizer.encode_prompt("cats [SEP]").tolist() == [1, 5, 6, 2]


def test_settings_of_a_checkpoints_folder(folder: Path) -> None:
    assert read_pretrained_tokenizer(folder / "none") is None
    assert read_pretrained_tokenizer(folder).max_length is None
    (folder / "special_tokens_map.json").write_text(
        json.dumps({"cls_token": {"content": "[CLS]", "lstrip": False}, "unk_token": "[SEP]"})
    )
    settings = {"model_max_length": 512, "unk_token": "[UNK]", "mask_token": None}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = read_pretrained_tokenizer(folder)
    assert tokenizer.max_length == 512
    assert tokenizer.roles == {"cls": "[CLS]", "unk": "[UNK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": int(1e30)}))
    assert read_pretrained_tokenizer(folder).max_length is None
    (folder / "tokenizer_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer_config.json is not valid JSON"):
        read_pretrained_tokenizer(folder)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer.json is not a tokenizer"):
        read_pretrained_tokenizer(folder)


def test_the_token_cache_distinguishes_tokenizers_of_one_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "cats [SEP] sleep"}\n' * 40)

    def tokens(vocabulary: Path, cache: str, roles: dict[str, str]) -> list[int]:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))
        (folder / "tokenizer_config.json").write_text(json.dumps(roles))
        data = TextRecords(str(tmp_path / "a.jsonl"), block_size=5, vocabulary=str(vocabulary))
        data.setup()
        return data.stream("train").tokens.tolist()

    for vocabulary, roles in (
        (folder / "tokenizer.json", {}),
        (folder, {}),
        (folder, {"eos_token": "[SEP]"}),
        (folder, {"eos_token": "[CLS]"}),
    ):
        shared = tokens(vocabulary, "shared", roles)
        assert shared == tokens(vocabulary, f"own {vocabulary.name} {roles}", roles)


def test_the_old_name_in_pretrained_warns(folder: Path) -> None:
    with pytest.warns(FutureWarning, match="load_tokenizer is now called .*read_pretrained"):
        load = pretrained.load_tokenizer
    assert load(folder).encode("cats").tolist() == [1, 5, 6, 2]
