"""Python's own standard library as a text."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from graphformer.data.io.cache import MissingDataError
from graphformer.data.text.language_modeling import Text


class StandardLibrary(Text):
    """A causal language model's batches from the source files of Python's own standard library.

    The modules are shuffled by `seed` and taken up to `max_characters`, without those that are not
    plain ASCII or longer than a twentieth of that. Whole files make up the last tenth, which is
    for testing, and the tenth before it, which is for validation.

    Raises:
        MissingDataError: this Python carries no source files.
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
        """Read the modules and divide them, split by file; make the vocabulary."""
        if not self.files:
            self._texts = self._read()
            self.files = self._divide()
        super().setup(stage)

    def pieces(self, split: str) -> Iterator[tuple[str, bool]]:
        """Yield a split's modules, joined by newlines."""
        for number, file in enumerate(self.files[split]):
            yield "\n" * (number > 0) + self._texts[file], False

    def _divide(self) -> dict[str, list[Path]]:
        characters = np.cumsum([len(text) for text in self._texts.values()])
        if len(self._texts) < 20:
            raise MissingDataError(
                f"{sysconfig.get_path('stdlib')} has {len(self._texts)} usable Python files within "
                f"max_characters {self.max_characters}: raise it, or use TextFile."
            )
        val, test = np.searchsorted(characters, characters[-1] * np.array([0.8, 0.9])).tolist()
        files = list(self._texts)
        return {"train": files[:val], "val": files[val:test], "test": files[test:]}

    def _read(self) -> dict[Path, str]:
        files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
        texts: dict[Path, str] = {}
        left, longest = self.max_characters, self.max_characters // 20
        for i in np.random.default_rng(self.seed).permutation(len(files)):
            raw = files[i].read_bytes()
            if raw.isascii() and 0 < len(raw) <= min(left, longest):
                texts[files[i]] = raw.decode("ascii").replace("\r\n", "\n")
                left -= len(raw)
        return texts
