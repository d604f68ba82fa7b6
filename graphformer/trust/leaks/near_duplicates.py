"""Near-duplicates across splits: texts with the same shingles, features of one direction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from graphformer.data.loader import BatchDataset

SHINGLE = 3
"""Tokens of a shingle."""
_CHUNK = 512  # samples of the second split that are compared at once


def sample_inputs(samples: BatchDataset, count: int) -> list[Tensor]:
    """Return the nodes of the first samples, [N, F] each, or token ids [N]."""
    number = min(count, len(samples))
    return [samples[torch.tensor([index])].x for index in range(number)]


def nearest(first: Sequence[Tensor], second: Sequence[Tensor]) -> tuple[Tensor, Tensor] | None:
    """Return, for each sample of `second`, the most similar one of `first`: similarity and index.

    Texts (integer ids): the Jaccard index of their sets of shingles. Features: the cosine of their
    differences to the mean of `first`, if all samples have one shape; otherwise None.

    Args:
        first, second: nodes of the samples, at least one each.

    Returns:
        Similarities and indices, [len(second)].

    Source: shingles: Broder, 1997, "On the resemblance and containment of documents".
    """
    if not first[0].is_floating_point():
        return _nearest_texts(first, second)
    if len({tuple(x.shape) for x in (*first, *second)}) > 1:
        return None
    a, b = (torch.stack([x.to_dense().flatten() for x in part]) for part in (first, second))
    mean = a.mean(0)
    a, b = (torch.nn.functional.normalize(part - mean, dim=1) for part in (a, b))
    best = [(part @ a.T).max(1) for part in b.split(_CHUNK)]
    return torch.cat([each.values for each in best]), torch.cat([each.indices for each in best])


def _nearest_texts(first: Sequence[Tensor], second: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    from scipy.sparse import csr_array

    number: dict[bytes, int] = {}
    sets = [[_shingles(x, number) for x in part] for part in (first, second)]

    def matrix(rows: Sequence[set[int]]) -> csr_array:
        indptr = np.cumsum([0, *map(len, rows)])
        columns = np.array([column for row in rows for column in row], np.int64)
        ones = np.ones(len(columns), np.float32)
        return csr_array((ones, columns, indptr), shape=(len(rows), len(number)))

    a, b = map(matrix, sets)
    sizes = np.array([len(row) for row in sets[0]], np.float32)
    values, indices = [], []
    for start in range(0, len(second), _CHUNK):
        part = b[start : start + _CHUNK]
        common = (part @ a.T).toarray()
        union = sizes[None] + np.diff(part.indptr)[:, None] - common
        similarity = common / np.maximum(union, 1)
        values.append(similarity.max(1))
        indices.append(similarity.argmax(1))
    return torch.from_numpy(np.concatenate(values)), torch.from_numpy(np.concatenate(indices))


def _shingles(ids: Tensor, number: dict[bytes, int]) -> set[int]:
    """Return the numbers of the runs of `SHINGLE` tokens; new ones are added to `number`."""
    windows = ids.unfold(0, min(SHINGLE, len(ids)), 1) if len(ids) else ids[:0]
    return {number.setdefault(row.numpy().tobytes(), len(number)) for row in windows.cpu()}
