"""Texts with spans cut out, and what has to be put back: T5's and BART's corruption."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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
