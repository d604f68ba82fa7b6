"""The figure of answers: questions, answers, and frames by whether they are right."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from graphformer.adjacency import Adjacency
from graphformer.batch_type import Batch
from graphformer.cli.errors import UsageError
from graphformer.cli.plots.answers import CORRECT, WRONG, draw_answers
from graphformer.data import Digits, SceneQuestions
from graphformer.patterns import Causal
from graphformer.tasks import QuestionAnswering


class Always(nn.Module):
    """Answers every question by one token of K."""

    def __init__(self, token: int, size: int) -> None:
        super().__init__()
        self.register_buffer("logits", torch.eye(size)[token])

    def forward(self, batch: Batch, adjacency: Adjacency) -> Tensor:
        return self.logits.expand(len(batch.x), -1)


def test_right_answers_are_green_and_others_show_the_right_one() -> None:
    data = SceneQuestions(num_samples=3360, val_size=3360, test_size=960)
    data.setup()
    red = int(data.encode("red"))
    task = QuestionAnswering(Always(red, data.vocab_size), Causal())
    figure = draw_answers(task, data, 12)
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == 12
    for axes in shown:
        question, _, answer = axes.get_title().rpartition("\n")
        assert question.endswith("?")
        right = answer == "red"
        assert right or answer.startswith("red (")
        colours = {spine.get_edgecolor() for spine in axes.spines.values()}
        expected = tuple(int((CORRECT if right else WRONG)[i : i + 2], 16) / 255 for i in (1, 3, 5))
        assert {colour[:3] for colour in colours} == {expected}
    assert any(axes.get_title().endswith("\nred") for axes in shown)
    assert sum("colour" in axes.get_title() for axes in shown) == 3  # all types of questions


def test_runs_of_other_tasks_and_data_are_refused() -> None:
    task = QuestionAnswering(Always(0, 3), Causal())
    with pytest.raises(UsageError, match="answers are drawn of a run that answers questions"):
        draw_answers(task, Digits(), 2)
