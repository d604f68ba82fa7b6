"""`TaggedText`: sentences with a tag for each word, for taggers of subword tokens."""

from __future__ import annotations

from typing import Literal

import numpy as np

from graphformer.data.batch import IGNORE_INDEX
from graphformer.data.io.tabular import find_file
from graphformer.data.ragged import Ragged
from graphformer.data.text.base import FilePath, LabelledData, TokenizedFiles
from graphformer.data.text.conllu import Sentence, number_tags, read_conllu


class TaggedText(TokenizedFiles[Sentence], LabelledData):
    """Sentences whose words are tagged, as subword tokens in batches within a budget.

    A batch has x (token ids, [N]), pos [N], lengths, and y [N]: a word's tag at its first token;
    -100 at its other tokens, at special tokens, where the file has "_", and for tags that are
    absent from the training split.

    Args:
        path: a CoNLL-U file to train on, perhaps .gz.
        val_path, test_path: others; else fractions of `path`, at random.
        label: "upos", "xpos" or "relation" (to the head).
        vocabulary: a file of `graphformer tokenize`, the folder of a run or of a checkpoint, or
            "bpe" or "wordpiece" to train one on the training split.
        vocabulary_size: maximum number of tokens to train.
        max_length: maximum number of tokens of a sentence; further ones are cut off.
        max_tokens: the budget of a batch.
        val_fraction, test_fraction: of `path` for the splits without a file.
        root: the data root.
        seed: of the random split and of the order.

    Raises:
        MissingDataError: when a file does not exist.
        ValueError: when a line is not CoNLL-U, or when no word has a tag.

    Source: Devlin et al., 2019, section 5.3.
    """

    def __init__(
        self,
        path: str,
        val_path: str | None = None,
        test_path: str | None = None,
        *,
        label: Literal["upos", "xpos", "relation"] = "upos",
        vocabulary: str = "wordpiece",
        vocabulary_size: int = 8192,
        max_length: int = 512,
        max_tokens: int = 2048,
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
            max_edges=None,
            root=root,
            seed=seed,
        )
        self.save_hyperparameters(logger=False)
        self.label, self.max_length = label, max_length

    def setup(self, stage: str | None = None) -> None:
        """Read the sentences, number the tags and make the tokenizer."""
        super().setup(stage)
        self.find_labels(number_tags(self.splits["train"], self.label))

    def training_texts(self) -> list[str]:
        """Return the training sentences as text, their words separated by blanks."""
        return [" ".join(sentence.forms) for sentence in self.splits["train"]]

    def samples(self, split: str) -> Ragged:
        """Return the token ids of a split's sentences, and the tags at the words' first tokens."""
        backend, sentences = self.need_tokenizer().backend, self.splits[split]
        backend.enable_truncation(self.max_length)
        encoded = backend.encode_batch([list(s.forms) for s in sentences], is_pretokenized=True)
        backend.no_truncation()
        rows = [np.array(one.ids, np.int64) for one in encoded]
        self.check_tokens(split, rows, [" ".join(sentence.forms) for sentence in sentences])
        labels = self.number_labels([sentence.labels for sentence in sentences])
        tags = [
            _at_first_tokens(one.word_ids, row) for one, row in zip(encoded, labels, strict=True)
        ]
        return Ragged(rows, tags)

    def read(self, path: FilePath) -> list[Sentence]:
        """Return the sentences of a CoNLL-U file."""
        return list(read_conllu(find_file(path, self.root), self.label))


def _at_first_tokens(words: list[int | None], tags: list[int]) -> np.ndarray:
    """Return each word's tag at its first token, -100 elsewhere, [n].

    Args:
        words: number of each token's word, [n]; None for special tokens.
        tags: of each word.
    """
    previous: list[int | None] = [None, *words[:-1]]
    pairs = zip(words, previous, strict=True)
    return np.array(
        [IGNORE_INDEX if w is None or w == last else tags[w] for w, last in pairs], np.int64
    )
