"""`MultilingualText`: documents in several languages, each with the code of its language."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from graphformer.data.batch import Batch
from graphformer.data.io.tabular import find_file, read_lines
from graphformer.data.loader import BatchLoader
from graphformer.data.ragged import Ragged
from graphformer.data.splits import split_samples
from graphformer.data.text.base import TokenizedData
from graphformer.data.text.tokenizer import SPECIAL_TOKENS, Tokenizer
from graphformer.data.text.tokenizer_training import KINDS, make_tokenizer, train_tokenizer
from graphformer.data.token_budget import budget_loader
from graphformer.deprecated import renamed_keywords


class MultilingualText(TokenizedData):
    """Documents of a file by language, rarer languages more often than their share.

    A batch has x (token ids, [N]), pos [N], lengths, and `language_ids` [B], the token of each
    document's language, which `Denoising` puts at the end of a source and the beginning of a
    target. A language with the share p of the training documents has p^alpha / sum p^alpha of the
    samples of an epoch, by repeating or leaving out random documents.

    Args:
        paths: file of each language, by its code such as "de"; a document is a line, perhaps .gz.
        alpha: exponent of the shares; 1 for those of the files, 0.7 in mBART.
        encoding: of the files.
        vocabulary: "characters", "bytes", "bpe" or "wordpiece" to train one on the training
            documents, with a special token <CODE> for each language; or a file of `graphformer
            tokenize` that has these.
        vocabulary_size: maximum number of tokens to train.
        max_length: number of tokens above which a document becomes several samples.
        max_tokens, max_edges: the budget of a batch; edges are all pairs of a sample's tokens.
        val_fraction, test_fraction: of the documents of each language.
        root: the data root.
        seed: of the random splits and of the order.

    Raises:
        MissingDataError: when a file does not exist.
        ValueError: when there is no file, alpha is negative, or the vocabulary lacks a language.

    Source: Liu et al., 2020 (mBART), section 2.1.
    """

    def __init__(
        self,
        paths: dict[str, str],
        *,
        alpha: float = 0.7,
        encoding: str = "utf-8",
        vocabulary: str = "bpe",
        vocabulary_size: int = 8192,
        max_length: int = 128,
        max_tokens: int = 4096,
        max_edges: int | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        root: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        if not paths:
            raise ValueError("paths: got none, expected a file for each language; add one")
        if not alpha >= 0:
            raise ValueError(f"alpha: got {alpha}, expected a number of at least 0")
        self.paths, self.alpha, self.encoding, self.root = paths, alpha, encoding, root
        self.vocabulary, self.vocabulary_size = vocabulary, vocabulary_size
        self.max_length, self.max_tokens, self.max_edges = max_length, max_tokens, max_edges
        self.fractions, self.seed = (val_fraction, test_fraction), seed
        self.documents: dict[str, dict[str, list[str]]] = {}

    def setup(self, stage: str | None = None) -> None:
        """Read the files, split their documents, and make the tokenizer.

        Raises:
            ValueError: when the vocabulary lacks the token of a language.
        """
        if not self.documents:
            for language, path in self.paths.items():
                lines = read_lines(find_file(path, self.root), self.encoding)
                read = {"train": [line for _, line in lines]}
                self.documents[language] = split_samples(read, self.fractions, self.seed)
        if self.tokenizer is None:
            self.tokenizer = self._make_tokenizer()
        missing = [name for name in self.paths if self.tokenizer.special(name) is None]
        if missing:
            raise ValueError(
                f"vocabulary: got one without <{'>, <'.join(missing)}>, expected a special token "
                "for each language; train one with vocabulary 'bpe' or 'wordpiece'"
            )

    def _make_tokenizer(self) -> Tokenizer:
        texts = [text for splits in self.documents.values() for text in splits["train"]]
        if self.vocabulary not in KINDS:
            return make_tokenizer(self.vocabulary, texts, vocab_size=self.vocabulary_size)
        special = [*SPECIAL_TOKENS, *(f"<{language}>" for language in self.paths)]
        return train_tokenizer(
            self.vocabulary, texts, vocab_size=self.vocabulary_size, special_tokens=special
        )

    def samples(self, split: str) -> LanguageSamples:
        """Return the documents of a split as token ids, with the tokens of their languages."""
        tokenizer = self.need_tokenizer()
        texts = {language: splits[split] for language, splits in self.documents.items()}
        if split == "train":
            texts = smoothed(texts, self.alpha, self.seed)
        rows: list[np.ndarray] = []
        languages: list[int] = []
        for language, documents in texts.items():
            for ids in tokenizer.encode_plain(documents):
                pieces = [piece.numpy() for piece in ids.split(self.max_length) if len(piece)]
                rows += pieces
                languages += [tokenizer.need(language)] * len(pieces)
        return LanguageSamples(rows, torch.tensor(languages, dtype=torch.int64))

    @renamed_keywords(part="split")
    def batches(self, split: str) -> BatchLoader:
        """Return the batches of a split within the budget, the training split's shuffled."""
        return budget_loader(
            self.samples(split),
            split,
            max_tokens=self.max_tokens,
            max_edges=self.max_edges,
            seed=self.seed,
        )


class LanguageSamples(Ragged):
    """Documents; a batch of them has also `language_ids`, int64 [B].

    Args:
        x: token ids of each document, [n].
        languages: token of the language of each, int64 [B].
    """

    def __init__(self, x: Sequence[np.ndarray], languages: Tensor) -> None:
        super().__init__(x)
        self.languages = languages

    def __getitem__(self, index: Tensor) -> Batch:
        batch = super().__getitem__(index)
        batch.language_ids = self.languages[index]
        return batch


def smoothed(texts: dict[str, list[str]], alpha: float, seed: int) -> dict[str, list[str]]:
    """Return the texts of each language in the shares p^alpha / sum p^alpha, about as many in all.

    Args:
        texts: by language, of which p is the share.
        alpha: exponent.
        seed: of the choice of the texts that come once more than others.
    """
    total = sum(map(len, texts.values()))
    weights = {name: len(own) ** alpha if own else 0.0 for name, own in texts.items()}
    generator = np.random.default_rng((seed, 5))
    result = {}
    for name, own in texts.items():
        count = round(total * weights[name] / sum(weights.values())) if own else 0
        whole, rest = divmod(count, max(1, len(own)))
        chosen = np.sort(generator.permutation(len(own))[:rest])
        result[name] = own * whole + [own[i] for i in chosen]
    return result
