"""Steps on shapes: bytes and FLOPs against formulas and against a real step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from helpers.awkward import random_edges
from torch._subclasses.fake_tensor import FakeTensorMode

from graphformer import models, patterns, tasks
from graphformer.batch_type import Batch
from graphformer.cli.profiling import peak_memory
from graphformer.data.batch import pack_images, pack_tokens
from graphformer.planning import StepTrace, recomputing, trace_step

pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
VOCAB, DIM, HEADS, DEPTH = 131, 24, 3, 3


def text(pattern: patterns.Pattern, depth: int = DEPTH, **options: Any) -> tasks.Task:
    torch.manual_seed(0)
    network = models.llama(VOCAB, dim=DIM, depth=depth, num_heads=HEADS, **options)
    return tasks.LanguageModeling(network, pattern)


def tokens(*lengths: int) -> Batch:
    batch = pack_tokens([torch.arange(n) % VOCAB for n in lengths])
    batch.y = batch.x
    return batch


def vit() -> tasks.Task:
    network = models.vit(5, dim=DIM, depth=2, num_heads=HEADS, channels=3, patch_size=2)
    return tasks.Classification(network, patterns.Complete(), num_classes=5)


def images() -> Batch:
    batch = pack_images(torch.randn(7, 3, 22, 26), 2)
    batch.y = torch.arange(7) % 5
    return batch


def graph_model() -> tasks.Task:
    network = models.graph_transformer(11, 5, dim=DIM, num_heads=HEADS)
    return tasks.Classification(network, patterns.Edges(), num_classes=5, level="node")


def graph() -> Batch:
    y = torch.arange(997) % 5
    edges = random_edges(997, 997, 4001)
    return Batch(x=torch.randn(997, 11), edge_index=edges, y=y, train_mask=y == 2)


def planned(make: Callable[[], tasks.Task], batch: Batch, **options: Any) -> StepTrace:
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with fake:
        task = make()
    task.trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    recomputes = options.pop("recomputes", None)
    with recomputing(task.network, recomputes):
        return trace_step(task, batch, fake, **options)


CASES: dict[str, tuple[Callable[[], tasks.Task], Callable[[], Batch], Any]] = {
    "causal": (lambda: text(patterns.Causal()), lambda: tokens(211, 211), None),
    "ragged": (lambda: text(patterns.Causal()), lambda: tokens(211, 101, 211), None),
    "checkpointed": (lambda: text(patterns.Causal()), lambda: tokens(211, 211), True),
    "attention": (lambda: text(patterns.Causal()), lambda: tokens(211, 211), "attention"),
    "window": (lambda: text(patterns.Window(2)), lambda: tokens(211, 211), None),
    "experts": (
        lambda: text(patterns.Causal(), num_experts=3), lambda: tokens(211, 212), None
    ),
    "images": (vit, images, None),
    "graph": (graph_model, graph, None),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_peak_is_that_of_a_real_step(name: str) -> None:
    """Allocations of a real forward and backward pass, by torch's profiler."""
    make, make_batch, recomputes = CASES[name]
    batch = make_batch()
    peak = planned(make, batch, recomputes=recomputes).timeline.at_peak()
    task = make()
    task.__dict__["log"] = lambda *_, **__: None
    with recomputing(task.network, recomputes):
        task.training_step(batch, 0).backward()  # caches of the adjacency
        task.zero_grad()
        task._label_counts.clear()
        measured = peak_memory(lambda: task.training_step(batch, 0).backward())
    weights = sum(p.numel() * 4 for p in task.parameters())
    assert peak["parameters"] == weights
    assert peak["optimizer"] == pytest.approx(2 * weights, rel=0.01)
    # The gradients of the step before are in the plan only, those of this step in both.
    others = sum(peak.values()) - peak["parameters"] - peak["optimizer"] - peak["adjacency"]
    assert measured < others * 1.05
    assert others - weights < measured * 1.05


