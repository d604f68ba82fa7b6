"""Choice items on norms: scores of a model with known likelihoods, the file, and the section."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from graphformer import models
from graphformer.data import Bytes, TextFile
from graphformer.patterns import Causal, Complete, Pattern
from graphformer.tasks import LanguageModeling
from graphformer.tasks.text.few_shot import TextModel
from graphformer.trust import Norm, Run, read_norms, score_norms
from graphformer.trust.run import generates_text
from graphformer.trust.sections import norms_section

EXAMPLES = Path(__file__).parents[2] / "examples" / "norms.jsonl"


class Letters(nn.Module):
    """Each byte has the probability of a fixed table, whatever is before it."""

    def __init__(self, likely: str, other: float) -> None:
        super().__init__()
        odds = torch.full((256,), other)
        odds[ord(likely)] = 1.0
        self.log_p = nn.Parameter((odds / odds.sum()).log())

    def forward(self, batch, adjacency):
        return self.log_p.expand(len(batch.x), -1)

    def generate(self) -> None:
        raise NotImplementedError


def written(folder: Path, *records: dict[str, object]) -> Path:
    path = folder / "items.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def test_margins_are_differences_of_log_likelihoods(tmp_path: Path):
    first = {"prompt": "p", "options": ["aa", "bb", "ab"], "answer": 0, "category": "c"}
    second = {"prompt": "q", "options": ["b", "aaa"], "answer": "aaa"}
    norms = read_norms(written(tmp_path, first, second))
    assert [norm.category for norm in norms] == ["c", "all"]
    model = TextModel(Letters("a", 0.5), Causal(), Bytes())
    scores = score_norms(model, norms)
    total = 1 + 255 / 2
    # Options begin with a blank: " aa" against " ab", and " aaa" against " b", which is shorter.
    expected = [math.log(2), -3 * math.log(total) - (math.log(0.5) - math.log(total))]
    assert scores.margin.tolist() == pytest.approx(expected, rel=1e-5)
    assert scores.right.tolist() == [True, False]
    assert scores.right_by_byte.tolist() == [True, True]


def test_wrong_items_are_named(tmp_path: Path):
    with pytest.raises(ValueError, match="line 1: 'options' has 1, expected two or more"):
        read_norms(written(tmp_path, {"prompt": "p", "options": ["a"], "answer": 0}))
    (tmp_path / "items.jsonl").write_text("")
    with pytest.raises(ValueError, match="got no items"):
        read_norms(tmp_path / "items.jsonl")


def test_the_example_has_balanced_categories():
    norms = read_norms(EXAMPLES)
    counts = {norm.category: 0 for norm in norms}
    for norm in norms:
        counts[norm.category] += 1
    assert set(counts.values()) == {8}
    places = [norm.question.options.index(norm.question.answer) for norm in norms]
    assert places.count(0) == places.count(1)


def run_of(tmp_path: Path, network: nn.Module) -> Run:
    (tmp_path / "text.txt").write_text("one two three four five\n" * 40)
    data = TextFile("text.txt", block_size=11, vocabulary="bytes", root=str(tmp_path))
    data.setup()
    return Run(LanguageModeling(network, Causal()).eval(), data)


def test_the_section_compares_with_the_model_before_tuning(tmp_path: Path):
    run = run_of(tmp_path, Letters("a", 0.5))
    records = [
        {"prompt": "p", "options": ["aa", "bb"], "answer": 0, "category": "one"},
        {"prompt": "q", "options": ["aa", "bb"], "answer": 1, "category": "two"},
        {"prompt": "r", "options": ["bb", "aa"], "answer": 1, "category": "two"},
    ]
    run.norms = read_norms(written(tmp_path, *records))
    run.before = TextModel(Letters("b", 0.5), Causal(), Bytes())
    section = norms_section(run)
    rows = {row[0]: row for row in section.tables[0].rows}
    assert [rows["one"][2], rows["two"][2], rows["together"][2]] == pytest.approx([1, 0.5, 2 / 3])
    assert rows["together"][-1] == pytest.approx(1 / 3)
    assert section.metrics["right options before tuning"] == pytest.approx(1 / 3)
    assert section.metrics["right options by chance"] == 0.5


def test_the_section_names_what_is_missing(tmp_path: Path):
    run = run_of(tmp_path, models.language_model(256, dim=8, depth=1, num_heads=2))
    assert "pass --items FILE" in norms_section(run).notes[0]
    run.norms = [Norm("all", read_norms(EXAMPLES)[0].question)]
    section = norms_section(run)
    assert len(section.tables[0].rows) == 1
    run.data = object()
    assert "needs a model that generates text" in norms_section(run).notes[0]


@pytest.mark.parametrize(
    ("network", "adjacency", "expected"),
    [
        (models.language_model(256, dim=8, depth=1, num_heads=2), Causal(), True),
        (models.language_model(256, dim=8, depth=1, num_heads=2), Complete(), False),
        (models.text_classifier(256, 2, dim=8, depth=1, num_heads=2), Causal(), False),
        (nn.Linear(2, 2), Causal(), False),
    ],
)
def test_what_generates_text(network: nn.Module, adjacency: Pattern, expected: bool):
    assert generates_text(TextModel(network, adjacency, Bytes())) is expected
