"""`Denoising`: encoder-decoders that reconstruct corrupted text, as in T5 and BART."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import nn
from typing_extensions import Unpack

from graphformer.batch_type import BatchLike
from graphformer.data.ragged import RaggedPairs
from graphformer.data.text.multilingual.sentences import ends_sentences, permute_sentences
from graphformer.options import checked_options
from graphformer.patterns import Causal, Pattern, lengths
from graphformer.tasks.labels import require_tokenizer
from graphformer.tasks.seeding import batch_generators
from graphformer.tasks.text.seq2seq import SequenceToSequence, SequenceToSequenceOptions

if TYPE_CHECKING:
    from graphformer.data import Tokenizer

SENTINEL = "extra_{}"
"""Names of the special tokens <extra_0>, <extra_1> ... of `graphformer tokenize`."""
Pair = tuple[np.ndarray, np.ndarray]  # token ids of a source and of its target


class Denoising(SequenceToSequence):
    """Span corruption (T5) or text infilling (BART) of any text, as sequence to sequence.

    With "t5" the source has a sentinel token in place of each span (<extra_0>, <extra_1> ..., or
    <mask> where the vocabulary has none of these), and the target is the spans after their
    sentinels. With "bart" the source has <mask> in place of each span, perhaps after its sentences
    were put in a random order, and the target is the whole text. Where the batch has
    `language_ids`, as that of `MultilingualText`, a source of "bart" ends with <eos> and the token
    of its language, which also begins the decoder's input (mBART). Otherwise only x [N] and the
    sizes of the samples are used, so that data for language models can be used. Every training step
    has new spans, which depend on the seed, the step and the sample; those of validation and test
    are fixed.

    Args:
        network: computes logits over the vocabulary, [M, K].
        adjacency: pattern of the edges of attention in the decoder.
        kind: "t5" or "bart".
        rate: share of the tokens in spans; by default 0.15 for "t5" and 0.3 for "bart".
        mean_length: mean number of tokens of a span.
        permute_sentences: whether the sentences of the source are in a random order; for "bart".
        seed: of the spans and orders.
        options: those of `SequenceToSequence` and `Task`.

    Raises:
        ValueError: when the rate is not between 0 and 1, the mean length is not above 0, or
            sentences are permuted for "t5".

    Source: Raffel et al., 2020; Lewis et al., 2020; Liu et al., 2020 (mBART), section 2.2.
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
        permute_sentences: bool = False,
        seed: int = 0,
        **options: Unpack[SequenceToSequenceOptions],
    ) -> None:
        super().__init__(network, adjacency, **options)
        self.kind, self.mean_length, self.seed = kind, mean_length, seed
        self.rate = (0.15 if kind == "t5" else 0.3) if rate is None else rate
        if not 0 < self.rate < 1:
            raise ValueError(f"rate: got {rate}, expected a share between 0 and 1")
        if not mean_length > 0:
            raise ValueError(f"mean_length: got {mean_length}, expected a number above 0")
        if permute_sentences and kind != "bart":
            raise ValueError(
                f"permute_sentences: got True with kind {kind!r}, expected False, because the "
                "target is the spans only; set kind to 'bart'"
            )
        self.permute_sentences = permute_sentences
        self._ends: np.ndarray | None = None

    def setup(self, stage: str) -> None:
        """Load pretrained weights, if any, and find sentence ends for this run's tokenizer."""
        super().setup(stage)
        self._ends = None  # found at the first step, after a checkpoint's tokenizer is loaded

    def prepare(self, batch: BatchLike, batch_idx: int, *, training: bool) -> BatchLike:
        """Return pairs of the corrupted texts of a batch and their targets."""
        tokenizer = require_tokenizer(self)
        generators = batch_generators(self, batch, self.seed, training=training)
        rows = np.split(batch.x.cpu().numpy(), np.cumsum(lengths(batch))[:-1])
        if self.kind == "bart":
            pairs = [
                self._infilled(row, tokenizer, generator)
                for row, generator in zip(rows, generators, strict=True)
            ]
        else:
            sentinels = sentinel_ids(tokenizer)
            spans = (
                draw_spans(len(row), self.rate, self.mean_length, generator)
                for row, generator in zip(rows, generators, strict=True)
            )
            pairs = [corrupt_spans(row, s, sentinels) for row, s in zip(rows, spans, strict=True)]
        sources, targets = [list(side) for side in zip(*pairs, strict=True)]
        start, end = tokenizer.need("bos"), tokenizer.need("eos")
        languages = getattr(batch, "language_ids", None)
        if self.kind == "bart" and languages is not None:
            codes = languages.tolist()
            sources = [np.append(s, [end, c]) for s, c in zip(sources, codes, strict=True)]
            start = codes
        made = RaggedPairs(sources, targets, start=start, end=end)
        return made[torch.arange(len(rows))].to(batch.x.device)

    def _infilled(
        self, row: np.ndarray, tokenizer: Tokenizer, generator: np.random.Generator
    ) -> Pair:
        """Return the corrupted and the whole text, BART's pair."""
        source = row
        if self.permute_sentences:
            if self._ends is None:
                self._ends = ends_sentences(tokenizer)
            source = permute_sentences(row, self._ends, generator)
        mask = tokenizer.need("mask")
        return infill(source, self.rate, self.mean_length, mask, generator)[0], row


