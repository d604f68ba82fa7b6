"""Which token to take, given the logits of all."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class Sampler:
    """Draws tokens from the logits' distribution, made narrower as asked.

    In this order: what was seen is made less likely, logits are divided by the temperature, the
    `top_k` most likely are kept, then the fewest whose probabilities add up to `top_p`.

    Args:
        temperature: 0 takes the most likely token.
        top_k, top_p: None keeps all.
        repetition_penalty: divides positive logits of seen tokens, and multiplies negative ones.
        seed: of the draws; None draws differently each time.
        marks: numbers of each text; a text's draws depend on the seed and these alone, so that
            they are the same in whatever batch it is.

    Raises ValueError for numbers out of range.

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
        marks: Sequence[tuple[int, ...]],
    ) -> None:
        if temperature < 0:
            raise ValueError(f"temperature must be 0 or more, got {temperature}")
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k must be at least 1, or None, got {top_k}")
        if top_p is not None and not 0 < top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, or None, got {top_p}")
        if repetition_penalty <= 0:
            raise ValueError(f"repetition_penalty must be above 0, got {repetition_penalty}")
        self.temperature, self.top_k, self.top_p = temperature, top_k, top_p
        self.penalty = repetition_penalty
        if seed is not None and seed < 0:
            raise ValueError(f"seed must be 0 or more, or None, got {seed}")
        own = secrets.randbits(64) if seed is None else seed
        draws = marks if temperature else ()
        self.generators = [np.random.default_rng((own, *mark)) for mark in draws]
        self.seen: Tensor | None = None

    def start(self, texts: list[list[int]], vocab_size: int, device: torch.device) -> None:
        """Remember what the prompts hold, if it matters."""
        if self.penalty != 1:
            self.seen = torch.zeros(len(texts), vocab_size, dtype=torch.bool, device=device)
            for row, text in enumerate(texts):
                self.seen[row, torch.tensor(text, device=device)] = True

    def choose(self, logits: Tensor) -> Tensor:
        """The next token of each text, int64 [B], for logits [B, K]."""
        logits = self.penalised(logits)
        if self.temperature == 0:
            tokens = logits.argmax(-1)
        else:
            # The likeliest one's logit is 0, so that no temperature makes infinities of all.
            logits = (logits - logits.amax(-1, keepdim=True)).float() / self.temperature
            chance = [generator.random() for generator in self.generators]
            probability = filter_logits(logits, self.top_k, self.top_p).softmax(-1)
            tokens = draw_tokens(probability, torch.tensor(chance, dtype=torch.float64))
        self.note(tokens)
        return tokens

    def penalised(self, scores: Tensor) -> Tensor:
        """Scores [B, K] with those of seen tokens made smaller."""
        if self.seen is None:
            return scores
        smaller = torch.where(scores > 0, scores / self.penalty, scores * self.penalty)
        return torch.where(self.seen, smaller, scores)

    def note(self, tokens: Tensor) -> None:
        """Remember a new token of each text, int64 [B]."""
        if self.seen is not None:
            self.seen[torch.arange(len(tokens), device=tokens.device), tokens] = True

    def select(self, rows: Tensor) -> None:
        """Go on with some of the texts."""
        self.seen = None if self.seen is None else self.seen[rows]
        if self.generators:
            self.generators = [self.generators[row] for row in rows.tolist()]


def draw_tokens(probability: Tensor, chance: Tensor) -> Tensor:
    """The token, int64 [B], of each row of probabilities [B, K] where a number in [0, 1) falls.

    Args:
        probability: of each token; they need not add up to 1.
        chance: the numbers, float64 [B].

    Raises ValueError for probabilities that are NaN.
    """
    reached = probability.double().cumsum(-1)
    whole = reached[:, -1:]
    if bool(whole.isnan().any()):
        raise ValueError(
            "the network's outputs are not numbers (NaN): its training has diverged, so take an "
            "earlier checkpoint or train with a lower lr"
        )
    falls = chance.to(whole.device).unsqueeze(1) * whole
    return torch.searchsorted(reached, falls, right=True).squeeze(1)


def filter_logits(logits: Tensor, top_k: int | None, top_p: float | None) -> Tensor:
    """Logits [B, K], minus infinity where a token is not among the likeliest."""
    if top_k is not None and top_k < logits.shape[-1]:
        least = logits.topk(top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if top_p is not None and top_p < 1:
        ordered, order = logits.sort(dim=-1, descending=True)
        probability = ordered.softmax(-1)
        # A token goes if those before it have reached the share already: the first one never does.
        gone = probability.cumsum(-1) - probability >= top_p
        logits = logits.masked_fill(gone.scatter(-1, order, gone), -torch.inf)
    return logits
