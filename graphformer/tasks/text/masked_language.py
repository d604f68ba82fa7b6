"""`MaskedLanguageModeling`: prediction of masked tokens; `Masking` chooses and masks them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from graphformer.adjacency import Adjacency
from graphformer.batch_type import IGNORE_INDEX, BatchLike
from graphformer.data.io.tabular import find_file
from graphformer.data.text.tokenizer import Tokenizer
from graphformer.models import Model
from graphformer.nn import Head
from graphformer.options import checked_options
from graphformer.patterns import Complete, Pattern, lengths
from graphformer.tasks.base import Stage, Task, Updates
from graphformer.tasks.labels import at_least_float32, require_tokenizer
from graphformer.tasks.metrics import Mean, Perplexity
from graphformer.tasks.options import TaskOptions
from graphformer.tasks.seeding import (
    Generators,
    batch_generators,
    draw_uniform,
    sample_generators,
)
from graphformer.tasks.text.language import BALANCE, balanced
from graphformer.tasks.text.phrases import PhraseList, read_phrases


class Masking:
    """Masks tokens of batches that share a vocabulary.

    Args:
        vocab_size: number of ids; random tokens are drawn from them.
        mask_id: id of the mask.
        special_ids: ids that are neither masked nor drawn.
        word_starts: which tokens begin a word, [vocab_size]; None: single tokens are masked.
        phrases: phrases that are masked as a whole; None for none.
        rate: share of the tokens to mask.
        static: whether a sample is masked in the same way every time.
        seed: of the random choice.

    Raises:
        ValueError: when the rate is not between 0 and 1.
    """

    def __init__(
        self,
        vocab_size: int,
        mask_id: int,
        special_ids: tuple[int, ...] = (),
        word_starts: np.ndarray | None = None,
        phrases: PhraseList | None = None,
        *,
        rate: float = 0.15,
        static: bool = False,
        seed: int = 0,
    ) -> None:
        check_mask_rate(rate)
        self.mask_id, self.special_ids, self.word_starts = mask_id, special_ids, word_starts
        self.phrases = phrases
        self.rate, self.static, self.seed = rate, static, seed
        excluded = np.union1d(np.array(special_ids, np.int64), [mask_id])
        self.replacements = np.setdiff1d(np.arange(vocab_size), excluded)

    def __call__(self, batch: BatchLike, generators: Generators) -> tuple[BatchLike, Tensor]:
        """Return a copy of the batch with masked tokens, and labels [N], -100 elsewhere.

        Args:
            batch: tokens x [N] of samples.
            generators: of the draws of each sample; a static masking has its own.
        """
        x, sizes = batch.x.cpu().numpy(), lengths(batch)
        if self.static:
            generators = sample_generators(batch.x, sizes, self.seed)
        uniform = draw_uniform(generators, sizes)
        excluded = np.isin(x, self.special_ids)
        chosen = choose_tokens(uniform, self.rate, excluded=excluded, word=self._units(x, sizes))
        kind = draw_uniform(generators, sizes)
        number = (draw_uniform(generators, sizes) * len(self.replacements)).astype(np.int64)
        replaced = np.where(
            chosen, mask_tokens(x, kind, self.replacements[number], self.mask_id), x
        )
        masked = batch.clone()
        masked.x = torch.from_numpy(replaced).to(batch.x)
        labels = torch.from_numpy(np.where(chosen, x, IGNORE_INDEX)).to(batch.x)
        return masked, labels

    def _units(self, x: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray | None:
        """Return the number of the word or phrase that each token is masked with, [N]."""
        if self.word_starts is None and self.phrases is None:
            return None
        starts = np.ones(len(x), bool) if self.word_starts is None else self.word_starts[x]
        words = number_words(starts, sizes)
        return words if self.phrases is None else self.phrases.join(words, x, sizes)


def check_mask_rate(rate: float) -> None:
    """Check that a rate is a share between 0 and 1.

    Raises:
        ValueError: when it is not.
    """
    if not 0 < rate < 1:
        raise ValueError(f"mask_rate: got {rate}, expected a share between 0 and 1")


class MaskedLanguageModeling(Task):
    """Cross-entropy of masked tokens, with loss, perplexity and accuracy over them.

    Of a batch only x [N] and the sizes of the samples are used, so that data for language models
    can be used. Every training step has new masks, which depend on the seed, the step and the
    sample (RoBERTa); those of validation and test are fixed.

    Args:
        network: computes logits over the vocabulary, [N, K].
        adjacency: pattern of the edges of attention.
        mask_rate: share of the tokens to predict; 80 % of them are replaced by the mask, 10 % by
            a random token, and 10 % are kept.
        whole_words: whether words are masked as a whole instead of tokens.
        phrases: a file of phrases and names, one a line, or a file such as data.noun.gz of WordNet,
            for its collocations; they are masked as a whole (ERNIE).
        static: whether a sample is masked in the same way every time.
        seed: of the masks.
        balance: weight of the load-balancing loss of a network with experts.
        options: those of `Task`.

    Raises:
        MissingDataError: when the file of phrases does not exist.
        ValueError: when the mask rate is not between 0 and 1.

    Source: Devlin et al., 2019; Liu et al., 2019 (RoBERTa); phrases: Sun et al., 2019 (ERNIE).
    """

    @checked_options
    def __init__(
        self,
        network: nn.Module,
        adjacency: Pattern = Complete(),
        *,
        mask_rate: float = 0.15,
        whole_words: bool = False,
        phrases: str | None = None,
        static: bool = False,
        seed: int = 0,
        balance: float = BALANCE,
        **options: Unpack[TaskOptions],
    ) -> None:
        super().__init__(network, adjacency, **options)
        check_mask_rate(mask_rate)
        self.mask_rate, self.whole_words, self.static = mask_rate, whole_words, static
        self.seed, self.balance = seed, balance
        self.phrases = phrases
        self.masking: Masking | None = None
        self.add_metrics({"loss": Mean(), "perplexity": Perplexity(), "accuracy": Mean()})

    def setup(self, stage: str) -> None:
        """Reset masking for this run's tokenizer."""
        super().setup(stage)
        self.masking = None  # made at the first step, after a checkpoint's tokenizer is loaded

    def training_step(self, batch: BatchLike, batch_idx: int) -> Tensor:
        """Return the mean loss over the masked tokens of a batch, []."""
        masked, y = self._masked(batch, training=True)
        logits, labels = self._predictions(masked, y)
        total = F.cross_entropy(logits, labels, reduction="sum")
        count = total.new_tensor(len(labels), dtype=torch.int64)
        total = balanced(total, count, self.network, self.balance, self)
        return self.training_loss(total, count, rows=len(y))

    def _masked(self, batch: BatchLike, *, training: bool) -> tuple[BatchLike, Tensor]:
        if self.masking is None:
            self.masking = make_masking(
                self,
                rate=self.mask_rate,
                whole_words=self.whole_words,
                phrases=self.phrases,
                static=self.static,
                seed=self.seed,
            )
        return self.masking(batch, batch_generators(self, batch, self.seed, training=training))

    def _predictions(self, masked: BatchLike, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of the masked tokens [n, K], and their labels [n]."""
        is_masked = y != IGNORE_INDEX
        return logits_at(self.network, masked, self.adjacency(masked), is_masked), y[is_masked]

    def evaluate(self, batch: BatchLike, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Return the sums of losses and of correct predictions over the masked tokens."""
        masked, y = self._masked(batch, training=False)
        logits, labels = self._predictions(masked, y)
        total = F.cross_entropy(logits, labels, reduction="sum")
        correct = (logits.argmax(-1) == labels).sum()
        count = correct.new_tensor(len(labels))
        loss = total, count
        return {"loss": loss, "perplexity": loss, "accuracy": (correct, count)}, len(y)


def logits_at(network: nn.Module, batch: BatchLike, adjacency: Adjacency, nodes: Tensor) -> Tensor:
    """Return the logits of a network at n nodes, a mask [N] or numbers [n]; float32 [n, K]."""
    if isinstance(network, Model) and isinstance(network.head, Head):
        # The vocabulary is large, so the head is applied to these nodes only.
        positions = getattr(batch, "pos", None)
        outputs = network.transformer(network.embedding(batch), adjacency, positions)
        return at_least_float32(network.head(outputs[nodes], batch))
    logits: Tensor = network(batch, adjacency)
    return at_least_float32(logits[nodes])


def make_masking(
    task: Task,
    *,
    rate: float,
    whole_words: bool = False,
    phrases: str | None = None,
    static: bool = False,
    seed: int = 0,
) -> Masking:
    """Return the masking for the tokenizer of the data that a task runs on.

    `phrases` is a file of phrases that are masked as a whole.

    Raises:
        ValueError: when the data has no tokenizer, or when that has no mask.
    """
    tokenizer = require_tokenizer(task)
    return Masking(
        tokenizer.vocab_size,
        tokenizer.need("mask"),
        tokenizer.special_ids,
        tokenizer.word_starts.numpy() if whole_words else None,
        None if phrases is None else _phrase_list(phrases, tokenizer),
        rate=rate,
        static=static,
        seed=seed,
    )


def _phrase_list(path: str, tokenizer: Tokenizer) -> PhraseList:
    return PhraseList.from_texts(read_phrases(find_file(path, None)), tokenizer)


def choose_tokens(
    uniform: np.ndarray, rate: float, *, excluded: np.ndarray, word: np.ndarray | None = None
) -> np.ndarray:
    """Return which tokens are chosen, each token or word with probability `rate`, bool [N].

    Args:
        uniform: numbers drawn from [0, 1), [N].
        rate: share of the tokens.
        excluded: tokens that are never chosen, such as <cls>, bool [N].
        word: number of each token's word, ascending, [N]; words are chosen as a whole, by the
            number of their first token. None: tokens are chosen.
    """
    if word is not None and len(word):
        first = np.flatnonzero(np.diff(word, prepend=word[0] - 1))
        uniform = np.repeat(uniform[first], np.diff(np.append(first, len(word))))
    return (uniform < rate) & ~excluded


def number_words(starts: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
    """Return the number of each token's word, [N].

    Args:
        starts: which tokens begin a word, bool [N]; the first token of a sample always does.
        lengths: number of tokens of each sample.
    """
    starts = starts.copy()
    sizes = np.array(lengths)
    first = (sizes.cumsum() - sizes)[sizes > 0]
    starts[first] = True
    return starts.cumsum()


def mask_tokens(x: np.ndarray, uniform: np.ndarray, random: np.ndarray, mask_id: int) -> np.ndarray:
    """Return the tokens with 80 % of them masked, 10 % random, and 10 % unchanged.

    Args:
        x: token ids [N].
        uniform: numbers drawn from [0, 1), [N].
        random: random token ids, [N].
        mask_id: id of the mask.

    Source: Devlin et al., 2019, section 3.1.
    """
    return np.select([uniform < 0.8, uniform < 0.9], [np.full_like(x, mask_id), random], x)
