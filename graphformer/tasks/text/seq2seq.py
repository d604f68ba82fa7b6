"""Sequence to sequence: an encoder-decoder that is shown the right beginning at every step."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from graphformer.batch_type import IGNORE_INDEX
from graphformer.models import EncoderDecoder
from graphformer.options import checked_options
from graphformer.patterns import Causal, Pattern, lengths
from graphformer.tasks.base import Stage, Task, TaskOptions, Updates, require_tokenizer
from graphformer.tasks.metrics import Mean, Perplexity, bleu
from graphformer.tasks.text.language import BALANCE, balanced

if TYPE_CHECKING:
    from torch_geometric.data import Data


class SequenceToSequenceOptions(TaskOptions, total=False):
    """The options of `SequenceToSequence` that `Denoising` accepts too."""

    label_smoothing: float
    bleu: bool
    balance: float


class SequenceToSequence(Task):
    """Cross-entropy of target tokens with teacher forcing; loss, perplexity, accuracy, exact match.

    The batch has x [M] (what the decoder reads), `lengths` and y [M] (what it shall answer; -100
    for nothing), and the sources' `source` [N] and `source_lengths`. Exact match is the share of
    targets whose every token is the likeliest one after the right beginning: those that greedy
    decoding gets right.

    Args:
        network: logits over the vocabulary, [M, K].
        adjacency: who attends to whom in the decoder.
        label_smoothing: share of the label that is spread over all tokens, in training.
        bleu: whether the test generates each target, by the likeliest tokens, and tells the BLEU.
        balance: weight of the load-balancing loss, where the network has a mixture of experts.
        options: those of `Task`.

    Source: Sutskever et al., 2014; Szegedy et al., 2016 (label smoothing).
    """

    @checked_options
    def __init__(
        self,
        network: nn.Module,
        adjacency: Pattern = Causal(),
        *,
        label_smoothing: float = 0.0,
        bleu: bool = False,
        balance: float = BALANCE,
        **options: Unpack[TaskOptions],
    ) -> None:
        super().__init__(network, adjacency, **options)
        self.label_smoothing, self.balance, self.bleu = label_smoothing, balance, bleu
        self._written: list[tuple[str, str]] = []
        self.add_metrics(
            {"loss": Mean(), "perplexity": Perplexity(), "accuracy": Mean(), "exact_match": Mean()}
        )

    def prepare(self, batch: Data, batch_idx: int, *, training: bool) -> Data:
        """Return the pairs to learn from: the batch itself."""
        return batch

    def training_step(self, batch: Data, batch_idx: int) -> Tensor:
        """Mean loss over the target tokens, []."""
        pairs = self.prepare(batch, batch_idx, training=True)
        total = F.cross_entropy(
            self(pairs).float(),
            pairs.y,
            ignore_index=IGNORE_INDEX,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
        count = (pairs.y != IGNORE_INDEX).sum()
        total = balanced(total, count, self.network, self.balance)
        return self.training_loss(total, count, rows=len(pairs.y))

    def test_step(self, batch: Data, batch_idx: int) -> None:
        """Update the test metrics, and generate answers if BLEU is wanted."""
        super().test_step(batch, batch_idx)
        if self.bleu:
            self._write(batch)

    def on_test_epoch_end(self) -> None:
        """Tell the BLEU of what was generated (in this process)."""
        if self._written:
            answers, references = zip(*self._written, strict=True)
            self.log("test/bleu", bleu(answers, references))
            self._written.clear()

    def _write(self, batch: Data) -> None:
        tokenizer = require_tokenizer(self)
        targets = batch.y.split(list(lengths(batch)))
        written = cast(EncoderDecoder, self.network).generate(
            batch,
            max_new_tokens=max(map(len, targets)) + 8,
            start_id=tokenizer.need("bos"),
            eos_token_id=tokenizer.need("eos"),
            temperature=0.0,
        )
        answers = cast("list[list[int]]", written)
        for answer, target in zip(answers, targets, strict=True):
            self._written.append((tokenizer.decode(answer), tokenizer.decode(target)))

    def evaluate(self, batch: Data, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Sums of the loss and of right tokens, and the number of targets without an error."""
        pairs = self.prepare(batch, batch_idx, training=False)
        logits, y = self(pairs).float(), pairs.y
        wrong = (logits.argmax(-1) != y) & (y != IGNORE_INDEX)
        samples = [row.any() for row in wrong.split(list(lengths(pairs)))]
        count, missed = (y != IGNORE_INDEX).sum(), torch.stack(samples).sum()
        total = F.cross_entropy(logits, y, ignore_index=IGNORE_INDEX, reduction="sum")
        updates = {
            "loss": (total, count),
            "perplexity": (total, count),
            "accuracy": (count - wrong.sum(), count),
            "exact_match": (len(samples) - missed, torch.tensor(len(samples), device=y.device)),
        }
        return updates, len(y)
