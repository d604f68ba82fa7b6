"""Prompts, a tokenizer and rewards for tests of policy optimisation."""

from __future__ import annotations

from collections.abc import Sequence

import lightning.pytorch as pl
import numpy as np

from graphformer.data import Characters
from graphformer.data.loader import BatchLoader
from graphformer.data.text.post_training.prompts import PromptSamples, prompt_loader
from graphformer.tasks.post_training.rewards import Completion

TOKENIZER = Characters("abcdefghijk", ("<bos>", "<eos>"))  # 13 tokens
EOS = 12


class Prompts(pl.LightningDataModule):
    """Prompts of one to three letters, `batch_size` in a batch."""

    tokenizer = TOKENIZER

    def __init__(self, batch_size: int = 3) -> None:
        super().__init__()
        self.batch_size = batch_size

    def batches(self, split: str) -> BatchLoader:
        texts = ["a", "bc", "def", "gh", "i", "jka"]
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
