"""Encoder-decoders that learn to mend a text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import nn
from typing_extensions import Unpack

from graphformer.data.ragged import RaggedPairs
from graphformer.options import checked_options
from graphformer.patterns import Causal, Pattern, lengths
from graphformer.tasks.base import require_tokenizer
from graphformer.tasks.seeding import batch_generator
from graphformer.tasks.text.seq2seq import SequenceToSequence, SequenceToSequenceOptions

if TYPE_CHECKING:
    from torch_geometric.data import Data


from collections.abc import Sequence

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

    @checked_options
    def __init__(
        self,
        network: nn.Module,
        adjacency: Pattern = Causal(),
        *,
        kind: Literal["t5", "bart"] = "t5",
        rate: float | None = None,
        mean_length: float = 3.0,
        seed: int = 0,
        **options: Unpack[SequenceToSequenceOptions],
    ) -> None:
        super().__init__(network, adjacency, **options)
        self.kind, self.mean_length, self.seed = kind, mean_length, seed
        self.rate = (0.15 if kind == "t5" else 0.3) if rate is None else rate
        if not 0 < self.rate < 1:
            raise ValueError(f"rate is {rate}: expected a share between 0 and 1.")

    def prepare(self, batch: Data, batch_idx: int, *, training: bool) -> Data:
        """Return corrupted texts and what is to be answered."""
        tokenizer = require_tokenizer(self)
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


Pair = tuple[np.ndarray, np.ndarray]


def draw_spans(
    length: int, rate: float, mean_length: float, generator: np.random.Generator
) -> np.ndarray:
    """Draw spans of a text, [S, 2] (first token, one behind the last), apart from one another.

    About `length * rate` tokens are in spans of `mean_length` on average; at least one is, and one
    is not, in a text of two or more.

    Source: Raffel et al., 2020, section 3.1.4 and its code, `random_spans_noise_mask`.
    """
    if length < 2:
        return np.zeros((0, 2), np.int64)
    noise = int(np.clip(round(length * rate), 1, length - 1))
    count = int(np.clip(round(noise / mean_length), 1, min(noise, length - noise)))
    inside = _parts(noise, count, generator)
    outside = _parts(length - noise, count, generator)
    stops = (inside + outside).cumsum()
    return np.stack([stops - inside, stops], axis=1)


def cut_out(row: np.ndarray, spans: np.ndarray, sentinels: Sequence[int]) -> Pair:
    """Replace each span by a sentinel; the answer is each sentinel and the span behind it.

    Args:
        row: token ids [n].
        spans: [S, 2], as `draw_spans` gives them.
        sentinels: ids that take turns; one may do for all.

    Source: Raffel et al., 2020, figure 2.
    """
    kept, answer, done = [], [], 0
    for number, (start, stop) in enumerate(spans.tolist()):
        sentinel = np.array([sentinels[number % len(sentinels)]], row.dtype)
        kept += [row[done:start], sentinel]
        answer += [sentinel, row[start:stop]]
        done = stop
    empty = row[:0]
    return np.concatenate([empty, *kept, row[done:]]), np.concatenate([empty, *answer])


def put_back(kept: np.ndarray, answer: np.ndarray, sentinels: Sequence[int]) -> np.ndarray:
    """Undo `cut_out`: the text of which it left `kept` and asked `answer`."""
    rows = np.split(answer, np.flatnonzero(np.isin(answer, sentinels)))[1:]
    pieces = np.split(kept, np.flatnonzero(np.isin(kept, sentinels)))
    whole = [pieces[0]]
    for piece, row in zip(pieces[1:], rows, strict=True):
        whole += [row[1:], piece[1:]]
    return np.concatenate(whole)


def infill(
    row: np.ndarray,
    rate: float,
    mean_length: float,
    mask_id: int,
    generator: np.random.Generator,
) -> Pair:
    """Replace spans of Poisson length, some empty, by one mask each; ask for the whole text.

    Source: Lewis et al., 2020 (BART), section 2.2.
    """
    wanted = round(len(row) * rate)
    mask = np.array([mask_id], row.dtype)
    kept, done, hidden = [row[:0]], 0, 0
    lengths: list[int] = []
    while hidden < wanted and len(lengths) < len(row):
        lengths.append(min(int(generator.poisson(mean_length)), wanted - hidden))
        hidden += lengths[-1]
    room = len(row) - hidden
    gaps = np.sort(generator.integers(room + 1, size=len(lengths)))
    before = 0
    for gap, length in zip(gaps.tolist(), lengths, strict=True):
        start = gap + before
        kept += [row[done:start], mask]
        done, before = start + length, before + length
    return np.concatenate([*kept, row[done:]]), row


def _parts(total: int, count: int, generator: np.random.Generator) -> np.ndarray:
    """`total` cut into `count` parts of 1 or more, by chance."""
    cuts = np.sort(generator.choice(total - 1, count - 1, replace=False)) + 1
    return np.diff(np.concatenate([[0], cuts, [total]])).astype(np.int64)
