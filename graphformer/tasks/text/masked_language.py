"""Masked language modelling: hidden tokens from all the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from graphformer.adjacency import Adjacency
from graphformer.batch_type import IGNORE_INDEX
from graphformer.models import Model
from graphformer.nn import Head
from graphformer.options import checked_options
from graphformer.patterns import Complete, Pattern, lengths
from graphformer.tasks.base import Stage, Task, TaskOptions, Updates, require_tokenizer
from graphformer.tasks.metrics import Mean, Perplexity
from graphformer.tasks.seeding import batch_generator, sample_generators
from graphformer.tasks.text.language import BALANCE, balanced

if TYPE_CHECKING:
    from torch_geometric.data import Data


from collections.abc import Sequence


class Masking:
    """How tokens are hidden, for batches of one vocabulary.

    Args:
        vocab_size: ids from 0 that random tokens are drawn from.
        mask_id: the mask's id.
        special_ids: ids that are neither hidden nor drawn.
        word_starts: which tokens begin a word [vocab_size]; None: hide single tokens.
        rate: share of the tokens to hide.
        static: whether a sample is masked the same way every time.
        seed: of the chance.
    """

    def __init__(
        self,
        vocab_size: int,
        mask_id: int,
        special_ids: tuple[int, ...] = (),
        word_starts: np.ndarray | None = None,
        *,
        rate: float = 0.15,
        static: bool = False,
        seed: int = 0,
    ) -> None:
        if not 0 < rate < 1:
            raise ValueError(f"mask_rate is {rate}: expected a share between 0 and 1.")
        self.mask_id, self.special_ids, self.word_starts = mask_id, special_ids, word_starts
        self.rate, self.static, self.seed = rate, static, seed
        spared = np.union1d(np.array(special_ids, np.int64), [mask_id])
        self.replacements = np.setdiff1d(np.arange(vocab_size), spared)

    def __call__(self, batch: Data, generator: np.random.Generator) -> tuple[Data, Tensor]:
        """Return a copy of the batch with tokens hidden, and their ids [N], -100 where none is."""
        x, sizes = batch.x.cpu().numpy(), lengths(batch)
        chance = generator.random(len(x))
        if self.static:
            own = sample_generators(batch.x, sizes, self.seed)
            drawn = [g.random(size) for g, size in zip(own, sizes, strict=True)]
            chance, generator = np.concatenate([np.zeros(0), *drawn]), own[0] if own else generator
        word = None
        if self.word_starts is not None:
            word = number_words(self.word_starts[x], sizes)
        spared = np.isin(x, self.special_ids)
        chosen = choose_tokens(chance, self.rate, spared=spared, word=word)
        hidden = hide_tokens(
            x, chosen, generator, mask_id=self.mask_id, replacements=self.replacements
        )
        masked = batch.clone()
        masked.x = torch.from_numpy(hidden).to(batch.x)
        labels = torch.from_numpy(np.where(chosen, x, IGNORE_INDEX)).to(batch.x)
        return masked, labels


class MaskedLanguageModeling(Task):
    """Cross-entropy on hidden tokens, with loss, perplexity and accuracy over these.

    Reads `batch.x` [N] alone, so that the data of language models serve it. Masks are drawn anew
    for every batch (RoBERTa's way), repeatably; those of validation and test are fixed.

    Args:
        network: logits over the vocabulary, [N, K].
        adjacency: who attends to whom.
        mask_rate: share of the tokens to hide: 80 % of them by the mask, 10 % by a random token,
            10 % not at all.
        whole_words: hide words rather than tokens.
        static: mask a sample the same way every time.
        seed: of the masks.
        balance: weight of the load-balancing loss, where the network has a mixture of experts.
        options: those of `Task`.

    Source: Devlin et al., 2019; Liu et al., 2019 (RoBERTa).
    """

    @checked_options
    def __init__(
        self,
        network: nn.Module,
        adjacency: Pattern = Complete(),
        *,
        mask_rate: float = 0.15,
        whole_words: bool = False,
        static: bool = False,
        seed: int = 0,
        balance: float = BALANCE,
        **options: Unpack[TaskOptions],
    ) -> None:
        super().__init__(network, adjacency, **options)
        self.mask_rate, self.whole_words, self.static = mask_rate, whole_words, static
        self.seed, self.balance = seed, balance
        self.masking: Masking | None = None
        self.add_metrics({"loss": Mean(), "perplexity": Perplexity(), "accuracy": Mean()})

    def setup(self, stage: str) -> None:
        """Ask the data for its mask and its special tokens."""
        super().setup(stage)
        self.masking = None  # a checkpoint's vocabulary comes later

    def training_step(self, batch: Data, batch_idx: int) -> Tensor:
        """Mean loss over the hidden tokens, []."""
        masked, y = self._masked(batch, batch_idx, training=True)
        logits, asked = self._guesses(masked, y)
        total = F.cross_entropy(logits, asked, reduction="sum")
        count = total.new_tensor(len(asked), dtype=torch.int64)
        total = balanced(total, count, self.network, self.balance)
        return self.training_loss(total, count, rows=len(y))

    def _masked(self, batch: Data, batch_idx: int, *, training: bool) -> tuple[Data, Tensor]:
        if self.masking is None:
            self.masking = make_masking(
                self,
                rate=self.mask_rate,
                whole_words=self.whole_words,
                static=self.static,
                seed=self.seed,
            )
        return self.masking(batch, batch_generator(self, self.seed, batch_idx, training=training))

    def _guesses(self, masked: Data, y: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the hidden tokens [n, K], and what these are [n]."""
        asked = y != IGNORE_INDEX
        return logits_of(self.network, masked, self.adjacency(masked), asked), y[asked]

    def evaluate(self, batch: Data, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Sums of the loss and of right answers over the hidden tokens."""
        masked, y = self._masked(batch, batch_idx, training=False)
        logits, asked = self._guesses(masked, y)
        total = F.cross_entropy(logits, asked, reduction="sum")
        right = (logits.argmax(-1) == asked).sum()
        count = right.new_tensor(len(asked))
        loss = total, count
        return {"loss": loss, "perplexity": loss, "accuracy": (right, count)}, len(y)


def logits_of(network: nn.Module, batch: Data, adjacency: Adjacency, asked: Tensor) -> Tensor:
    """Logits [n, K] of a network at the nodes that are asked for, [N] bool."""
    if isinstance(network, Model) and isinstance(network.head, Head):
        # The vocabulary is wide: only what is asked for goes through the head.
        places = getattr(batch, "pos", None)
        nodes = network.transformer(network.embedding(batch), adjacency, places)
        return network.head(nodes[asked], batch).float()
    logits: Tensor = network(batch, adjacency)
    return logits[asked].float()


def make_masking(
    task: Task, *, rate: float, whole_words: bool = False, static: bool = False, seed: int = 0
) -> Masking:
    """The masking for the vocabulary of the data that a task is run on.

    Raises:
        ValueError: the data has no tokenizer, or that no mask.
    """
    tokenizer = require_tokenizer(task)
    return Masking(
        tokenizer.vocab_size,
        tokenizer.need("mask"),
        tokenizer.special_ids,
        tokenizer.word_starts.numpy() if whole_words else None,
        rate=rate,
        static=static,
        seed=seed,
    )


def choose_tokens(
    chance: np.ndarray, rate: float, *, spared: np.ndarray, word: np.ndarray | None = None
) -> np.ndarray:
    """Choose each token, or each word, with probability `rate`: bool [N].

    Args:
        chance: numbers drawn from [0, 1), [N].
        rate: share of the tokens.
        spared: tokens that are never chosen [N], such as <cls>.
        word: number of each token's word [N], ascending; then words are chosen as wholes, by the
            chance of their first token.
    """
    if word is not None and len(word):
        first = np.flatnonzero(np.diff(word, prepend=word[0] - 1))
        chance = np.repeat(chance[first], np.diff(np.append(first, len(word))))
    return (chance < rate) & ~spared


def number_words(starts: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
    """The number of each token's word [N], from which tokens begin one [N] and the samples."""
    starts = starts.copy()
    sizes = np.array(lengths)
    first = (sizes.cumsum() - sizes)[sizes > 0]
    starts[first] = True
    return starts.cumsum()


def hide_tokens(
    x: np.ndarray,
    chosen: np.ndarray,
    generator: np.random.Generator,
    *,
    mask_id: int,
    replacements: np.ndarray,
) -> np.ndarray:
    """Replace 80 % of the chosen tokens by the mask, 10 % by random ones, and keep 10 %.

    Args:
        x: token ids [N].
        chosen: [N] bool.
        generator: of the random numbers.
        mask_id: the mask's id.
        replacements: the ids that a random one is drawn from.

    Source: Devlin et al., 2019, section 3.1.
    """
    fate = generator.random(len(x))
    random = replacements[generator.integers(len(replacements), size=len(x))]
    hidden = np.where(chosen & (fate < 0.8), mask_id, x)
    return np.where(chosen & (fate >= 0.8) & (fate < 0.9), random, hidden)
