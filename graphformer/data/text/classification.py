"""`LabelledText`: texts with classes, from tables, JSON lines, or a folder with files by class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
from torch import Tensor

from graphformer.data.batch import Batch, pack_tokens
from graphformer.data.io.tabular import (
    decode,
    find_records,
    get_field,
    get_text,
    read_records,
)
from graphformer.data.io.text_files import find_sources, open_archives
from graphformer.data.label_sets import label_numbers, labels_of, oversampled, sort_labels
from graphformer.data.ragged import Ragged
from graphformer.data.text.base import FilePath, LabelledData, TokenizedFiles
from graphformer.data.text.hf_tokenizer import PretrainedTokenizer
from graphformer.data.text.prompted.soft_labels import (
    SoftSamples,
    class_probabilities,
    get_label,
    label_classes,
)
from graphformer.data.text.tokenizer import Tokenizer

Sample = tuple[str, str]  # a text and its label


class LabelledText(TokenizedFiles[Sample], LabelledData):
    """Texts to classify or compare, in batches within a budget of tokens.

    A batch has x (token ids, [N]), pos [N], lengths, and y [B] where there are labels.

    Args:
        path: .jsonl, .tsv or .csv (perhaps .gz), or a folder or zip archive with `classes`.
        val_path, test_path: files of the same form; else fractions of `path`, at random.
        text, label: names of fields; in a table without a header the numbers of columns, from 0.
            With label None there are texts only. In JSON lines a label may be an object with the
            probability of each class, a soft label; batches then have `class_probabilities` too.
        label_separator: between the labels of a text, such as ";", for the task
            MultiLabelClassification; y is then [B, K]. An empty field is a text without labels; in
            JSON lines the field may be a list.
        classes: for a folder or archive, the pattern of the file names of each class.
        lines: whether every line of a class's file is a text, instead of the file.
        encoding: of the files.
        vocabulary: "characters", "bytes", a file of `graphformer tokenize`, the folder of a
            checkpoint, or "bpe" or "wordpiece" to train one on the training split.
        vocabulary_size: maximum number of tokens to train.
        max_length: maximum number of tokens of a text; further ones are cut off.
        balanced: whether training texts of rarer classes are repeated, until all are as frequent.
        cls: whether <cls> precedes each text.
        max_tokens, max_edges: the budget of a batch; edges are all pairs of a text's tokens.
        val_fraction, test_fraction: of `path` for the splits without a file.
        root: the data root.
        seed: of the random split and of the order.

    Raises:
        MissingDataError: when a file does not exist.
        ValueError: when a line is malformed, when a text has no tokens, or when a label is not
            among those of the checkpoint; the message names the file.
    """

    def __init__(
        self,
        path: str,
        val_path: str | None = None,
        test_path: str | None = None,
        *,
        text: str = "text",
        label: str | None = "label",
        classes: dict[str, str] | None = None,
        label_separator: str | None = None,
        lines: bool = False,
        encoding: str = "utf-8",
        vocabulary: str = "wordpiece",
        vocabulary_size: int = 8192,
        max_length: int = 512,
        cls: bool = False,
        balanced: bool = False,
        max_tokens: int = 4096,
        max_edges: int | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        root: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            {"train": path, "val": val_path, "test": test_path},
            vocabulary=vocabulary,
            vocabulary_size=vocabulary_size,
            fractions=(val_fraction, test_fraction),
            max_tokens=max_tokens,
            max_edges=max_edges,
            root=root,
            seed=seed,
        )
        self.save_hyperparameters(logger=False)
        self.text, self.label, self.classes, self.lines = text, label, classes, lines
        self.encoding, self.max_length, self.cls = encoding, max_length, cls
        self.label_separator, self.balanced = label_separator, balanced
        if label_separator == "" or (label_separator is not None and classes is not None):
            raise ValueError(
                f"label_separator: got {label_separator!r}, expected a text between the labels of "
                "a field, and no classes; leave one of them out"
            )

    def setup(self, stage: str | None = None) -> None:
        """Read the texts, number the labels and make the tokenizer."""
        super().setup(stage)
        names = {
            name
            for samples in self.splits.values()
            for _, field in samples
            for label in labels_of(field, self.label_separator)
            for name in label_classes(label)
        }
        self.find_labels(sort_labels(names))

    def training_texts(self) -> list[str]:
        """Return the texts of the training split without their labels."""
        return [text for text, _ in self.splits["train"]]

    def samples(self, split: str) -> Ragged:
        """Return the token ids of a split's texts, and the numbers of their labels."""
        y = None if self.label is None else self._class_numbers(split)
        samples = self.splits[split]
        if self.balanced and split == "train" and y is not None:
            chosen = oversampled(y, self.seed)
            samples, y = [samples[i] for i in chosen.tolist()], y[chosen]
        texts = [text for text, _ in samples]
        rows = self._token_ids(self.need_tokenizer(), texts)
        self.check_tokens(split, rows, texts)
        if y is None:
            return Ragged(rows)
        probabilities = class_probabilities([label for _, label in samples], self.labels)
        if probabilities is not None:
            return SoftSamples(rows, y.tolist(), probabilities)
        return Ragged(rows, y.tolist())

    def train_labels(self) -> Tensor:
        """Return the classes of the training texts, [B], or their labels, [B, K]."""
        return self._class_numbers("train")

    def pack(self, inputs: Sequence[str]) -> Batch:
        """Return texts as a batch of token ids."""
        return pack_tokens(self._token_ids(self.need_tokenizer(), list(inputs)))

    def _class_numbers(self, split: str) -> Tensor:
        source = f"{self.paths.get(split, self.paths['train'])}, {split} split"
        fields = [field for _, field in self.splits[split]]
        return label_numbers(fields, self.labels, self.label_separator, source)

    def _token_ids(self, tokenizer: Tokenizer, texts: list[str]) -> list[np.ndarray]:
        """Return the ids of each text; a checkpoint's tokenizer adds its own special tokens."""
        if isinstance(tokenizer, PretrainedTokenizer):
            rows = tokenizer.ids(texts, max_length=self.max_length)
            return [np.array(row, np.int64) for row in rows]
        first = [tokenizer.need("cls")] if self.cls else []
        ids = tokenizer.encode_batch(texts)
        return [np.array([*first, *row.tolist()], np.int64)[: self.max_length] for row in ids]

    def read(self, path: FilePath) -> list[Sample]:
        """Return the texts of a file, folder or archive with their labels."""
        if self.classes is not None:
            return list(self._read_classes(path, self.classes))
        file = find_records(path, self.root)
        label = self.text if self.label is None else self.label
        if self.label_separator is not None:
            return list(self._read_label_sets(file, label, self.label_separator))
        return list(self._read_labels(file, label))

    def _read_labels(self, file: Path, label: str) -> Iterable[Sample]:
        header = not (self.text.isdigit() and label.isdigit())
        for number, record in read_records(file, header=header, encoding=self.encoding):
            text = get_text(record, self.text, file, number)
            field = get_label(record, label, file, number)
            if self.label is not None and not field.strip():
                raise ValueError(
                    f"{file}, line {number}: got no label in the field {label!r}, expected one; "
                    "fill it in, or remove the line"
                )
            yield text, field

    def _read_label_sets(self, file: Path, label: str, separator: str) -> Iterable[Sample]:
        header = not (self.text.isdigit() and label.isdigit())
        for number, record in read_records(file, header=header, encoding=self.encoding):
            labels = get_field(record, label, file, number)
            if isinstance(labels, list):
                record = {**record, label: separator.join(map(str, labels))}
            text, field = (get_text(record, name, file, number) for name in (self.text, label))
            yield text, field

    def _read_classes(self, path: FilePath, classes: dict[str, str]) -> Iterable[Sample]:
        sources = find_sources(path, "**/*", self.root)
        for name, pattern in classes.items():
            matching = [s for s in sources if fnmatch(s.member or str(s.path), f"*{pattern}")]
            if not matching:
                raise ValueError(
                    f"classes: got {pattern!r} for the class {name!r}, which matches no file in "
                    f"{path}; there are "
                    f"{', '.join(Path(s.member or s.path).name for s in sources[:5])} ..."
                )
            with open_archives(matching) as archives:
                for source in matching:
                    with source.open(archives) as file:
                        text = decode(file.read(), self.encoding, source.name)
                    text = text.replace("\r\n", "\n")
                    texts = text.split("\n") if self.lines else [text]
                    yield from ((text, name) for text in texts if text.strip())
