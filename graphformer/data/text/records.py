"""Records as documents of a text: JSON lines and tables, filled into a template."""

from __future__ import annotations

import os
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graphformer.data.io.tabular import find_file, read_records, text_field
from graphformer.data.io.text_files import TextSource, fingerprint
from graphformer.data.text.language_modeling import Text


class TextRecords(Text):
    """Blocks of tokens from records, each of which is a document.

    Args:
        path: .jsonl, or .tsv or .csv with a header; perhaps .gz.
        val_path, test_path: files of the same form. Without `val_path` every so many-th record
            validates; without `test_path` the validation split is the test split.
        template: the text of a record, its fields in braces.
        block_size: tokens a block.
        batch_size: blocks a batch.
        steps_per_epoch: by default as many as it takes to draw the text's number of tokens.
        vocabulary: "characters", "bytes", a file made by `graphformer tokenize`, the folder of a
            run, or "bpe" or "wordpiece" to learn one from the training split.
        vocabulary_size: the most tokens to learn.
        across_documents: attend across documents unless the pattern `Documents` forbids it.
        val_fraction: how many of the records validate, without `val_path`: 1 in 2, 3, 4 ...
        encoding: of the files.
        root: the data root.
        seed: of the places that are drawn.

    Raises:
        MissingDataError: a file is not there.
        ValueError: naming the file and line that is not as it should be.
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
        path, root = os.fspath(path), None if root is None else os.fspath(root)
        if val_path is None and not 0 < val_fraction <= 0.5:
            raise ValueError(
                f"val_fraction is {val_fraction}: expected above 0 and at most 0.5, or a val_path."
            )
        self.paths = {"train": path, "val": val_path, "test": test_path or val_path}
        self.save_hyperparameters(logger=False)
        self.template, self.root, self.val_fraction = template, root, val_fraction
        self.encoding = encoding

    def prepare_data(self) -> None:
        """Look for the files."""
        for path in self.paths.values():
            if path is not None:
                find_file(path, self.root)

    def pieces(self, split: str) -> Iterator[tuple[str, bool]]:
        """Yield a split's records, each a document."""
        file = self._file(split)
        for number, record in read_records(file, encoding=self.encoding):
            if self._belongs(split, number):
                yield fill(self.template, record, file, number), True

    def content(self, split: str) -> str | None:
        """Return what tells the split from any other."""
        file = self._file(split)
        whole = [TextSource(file, None, file.stat().st_size)]
        share = (split == "train", self.val_fraction) if self._is_shared(split) else None
        about = (self.template, self.encoding, share)
        return f"{fingerprint(whole, 0, whole[0].size)} {about!r}"

    def _belongs(self, split: str, number: int) -> bool:
        if not self._is_shared(split):
            return True
        every = round(1 / self.val_fraction)  # spread over the file: it may be sorted
        return (number % every == 0) != (split == "train")

    def _is_shared(self, split: str) -> bool:
        """Whether training and validation split share a file."""
        return self.paths["val" if split == "train" else split] is None

    def _file(self, split: str) -> Path:
        return find_file(self.paths[split] or str(self.paths["train"]), self.root)


def fill(template: str, record: dict[str, Any], path: Path, number: int) -> str:
    """Return the template with a record's fields in place of their names in braces.

    Raises:
        ValueError: naming the file and line whose record lacks a field, or a template that is none.
    """
    try:
        pieces = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(
            f"template is {template!r} ({error}): write fields as {{name}}, and braces that are "
            "none of a field twice."
        ) from None
    return "".join(
        literal + ("" if name is None else text_field(record, name, path, number))
        for literal, name, _, _ in pieces
    )
