"""Models and prompts for tests of generation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from graphformer import models, patterns
from graphformer.data import pack_tokens

VOCAB = 31
PROMPTS = [[1, 2, 3], [4, 5, 6, 7, 8], [9], [10, 11, 12], [3, 4, 5, 6, 7, 8, 30]]
WINDOW = patterns.Window(2, causal=True)


def randomize(model: Any, seed: int = 3, std: float = 0.4) -> Any:
    """The model in float64 with all weights far from zero, so that every part matters."""
    torch.manual_seed(seed)
    for p in model.parameters():
        nn.init.normal_(p, std=std)
    return model.double().eval()


def decoder(positions: str = "rotary", vocab_size: int = VOCAB, **parts: Any) -> models.Model:
    """A small language model with random weights."""
    parts = {"dim": 24, "depth": 3, "num_heads": 4, "num_kv_heads": 2, **parts}
    return randomize(models.language_model(vocab_size, positions=positions, **parts))


def translator(**parts: Any) -> models.EncoderDecoder:
    """A small encoder-decoder with random weights."""
    parts = {"dim": 24, "depth": 2, "decoder_depth": 3, "num_heads": 4, "tied": False, **parts}
    return randomize(models.encoder_decoder(VOCAB, **parts))


def last_logits(
    model: models.Model, text: list[int], pattern: patterns.Pattern = patterns.Causal()
) -> Tensor:
    """Logits after a text, [K], from one forward pass of the whole text."""
    return model(pack_tokens([text]), pattern)[-1].detach()


def log_probability(model: models.Model, text: list[int], prompt_length: int) -> float:
    """Log-probability of the tokens after the prompt."""
    logp = model(pack_tokens([text]), patterns.Causal()).detach().log_softmax(-1)
    return sum(float(logp[i - 1, text[i]]) for i in range(prompt_length, len(text)))
