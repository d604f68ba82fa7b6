"""Suffixes of a prompt that make a language model answer in a given way, found by gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphformer.data.batch import pack_tokens
from graphformer.models import Model
from graphformer.patterns import Causal, Pattern


class SuffixAttack(NamedTuple):
    """The result of `find_suffix`."""

    suffix: list[int]
    """Token ids of the best suffix."""
    losses: list[float]
    """Mean loss of the target's tokens, in nats: at first, and after each step; never rising."""
    succeeded: bool
    """Whether greedy decoding after prompt and suffix gives the target's tokens."""


class Surroundings(NamedTuple):
    """Token ids of what is before a suffix, behind it, and of the wanted answer."""

    prompt: Sequence[int]
    tail: Sequence[int]
    target: Sequence[int]

    def text(self, suffix: Sequence[int]) -> list[int]:
        """Return the token ids of the whole text with a suffix."""
        return [*self.prompt, *suffix, *self.tail, *self.target]


def find_suffix(
    network: Model,
    prompt: Sequence[int],
    target: Sequence[int],
    *,
    initial: Sequence[int],
    tail: Sequence[int] = (),
    allowed: Sequence[int] | None = None,
    adjacency: Pattern = Causal(),
    steps: int = 50,
    top_k: int = 64,
    num_candidates: int = 128,
    seed: int = 0,
) -> SuffixAttack:
    """Search for tokens behind a prompt after which a model's answer begins with the target.

    Each step takes, at each position of the suffix, the `top_k` tokens that lower the loss most to
    first order, draws single replacements from them, and keeps the best one if it lowers the loss.
    Compare the share of prompts that succeed before and after tuning a model, with equal steps.

    Args:
        network: a decoder, whose embedding of tokens is an `nn.Embedding`.
        prompt: token ids, with <bos> if the model was trained so.
        target: token ids of the wanted beginning of the answer.
        initial: the suffix at first; its length is kept.
        tail: token ids between suffix and answer, such as those by which a chat template ends the
            user's message and begins the answer.
        allowed: tokens of a suffix; None for all. Leave special tokens out.
        adjacency: of the model.
        steps: number of steps; fewer if greedy decoding gives the target before.
        top_k: tokens of each position that are considered.
        num_candidates: replacements of a step, evaluated as one batch.
        seed: of the draws.

    Raises:
        ValueError: when prompt, target or suffix is empty, or the embedding is of another kind.

    Source: Zou et al., 2023, "Universal and transferable adversarial attacks on aligned language
    models", algorithm 1, with the present suffix among the candidates.
    """
    for name, ids in (("prompt", prompt), ("target", target), ("initial", initial)):
        if not len(ids):
            raise ValueError(f"{name}: got no tokens, expected some")
    vocab_size = _token_table(network).num_embeddings
    was_training = network.training
    network.eval()
    generator = torch.Generator().manual_seed(seed)
    banned = torch.ones(vocab_size, dtype=torch.bool)
    banned[torch.arange(len(banned)) if allowed is None else torch.tensor(list(allowed))] = False
    suffix, around = torch.tensor(list(initial)), Surroundings(prompt, tail, target)
    losses, greedy = target_losses(network, suffix[None], around, adjacency)
    found, done = [losses.item()], bool(greedy[0])
    try:
        for _ in range(steps):
            if done:
                break
            slopes = token_gradient(network, suffix, around, adjacency).cpu()
            slopes[:, banned] = torch.inf
            choices = slopes.topk(min(top_k, int((~banned).sum())), largest=False).indices
            drawn = torch.randperm(choices.numel(), generator=generator)[:num_candidates]
            candidates = suffix.repeat(len(drawn), 1)
            candidates[torch.arange(len(drawn)), drawn // choices.shape[1]] = choices.flatten()[
                drawn
            ]
            losses, greedy = target_losses(network, candidates, around, adjacency)
            best = int(losses.argmin())
            if losses[best].item() < found[-1]:
                suffix, done = candidates[best], bool(greedy[best])
            found.append(min(found[-1], losses[best].item()))
    finally:
        network.train(was_training)
    return SuffixAttack(suffix.tolist(), found, done)


@torch.no_grad()
def target_losses(
    network: Model, suffixes: Tensor, around: Surroundings, adjacency: Pattern
) -> tuple[Tensor, Tensor]:
    """Return the mean loss of the target after each suffix, [S], and whether it is greedy, [S].

    Args:
        network: a decoder.
        suffixes: token ids, int64 [S, n].
        around: what is before and behind a suffix.
        adjacency: of the model.
    """
    texts = [around.text(suffix) for suffix in suffixes.tolist()]
    logits = _target_logits(network, texts, len(around.target), adjacency)
    labels = torch.tensor(list(around.target), device=logits.device).expand(len(texts), -1)
    losses = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none").mean(1)
    return losses.cpu(), (logits.argmax(2) == labels).all(1).cpu()


def token_gradient(
    network: Model, suffix: Tensor, around: Surroundings, adjacency: Pattern
) -> Tensor:
    """Return the gradient of the target's mean loss by the one-hot tokens of a suffix, [n, V].

    Args:
        network: a decoder whose embedding of tokens is an `nn.Embedding`.
        suffix: token ids, int64 [n].
        around: what is before and behind the suffix.
        adjacency: of the model.
    """
    table = _token_table(network)
    embedded: list[Tensor] = []

    def as_leaf(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[0]

    handle = table.register_forward_hook(as_leaf)
    try:
        with torch.enable_grad():
            texts = [around.text(suffix.tolist())]
            logits = _target_logits(network, texts, len(around.target), adjacency)[0]
            labels = torch.tensor(list(around.target), device=logits.device)
            (slope,) = torch.autograd.grad(F.cross_entropy(logits, labels), embedded)
    finally:
        handle.remove()
    start = len(around.prompt)
    return slope[start : start + len(suffix)] @ table.weight.detach().T


def _token_table(network: Model) -> nn.Embedding:
    """Return the embedding of a network's tokens.

    Raises:
        ValueError: when it is of another kind.
    """
    table = network.embedding.features
    if not isinstance(table, nn.Embedding):
        raise ValueError(
            f"network: got {type(table).__name__} as embedding of tokens, expected an "
            "nn.Embedding, whose gradient ranks replacements"
        )
    return table


def _target_logits(
    network: Model, texts: list[list[int]], length: int, adjacency: Pattern
) -> Tensor:
    """Return the logits of the last `length` tokens of texts of one length, [S, length, V]."""
    batch = pack_tokens(texts, device=next(network.parameters()).device)
    logits = network(batch, adjacency).unflatten(0, (len(texts), len(texts[0])))
    return logits[:, -length - 1 : -1]
