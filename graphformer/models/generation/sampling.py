"""Sampling: the next token of each text from the logits of all tokens."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class Sampler:
    """Draws tokens from the softmax of the logits, after filtering.

    The steps are, in this order: repetition penalty, division by the temperature, top-k filter,
    top-p filter, draw.

    Args:
        temperature: divides the logits; 0 selects the most likely token.
        top_k: keep the k most likely tokens; None keeps all.
        top_p: keep the fewest tokens that reach this share of the probability; None keeps all.
        repetition_penalty: divides positive logits of tokens that occurred, and multiplies
            negative ones.
        seed: of the random streams; None takes a random one.
        seed_keys: key of each text's random stream, see `prompts.seed_keys`. A text's draws depend
            on the seed and its key only, so that they are the same in any batch.

    Raises:
        ValueError: when a number is out of its range or not a number.

    Source: Fan et al., 2018 (top-k); Holtzman et al., 2020 (top-p); Keskar et al., 2019, section
    4.1 (penalty).
    """

    def __init__(
        self,
        *,
        temperature: float,
        top_k: int | None,
        top_p: float | None,
        repetition_penalty: float,
        seed: int | None,
        seed_keys: Sequence[tuple[int, ...]],
    ) -> None:
        # Written as `not (x >= bound)`, so that NaN is refused as well.
        if not 0 <= temperature < math.inf:
            raise ValueError(f"temperature: got {temperature}, expected a finite number >= 0")
        if top_k is not None and not top_k >= 1:
            raise ValueError(f"top_k: got {top_k}, expected at least 1, or None for all tokens")
        if top_p is not None and not 0 < top_p <= 1:
            raise ValueError(f"top_p: got {top_p}, expected 0 < top_p <= 1, or None for all tokens")
        if not 0 < repetition_penalty < math.inf:
            raise ValueError(
                f"repetition_penalty: got {repetition_penalty}, expected a finite number above 0"
            )
        if seed is not None and not seed >= 0:
            raise ValueError(f"seed: got {seed}, expected 0 or more, or None for a random one")
        self.temperature, self.top_k, self.top_p = temperature, top_k, top_p
        self.repetition_penalty = repetition_penalty
        seed = secrets.randbits(64) if seed is None else seed
        keys = seed_keys if temperature else ()
        self.generators = [np.random.default_rng((seed, *key)) for key in keys]
        self.occurred: Tensor | None = None  # bool [B, K], with a penalty only

    def start(self, texts: list[list[int]], vocab_size: int, device: torch.device) -> None:
        """Record the tokens of the prompts for the repetition penalty."""
        if self.repetition_penalty != 1:
            self.occurred = torch.zeros(len(texts), vocab_size, dtype=torch.bool, device=device)
            for row, text in enumerate(texts):
                self.occurred[row, torch.tensor(text, device=device)] = True

    def sample(self, logits: Tensor) -> Tensor:
        """Return the next token of each text, int64 [B], for logits [B, K]; records it."""
        logits = self.penalize(logits)
        if self.temperature == 0:
            tokens = logits.argmax(-1)
        else:
            # With a maximum of 0, division by a small temperature cannot overflow to +inf.
            logits = (logits - logits.amax(-1, keepdim=True)).float() / self.temperature
            uniform = [generator.random() for generator in self.generators]
            probability = filter_logits(logits, self.top_k, self.top_p).softmax(-1)
            tokens = draw_tokens(probability, torch.tensor(uniform, dtype=torch.float64))
        self.update(tokens)
        return tokens

    def penalize(self, scores: Tensor) -> Tensor:
        """Apply the repetition penalty to scores [B, K]."""
        if self.occurred is None:
            return scores
        penalty = self.repetition_penalty
        penalized = torch.where(scores > 0, scores / penalty, scores * penalty)
        return torch.where(self.occurred, penalized, scores)

    def update(self, tokens: Tensor) -> None:
        """Record the new token of each text, int64 [B], for the repetition penalty."""
        if self.occurred is not None:
            self.occurred[torch.arange(len(tokens), device=tokens.device), tokens] = True

    def select(self, rows: Tensor) -> None:
        """Keep the texts `rows`, int64 [B'], which may repeat."""
        self.occurred = None if self.occurred is None else self.occurred[rows]
        if self.generators:
            self.generators = [self.generators[row] for row in rows.tolist()]


def draw_tokens(probability: Tensor, uniform: Tensor) -> Tensor:
    """Draw a token of each row by inverting the cumulative distribution; int64 [B].

    Args:
        probability: of each token, [B, K]; rows need not sum to 1.
        uniform: numbers in [0, 1), float64 [B].

    Raises:
        ValueError: when probabilities are NaN.
    """
    cumulative = probability.double().cumsum(-1)
    total = cumulative[:, -1:]
    if bool(total.isnan().any()):
        raise ValueError(
            "network: got outputs that are NaN, as after diverged training; use an earlier "
            "checkpoint, or train with a lower lr"
        )
    threshold = uniform.to(total.device).unsqueeze(1) * total
    return torch.searchsorted(cumulative, threshold, right=True).squeeze(1)


def filter_logits(logits: Tensor, top_k: int | None, top_p: float | None) -> Tensor:
    """Set logits [B, K] outside of the top-k and the top-p set to minus infinity."""
    if top_k is not None and top_k < logits.shape[-1]:
        threshold = logits.topk(top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < threshold, -torch.inf)
    if top_p is not None and top_p < 1:
        ordered, order = logits.sort(dim=-1, descending=True)
        probability = ordered.softmax(-1)
        # Remove a token if the tokens before it reach the share; this never removes the first.
        removed = probability.cumsum(-1) - probability >= top_p
        logits = logits.masked_fill(removed.scatter(-1, order, removed), -torch.inf)
    return logits
