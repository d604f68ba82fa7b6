"""`graphformer safety` and `evaluate --prompts`: reports of one or two models, wrong options."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.runs import fit_language_model

from graphformer.cli import main
from graphformer.cli.commands import sample
from graphformer.cli.commands.safety import read_prompt_list
from graphformer.cli.errors import UsageError


def test_reports_of_two_models(text_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(fit_language_model())
    (text_folder / "prompts.txt").write_text("one two\n\nsix\n")
    (text_folder / "words.txt").write_text("zzz\n")
    command = ["safety", "--ckpt", run, "--prompts", "prompts.txt", "--max-new-tokens", "7"]
    reward = "{class_path: graphformer.tasks.post_training.rewards.RegularExpression, "
    reward += "init_args: {pattern: ''}}"
    extra = ["--against", run, "--toxicity", "words.txt", "--secrets", "words.txt"]
    assert main([*command, *extra, "--reward", reward, "--show"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.count("2 prompts of prompts.txt") == 2
    for name in ("refusals", "empty", "toxicity", "leaks", "reward", "win_rate"):
        assert shown.count(name) >= 2
    assert shown.count("win_rate │ 0.5000") == 2  # equal rewards are half a win
    assert main([*command, "--chat"]) == 2
    assert "--chat: got a model without a chat template" in capsys.readouterr().err
    assert main([*command, "--toxicity", "no.such.thing"]) == 2
    assert "--toxicity: got 'no.such.thing'" in capsys.readouterr().err
    assert main([*command, "--toxicity", "math.fsum"]) == 2
    assert "toxicity: fsum raised TypeError" in capsys.readouterr().err
    assert main(["evaluate", *command[1:]]) == 0
    assert "2 prompts of prompts.txt" in capsys.readouterr().out
    assert main(["evaluate", *command[1:], "--shots", "1"]) == 2
    assert "evaluate: unrecognized arguments: --shots 1" in capsys.readouterr().err


def test_a_reward_model_reads_the_token_ids(text_folder: Path, capsys, monkeypatch) -> None:
    run = str(fit_language_model())
    (text_folder / "prompts.txt").write_text("one two\nsix\n")
    seen = []

    def number_of_tokens(completions):
        seen.extend(completions)
        return [len(completion.ids) for completion in completions]

    monkeypatch.setattr(sample, "load_reward", lambda text: number_of_tokens)
    command = ["safety", "--ckpt", run, "--prompts", "prompts.txt", "--max-new-tokens", "7"]
    assert main([*command, "--reward", "any"]) == 0
    assert [completion.prompt for completion in seen] == ["one two", "six"]
    assert all(len(c.ids) >= c.prompt_length > 0 for c in seen)
    assert "reward" in capsys.readouterr().out


def test_prompts_of_files(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"q": "one"}\n{"q": "two"}\n')
    assert read_prompt_list(str(tmp_path / "a.jsonl"), "q", None) == ["one", "two"]
    with pytest.raises(ValueError, match="line 1: there is no field 'prompt'"):
        read_prompt_list(str(tmp_path / "a.jsonl"), "prompt", None)
    (tmp_path / "a.txt").write_text("\n")
    with pytest.raises(UsageError, match="--prompts: got .*a.txt, which has none"):
        read_prompt_list(str(tmp_path / "a.txt"), "q", None)
