"""Rewards of sampled answers: exact answers, regular expressions, lexicons, reward models."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import nn

from graphformer.data.batch import pack_tokens
from graphformer.models.generation import eval_mode
from graphformer.patterns import Causal, Pattern
from graphformer.tasks.metrics import exact_match
from graphformer.tasks.text.few_shot import extract_answer
from graphformer.tasks.warm_start import load_pretrained


class Completion(NamedTuple):
    """A sampled answer: texts, the reference answer (or ""), and the ids with the prompt."""

    prompt: str
    answer: str
    reference: str
    ids: list[int]
    prompt_length: int
    ended: bool
    """Whether the answer ends with an end token, rather than at the maximal length."""


Reward: TypeAlias = Callable[[Sequence[Completion]], Sequence[float]]
"""Returns one finite number for each answer."""


class ExactAnswer:
    """Reward 1 if an answer, or what a pattern extracts from it, equals the reference, else 0.

    Args:
        extract: regular expression whose last match is compared, its first group if it has one;
            None compares whole texts.

    Raises:
        ValueError: when it is not one; when called, if an answer has no reference.
    """

    def __init__(self, extract: str | None = None) -> None:
        extract_answer("", extract)  # raises here rather than after sampling
        self.extract = extract

    def __call__(self, completions: Sequence[Completion]) -> list[float]:
        """Return one number for each answer."""
        return [self._one(c.answer, c.reference) for c in completions]

    def _one(self, answer: str, reference: str) -> float:
        if not reference:
            raise ValueError("reference: got an empty text, expected an answer; name its field")
        found, expected = (extract_answer(text, self.extract) for text in (answer, reference))
        return 0.0 if found is None else exact_match(found, expected or reference)


class RegularExpression:
    """Reward 1 if a pattern matches somewhere in an answer, else 0.

    Args:
        pattern: the regular expression.

    Raises:
        ValueError: when it is not one.
    """

    def __init__(self, pattern: str) -> None:
        try:
            self.pattern = re.compile(pattern)
        except re.error as error:
            raise ValueError(
                f"pattern: got {pattern!r} ({error}), expected a regular expression"
            ) from None

    def __call__(self, completions: Sequence[Completion]) -> list[float]:
        """Return one number for each answer."""
        return [float(self.pattern.search(c.answer) is not None) for c in completions]


class SentimentLexicon:
    """The compound score of VADER, from -1 to 1.

    Raises:
        ModuleNotFoundError: when vaderSentiment is not installed.

    Source: Hutto and Gilbert, 2014, "VADER".
    """

    def __init__(self) -> None:
        try:
            from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
        except ModuleNotFoundError:
            raise ModuleNotFoundError(
                "SentimentLexicon needs the package vaderSentiment; install it with pip install "
                "'graphformer[text]'"
            ) from None
        self._analyzer = SentimentIntensityAnalyzer()

    def __call__(self, completions: Sequence[Completion]) -> list[float]:
        """Return one number for each answer."""
        return [self._analyzer.polarity_scores(c.answer)["compound"] for c in completions]


class LearnedReward:
    """The output of a reward model for prompt and answer, read at the last token.

    Args:
        network: computes rewards [B, 1], as `models.reward_model`; its tokenizer is the policy's.
        pretrained: the run or checkpoint of `RewardModeling` with its weights.
        adjacency: pattern of the edges of attention, as in its training.
        batch_size: number of texts in one call of the network.
    """

    def __init__(
        self,
        network: nn.Module,
        pretrained: str,
        adjacency: Pattern = Causal(),
        *,
        batch_size: int = 64,
    ) -> None:
        self.network, self.adjacency, self.batch_size = network, adjacency, batch_size
        self.pretrained, self._is_loaded = pretrained, False

    @torch.no_grad()
    def __call__(self, completions: Sequence[Completion]) -> list[float]:
        """Return one number for each answer.

        Raises:
            ValueError: when the checkpoint does not fit the network.
        """
        if not self._is_loaded:  # not in the constructor: a trained policy needs no rewards
            self._load()
        rewards: list[float] = []
        with eval_mode(self.network):
            for start in range(0, len(completions), self.batch_size):
                batch = pack_tokens([c.ids for c in completions[start : start + self.batch_size]])
                rewards += self.network(batch, self.adjacency(batch)).squeeze(1).tolist()
        return rewards

    def _load(self) -> None:
        if load_pretrained(self.network, self.pretrained):
            raise ValueError(
                f"pretrained: got {self.pretrained!r} without a head that fits, expected a "
                "checkpoint of RewardModeling; build the network with its sizes"
            )
        self._is_loaded = True
