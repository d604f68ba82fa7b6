"""`ClozeText`: texts to classify as texts with a gap, whose word names the class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from graphformer.data.batch import Batch, pack_tokens
from graphformer.data.ragged import Ragged
from graphformer.data.text.classification import LabelledText
from graphformer.data.text.prompted.cloze_template import Cloze, split_template


class ClozeText(LabelledText):
    """Texts to classify, each within a template with a gap for the word of its class.

    A batch has x (token ids, [N]), pos [N], lengths and y [B] as `LabelledText`, and
    `answer_nodes` [B], the nodes that predict the words, and `answer_ids` [B, K], the tokens of
    the words; the task is `ClozeClassification`.

    Args:
        path, val_path, test_path: as of `LabelledText`.
        template: with {text} and {mask} once each, such as "{text} It was {mask}.".
        words: the word of each class, one token each.
        causal: whether the network is a decoder, which predicts the word after the last token of
            the template; this ends with {mask}. Otherwise {mask} is the token <mask>.
        text, label, classes, lines, encoding: as of `LabelledText`.
        vocabulary, vocabulary_size: as of `LabelledText`.
        max_length: maximum number of tokens with the template; a longer text is cut at its end.
        max_tokens, max_edges, val_fraction, test_fraction, root, seed: as of `LabelledText`.

    Raises:
        MissingDataError: when a file does not exist.
        ValueError: as of `Cloze`; or when the words are not those of the classes.

    Source: Schick and Schuetze, 2021, "Exploiting Cloze Questions" (PET).
    """

    def __init__(
        self,
        path: str,
        val_path: str | None = None,
        test_path: str | None = None,
        *,
        template: str,
        words: dict[str, str],
        causal: bool = False,
        text: str = "text",
        label: str | None = "label",
        classes: dict[str, str] | None = None,
        lines: bool = False,
        encoding: str = "utf-8",
        vocabulary: str = "wordpiece",
        vocabulary_size: int = 8192,
        max_length: int = 512,
        max_tokens: int = 4096,
        max_edges: int | None = None,
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
            max_tokens=max_tokens,
            max_edges=max_edges,
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            root=root,
            seed=seed,
        )
        self.save_hyperparameters(logger=False)
        split_template(template, causal=causal)  # raises early if it is wrong
        self.template, self.words, self.causal = template, words, causal

    def setup(self, stage: str | None = None) -> None:
        """Read the texts, number the labels and find the tokens of the words.

        Raises:
            ValueError: when the words are not those of the classes, or are not one token each.
        """
        super().setup(stage)
        if set(self.words) != set(self.labels):
            raise ValueError(
                f"words: got the classes {', '.join(sorted(self.words))}, expected "
                f"{', '.join(self.labels[:10])}; give each of these a word"
            )
        words = {label: self.words[label] for label in self.labels}
        self.cloze = Cloze(self.template, words, self.need_tokenizer(), causal=self.causal)

    def samples(self, split: str) -> ClozeSamples:
        """Return the token ids of a split's texts in the template, and their classes."""
        texts = [text for text, _ in self.splits[split]]
        y = None if self.label is None else self._class_numbers(split).tolist()
        rows, nodes = self._encode_batch(texts)
        return ClozeSamples(rows, y, nodes, self.cloze.answer_ids)

    def pack(self, inputs: Sequence[str]) -> Batch:
        """Return texts in the template as a batch of token ids."""
        rows, nodes = self._encode_batch(inputs)
        batch = pack_tokens(rows)
        return with_answers(batch, nodes, self.cloze.answer_ids)

    def _encode_batch(self, texts: Sequence[str]) -> tuple[list[np.ndarray], np.ndarray]:
        """Return the ids of each text in the template, and the node that predicts its word, [B]."""
        encoded = [self.cloze.encode(text, self.max_length) for text in texts]
        return [ids for ids, _ in encoded], np.array([node for _, node in encoded], np.int64)


class ClozeSamples(Ragged):
    """Texts in a template; a batch of them has also `answer_nodes` [B] and `answer_ids` [B, K].

    Args:
        x: token ids of each text, [n].
        y: class of each text, or None.
        nodes: number of the node of each text that predicts the word, int64 [B].
        answer_ids: token of each class, int64 [K].
    """

    def __init__(
        self,
        x: Sequence[np.ndarray],
        y: Sequence[int] | None,
        nodes: np.ndarray,
        answer_ids: Tensor,
    ) -> None:
        super().__init__(x, y)
        self.nodes, self.answer_ids = nodes, answer_ids

    def __getitem__(self, index: Tensor) -> Batch:
        return with_answers(super().__getitem__(index), self.nodes[index.numpy()], self.answer_ids)


def with_answers(batch: Batch, nodes: np.ndarray, answer_ids: Tensor) -> Batch:
    """Add `answer_nodes` and `answer_ids` to a batch, and return it.

    Args:
        batch: of B texts.
        nodes: number of the node in each text that predicts the word, int64 [B].
        answer_ids: token of each class, int64 [K].
    """
    sizes = np.array(batch.lengths, np.int64)
    batch.answer_nodes = torch.from_numpy(nodes + sizes.cumsum() - sizes)
    batch.answer_ids = answer_ids.expand(len(nodes), -1)
    return batch
