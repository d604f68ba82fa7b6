"""Records as documents of a text: JSON lines and tables, filled into a template."""

from __future__ import annotations

import os
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graphformer.data.records import field, find_file, read_records
from graphformer.data.sources import Source, fingerprint
from graphformer.data.text import Text


class TextRecords(Text):
    """Blocks of tokens from records, each of which is a document.

    Args:
        path: .jsonl, or .tsv with a header; perhaps .gz.
        val_path, test_path: files of the same form. Without `val_path` the last `val_fraction` of
            the records validates; without `test_path` the validation part is the test part.
        template: the text of a record, its fields in braces.
        block_size: tokens a block.
        batch_size: blocks a batch.
        steps_per_epoch: by default as many as it takes to draw the text's number of tokens.
        vocabulary: "characters", "bytes", a file made by `graphformer tokenize`, the folder of a
            run, or "bpe" or "wordpiece" to learn one from the training part.
        vocabulary_size: the most tokens to learn.
        across_documents: attend across documents unless the pattern `Documents` forbids it.
        val_fraction: see above.
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
        self.paths = {"train": path, "val": val_path, "test": test_path or val_path}
        self.save_hyperparameters(logger=False)
        self.template, self.root, self.val_fraction = template, root, val_fraction

    def prepare_data(self) -> None:
        """Look for the files."""
        for path in self.paths.values():
            if path is not None:
                find_file(path, self.root)

    def pieces(self, part: str) -> Iterator[tuple[str, bool]]:
        """Yield a part's records, each a document."""
        file = self._file(part)
        for number, record in read_records(file):
            if self._belongs(part, number):
                yield fill(self.template, record, file, number), True

    def content(self, part: str) -> str | None:
        """Return what tells the part from any other."""
        file = self._file(part)
        whole = [Source(file, None, file.stat().st_size)]
        share = (part == "train", self.val_fraction) if self._is_shared(part) else None
        return f"{fingerprint(whole, 0, whole[0].size)} {self.template!r} {share}"

    def _belongs(self, part: str, number: int) -> bool:
        if not self._is_shared(part):
            return True
        every = max(2, round(1 / self.val_fraction))  # spread over the file: it may be sorted
        return (number % every == 0) != (part == "train")

    def _is_shared(self, part: str) -> bool:
        """Whether training and validation part share a file."""
        return self.paths["val" if part == "train" else part] is None

    def _file(self, part: str) -> Path:
        return find_file(self.paths[part] or str(self.paths["train"]), self.root)


def fill(template: str, record: dict[str, Any], path: Path, number: int) -> str:
    """Return the template with a record's fields in place of their names in braces.

    Raises:
        ValueError: naming the file and line whose record lacks a field.
    """
    parts = []
    for literal, name, _, _ in string.Formatter().parse(template):
        value = "" if name is None else str(field(record, name, path, number))
        parts.append(literal + value)
    return "".join(parts)