def sentinel_ids(tokenizer: Tokenizer) -> list[int]:
    """Return the ids of <extra_0>, <extra_1> and so on, or that of <mask> where there are none."""
    ids: list[int] = []
    while (id_ := tokenizer.special(SENTINEL.format(len(ids)))) is not None:
        ids.append(id_)
    return ids or [tokenizer.need("mask")]


def draw_spans(
    length: int, rate: float, mean_length: float, generator: np.random.Generator
) -> np.ndarray:
    """Return random spans of a text, none adjacent to another: first token and end, [S, 2].

    About `length * rate` tokens are in spans of `mean_length` tokens on average. In a text of two
    or more tokens, at least one is in a span and at least one is not.

    Source: Raffel et al., 2020, section 3.1.4 and its code, `random_spans_noise_mask`.
    """
    if length < 2:
        return np.zeros((0, 2), np.int64)
    noise = int(np.clip(round(length * rate), 1, length - 1))
    count = int(np.clip(round(noise / mean_length), 1, min(noise, length - noise)))
    inside = _random_partition(noise, count, generator)
    outside = _random_partition(length - noise, count, generator)
    stops = (inside + outside).cumsum()
    return np.stack([stops - inside, stops], axis=1)


def corrupt_spans(row: np.ndarray, spans: np.ndarray, sentinels: Sequence[int]) -> Pair:
    """Replace each span by a sentinel; the target is each sentinel and the span after it.

    Args:
        row: token ids, [n].
        spans: first token and end of each, as from `draw_spans`, [S, 2].
        sentinels: ids of the sentinels, used in turn; one may be used for all spans.

    Source: Raffel et al., 2020, figure 2.
    """
    source, target, done = [], [], 0
    for number, (start, stop) in enumerate(spans.tolist()):
        sentinel = np.array([sentinels[number % len(sentinels)]], row.dtype)
        source += [row[done:start], sentinel]
        target += [sentinel, row[start:stop]]
        done = stop
    empty = row[:0]
    return np.concatenate([empty, *source, row[done:]]), np.concatenate([empty, *target])


def restore_spans(source: np.ndarray, target: np.ndarray, sentinels: Sequence[int]) -> np.ndarray:
    """Return the text from which `corrupt_spans` made `source` and `target`."""
    spans = np.split(target, np.flatnonzero(np.isin(target, sentinels)))[1:]
    pieces = np.split(source, np.flatnonzero(np.isin(source, sentinels)))
    text = [pieces[0]]
    for piece, span in zip(pieces[1:], spans, strict=True):
        text += [span[1:], piece[1:]]
    return np.concatenate(text)


def infill(
    row: np.ndarray,
    rate: float,
    mean_length: float,
    mask_id: int,
    generator: np.random.Generator,
) -> Pair:
    """Replace each of random spans by one mask; the target is the whole text.

    The lengths of the spans are drawn from a Poisson distribution, until they add up to the share
    `rate` of the text; a span of length 0 inserts a mask.

    Source: Lewis et al., 2020 (BART), section 2.2.
    """
    total = round(len(row) * rate)
    mask = np.array([mask_id], row.dtype)
    source, done, hidden = [row[:0]], 0, 0
    sizes: list[int] = []
    while hidden < total and len(sizes) < len(row):
        sizes.append(min(int(generator.poisson(mean_length)), total - hidden))
        hidden += sizes[-1]
    # Each span begins after a random number of visible tokens, sorted so that spans are disjoint.
    visible = np.sort(generator.integers(len(row) - hidden + 1, size=len(sizes)))
    before = 0
    for gap, size in zip(visible.tolist(), sizes, strict=True):
        start = gap + before
        source += [row[done:start], mask]
        done, before = start + size, before + size
    return np.concatenate([*source, row[done:]]), row


def _random_partition(total: int, count: int, generator: np.random.Generator) -> np.ndarray:
    """Return `count` random integers of 1 or more that add up to `total`."""
    cuts = np.sort(generator.choice(total - 1, count - 1, replace=False)) + 1
    return np.diff(np.concatenate([[0], cuts, [total]])).astype(np.int64)