def test_flops_are_six_n_d_and_attention_by_edges() -> None:
    step = planned(lambda: text(patterns.Causal()), tokens(211, 103))
    network = text(patterns.Causal()).network
    matrices = sum(m.weight.numel() for m in network.modules() if isinstance(m, torch.nn.Linear))
    edges = 211 * 212 // 2 + 103 * 104 // 2
    assert step.edges == [edges]
    assert step.flops.matmul == 6 * matrices * (211 + 103)
    assert step.flops.attention == 12 * edges * DIM * DEPTH


def test_attention_over_edges_costs_by_edges() -> None:
    step = planned(lambda: text(patterns.Window(2, causal=True)), tokens(211))
    assert step.edges == [3 * 211 - 3]
    assert step.flops.attention == 12 * (3 * 211 - 3) * DIM * DEPTH
    assert step.timeline.at_peak()["adjacency"] > 8 * step.edges[0]


def test_checkpointing_recomputes_and_stores_less() -> None:
    make, batch = lambda: text(patterns.Causal()), tokens(211, 211)
    steps = [planned(make, batch, recomputes=each) for each in (False, "attention", 2, True)]
    stored = [step.timeline.at_peak()["activations"] for step in steps]
    assert stored[0] > stored[1] > stored[3]
    assert stored[0] > stored[2] > stored[3]
    assert steps[3].flops.total > steps[1].flops.total > steps[0].flops.total


def test_precisions() -> None:
    make, batch = lambda: text(patterns.Causal()), tokens(211)
    steps = {
        name: planned(make, batch, precision=name) for name in ("32-true", "bf16-true", "64-true")
    }
    sizes = {name: step.timeline.at_peak() for name, step in steps.items()}
    for category in ("parameters", "optimizer"):
        single = pytest.approx(sizes["32-true"][category], rel=0.01)  # and 4 bytes a parameter
        assert 2 * sizes["bf16-true"][category] == single
        assert sizes["64-true"][category] / 2 == single
    mixed = planned(make, batch, precision="bf16-mixed").timeline.at_peak()
    assert mixed["parameters"] == sizes["32-true"]["parameters"]
    assert mixed["activations"] < sizes["32-true"]["activations"]


def test_accumulation_keeps_the_gradients() -> None:
    make, batch = lambda: text(patterns.Causal()), tokens(211)
    once, thrice = (planned(make, batch, accumulate=n) for n in (1, 3))
    assert thrice.timeline.at_peak()["gradients"] >= once.timeline.at_peak()["parameters"]
    assert thrice.flops.total == 3 * once.flops.total


@pytest.mark.parametrize(
    ("recomputes", "depth"),
    [
        (True, 11),
        (2, 17),
        *(pytest.param(k, d, marks=pytest.mark.slow) for k, d in ((2, 19), (3, 29))),
    ],
)
def test_many_blocks_are_extrapolated(
    recomputes: bool | int, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, batch = lambda: text(patterns.Causal(), depth=depth), tokens(101)
    short = planned(make, batch, recomputes=recomputes)
    monkeypatch.setattr("graphformer.planning.step._equal_blocks", lambda *_: None)
    whole = planned(make, batch, recomputes=recomputes)
    assert short.flops.total == pytest.approx(whole.flops.total)
    assert short.timeline.peak() == pytest.approx(whole.timeline.peak(), rel=0.01)
    for name, size in whole.timeline.at_peak().items():
        assert short.timeline.at_peak()[name] == pytest.approx(size, rel=0.05, abs=40_000)


class Twice(tasks.LanguageModeling):
    """A task whose network reads another batch than that of the data."""

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        return super().training_step(tokens(*batch.lengths, *batch.lengths), batch_idx)


def test_a_task_may_make_batches_of_its_own() -> None:
    def make() -> tasks.Task:
        return Twice(text(patterns.Window(2)).network, patterns.Window(2))

    once = planned(lambda: text(patterns.Window(2)), tokens(211))
    twice = planned(make, tokens(211))
    assert twice.flops.total == 2 * once.flops.total
    assert twice.edges == once.edges
