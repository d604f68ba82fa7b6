"""Vectors of texts, and the texts that are nearest to a question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphformer.models.generation import eval_mode, max_length

if TYPE_CHECKING:
    from graphformer.models.protocols import TextEncoder


@torch.inference_mode()
def encode(
    model: TextEncoder,
    texts: str | Sequence[str],
    *,
    batch_tokens: int = 4096,
    normalize: bool | None = None,
    prompt: str | None = None,
) -> Tensor:
    """Vectors of texts: each batch holds texts of like length, packed end to end, unpadded.

    Args:
        model: with a tokenizer and a head that pools, such as a sentence encoder.
        texts: one or several.
        batch_tokens: how many tokens go through the model at once, at most, of several texts.
        normalize: scale vectors to length one; by default as the model was trained.
        prompt: comes before every text; by default the model's own.

    Returns:
        [texts, C]; of one text [C]. Texts longer than the model takes are cut.

    Raises ValueError for a model without a tokenizer, or whose head does not pool.
    """
    several = [texts] if isinstance(texts, str) else list(texts)
    head: Any = model.head
    if model.tokenizer is None or getattr(head, "pool", None) is None:
        what = "tokenizer" if model.tokenizer is None else "head that pools"
        raise ValueError(
            f"encode needs a model with a tokenizer and a head that pools, and this one has no "
            f"{what}: take a sentence encoder, or from_pretrained(..., head='embedding')"
        )
    prompt = model.prompt if prompt is None else prompt
    ids = _ids(model, [prompt + text for text in several] if prompt else several)
    order = sorted(range(len(ids)), key=lambda number: len(ids[number]), reverse=True)
    device = next(model.parameters()).device
    vectors = []
    with eval_mode(cast(nn.Module, model)):
        for numbers in _batches(order, ids, batch_tokens):
            vectors.append(model(_packed([ids[number] for number in numbers], device)))
    if not vectors:
        return torch.empty(0, model.embedding.features.embedding_dim, device=device)  # type: ignore[arg-type,union-attr]
    sorted_vectors = torch.cat(vectors)
    result = torch.empty_like(sorted_vectors)
    result[torch.tensor(order, device=device)] = sorted_vectors
    if normalize or (normalize is None and getattr(head, "normalize", False)):
        result = F.normalize(result, dim=-1)
    return result[0] if isinstance(texts, str) else result


def search(queries: Tensor, vectors: Tensor, top_k: int = 10) -> tuple[Tensor, Tensor]:
    """The vectors that are nearest to each query, by the cosine of their angle.

    Args:
        queries: [Q, C], or one of them, [C].
        vectors: what is looked through, [N, C].
        top_k: how many of them are wanted, at most.

    Returns:
        Cosines, largest first, and the numbers of the vectors, int64; both [Q, top_k], or
        [top_k].
    """
    several = queries.reshape(-1, queries.shape[-1])
    known = F.normalize(vectors, dim=-1).T
    parts = [
        (F.normalize(part, dim=-1) @ known).topk(min(top_k, len(vectors)))
        for part in several.split(1024)
    ]
    cosines = torch.cat([part.values for part in parts])
    numbers = torch.cat([part.indices for part in parts])
    return (cosines[0], numbers[0]) if queries.ndim == 1 else (cosines, numbers)


def packed(texts: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> Any:
    """Token ids of several texts as one batch: `x`, `pos` and `lengths`, without padding."""
    return _packed(texts, torch.device(device))


def _ids(model: TextEncoder, texts: list[str]) -> list[list[int]]:
    tokenizer: Any = model.tokenizer
    known = [
        limit
        for limit in (max_length(cast(nn.Module, model)), getattr(tokenizer, "max_length", None))
        if limit
    ]
    longest = min(known, default=None)
    if hasattr(tokenizer, "ids"):
        ids: list[list[int]] = tokenizer.ids(texts, max_length=longest)
    else:
        ids = [each[:longest].tolist() for each in tokenizer.encode_batch(texts)]
    empty = [number for number, each in enumerate(ids) if not each]
    if empty:
        raise ValueError(f"texts must each have at least one token, but number {empty[0]} has none")
    return ids


def _batches(order: list[int], ids: list[list[int]], tokens: int) -> Iterator[list[int]]:
    """Neighbours in that order, of at most so many tokens together."""
    batch: list[int] = []
    count = 0
    for number in order:
        if batch and count + len(ids[number]) > tokens:
            yield batch
            batch, count = [], 0
        batch.append(number)
        count += len(ids[number])
    if batch:
        yield batch


def _packed(texts: Sequence[Sequence[int]], device: torch.device) -> Any:
    lengths = tuple(map(len, texts))
    places = torch.arange(max(lengths, default=0))
    return SimpleNamespace(
        x=torch.tensor(list(chain.from_iterable(texts)), dtype=torch.int64).to(device),
        pos=torch.cat([places[:length] for length in lengths]).to(device),
        lengths=lengths,
        num_nodes=sum(lengths),
    )
