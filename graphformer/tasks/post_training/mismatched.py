"""Mismatched prompts and answers, from which KTO estimates its reference point."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from graphformer.batch_type import IGNORE_INDEX, BatchLike
from graphformer.data.batch import Batch, pack_tokens
from graphformer.patterns import lengths


def rotate_answers(batch: BatchLike) -> Batch:
    """Return the prompts of a batch of pairs, each with the answer of the next pair.

    Args:
        batch: see `PreferenceFile`.

    Raises:
        ValueError: when there is one pair only.
    """
    sizes = list(lengths(batch))
    if len(sizes) < 4:
        raise ValueError(
            f"batch: got {len(sizes) // 2} pair, expected 2 or more for KTO, which compares with "
            "answers to other prompts; raise max_tokens"
        )
    ids, labels = batch.x.split(sizes), batch.y.split(sizes)
    answers = [row[row != IGNORE_INDEX] for row in labels]
    answers = answers[2:] + answers[:2]
    prompts = [
        row[: int((label != IGNORE_INDEX).nonzero()[0]) + 1]
        for row, label in zip(ids, labels, strict=True)
    ]
    pairs = list(zip(prompts, answers, strict=True))
    mixed = pack_tokens([torch.cat(pair) for pair in pairs])
    mixed.y = torch.cat(
        [F.pad(answer, (len(prompt) - 1, 1), value=IGNORE_INDEX) for prompt, answer in pairs]
    )
    return mixed
