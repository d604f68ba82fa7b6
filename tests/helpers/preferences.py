"""Batches of pairs and small models for tests of post-training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from graphformer import models
from graphformer.data import pack_tokens
from graphformer.data.batch import Batch

VOCAB = 13


def policy(seed: int = 1, **options: object) -> models.Model:
    torch.manual_seed(seed)
    sizes = {"dim": 12, "depth": 1, "num_heads": 3, "max_length": 23, **options}
    return models.language_model(VOCAB, **sizes)


def pair_batch(rows: Sequence[tuple[list[int], list[int]]]) -> Batch:
    """A batch of (prompt, answer), chosen and rejected in turn."""
    batch = pack_tokens([prompt + answer for prompt, answer in rows])
    batch.y = torch.cat([F.pad(torch.tensor(a), (len(p) - 1, 1), value=-100) for p, a in rows])
    batch.margin = torch.zeros(len(rows) // 2)
    batch.length_difference = torch.tensor(
        [len(rows[i][1]) - len(rows[i + 1][1]) for i in range(0, len(rows), 2)]
    )
    return batch


PAIRS = [([1, 2], [3, 4, 5]), ([1, 2], [6]), ([7], [8, 9]), ([7], [10, 11, 12, 3])]
