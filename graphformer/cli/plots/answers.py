"""The figure of questions about images with a network's answers."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import torch

from graphformer.cli.errors import UsageError
from graphformer.cli.plots.image_grid import Panel, image_grid
from graphformer.data import SceneQuestions
from graphformer.tasks import QuestionAnswering, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from graphformer.cli.run_data import ImageData

CORRECT, WRONG = "#2e8b57", "#c0392b"
NUM_COLUMNS = 6


@torch.inference_mode()
def draw_answers(task: Task, data: ImageData, count: int) -> Figure:
    """Draw images of the test split with their question and the network's answer.

    Correct answers are framed in green; the others have the right answer in brackets.

    Raises:
        UsageError: when the run does not answer questions about scenes.
    """
    if not isinstance(task, QuestionAnswering) or not isinstance(data, SceneQuestions):
        raise UsageError("answers are drawn of a run that answers questions about scenes")
    images, questions = data.splits["test"]
    stride = len(images) // count + 1  # over the split, and over the types of questions
    index = torch.arange(count) * stride % len(images)
    tokens = task.predict_step(data.batches("test").dataset[index], 0).argmax(1).tolist()
    panels = []
    for i, token in zip(index.tolist(), tokens, strict=True):
        answer, expected = data.decode([token]), questions[i].answer
        is_right = answer == expected
        text = textwrap.fill(questions[i].text, 20)
        title = f"{text}\n{answer}" if is_right else f"{text}\n{answer} ({expected})"
        frame = CORRECT if is_right else WRONG
        panels.append(Panel(images[i].permute(1, 2, 0).numpy() / 255, title=title, frame=frame))
    return image_grid([panels[i : i + NUM_COLUMNS] for i in range(0, count, NUM_COLUMNS)])
