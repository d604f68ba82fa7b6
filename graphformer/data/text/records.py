"""`TextRecords`: records of JSON lines and tables as documents, their text made by a template."""

from __future__ import annotations

import string
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from graphformer.data.io.hub_datasets import hub_fingerprint, is_hub_name
from graphformer.data.io.tabular import find_records, get_text, is_json, read_records
from graphformer.data.io.text_files import TextSource, fingerprint
from graphformer.data.text.language_modeling import TextBlocks


class TextRecords(TextBlocks):
    """Blocks of tokens from records, each of which is a document.

    Args:
        path: .jsonl, or .tsv or .csv with a header; perhaps .gz.
        val_path, test_path: files of the same form. Without `val_path` every k-th record of `path`
            is for validation; without `test_path` the validation split is also the test split.
        template: the text of a record, with the names of its fields in braces.
        block_size: tokens in a block.
        batch_size: blocks in a batch.
        steps_per_epoch: training batches in an epoch; by default as many as contain the text's
            number of tokens.
        vocabulary: "characters", "bytes", a file of `graphformer tokenize`, the folder of a run, or
            "bpe" or "wordpiece" to train one on the training split.
        vocabulary_size: maximum number of tokens to train.
        across_documents: whether samples contain several documents, among which the pattern
            `Documents` prevents attention.
        val_fraction: share of the records for validation without `val_path`, rounded to 1/2, 1/3,
            1/4 and so on; at least one record.
        encoding: of the files.
        root: the data root.
        seed: of the random positions of blocks.

    Raises:
        MissingDataError: when a file does not exist.
        ValueError: when val_fraction is out of range, or when a line is malformed; the message
            names it.
    """

    def __init__(
        self,
        path: str,
        val_path: str | None = None,
        test_path: str | None = None,
        *,
        template: str = "{text}",
        block_size: int = 128,
        batch_size: int = 12,
        steps_per_epoch: int | None = None,
        vocabulary: str = "bytes",
        vocabulary_size: int = 8192,
        across_documents: bool = False,
        val_fraction: float = 0.1,
        encoding: str = "utf-8",
        root: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            block_size=block_size,
            batch_size=batch_size,
            steps_per_epoch=steps_per_epoch,
            vocabulary=vocabulary,
            vocabulary_size=vocabulary_size,
            special_tokens=True,
            across_documents=across_documents,
            seed=seed,
        )
        if val_path is None and not 0 < val_fraction <= 0.5:
            raise ValueError(
                f"val_fraction: got {val_fraction}, expected above 0 and at most 0.5; or set "
                "val_path"
            )
        self.paths = {"train": path, "val": val_path, "test": test_path or val_path}
        self.save_hyperparameters(logger=False)
        self.template, self.root, self.val_fraction = template, root, val_fraction
        self.encoding = encoding

    def prepare_data(self) -> None:
        """Check that the files exist."""
        for path in self.paths.values():
            if path is not None:
                find_records(path, self.root)

    def pieces(self, split: str) -> Iterator[tuple[str, bool]]:
        """Yield the text of each record of a split."""
        file = self._file(split)
        records = read_records(file, encoding=self.encoding)
        every = self._interval(file) if self._is_shared(split) else None
        # Spread over the file, which may be sorted. A table's header counts as a record.
        for count, (number, record) in enumerate(records, 1 if is_json(file) else 2):
            if every is None or (count % every == 0) != (split == "train"):
                yield fill(self.template, record, file, number), True

    def cache_key(self, split: str) -> str | None:
        """Return the file's checksum and how its records are read and chosen, if that is known."""
        file = self._file(split)
        share = (split == "train", self.val_fraction) if self._is_shared(split) else None
        about = (self.template, self.encoding, share)
        if is_hub_name(file):
            found = hub_fingerprint(file)
            return None if found is None else f"{found} by record {about!r}"
        whole = [TextSource.of_file(file)]
        return f"{fingerprint(whole, 0, whole[0].size)} by record {about!r}"

    def _interval(self, file: Path) -> int:
        """Return k where every k-th record validates: 1 / val_fraction, or less in a short file."""
        every = round(1 / self.val_fraction)
        records = read_records(file, encoding=self.encoding)
        first = 1 if is_json(file) else 2
        return min(every, max(2, first - 1 + sum(1 for _ in islice(records, every))))

    def _is_shared(self, split: str) -> bool:
        """Whether the training and the validation split are of one file."""
        return self.paths["val" if split == "train" else split] is None

    def _file(self, split: str) -> Path:
        return find_records(self.paths[split] or str(self.paths["train"]), self.root)


def fill(template: str, record: dict[str, Any], path: Path, number: int) -> str:
    """Return a template with the names in braces replaced by the fields of a line's record.

    Raises:
        ValueError: when the record lacks a field, or when the template is malformed.
    """
    try:
        pieces = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(
            f"template: got {template!r} ({error}), expected fields as {{name}}; write a brace "
            "that begins no field twice"
        ) from None
    return "".join(
        literal + ("" if name is None else get_text(record, name, path, number))
        for literal, name, _, _ in pieces
    )
