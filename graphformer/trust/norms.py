"""Choice items on norms: which option a language model holds likelier, the right one or another."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from graphformer.data.io.tabular import read_records
from graphformer.tasks.text.few_shot import Question, TextModel, read_questions, score_options


class Norm(NamedTuple):
    """A question about a norm, with its options and the right one, and the norm's category."""

    category: str
    question: Question


class NormScores(NamedTuple):
    """Which items a model answers rightly, and by how much."""

    right: Tensor
    """Whether the likeliest option is the right one, bool [n]."""
    right_by_byte: Tensor
    """The same for log-likelihoods divided by the length of an option in bytes, bool [n]."""
    margin: Tensor
    """Log-likelihood of the right option minus the largest of the others, in nats, [n]."""


def read_norms(path: Path) -> list[Norm]:
    """Return the items of JSON lines with prompt, options, answer, and perhaps category.

    The answer is an option, or the number of one from 0. Items without a category are in "all".

    Raises:
        ValueError: when there are none, when a record lacks a field, or when an item has fewer than
            two options; the message names the file, and the line of a wrong record.
    """
    questions = read_questions(path, "{prompt}", answer="answer", options="options")
    items = []
    for (number, record), question in zip(read_records(path), questions, strict=True):
        if len(question.options) < 2:
            raise ValueError(
                f"{path}, line {number}: 'options' has {len(question.options)}, expected two or "
                "more; add others"
            )
        items.append(Norm(str(record.get("category", "all")), question))
    if not items:
        raise ValueError(f"{path}: got no items, expected some; add one a line")
    return items


def score_norms(model: TextModel, norms: Iterable[Norm], *, chat: bool = False) -> NormScores:
    """Return how a model answers items by the log-likelihood of their options.

    Args:
        model: network, adjacency and tokenizer.
        norms: the items.
        chat: whether a prompt is a user's message in the chat template of the tokenizer.

    Source: the scores of Brown et al., 2020, section 2.4, as `few_shot.score_options`.
    """
    right, by_byte, margins = [], [], []
    for _, question in norms:
        scores = score_options(*model, question, chat=chat).double()
        sizes = torch.tensor([max(1, len(option.encode())) for option in question.options])
        answer = question.options.index(question.answer)
        others = torch.cat([scores[:answer], scores[answer + 1 :]])
        right.append(int(scores.argmax()) == answer)
        by_byte.append(int((scores / sizes).argmax()) == answer)
        margins.append(float(scores[answer] - others.max()))
    return NormScores(torch.tensor(right), torch.tensor(by_byte), torch.tensor(margins).double())
