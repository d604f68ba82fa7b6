"""Texts with classes: forms of files, labels, lengths, texts without tokens."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from graphformer.data import LabelledText, MissingDataError


def texts(data: LabelledText, split: str) -> list[tuple[str, int]]:
    found = []
    for batch in data.batches(split):
        rows = batch.x.split(list(batch.lengths))
        found += [(data.decode(row), y) for row, y in zip(rows, batch.y.tolist(), strict=True)]
    return sorted(found)


def test_json_lines_and_tables_give_the_same(tmp_path: Path) -> None:
    rows = [(f"text number {i}", "good" if i % 3 else "bad") for i in range(37)]
    (tmp_path / "a.jsonl").write_text(
        "\n".join(json.dumps({"text": text, "label": label}) for text, label in rows)
    )
    (tmp_path / "a.tsv").write_text("\n".join(f"{label}\t{text}" for text, label in rows))
    header = "\n".join(["label\ttext", *(f"{label}\t{text}" for text, label in rows)])
    (tmp_path / "b.tsv").write_text(header)
    by_number = {"text": "1", "label": "0"}
    modules = [
        LabelledText(str(tmp_path / name), vocabulary="bytes", max_tokens=100, **options)
        for name, options in [("a.jsonl", {}), ("a.tsv", by_number), ("b.tsv", {})]
    ]
    for data in modules:
        data.setup()
        assert data.labels == ["bad", "good"]
        assert data.num_classes == 2
    for split in ("train", "val", "test"):
        assert texts(modules[0], split) == texts(modules[1], split) == texts(modules[2], split)
    everything = [row for split in ("train", "val", "test") for row in texts(modules[0], split)]
    assert sorted(everything) == sorted((text, int(label == "good")) for text, label in rows)
    for batch in modules[0].batches("train"):
        assert len(batch.x) <= 100
        assert batch.y.shape == (len(batch.lengths),)


def test_files_and_folders_of_classes(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a/neg/1.txt", "dull\n\nslow")
        archive.writestr("a/neg/2.txt", "caf\xe9".encode("latin-1"))
        archive.writestr("a/pos/1.txt", "fi\x85ne".encode("latin-1"))  # \x85 ends no line
    path, classes = str(tmp_path / "a.zip"), {"neg": "neg/*.txt", "pos": "pos/*.txt"}
    fractions = {"val_path": path, "test_path": path, "encoding": "latin-1", "vocabulary": "bytes"}
    whole = LabelledText(path, classes=classes, **fractions)
    whole.setup()
    assert texts(whole, "train") == [("café", 0), ("dull\n\nslow", 0), ("fi\x85ne", 1)]
    lines = LabelledText(path, classes=classes, lines=True, **fractions)
    lines.setup()
    assert texts(lines, "test") == [("café", 0), ("dull", 0), ("fi\x85ne", 1), ("slow", 0)]
    with pytest.raises(ValueError, match=r"a.zip, a/neg/2.txt: not utf-8 text; convert"):
        LabelledText(path, classes=classes).setup()
    with pytest.raises(ValueError, match="'no/.*' for the class 'neg', which matches no file in"):
        LabelledText(path, classes={"neg": "no/*"}).setup()
    with pytest.raises(MissingDataError, match="none.zip"):
        LabelledText(str(tmp_path / "none.zip"), classes=classes).setup()


def test_texts_are_cut_and_begun_as_asked(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("0\tabcdefghijkl\n10\tab\n9\tx\n")
    data = LabelledText(
        str(tmp_path / "a.tsv"),
        str(tmp_path / "a.tsv"),
        str(tmp_path / "a.tsv"),
        text="1",
        label="0",
        vocabulary="characters",
        cls=True,
        max_length=7,
    )
    data.setup()
    assert data.labels == ["0", "9", "10"]
    (batch,) = data.batches("test")
    assert batch.lengths == (7, 3, 2)
    assert batch.y.tolist() == [0, 2, 1]
    first = [0, *torch.tensor(batch.lengths).cumsum(0)[:-1].tolist()]
    assert set(batch.x[first].tolist()) == {data.tokenizer.cls_id}


def test_texts_without_labels(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(f'{{"text": "text {i}"}}' for i in range(11)))
    data = LabelledText(str(tmp_path / "a.jsonl"), label=None, vocabulary="bytes")
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert batch.y is None
    assert len(batch.lengths) == 9


def test_few_texts_have_one_in_each_split(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("text\tlabel\n" + "a\tb\n" * 3)
    data = LabelledText(str(tmp_path / "a.tsv"), vocabulary="bytes")
    data.setup()
    assert [len(data.splits[split]) for split in ("train", "val", "test")] == [1, 1, 1]
    (tmp_path / "a.tsv").write_text("text\tlabel\n" + "a\tb\n" * 2)
    data = LabelledText(str(tmp_path / "a.tsv"), vocabulary="bytes")
    data.setup()
    with pytest.raises(ValueError, match="the val split of the data has no samples"):
        data.val_dataloader()


def test_wrong_lines_and_fractions_are_explained(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": 1}\n{"text": "b"}\n')
    with pytest.raises(ValueError, match=r"a.jsonl, line 2: there is no field 'label', only"):
        LabelledText(str(tmp_path / "a.jsonl")).setup()
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": 1}\n')
    with pytest.raises(ValueError, match=r"val_fraction and test_fraction: got 0.5 and 0.5"):
        LabelledText(str(tmp_path / "a.jsonl"), val_fraction=0.5, test_fraction=0.5).setup()


def test_the_vocabulary_of_a_run_serves_another(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "abab ba", "label": 1}\n' * 5)
    first = LabelledText(str(tmp_path / "a.jsonl"), vocabulary="bpe", vocabulary_size=270)
    first.setup()
    first.tokenizer.save(tmp_path / "run" / "tokenizer.json")
    second = LabelledText(str(tmp_path / "a.jsonl"), vocabulary=str(tmp_path / "run"))
    second.setup()
    assert torch.equal(second.encode("abab"), first.encode("abab"))
    again = LabelledText(str(tmp_path / "a.jsonl"), vocabulary="bytes")
    again.load_state_dict(first.state_dict())
    again.setup()
    assert torch.equal(again.encode("abab"), first.encode("abab"))


def test_real_sentences(real_data: Callable[[str], Path]) -> None:
    data = LabelledText(
        str(real_data("nltk/sentence_polarity.zip")),
        classes={"neg": "rt-polarity.neg", "pos": "rt-polarity.pos"},
        lines=True,
        encoding="latin-1",
        vocabulary="bytes",
    )
    data.setup()
    labels = [label for split in data.splits.values() for _, label in split]
    assert len(labels) == 10_662
    assert labels.count("pos") == labels.count("neg")


@pytest.mark.parametrize("options", [{"vocabulary": "bytes"}, {"vocabulary_size": 30}])
def test_a_text_without_tokens_is_named(tmp_path: Path, options: dict[str, Any]) -> None:
    texts = [f"film {i}" for i in range(40)]
    texts[7] = "" if "vocabulary" in options else " \t"
    rows = (json.dumps({"text": t, "label": "ab"[i % 2]}) for i, t in enumerate(texts))
    (tmp_path / "e.jsonl").write_text("\n".join(rows))
    data = LabelledText(str(tmp_path / "e.jsonl"), **options)
    data.setup()
    with pytest.raises(ValueError, match=r"e.jsonl: the text '.*' of the \w+ split has no tokens"):
        [data.batches(split) for split in ("train", "val", "test")]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32-le"])
def test_files_in_another_encoding(tmp_path: Path, encoding: str) -> None:
    rows = [f"label\ttext\n{'ab'[i % 2]}\tĊ text {i}\n" if i == 0 else f"{'ab'[i % 2]}\tĊ {i}\n"
            for i in range(11)]  # fmt: skip
    (tmp_path / "a.tsv").write_bytes("".join(rows).encode(encoding))
    data = LabelledText(str(tmp_path / "a.tsv"), encoding=encoding, vocabulary="characters")
    data.setup()
    assert sum(map(len, data.splits.values())) == 11
    assert data.labels == ["a", "b"]


def test_a_run_keeps_its_class_names(tmp_path: Path) -> None:
    rows = [f"{['neg', 'pos', 'neutral'][i % 3]}\ttext {i}" for i in range(30)]
    (tmp_path / "all.tsv").write_text("\n".join(["label\ttext", *rows]))
    (tmp_path / "pos.tsv").write_text("\n".join(["label\ttext", *rows[1::3]]))
    (tmp_path / "other.tsv").write_text("\n".join(["label\ttext", "good\tx", "pos\ty", "bad\tz"]))
    run = LabelledText(str(tmp_path / "all.tsv"), vocabulary="bytes")
    run.setup()
    assert run.labels == ["neg", "neutral", "pos"]
    torch.save(run.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    paths = [str(tmp_path / "pos.tsv")] * 3
    for set_up_first in (True, False):  # Lightning restores a checkpoint after setup
        data = LabelledText(*paths, vocabulary="bytes")
        if set_up_first:
            data.setup()
        data.load_state_dict(state)
        data.setup("test")
        assert data.num_classes == 3
        assert {y for batch in data.test_dataloader() for y in batch.y.tolist()} == {2}
    other = LabelledText(*[str(tmp_path / "other.tsv")] * 3, vocabulary="bytes")
    other.load_state_dict(state)
    other.setup()
    with pytest.raises(
        ValueError, match=r"other.tsv, test split: got the labels \['bad', 'good'\]"
    ):
        other.test_dataloader()
    old = {"tokenizer": state["tokenizer"]}  # a checkpoint of an earlier version
    other.load_state_dict(old)
    assert other.labels == state["labels"]


def test_several_labels_of_a_text(tmp_path: Path) -> None:
    labels = [["b", "a"], [], ["c"]]
    rows = [{"text": f"text {i}", "label": labels[i % 3]} for i in range(23)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    cells = [f"text {i},{' ; '.join(labels[i % 3])}" for i in range(23)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *cells]))
    for name in ("a.jsonl", "a.csv"):
        data = LabelledText(str(tmp_path / name), vocabulary="bytes", label_separator=";")
        data.setup()
        assert (data.labels, data.num_classes) == (["a", "b", "c"], 3)
        expected = [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
        for text, y in texts(data, "train"):
            assert y == expected[int(text.split()[1]) % 3]
    with pytest.raises(ValueError, match="label_separator: got '', expected a text"):
        LabelledText("a.csv", label_separator="")


def test_balanced_training_texts(tmp_path: Path) -> None:
    rows = [f"text {i},{'good' if i % 5 else 'bad'}" for i in range(23)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *rows]))
    data = LabelledText(str(tmp_path / "a.csv"), vocabulary="bytes", balanced=True)
    data.setup()
    y = [label for _, label in texts(data, "train")]
    assert y.count(0) == y.count(1) == int((data.train_labels() == 1).sum())
    for text, label in texts(data, "train"):
        assert label == int(int(text.split()[1]) % 5 > 0)


def test_a_text_without_label_is_named(tmp_path: Path) -> None:
    rows = [f"text {i},{'' if i == 5 else 'ab'[i % 2]}" for i in range(11)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *rows]))
    path = str(tmp_path / "a.csv")
    with pytest.raises(ValueError, match=r"a.csv, line 7: got no label in the field 'label'"):
        LabelledText(path, vocabulary="bytes").setup()
    unlabelled = LabelledText(path, label=None, vocabulary="bytes")
    unlabelled.setup()
    assert sum(map(len, unlabelled.splits.values())) == 11
