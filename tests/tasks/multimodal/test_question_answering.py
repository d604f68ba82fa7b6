"""Answers to questions: loss, exact match by type, and a run trained and used by commands."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from graphformer.adjacency import Adjacency
from graphformer.batch_type import IGNORE_INDEX, Batch
from graphformer.cli import main
from graphformer.patterns import Causal
from graphformer.tasks import QuestionAnswering

LOGITS = torch.tensor([[0.0, 9, 0], [2, 1, 0], [9, 0, 0], [0, 1, 2], [0, 3, 1], [5, 0, 0]])


class Fixed(nn.Module):
    def forward(self, batch: Batch, adjacency: Adjacency) -> Tensor:
        return LOGITS


def questions(*answers: int) -> Batch:
    """Three questions of 2, 2 and 2 tokens, whose answers are read at rows 1, 3 and 5."""
    y = torch.full((6,), 2)
    y[1::2] = torch.tensor(answers)
    batch = Batch(x=torch.zeros(6, dtype=torch.int64), lengths=(2, 2, 2), y=y)
    batch.question_type = torch.tensor([0, 1, 0])
    return batch


def task(*types: str) -> QuestionAnswering:
    return QuestionAnswering(Fixed(), Causal(), question_types=types)


def test_the_answer_is_read_at_the_last_token() -> None:
    updates, rows = task("count", "colour").evaluate(questions(0, 0, 0), 0, "test")
    assert rows == 3
    losses = -LOGITS[1::2].log_softmax(1)[:, 0]
    torch.testing.assert_close(updates["loss"][0], losses.sum())
    counts = {name: tuple(map(int, pair)) for name, pair in updates.items() if name != "loss"}
    assert counts == {
        "exact_match": (2, 3),
        "exact_match_count": (2, 2),
        "exact_match_colour": (0, 1),
    }
    assert torch.equal(task().predict_step(questions(0, 0, 0), 0), LOGITS[1::2])


def test_questions_without_an_answer_do_not_count() -> None:
    updates, _ = task("count").evaluate(questions(0, 2, IGNORE_INDEX), 0, "val")
    assert tuple(map(int, updates["exact_match"])) == (2, 2)
    assert tuple(map(int, updates["exact_match_count"])) == (1, 1)


def test_types_are_distinct_and_batches_have_them() -> None:
    with pytest.raises(ValueError, match=r"question_types: got \['a', 'a'\], expected distinct"):
        task("a", "a")
    batch = questions(0, 0, 0)
    del batch.question_type
    with pytest.raises(ValueError, match="batch.question_type: got None"):
        task("count").evaluate(batch, 0, "test")
    assert set(task().evaluate(batch, 0, "test")[0]) == {"loss", "exact_match"}


@pytest.mark.slow
def test_a_run_is_trained_stored_and_used_by_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    files = Path(__file__).parents[3]
    settings = ["num_samples=3360", "val_size=3360", "test_size=960", "batch_size=36"]
    arguments = [f"--data.{word}" for word in settings]
    arguments += ["--trainer.limit_train_batches=2", "--trainer.limit_val_batches=2"]
    fit = ["-c", str(files / "experiments/scene_questions.yaml")]
    fit += ["-c", str(files / "datasets/scene_questions.yaml")]
    assert main(["fit", *fit, *arguments, "--trainer.max_epochs=1"]) == 0
    (run,) = Path("runs/scene_questions").iterdir()
    assert main(["test", "--ckpt", str(run), "--trainer.limit_test_batches=2"]) == 0
    shown = capsys.readouterr().out
    for name in ("", "_count", "_colour", "_kind", "_relation"):
        assert f"test/exact_match{name} " in shown
    predict = ["predict", "--ckpt", str(run), "--trainer.limit_predict_batches=1"]
    assert main([*predict, "--output", "answers.csv"]) == 0
    rows = list(csv.DictReader(Path("answers.csv").read_text().splitlines()))
    assert len(rows) == 36
    assert all(row["answer"] and 0 < float(row["probability"]) <= 1 for row in rows)
