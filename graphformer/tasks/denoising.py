"""Encoder-decoders that learn to mend a text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import nn

from graphformer.data.ragged import RaggedPairs
from graphformer.patterns import Causal, Pattern, lengths
from graphformer.tasks.seeding import batch_generator
from graphformer.tasks.seq2seq import SequenceToSequence
from graphformer.tasks.spans import cut_out, draw_spans, infill
from graphformer.tasks.vocabulary import need_tokenizer

if TYPE_CHECKING:
    from torch_geometric.data import Data

SENTINEL = "extra_{}"  # special tokens <extra_0>, <extra_1> ... of `graphformer tokenize`


class Denoising(SequenceToSequence):
    """Span corruption (T5) or text infilling (BART) of any text, as sequence to sequence.

    Reads `batch.x` [N] and `lengths` alone, so that the data of language models serve it. "t5"
    replaces spans by the special tokens <extra_0>, <extra_1> and so on, or by <mask> where the
    vocabulary has none of these, and asks for the spans; "bart" replaces spans by <mask> and asks
    for the whole text. Spans are drawn anew for every batch, repeatably; those of validation and
    test are fixed.

    Args:
        network: logits over the vocabulary, [M, K].
        adjacency: who attends to whom in the decoder.
        kind: see above.
        rate: share of the tokens in spans; by default 0.15 for "t5" and 0.3 for "bart".
        mean_length: mean length of a span.
        seed: of the spans.
        options: those of `SequenceToSequence` and `Task`.

    Source: Raffel et al., 2020; Lewis et al., 2020.
    """

    def __init__(
        self,
        network: nn.Module,
        adjacency: Pattern = Causal(),
        *,
        kind: Literal["t5", "bart"] = "t5",
        rate: float | None = None,
        mean_length: float = 3.0,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(network, adjacency, **options)
        self.kind, self.mean_length, self.seed = kind, mean_length, seed
        self.rate = (0.15 if kind == "t5" else 0.3) if rate is None else rate
        if not 0 < self.rate < 1:
            raise ValueError(f"rate is {rate}: expected a share between 0 and 1.")

    def prepare(self, batch: Data, batch_idx: int, *, training: bool) -> Data:
        """Return corrupted texts and what is to be answered."""
        tokenizer = need_tokenizer(self)
        generator = batch_generator(self, self.seed, batch_idx, training=training)
        rows = np.split(batch.x.cpu().numpy(), np.cumsum(lengths(batch))[:-1])
        if self.kind == "bart":
            mask = tokenizer.need("mask")
            pairs = [infill(row, self.rate, self.mean_length, mask, generator) for row in rows]
        else:
            sentinels = sentinel_ids(tokenizer)
            spans = (draw_spans(len(row), self.rate, self.mean_length, generator) for row in rows)
            pairs = [cut_out(row, s, sentinels) for row, s in zip(rows, spans, strict=True)]
        sources, targets = zip(*pairs, strict=True)
        ends = {"start": tokenizer.need("bos"), "end": tokenizer.need("eos")}
        made = RaggedPairs(sources, targets, **ends)[torch.arange(len(rows))]
        return made.to(batch.x.device)


def sentinel_ids(tokenizer: Any) -> list[int]:
    """The ids of <extra_0>, <extra_1> and so on, or of <mask> where there are none."""
    found: list[int] = []
    while (id_ := tokenizer.special(SENTINEL.format(len(found)))) is not None:
        found.append(id_)
    return found or [tokenizer.need("mask")]
