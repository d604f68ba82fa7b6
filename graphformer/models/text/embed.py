"""Text embeddings: vectors of texts from a sentence encoder, and nearest-neighbour search."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import TypedDict

from graphformer.data.batch import Batch, BatchLike, pack_tokens, positions_in_samples
from graphformer.models.generation import eval_mode, max_length
from graphformer.nn import Pooling
from graphformer.patterns import lengths

if TYPE_CHECKING:
    from graphformer.data.text.tokenizer import Tokenizer
    from graphformer.models.protocols import TextEncoder


class EncodeOptions(TypedDict, total=False):
    """The options of `encode`, whose docstring describes them."""

    batch_tokens: int
    normalize: bool | None
    prompt: str | None
    prompt_name: str | None


@torch.inference_mode()
def encode(
    model: TextEncoder,
    texts: str | Sequence[str],
    *,
    batch_tokens: int = 4096,
    normalize: bool | None = None,
    prompt: str | None = None,
    prompt_name: str | None = None,
) -> Tensor:
    """Return the vectors of texts, in batches of similar lengths without padding.

    Args:
        model: with a tokenizer and a pooling head, such as a sentence encoder.
        texts: one or several; longer ones than the model supports are truncated.
        batch_tokens: the maximal number of tokens in a batch of several texts.
        normalize: whether vectors are scaled to length one; by default as in the model's head.
        prompt: text that precedes each text; the model's own by default.
        prompt_name: one of the model's named prompts, such as "query", instead of `prompt`.

    Returns:
        [texts, C]; of a single string [C].

    Raises:
        ValueError: when the model has no tokenizer, its head does not pool, a text has no tokens,
            or the model has no prompt of that name.
    """
    listed = [texts] if isinstance(texts, str) else list(texts)
    tokenizer, head = model.tokenizer, model.head
    if tokenizer is None or getattr(head, "pool", None) is None:
        lacking = "a tokenizer" if tokenizer is None else "a head that pools"
        raise ValueError(
            f"model: got one without {lacking}, expected a sentence encoder; load one by "
            "from_pretrained(..., head='embedding')"
        )
    prompt = _prompt(model, prompt, prompt_name)
    ids = _token_ids(model, tokenizer, [prompt + text for text in listed] if prompt else listed)
    order = sorted(range(len(ids)), key=lambda number: len(ids[number]), reverse=True)
    device = next(model.parameters()).device
    skipped = 0 if model.include_prompt else _prompt_length(tokenizer, prompt)
    with eval_mode(model), _adapted_head(model, normalize, skipped):
        vectors = [
            model(pack_tokens([ids[number] for number in numbers], device=device))
            for numbers in _batches(order, ids, batch_tokens)
        ]
    if not vectors:
        features = getattr(model.embedding, "features", None)
        return torch.empty(0, getattr(features, "embedding_dim", 0), device=device)
    ordered = torch.cat(vectors)
    result = torch.empty_like(ordered)
    result[torch.tensor(order, device=device)] = ordered
    if normalize or (normalize is None and getattr(head, "normalize", False)):
        result = F.normalize(result, dim=-1)
    return result[0] if isinstance(texts, str) else result


def search(queries: Tensor, vectors: Tensor, top_k: int = 10) -> tuple[Tensor, Tensor]:
    """Return the vectors with the largest cosine similarity to each query.

    Args:
        queries: [Q, C], or a single one, [C].
        vectors: the vectors to search, [N, C].
        top_k: the number of results per query, at most N.

    Returns:
        Cosines in descending order and indices of the vectors, int64; both [Q, top_k], or [top_k].
    """
    rows = queries.reshape(-1, queries.shape[-1])
    normalized = F.normalize(vectors, dim=-1).T
    parts = [  # in chunks, which bounds the [Q, N] product
        (F.normalize(part, dim=-1) @ normalized).topk(min(top_k, len(vectors)))
        for part in rows.split(1024)
    ]
    cosines = torch.cat([part.values for part in parts])
    indices = torch.cat([part.indices for part in parts])
    return (cosines[0], indices[0]) if queries.ndim == 1 else (cosines, indices)


def _prompt(model: TextEncoder, prompt: str | None, name: str | None) -> str:
    """Return the text that precedes each text."""
    if name is None:
        return model.prompt if prompt is None else prompt
    if prompt is not None or name not in model.prompts:
        given = "" if prompt is None else " beside prompt"
        known = f"one of {', '.join(model.prompts)}" if model.prompts else "none for this model"
        raise ValueError(f"prompt_name: got {name!r}{given}, expected {known}; or pass prompt")
    return model.prompts[name]


def _token_ids(model: TextEncoder, tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    """Token ids of the texts, truncated to the maximal length of the model and its tokenizer."""
    from graphformer.data.text.hf_tokenizer import PretrainedTokenizer

    limits = [max_length(model), getattr(tokenizer, "max_length", None)]
    limit = min((limit for limit in limits if limit), default=None)
    if isinstance(tokenizer, PretrainedTokenizer):  # truncates before it adds special tokens
        ids = tokenizer.ids(texts, max_length=limit)
    else:
        ids = [each[:limit].tolist() for each in tokenizer.encode_batch(texts)]
    empty = next((number for number, each in enumerate(ids) if not each), None)
    if empty is not None:
        raise ValueError(f"texts: got no token in number {empty}, expected one or more; drop it")
    return ids


def _batches(order: list[int], ids: list[list[int]], tokens: int) -> Iterator[list[int]]:
    """Consecutive numbers of `order` whose texts have at most `tokens` tokens together."""
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


def _prompt_length(tokenizer: Tokenizer, prompt: str) -> int:
    """Return the number of tokens of a prompt, without a special token at its end."""
    if not prompt:
        return 0
    ids = tokenizer.encode(prompt).tolist()
    return len(ids) - (ids[-1] in tokenizer.special_ids)


@contextmanager
def _adapted_head(model: TextEncoder, normalize: bool | None, skipped: int) -> Iterator[None]:
    """Let a pooling head normalize or not, and skip the first nodes of each text.

    With None, the head normalizes as it does by itself. It is restored on exit.
    """
    head = model.head
    if not isinstance(head, Pooling) or (normalize is None and not skipped):
        yield
        return
    adapted = copy.copy(head)
    adapted.normalize = head.normalize if normalize is None else normalize
    # The first node of "cls" is the class token, also behind a prompt.
    model.head = _SkipNodes(adapted, 0 if head.pool == "cls" else skipped)  # type: ignore[misc]
    try:
        yield
    finally:
        model.head = head  # type: ignore[misc]


class _SkipNodes(nn.Module):
    """A pooling head that ignores the first `count` nodes of each sample."""

    def __init__(self, head: Pooling, count: int) -> None:
        super().__init__()
        self.head, self.count = head, count

    def forward(self, x: Tensor, batch: BatchLike) -> Tensor:
        """Return vectors [B, C] of x [N, C]."""
        sizes = lengths(batch)
        kept = torch.from_numpy(positions_in_samples(sizes) >= self.count).to(x.device)
        rest = tuple(max(size - self.count, 0) for size in sizes)
        return self.head(x[kept], Batch(lengths=rest, num_nodes=sum(rest)))
