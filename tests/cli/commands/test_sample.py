"""`graphformer sample`: the best answers by a reward, which train the next round."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graphformer.cli import main
from graphformer.data import ChatFile

REWARDS = "graphformer.tasks.post_training.rewards"
SIZES = ["--model.network.dim", "8", "--model.network.depth", "1", "--model.network.num_heads", "2"]
EXPERIMENTS = Path(__file__).parents[3] / "experiments"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run of `walks_lm.yaml` with one step; the current folder is the test's."""
    monkeypatch.chdir(tmp_path)
    short = ["--trainer.max_steps", "1", "--trainer.accelerator", "cpu"]
    assert main(["fit", "-c", str(EXPERIMENTS / "walks_lm.yaml"), *SIZES, *short]) == 0
    Path("prompts.jsonl").write_text("".join(f'{{"prompt": "{c}"}}\n' for c in "bcd"))
    return str(next(Path("runs/walks_lm").iterdir()))


def test_the_best_answers_train_the_next_round(run: str, capsys) -> None:
    reward = f"{{class_path: {REWARDS}.RegularExpression, init_args: {{pattern: '[a-h]'}}}}"
    options = ["--samples", "5", "--max-new-tokens", "6", "--out", "best.jsonl"]
    command = ["sample", "--ckpt", run, "--prompts", "prompts.jsonl", "--reward", reward, *options]
    assert main(command) == 0
    assert "3 of 15 answers, in best.jsonl" in " ".join(capsys.readouterr().out.split())
    records = [json.loads(line) for line in Path("best.jsonl").read_text().splitlines()]
    assert [record["prompt"][0]["content"] for record in records] == ["b", "c", "d"]
    for record in records:
        (answer,) = record["completion"]
        assert record["reward"] == any(letter in "abcdefgh" for letter in answer["content"])
    assert main([*command, "--share", "0.4"]) == 0
    data = ChatFile("best.jsonl", template="plain", val_fraction=0.5)
    data.setup()
    assert len(data.splits["train"]) > 1


def test_wrong_rewards_are_one_line(run: str, capsys) -> None:
    command = ["sample", "--ckpt", run, "--prompts", "prompts.jsonl", "--out", "a.jsonl"]
    for reward, message in [
        ("no.such.thing", "--reward: got 'no.such.thing', expected the path of a function"),
        ("math.fsum", "reward: fsum raised TypeError"),
    ]:
        assert main([*command, "--reward", reward]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
