"""`NgramText`: labelled texts whose frequent n-grams are nodes beside the tokens, as in ZEN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphformer.data.batch import Batch
from graphformer.data.ragged import Ragged
from graphformer.data.text.classification import LabelledText
from graphformer.data.text.ngrams.lexicon import Ngram, NgramMatcher, ngram_lexicon


class NgramText(LabelledText):
    """Texts to classify, with the n-grams of a lexicon as further nodes after the tokens.

    The lexicon has the n-grams of the training texts that are frequent and whose parts have a high
    mutual information. A batch has the fields of `LabelledText`, with the ids of n-grams after
    those of tokens in x; and token_types (1 at n-grams), documents (the tokens and the n-grams of
    each text) and edge_index (from the tokens of an n-gram to it). The pattern
    `Documents() | Edges(undirected=True)` connects the tokens, the n-grams, and each n-gram with
    its tokens; `Documents()` separates both. The position of an n-gram is that of its first token.

    Args:
        path, val_path, test_path: as in `LabelledText`.
        text, label, classes, lines, encoding: as in `LabelledText`.
        vocabulary, vocabulary_size, max_length, cls: as in `LabelledText`.
        max_ngram_length: number of tokens of the longest n-grams.
        min_count: how often an n-gram occurs at least.
        min_information: its pointwise mutual information, at least, in nats.
        max_ngrams: only as many n-grams, the most frequent ones.
        max_tokens: the budget of a batch, in nodes.
        val_fraction, test_fraction: of `path` for the splits without a file.
        root: the data root.
        seed: of the random split and of the order.

    Raises:
        MissingDataError: when a file does not exist.
        ValueError: as `LabelledText`; and when no n-gram is frequent enough.

    Source: Diao et al., 2020, "ZEN: pre-training Chinese text encoder enhanced by n-gram
    representations".
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
        lines: bool = False,
        encoding: str = "utf-8",
        vocabulary: str = "characters",
        vocabulary_size: int = 8192,
        max_length: int = 512,
        cls: bool = False,
        max_ngram_length: int = 8,
        min_count: int = 5,
        min_information: float = 3.0,
        max_ngrams: int = 10_000,
        max_tokens: int = 4096,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        root: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            path,
            val_path,
            test_path,
            text=text,
            label=label,
            classes=classes,
            lines=lines,
            encoding=encoding,
            vocabulary=vocabulary,
            vocabulary_size=vocabulary_size,
            max_length=max_length,
            cls=cls,
            max_tokens=max_tokens,
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            root=root,
            seed=seed,
        )
        self.save_hyperparameters(logger=False)
        self.max_ngram_length, self.min_count = max_ngram_length, min_count
        self.min_information, self.max_ngrams = min_information, max_ngrams
        self.lexicon: list[Ngram] = []

    def setup(self, stage: str | None = None) -> None:
        """Read the texts, make the tokenizer and, unless a checkpoint had one, the lexicon."""
        super().setup(stage)
        if self.lexicon:
            return
        ids = self.need_tokenizer().encode_batch(self.training_texts())
        self.lexicon = ngram_lexicon(
            [row.numpy()[: self.max_length] for row in ids],
            max_length=self.max_ngram_length,
            min_count=self.min_count,
            min_information=self.min_information,
            max_ngrams=self.max_ngrams,
        )
        if not self.lexicon:
            raise ValueError(
                f"min_count, min_information: got {self.min_count} and {self.min_information}, "
                "which no n-gram of the training texts reaches; lower one of them"
            )

    @property
    def vocab_size(self) -> int:
        """Number of tokens and n-grams."""
        return super().vocab_size + len(self.lexicon)

    def samples(self, split: str) -> NgramSamples:  # type: ignore[override]
        """Return the texts of a split with their n-grams and labels."""
        texts = super().samples(split)
        rows = np.split(texts.x, texts.lengths.cumsum()[:-1])
        return self._with_ngrams(rows, None if texts.y is None else texts.y.tolist())

    def pack(self, inputs: Sequence[str]) -> Batch:
        """Return texts with their n-grams as a batch."""
        rows = self._token_ids(self.need_tokenizer(), list(inputs))
        return self._with_ngrams(rows, None)[torch.arange(len(rows))]

    def state_dict(self) -> dict[str, Any]:
        """Return the tokenizer, the class names and the lexicon, for a checkpoint."""
        return {**super().state_dict(), "ngrams": [list(ngram) for ngram in self.lexicon]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the tokenizer, the class names and the lexicon of a checkpoint."""
        super().load_state_dict(state_dict)
        self.lexicon = [tuple(ngram) for ngram in state_dict.get("ngrams", [])]

    def _with_ngrams(self, rows: list[np.ndarray], labels: list[int] | None) -> NgramSamples:
        matcher = NgramMatcher(self.lexicon)
        first_id = super().vocab_size
        found = [matcher(row) for row in rows]
        nodes = [
            np.concatenate([row, first_id + numbers])
            for row, (numbers, _, _) in zip(rows, found, strict=True)
        ]
        edges = [
            np.stack([pairs[0], pairs[1] + len(row)])
            for row, (_, _, pairs) in zip(rows, found, strict=True)
        ]
        positions = [
            np.concatenate([np.arange(len(row)), first])
            for row, (_, first, _) in zip(rows, found, strict=True)
        ]
        return NgramSamples(Ragged(nodes, labels, edges), positions, first_id)


class NgramSamples:
    """Texts with n-grams in memory, packed by the batch.

    Args:
        nodes: ids of tokens and n-grams of each text, its label, and its edges.
        positions: of the nodes of each text.
        first_id: id of the first n-gram.
    """

    def __init__(self, nodes: Ragged, positions: list[np.ndarray], first_id: int) -> None:
        self.nodes, self.positions, self.first_id = nodes, positions, first_id
        self.lengths, self.num_edges = nodes.lengths, nodes.num_edges

    def __len__(self) -> int:
        return len(self.nodes)

    def __getitem__(self, index: Tensor) -> Batch:
        batch = self.nodes[index]
        chosen = index.tolist()
        batch.pos = torch.from_numpy(np.concatenate([self.positions[i] for i in chosen]))
        batch.token_types = (batch.x >= self.first_id).long()
        documents = []
        for types in batch.token_types.split(list(batch.lengths)):
            ngrams = int(types.sum())
            documents += [len(types) - ngrams, ngrams]
        batch.documents = tuple(documents)
        return batch
