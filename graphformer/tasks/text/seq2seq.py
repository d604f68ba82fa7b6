"""`SequenceToSequence`: encoder-decoders trained with teacher forcing."""

from __future__ import annotations

from itertools import chain
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from graphformer.batch_type import IGNORE_INDEX, BatchLike
from graphformer.data.loader import is_padding
from graphformer.distributed import data_parallel
from graphformer.models import EncoderDecoder
from graphformer.models.generation import max_length
from graphformer.options import checked_options
from graphformer.patterns import Causal, Pattern, lengths
from graphformer.tasks.base import Stage, Task, Updates
from graphformer.tasks.labels import at_least_float32, require_tokenizer
from graphformer.tasks.metrics import Mean, Perplexity, bleu
from graphformer.tasks.options import TaskOptions
from graphformer.tasks.text.language import BALANCE, balanced


class SequenceToSequenceOptions(TaskOptions, total=False):
    """The options of `SequenceToSequence` that `Denoising` accepts too."""

    label_smoothing: float
    bleu: bool
    balance: float


class SequenceToSequence(Task):
    """Cross-entropy of target tokens with teacher forcing.

    A batch has the decoder's input x [M], its labels y [M] (-100: none) and lengths, and the
    encoder's source [N] and source_lengths. Metrics are loss, perplexity, accuracy and exact match:
    the share of targets all of whose tokens are the likeliest ones given the preceding target
    tokens, which is the share that greedy decoding generates without an error.

    Args:
        network: computes logits over the vocabulary, [M, K].
        adjacency: pattern of the edges of attention in the decoder.
        label_smoothing: share of the label that is spread over all tokens, in training.
        bleu: whether the test generates a target for each source greedily and logs the BLEU score.
        balance: weight of the load-balancing loss of a network with experts.
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
        self._generated: list[tuple[str, str]] = []
        self.add_metrics(
            {"loss": Mean(), "perplexity": Perplexity(), "accuracy": Mean(), "exact_match": Mean()}
        )

    def prepare(self, batch: BatchLike, batch_idx: int, *, training: bool) -> BatchLike:
        """Return the batch of pairs; a subclass makes them of another batch."""
        return batch

    def training_step(self, batch: BatchLike, batch_idx: int) -> Tensor:
        """Return the mean loss over the target tokens of a batch, []."""
        pairs = self.prepare(batch, batch_idx, training=True)
        total = F.cross_entropy(
            at_least_float32(self(pairs)),
            pairs.y,
            ignore_index=IGNORE_INDEX,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
        count = (pairs.y != IGNORE_INDEX).sum()
        total = balanced(total, count, self.network, self.balance, self)
        return self.training_loss(total, count, rows=len(pairs.y))

    def test_step(self, batch: BatchLike, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Update the test metrics, and generate targets for the BLEU score."""
        super().test_step(batch, batch_idx, dataloader_idx)
        if self.bleu and not is_padding(batch):
            self._generate(batch)

    def on_test_epoch_end(self) -> None:
        """Log the BLEU score of the targets that all ranks generated."""
        generated = list(chain.from_iterable(data_parallel(self).gather_objects(self._generated)))
        if generated:
            answers, references = zip(*generated, strict=True)
            self.log("test/bleu", bleu(answers, references))
            self._generated.clear()

    def _generate(self, batch: BatchLike) -> None:
        tokenizer = require_tokenizer(self)
        targets = batch.y.split(list(lengths(batch)))
        network = cast(EncoderDecoder, self.network)
        count, limit = max(map(len, targets)) + 8, max_length(network.decoder)
        generated = network.generate(
            batch,
            max_new_tokens=count if limit is None else min(count, limit),
            start_id=tokenizer.need("bos"),
            eos_token_id=tokenizer.need("eos"),
            temperature=0.0,
        )
        answers = cast("list[list[int]]", generated)
        for answer, target in zip(answers, targets, strict=True):
            self._generated.append((tokenizer.decode(answer), tokenizer.decode(target)))

    def evaluate(self, batch: BatchLike, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Return the sums of losses and of correct tokens, and the number of correct targets."""
        pairs = self.prepare(batch, batch_idx, training=False)
        logits, y = at_least_float32(self(pairs)), pairs.y
        wrong = (logits.argmax(-1) != y) & (y != IGNORE_INDEX)
        samples = [row.any() for row in wrong.split(list(lengths(pairs)))]
        count, incorrect = (y != IGNORE_INDEX).sum(), torch.stack(samples).sum()
        total = F.cross_entropy(logits, y, ignore_index=IGNORE_INDEX, reduction="sum")
        updates = {
            "loss": (total, count),
            "perplexity": (total, count),
            "accuracy": (count - wrong.sum(), count),
            "exact_match": (len(samples) - incorrect, torch.tensor(len(samples), device=y.device)),
        }
        return updates, len(y)
