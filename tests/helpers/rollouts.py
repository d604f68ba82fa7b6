"""Prompts, a tokenizer and rewards for tests of policy optimisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np

from graphformer.data import Characters
from graphformer.data.loader import BatchLoader
from graphformer.data.text.post_training.prompts import PromptSamples, prompt_loader
from graphformer.tasks.post_training.policy.settings import PolicySettings
from graphformer.tasks.post_training.rewards import Completion

TOKENIZER = Characters("abcdefghijk", ("<bos>", "<eos>"))  # 13 tokens
EOS = 12


class Prompts(pl.LightningDataModule):
    """Six prompts of one to three letters, or the first of them, `batch_size` in a batch."""

    tokenizer = TOKENIZER

    def __init__(self, batch_size: int = 3, number: int = 6) -> None:
        super().__init__()
        self.batch_size, self.number = batch_size, number

    def batches(self, split: str) -> BatchLoader:
        texts = ["a", "bc", "def", "gh", "i", "jka"][: self.number]
        rows = [np.array([11, *TOKENIZER.encode(text).tolist()]) for text in texts]
        samples = PromptSamples(rows, texts, [text[::-1] for text in texts])
        return prompt_loader(samples, split, self.batch_size, 0)

    def train_dataloader(self) -> BatchLoader:
        return self.batches("train")

    def val_dataloader(self) -> BatchLoader:
        return self.batches("val")


def share_of_c(completions: Sequence[Completion]) -> list[float]:
    """The share of the letter c in each answer."""
    return [c.answer.count("c") / max(1, len(c.answer)) for c in completions]


def policy_settings(**options: Any) -> PolicySettings:
    """Settings of RLOO, unless the options say otherwise."""
    defaults: dict[str, Any] = {
        "method": "rloo", "group_size": 2, "minibatches": 1, "epochs": 1, "max_new_tokens": 4,
        "temperature": 1.0, "clip": 0.2, "kl_weight": 0.05, "kl_place": None,
        "kl_estimator": "k3", "kl_target": None,
        "kl_horizon": 10.0, "kl_stop": None, "missing_end_penalty": 0.0, "whiten": None,
        "gamma": 1.0, "lam": 0.95, "value_weight": 0.1, "value_clip": 0.2, "seed": 0,
    }  # fmt: skip
    return PolicySettings(**{**defaults, **options})
