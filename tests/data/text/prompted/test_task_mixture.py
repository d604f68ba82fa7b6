"""Prompts of several data sets: pairs by hand, sizes with a cap, held-out tasks and prompts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from graphformer.data import TaskMixture
from graphformer.data.text.prompted.prompt_templates import PromptedFile


@pytest.fixture
def sums(tmp_path: Path) -> PromptedFile:
    rows = [{"a": i, "b": 2 * i} for i in range(11)]
    (tmp_path / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)))
    prompts: list[Any] = [
        {"source": "{{ a }}+{{ b }}", "target": "{{ a + b }}"},
        {"source": "{{ b }} less {{ a }}", "target": "{{ b - a }}"},
    ]
    return {"path": str(tmp_path / "sums.jsonl"), "prompts": prompts}


def mixture(tasks: dict[str, PromptedFile], **options: Any) -> TaskMixture:
    made = TaskMixture(
        tasks,
        **{"val_fraction": 0.2, "test_fraction": 0.0, "vocabulary": "bytes", **options},
    )
    made.setup()
    return made


def test_each_record_comes_once_with_each_prompt(sums: PromptedFile) -> None:
    data = mixture({"sums": sums}, test_fraction=0.3)
    assert {split: len(pairs) for split, pairs in data.pairs.items()} == {
        "train": 2 * (11 - 2 - 3),
        "val": 4,
        "test": 6,
    }
    everything = {pair for pairs in data.pairs.values() for pair in pairs}
    assert everything == {(f"{i}+{2 * i}", str(3 * i)) for i in range(11)} | {
        (f"{2 * i} less {i}", str(i)) for i in range(11)
    }


def test_a_large_data_set_is_reduced(sums: PromptedFile, tmp_path: Path) -> None:
    few = tmp_path / "few.tsv"
    few.write_text("x\n" + "\n".join("abcde") + "\n")
    small: PromptedFile = {
        "path": str(few),
        "prompts": [{"source": "{{ x }}", "target": "{{ x | upper }}"}],
    }
    data = mixture({"sums": sums, "few": small}, cap=7, val_fraction=0.0)
    kinds = ["+" in source or "less" in source for source, _ in data.pairs["train"]]
    assert (sum(kinds), len(kinds) - sum(kinds)) == (2 * (7 // 2), 5)
    assert len(set(data.pairs["train"])) == len(kinds)
    again = mixture({"few": small, "sums": sums}, cap=7, val_fraction=0.0)
    assert sorted(again.pairs["train"]) == sorted(data.pairs["train"])


def test_held_out_prompts_and_tasks_are_only_evaluated(sums: PromptedFile) -> None:
    sums["prompts"][1]["held_out"] = True
    data = mixture({"sums": sums})
    assert all("+" in source for source, _ in data.pairs["train"])
    assert all("less" in source for source, _ in data.pairs["val"])
    other: PromptedFile = {**sums, "prompts": sums["prompts"][:1]}
    data = mixture({"sums": {**sums, "held_out": True}, "other": other})
    assert len(data.pairs["train"]) == 9
    assert len(data.pairs["val"]) == 2 * 2
    with pytest.raises(ValueError, match="tasks: got sums without a prompt to train on"):
        mixture({"sums": {**sums, "held_out": True}})


def test_batches_of_encoder_decoders_and_decoders(sums: PromptedFile) -> None:
    sums["prompts"] = sums["prompts"][:1]
    (batch,) = mixture({"sums": sums}).batches("train")
    assert len(batch.source_lengths) == len(batch.lengths) == 9
    data = mixture({"sums": sums}, decoder=True)
    (batch,) = data.batches("train")
    tokenizer = data.need_tokenizer()
    rows = zip(batch.x.split(list(batch.lengths)), batch.y.split(list(batch.lengths)), strict=True)
    for x, y in rows:
        text = bytes(x[1:].tolist()).decode()
        source, target = next(p for p in data.pairs["train"] if "".join(p) == text)
        assert x[0] == tokenizer.need("bos")
        assert (y[: len(source)] == -100).all()
        assert y[len(source) :].tolist() == [*target.encode(), tokenizer.need("eos")]
    assert torch.equal(batch.pos[:2], torch.tensor([0, 1]))


def test_decoders_whose_tokenizer_has_no_bos_and_eos(
    sums: PromptedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = mixture({"sums": sums}, decoder=True)
    with_bos = data.samples("train")
    for name in ("bos_id", "eos_id"):
        monkeypatch.setattr(type(data.need_tokenizer()), name, None)
    without = data.samples("train")
    index = torch.tensor([0])
    assert torch.equal(without[index].x, with_bos[index].x[1:])
    assert torch.equal(without[index].y[:-1], with_bos[index].y[1:-1])
    assert without[index].y[-1] == -100


def test_long_pairs_are_dropped_in_training_and_cut_otherwise(sums: PromptedFile) -> None:
    sums["prompts"] = [{"source": "{{ 'x' * a }}.", "target": "{{ 'y' * b }}."}]
    data = mixture({"sums": sums}, max_length=9)
    kept = data.samples("train").lengths
    assert len(kept) == sum(len(target) <= 9 for _, target in data.pairs["train"])
    targets = data.samples("val").targets.lengths  # with the token that begins them
    assert targets.tolist() == [min(9, len(t)) + 1 for _, t in data.pairs["val"]]


def test_empty_parts_are_left_out_and_wrong_templates_explained(sums: PromptedFile) -> None:
    sums["prompts"] = [{"source": "{{ a }}", "target": "{{ b if a > 4 else '' }}"}]
    assert len(mixture({"sums": sums}, val_fraction=0.0).pairs["train"]) == 6
    for template, message in (
        ("{{ c }}", "tasks, sums, prompt 0, source: 'c' is undefined, .* fields a, b; correct it"),
        ("{{ a", "tasks, sums, prompt 0, source: got '{{ a' .*expected a Jinja template"),
        ("{{ a.nothing() }}", "prompt 0, source: .*has no attribute"),
    ):
        sums["prompts"] = [{"source": template, "target": "x"}]
        with pytest.raises(ValueError, match=message):
            mixture({"sums": sums})
    with pytest.raises(ValueError, match="cap: got 0"):
        TaskMixture({"sums": sums}, cap=0)


def test_real_data_sets(real_data: Callable[[str], Path]) -> None:
    path = real_data("gsm8k/test.jsonl")
    prompts: list[Any] = [
        {"source": "{{ question }}", "target": "{{ answer.split('####')[1] }}"},
    ]
    pairs = mixture({"sums": {"path": str(path), "prompts": prompts}}).pairs
    assert sum(map(len, pairs.values())) == 1319
    assert "18" in {target for split in pairs.values() for _, target in split}
