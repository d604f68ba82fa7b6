"""Numbers of blocks of `TopBlocks` by block and key head, where they change the outputs least."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from graphformer.data.batch import Batch, pack_tokens
from graphformer.models.generation import eval_mode
from graphformer.models.model import Model
from graphformer.nn.attention import MultiHeadAttention
from graphformer.patterns import Causal, PerLayer, TopBlocks

_FURTHER = (0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 14, 18, 24)
"""Numbers of blocks that are tried, above the smallest one."""


def learn_blocks(
    model: Model,
    texts: Sequence[Sequence[int]],
    pattern: TopBlocks,
    *,
    blocks: float,
    gradient_tokens: int = 2048,
    seed: int = 0,
) -> PerLayer:
    """Return `pattern` for each block of a language model, with a number k for each key head.

    The numbers have a given mean and are those with the smallest expected divergence of the
    next-token distributions from those over the triangle. To second order it is

        KL = 1/2 sum_l mean_i d_li^T F_l d_li,    F_l = mean_i g_li g_li^T

    where d_li is the change of attention's output at node i of block l, a sum over key heads, and
    g_li the gradient of log p(y) with respect to that output, for tokens y drawn from the model.
    Correlations of blocks and of key heads are left out, so that the divergence is a sum over both.

    Args:
        model: a causal language model.
        texts: token ids, each text as long as those that the numbers are for.
        pattern: its other arguments; k is ignored, fixed blocks are always chosen.
        blocks: mean number of blocks that a block of nodes attends to, at this length of texts.
        gradient_tokens: number of tokens of each text for F.
        seed: of the tokens y.

    Raises:
        TypeError: when the model is not a `Model`, or the pattern is not `TopBlocks`.
        ValueError: when the pattern is not causal, a block's attention has no key heads, there is
            no text or an empty one, or a number is out of its range.

    Source: LeCun et al., 1990, "Optimal brain damage"; F: Martens, 2020, "New insights and
    perspectives on the natural gradient method", section 9.
    """
    if not isinstance(model, Model) or not isinstance(pattern, TopBlocks):
        raise TypeError(
            f"model, pattern: got {type(model).__name__} and {type(pattern).__name__}, expected a "
            "Model and TopBlocks; pass them"
        )
    attentions = _attentions(model)
    smallest = max(pattern.first + pattern.nearest, 1)
    sizes = [len(text) for text in texts]
    if min(sizes, default=0) < 1 or not pattern.causal:
        raise ValueError(
            f"texts, pattern: got texts of {sizes} tokens and {pattern}, expected at least one "
            "text, none of them empty, and a causal pattern; set causal=True"
        )
    if gradient_tokens < 1:
        raise ValueError(f"gradient_tokens: got {gradient_tokens}, expected at least 1; raise it")
    longest = max(sizes)
    most = max(-(-longest // pattern.block), smallest)
    numbers = sorted({min(smallest + more, most) for more in _FURTHER})
    costs = torch.tensor([_mean_blocks(k, pattern.block, longest) for k in numbers])
    if not blocks >= costs[0]:  # NaN, too
        raise ValueError(
            f"blocks: got {blocks}, expected at least {costs[0]:.2f}, the mean number of fixed "
            "blocks; raise it, or lower first or nearest"
        )
    divergences = torch.zeros(len(attentions), attentions[0].heads[1], len(numbers))
    generator = torch.Generator().manual_seed(seed)
    with eval_mode(model):
        for text in texts:
            fisher = _fisher(model, attentions, text[:gradient_tokens], generator)
            divergences += _divergences(model, attentions, text, pattern, numbers, fisher)
    chosen = _cheapest(divergences.flatten(0, 1), costs, blocks).view(len(attentions), -1)
    return PerLayer(
        tuple(replace(pattern, k=tuple(numbers[i] for i in row)) for row in chosen.tolist())
    )


def _attentions(model: Model) -> list[MultiHeadAttention]:
    """Return the attention of each block.

    Raises:
        ValueError: when one has another form.
    """
    found: list[MultiHeadAttention] = []
    for block in model.transformer.blocks:
        attention = block.attention
        if not isinstance(attention, MultiHeadAttention):
            raise ValueError(
                f"model: got blocks with {type(attention).__name__}, expected MultiHeadAttention, "
                "whose key heads choose blocks"
            )
        found.append(attention)
    return found


def _mean_blocks(k: int, block: int, length: int) -> float:
    """Return the mean number of blocks that a block attends to if all before it are k at most."""
    count = -(-length // block)
    return sum(min(i + 1, k) for i in range(count)) / count


def _batch(model: Model, text: Sequence[int]) -> Batch:
    device = next(model.parameters()).device
    return pack_tokens([list(text)]).to(device)


def _fisher(
    model: Model, attentions: list[MultiHeadAttention], text: Sequence[int], draws: torch.Generator
) -> list[Tensor]:
    """Return F of each block, float64 [C, C]."""
    batch = _batch(model, text)
    found: list[Tensor] = []

    def collect(_: nn.Module, __: Any, out: Tensor) -> None:
        found.append(out if out.requires_grad else out.requires_grad_())  # of frozen weights

    with ExitStack() as stack:
        for attention in attentions:
            hook = attention.register_forward_hook(collect)
            stack.callback(hook.remove)
        with torch.enable_grad():
            log_p = model(batch, Causal()).float().log_softmax(-1)
            drawn = torch.multinomial(log_p.detach().exp().cpu(), 1, generator=draws)
            score = log_p.gather(1, drawn.to(log_p.device)).sum()
            gradients = torch.autograd.grad(score, found)
    return [g.double().T @ g.double() / len(g) for g in gradients]


@torch.inference_mode()
def _divergences(
    model: Model, attentions: list[MultiHeadAttention], text: Sequence[int], pattern: TopBlocks,
    numbers: list[int], fisher: list[Tensor],
) -> Tensor:  # fmt: skip
    """Return the expected divergence of each block, key head and number, [L, Hkv, len(numbers)].

    Each block gets the outputs of the blocks before it over the triangle.
    """
    batch = _batch(model, text)
    adjacencies = [replace(pattern, k=k)(batch) for k in numbers]
    rows: list[Tensor] = []

    def compare(attention: MultiHeadAttention, arguments: Any, options: Any, _: Any) -> None:
        x, full, *others = arguments
        run: Callable[..., Tensor] = attention.forward
        with _heads_of(attention) as heads:
            run(x, full, *others, **options)
            for adjacency in adjacencies:
                run(x, adjacency, *others, **options)
        changes = (own - heads[0] for own in heads[1:])
        weight, metric = attention.out.weight.double(), fisher[len(rows)]
        found = [_quadratic(change, weight, metric, attention.heads[1]) for change in changes]
        rows.append(torch.stack(found, dim=1))

    with ExitStack() as stack:
        for attention in attentions:
            hook = attention.register_forward_hook(compare, with_kwargs=True)
            stack.callback(hook.remove)
        model.transformer(model.embedding(batch), Causal()(batch), batch.pos)
    return torch.stack(rows).cpu().float()


@contextmanager
def _heads_of(attention: MultiHeadAttention) -> Iterator[list[Tensor]]:
    """Collect what the heads of attention return, [N, H D], within a `with` block."""
    found: list[Tensor] = []

    def collect(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        found.append(arguments[0])

    hook = attention.out.register_forward_pre_hook(collect)
    try:
        yield found
    finally:
        hook.remove()


def _quadratic(change: Tensor, weight: Tensor, fisher: Tensor, kv_heads: int) -> Tensor:
    """Return 1/2 mean_i d_i^T F d_i for the output d = W c of each key head's change c, [Hkv].

    Args:
        change: c of all heads, [N, H D].
        weight: W, float64 [C, H D].
        fisher: F, float64 [C, C].
        kv_heads: Hkv, the number of key heads.
    """
    result = []
    for c, w in zip(change.chunk(kv_heads, 1), weight.chunk(kv_heads, 1), strict=True):
        metric = (w.T @ fisher @ w).to(c.dtype)
        result.append(((c @ metric) * c).sum(1).double().mean() / 2)
    return torch.stack(result)


def _cheapest(divergences: Tensor, costs: Tensor, mean: float) -> Tensor:
    """Return the index of a cost for each row with the least sum of divergences, int64 [n].

    The sum of divergence + price * cost is minimal for one price for all rows, the lowest at which
    the mean cost is at most `mean`.

    Args:
        divergences: of each row and cost, [n, K].
        costs: ascending, [K].
        mean: of the costs.
    """
    if len(costs) == 1:
        return torch.zeros(len(divergences), dtype=torch.int64)
    low, high = 0.0, float(divergences.max()) / float(costs.diff().min()) + 1e-30
    for _ in range(100):
        price = (low + high) / 2
        chosen = (divergences + price * costs).argmin(1)
        if costs[chosen].mean() > mean:
            low = price
        else:
            high = price
    return (divergences + high * costs).argmin(1)
