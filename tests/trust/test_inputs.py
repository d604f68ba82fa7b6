"""Texts and groups that a section cannot read are refused before any section is computed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.trust import given_run

from graphformer import models
from graphformer.data import Bytes, TextFile
from graphformer.patterns import Causal
from graphformer.tasks import LanguageModeling
from graphformer.tasks.text.few_shot import Question, TextModel
from graphformer.trust import Norm, Run
from graphformer.trust.inputs import check_inputs


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A language model of the characters of a text, without capital letters."""
    (tmp_path / "text.txt").write_text("one two three four five\n" * 40)
    data = TextFile("text.txt", block_size=11, vocabulary="characters", root=str(tmp_path))
    data.setup()
    network = models.language_model(data.vocab_size, dim=8, depth=1, num_heads=2)
    return Run(LanguageModeling(network, Causal()).eval(), data)


def item(prompt: str, *options: str) -> Norm:
    return Norm("all", Question(prompt, options[0], options))


def test_items_are_those_of_the_section_norms(run: Run):
    run.norms = [item("one", "two", "three"), item("one", "two", "A")]
    with pytest.raises(ValueError, match="--items, number 2 of 2: text: got the character 'A'"):
        check_inputs(run, ["leaks", "norms"])
    check_inputs(run, ["leaks", "safety"])
    run.norms = [item("", "two", "three")]
    with pytest.raises(ValueError, match="number 1 of 1: question: got a prompt or an option with"):
        check_inputs(run, ["norms"])
    run.norms = [item("one", "two", "three")]
    check_inputs(run, ["norms"])


def test_prompts_and_the_target_of_suffixes(run: Run):
    run.prompts, run.suffix_target = ["one", "TWO"], "Sure"
    with pytest.raises(ValueError, match="--prompts, number 2 of 2: text: got the character 'T'"):
        check_inputs(run, ["safety"])
    run.prompts = ["one", ""]
    with pytest.raises(ValueError, match="--prompts, number 2 of 2: prompt: got '', which has no"):
        check_inputs(run, ["safety"])
    run.prompts = ["one"]
    check_inputs(run, ["safety"])  # no suffixes are searched
    run.suffix_steps = 1
    with pytest.raises(ValueError, match="--suffix-target, number 1 of 1: text: got the character"):
        check_inputs(run, ["safety"])


def test_the_model_before_tuning_reads_them_too(run: Run):
    run.norms = [item("one", "two", "A")]
    run.before = TextModel(run.task.network, Causal(), run.data.need_tokenizer())
    run.data.tokenizer = Bytes()  # which reads every text
    with pytest.raises(ValueError, match="--items, number 1 of 1: text: got the character 'A'"):
        check_inputs(run, ["norms"])
    run.before = None
    check_inputs(run, ["norms"])


def test_the_group_is_read_first():
    run = given_run({"test": (torch.eye(3), torch.arange(3))})
    run.group = "region"
    with pytest.raises(ValueError, match="group: got 'region', expected a field of the batches"):
        check_inputs(run, ["calibration", "fairness"])
    check_inputs(run, ["calibration"])
    run.group = "y"
    check_inputs(run, ["fairness"])
