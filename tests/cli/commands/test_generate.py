"""`graphformer generate`: text from a checkpoint, its ends, and what it says of bad input."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import graphformer as gf
from graphformer.cli import main
from graphformer.cli.commands.generate import TextStreamer
from graphformer.data.text.tokenizer import Bytes, Characters

EXPERIMENT = """\
# A language model of one block.
model:
  class_path: LanguageModeling
  init_args:
    network:
      class_path: graphformer.models.language_model
      init_args: {dim: 22, depth: 1, num_heads: 2, max_length: 11}
    adjacency: Causal
    lr: 1.0e-2
data:
  class_path: TextFile
  init_args: {path: text.txt, block_size: 11, batch_size: 7}
trainer:
  accelerator: cpu
  max_steps: 150
  limit_val_batches: 0
  enable_progress_bar: false
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a text that says one thing again and again."""
    home = tmp_path_factory.mktemp("generate")
    (home / "words.yaml").write_text(EXPERIMENT)
    (home / "text.txt").write_text("to be or not. " * 101)
    previous = Path.cwd()
    os.chdir(home)
    try:
        assert main(["fit", "-c", "words.yaml"]) == 0
    finally:
        os.chdir(previous)
    (folder,) = (home / "runs" / "words").iterdir()
    return folder


def run(capsys: pytest.CaptureFixture[str], checkpoint: Path, *arguments: str) -> str:
    capsys.readouterr()
    assert main(["generate", "--ckpt", str(checkpoint), *arguments]) == 0
    return capsys.readouterr().out


def test_it_goes_on_from_the_prompt_past_what_positions_reach(checkpoint, capsys):
    arguments = ["--prompt", "to be", "--max-new-tokens", "31"]
    out = run(capsys, checkpoint, *arguments, "--temperature", "0")
    assert out.startswith("to be or not. to be")
    assert len(out) == len("to be") + 31 + 1
    drawn = [run(capsys, checkpoint, *arguments, "--seed", seed) for seed in ("3", "3", "5")]
    assert drawn[0] == drawn[1]
    assert len(drawn[2]) == len(out)
    beams = run(capsys, checkpoint, *arguments, "--num-beams", "3")
    assert beams.startswith("to be or not.")


def test_several_prompts_and_stop_strings(checkpoint, capsys):
    arguments = ["--temperature", "0", "--stop", " not", "--stop", "never"]
    out = run(capsys, checkpoint, "--prompt", "to be", "--prompt", "or", *arguments)
    assert out == "to be or\n---\nor\n"
    assert run(capsys, checkpoint, "--prompt", "to be", *arguments) == "to be or\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--prompt", "Ω"], "the character 'Ω'"),
        (["--prompt", ""], "--prompt: got no tokens"),
        (["--prompt", "to", "--stop", ""], "--stop: got an empty string"),
        (["--prompt", "to", "--seed", "-3"], "seed: got -3, expected 0 or more"),
        (["--prompt", "to", "--top-p", "3"], "top_p: got 3.0, expected 0 < top_p <= 1"),
        (["--prompt", "to", "--max-new-tokens", "x"], "--max-new-tokens"),
        ([], "--prompt"),
        (["--prompt", "to", "--num-beams", "2", "--top-k", "3"], "num_beams"),
    ],
)
def test_bad_input_is_one_line(checkpoint, capsys, arguments, expected):
    capsys.readouterr()
    assert main(["generate", "--ckpt", str(checkpoint), *arguments]) == 2
    captured = capsys.readouterr()
    assert expected in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_cells_write_and_what_sees_ahead_does_not(checkpoint, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(checkpoint.parent.parent.parent)
    options = ["--trainer.max_steps", "2", "--trainer.default_root_dir", str(tmp_path)]
    cells = ["--model.network", "recurrent_language_model"]
    cells += ["--model.network.dim", "6", "--model.network.depth", "1"]
    for name, arguments in (("cells", cells), ("ahead", ["--adjacency", "Complete"])):
        assert main(["fit", "-c", "words.yaml", *options, *arguments]) == 0
        (max(tmp_path.glob("words/*"))).rename(tmp_path / name)
    out = run(capsys, tmp_path / "cells", "--prompt", "to", "--max-new-tokens", "5")
    assert len(out) == len("to") + 5 + 1
    assert main(["generate", "--ckpt", str(tmp_path / "ahead"), "--prompt", "to"]) == 2
    assert "got Complete(), in which tokens attend to later ones" in capsys.readouterr().err


def test_a_model_that_writes_nothing(trained, capsys):
    assert main(["generate", "--ckpt", str(trained.last), "--prompt", "to"]) == 2
    assert "contains no tokenizer" in capsys.readouterr().err


def written(tokenizer, prompt, stop, new):
    shown: list[str] = []
    ids = tokenizer.encode(prompt).tolist()
    text = TextStreamer(tokenizer, ids, prompt, stop, shown.append)
    ended, after = [], []
    for token in tokenizer.encode(new).tolist():
        ended.append(text.add(token))
        after.append("".join(shown))
    text.finish()
    return "".join(shown), ended, after


def test_what_is_shown_is_certain():
    tokenizer = Characters("abcd ")
    shown, ended, after = written(tokenizer, "ab", ["cd"], "abc cda")
    assert shown == "ababc "
    assert after[:4] == ["ab", "aba", "abab", "ababc"]  # a "c" might begin "cd"
    assert ended == [False, False, False, False, False, True, True]
    shown, ended, after = written(Bytes(), "ä", [], "öü")
    assert shown == "äöü"
    assert after == ["ä", "äö", "äö", "äöü"]
    assert not any(ended)
    assert torch.equal(Bytes().encode("ö"), torch.tensor([195, 182]))


def test_folders_of_hugging_face_and_their_chat_templates(chat_folder, capsys):
    options = ["--max-new-tokens", "7", "--temperature", "0"]
    out = run(capsys, chat_folder, "--prompt", "to be", *options)
    model = gf.from_pretrained(chat_folder)
    assert model.tokenizer is not None
    ids = model.tokenizer.encode("to be").tolist()
    new = model.generate(ids, max_new_tokens=7, temperature=0)[len(ids) :]
    assert out == f"to be{model.tokenizer.decode(new)}\n"
    out = run(capsys, chat_folder, "--prompt", "to be", "--chat", "--system", "Be.", *options)
    text = "<s>system: Be.</s><s>user: to be</s><s>assistant:"
    messages = [{"role": "system", "content": "Be."}, {"role": "user", "content": "to be"}]
    assert model.tokenizer.apply_chat_template(messages) == text
    ids = model.tokenizer.encode_chat(messages).tolist()
    assert model.tokenizer.backend.decode(ids, skip_special_tokens=False) == text
    new = model.generate(ids, max_new_tokens=7, temperature=0)[len(ids) :]
    assert out == f"to be\n{model.tokenizer.decode(new)}\n"


def test_chat_needs_a_template(checkpoint, capsys):
    assert main(["generate", "--ckpt", str(checkpoint), "--prompt", "to", "--chat"]) == 2
    assert "--chat: got a model without a chat template" in capsys.readouterr().err
