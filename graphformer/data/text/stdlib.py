"""`StandardLibrary`: the source code of Python's standard library as text."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from graphformer.data.io.cache import MissingDataError
from graphformer.data.text.language_modeling import TextBlocks


class StandardLibrary(TextBlocks):
    """Blocks of tokens from the source files of Python's standard library; nothing to download.

    Modules are drawn in random order up to `max_characters` in total; those that are not ASCII or
    longer than a twentieth of that are skipped. Whole files make up the validation split (the ninth
    tenth of the text) and the test split (the last tenth).

    Args:
        block_size: tokens in a block.
        batch_size: blocks in a batch.
        max_characters: size of the text.
        steps_per_epoch: training batches in an epoch; by default as many as contain the text's
            number of tokens.
        vocabulary: "characters", "bytes", a file of `graphformer tokenize`, the folder of a run, or
            "bpe" or "wordpiece" to train one on the training split.
        special_tokens: whether "characters" and "bytes" have <mask>, <eos> and so on.
        seed: of the order of the modules and of the blocks.

    Raises:
        MissingDataError: when this Python has no source files.
    """

    def __init__(
        self,
        block_size: int = 64,
        batch_size: int = 12,
        *,
        max_characters: int = 1_000_000,
        steps_per_epoch: int | None = None,
        vocabulary: str = "characters",
        special_tokens: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(
            block_size=block_size,
            batch_size=batch_size,
            steps_per_epoch=steps_per_epoch,
            vocabulary=vocabulary,
            special_tokens=special_tokens,
            across_documents=False,
            seed=seed,
        )
        self.save_hyperparameters(logger=False)
        self.max_characters = max_characters
        self.files: dict[str, list[Path]] = {}
        self._texts: dict[Path, str] = {}

    def setup(self, stage: str | None = None) -> None:
        """Read the modules, split them by file and make the tokenizer."""
        if not self.files:
            self._texts = self._read()
            self.files = self._split_files()
        super().setup(stage)

    def pieces(self, split: str) -> Iterator[tuple[str, bool]]:
        """Yield the modules of a split, joined by newlines into one document."""
        for number, file in enumerate(self.files[split]):
            yield "\n" * (number > 0) + self._texts[file], False

    def _split_files(self) -> dict[str, list[Path]]:
        characters = np.cumsum([len(text) for text in self._texts.values()])
        if len(self._texts) < 20:
            raise MissingDataError(
                f"max_characters: got {self.max_characters}, within which "
                f"{sysconfig.get_path('stdlib')} has {len(self._texts)} usable Python files, "
                "expected 20 or more; raise it, or use TextFile"
            )
        val, test = np.searchsorted(characters, characters[-1] * np.array([0.8, 0.9])).tolist()
        files = list(self._texts)
        return {"train": files[:val], "val": files[val:test], "test": files[test:]}

    def _read(self) -> dict[Path, str]:
        """Return the texts of random modules, by their files."""
        files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
        texts: dict[Path, str] = {}
        remaining, longest = self.max_characters, self.max_characters // 20
        for i in np.random.default_rng(self.seed).permutation(len(files)):
            raw = files[i].read_bytes()
            if raw.isascii() and 0 < len(raw) <= min(remaining, longest):
                texts[files[i]] = raw.decode("ascii").replace("\r\n", "\n")
                remaining -= len(raw)
        return texts
