"""The figure of the demo: the adjacency, the attention weights, and the test metrics."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from rich.progress import Progress, TextColumn
from torch import Tensor
from torch.nn.functional import max_pool2d

from graphformer.adjacency import Adjacency
from graphformer.cli.plots.saving import save_figure
from graphformer.data.batch import Batch, BatchLike
from graphformer.models import Model
from graphformer.patterns import Pattern
from graphformer.tasks import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, SPARSE, DENSE, NONE, WRONG = "#1b2a41", "#e4572e", "#2e86ab", "#9aa5b1", "#d00000"
COLORS = {"complete": DENSE, "causal": DENSE, "none": NONE, "window 64": "#f4a261"}
"""Colors by adjacency; others are `SPARSE`."""
SHOWN, POOLED = 512, 4
"""The last characters of a text to show, and how many are a row and a column of the map."""
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
"""Functions that return the time in seconds, by the name of a clock."""


@dataclass
class Modality:
    """A data set with its network, its task and the adjacencies to compare.

    Attributes:
        name: heading of the rows.
        data: the data module, set up.
        network: builds the network.
        task: builds the task from network and adjacency.
        adjacencies: patterns by name; the last one is the sparsest.
        steps: number of training steps with each of them.
        metric: name of the test metric, without "test/".
        chance: value of the metric without training.
    """

    name: str
    data: pl.LightningDataModule
    network: Callable[[], Model]
    task: Callable[[Model, Pattern], Task]
    adjacencies: dict[str, Pattern]
    steps: dict[str, int]
    metric: str
    chance: float


@dataclass
class Run(Callback):
    """One training run and its results; as a callback, it measures the time of each step.

    Attributes:
        modality: what is trained.
        adjacency: name of the pattern.
        task: the task.
        clock: returns the time in seconds.
        seconds: time of each step.
        losses: training loss of each step.
        edges: number of edges of a training batch.
        memory: peak bytes of a training step.
        result: the test metric.
    """

    modality: Modality
    adjacency: str
    task: Task
    clock: Callable[[], float]
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    edges: int = 0
    memory: int = 0
    result: float = math.nan

    @property
    def step_time(self) -> float:
        """The median time of a step, in seconds."""
        return statistics.median(self.seconds)

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Show one progress bar for all epochs."""
        columns = (*Progress.get_default_columns(), TextColumn("loss {task.fields[loss]:.3f}"))
        self._progress = Progress(*columns)
        self._progress.start()
        label = f"{self.modality.name}, {self.adjacency}"
        self._bar = self._progress.add_task(label, total=trainer.max_steps, loss=math.nan)

    def on_train_end(self, *_: Any) -> None:
        """Stop the progress bar."""
        self._progress.stop()

    def on_train_batch_start(self, *_: Any) -> None:
        """Record the start of the step."""
        self._start = self.clock()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Record the time of the step and update the progress bar."""
        self.seconds.append(self.clock() - self._start)
        loss = float(trainer.callback_metrics["train/loss"])
        self.losses.append(loss)
        self._progress.update(self._bar, advance=1, loss=loss)


def draw(runs: list[Run], path: Path) -> None:
    """Draw one row per modality and save the figure as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    modalities = {id(run.modality): run.modality for run in runs}.values()
    rows = [[run for run in runs if run.modality is modality] for modality in modalities]
    figure, axes = plt.subplots(len(rows), 4, figsize=(16, 12), layout="constrained")
    figure.suptitle(
        "One Transformer; the adjacency defines which nodes attend to which", fontsize=17, color=INK
    )
    for row, draw_row, group in zip(axes, (_images, _text, _graph), rows, strict=True):
        draw_row(row, group)
        _results(row[3], group)
    save_figure(figure, path, dpi=110)
    plt.close(figure)


@torch.no_grad()
def attention_map(run: Run, batch: BatchLike) -> tuple[Adjacency, Tensor]:
    """Return the adjacency, and the last block's attention weights [E], averaged over heads."""
    adjacency = run.task.adjacency(batch)
    network: Any = run.task.network
    x = network.embedding(batch)
    *blocks, last = network.transformer.blocks
    for block in blocks:
        x = block(x, adjacency)
    _, weights = last.attention(last.norm1(x), adjacency, return_weights=True)
    return adjacency, weights.mean(1)


def _dense(run: Run, batch: BatchLike) -> Tensor:
    adjacency, weights = attention_map(run, batch)
    dense = torch.zeros(adjacency.shape)
    source, target = adjacency.edge_index
    dense[target, source] = weights
    return dense


def _images(axes: np.ndarray, runs: list[Run]) -> None:
    dense, sparse = runs
    batch = next(iter(sparse.modality.data.test_dataloader()))
    nodes = batch.lengths[0]
    one = Batch(x=batch.x[:nodes], pos=batch.pos[:nodes], lengths=(nodes,), shapes=batch.shapes[:1])
    height, width = batch.shapes[0]
    patch = (height // 2) * width + width // 2
    image = one.x.view(height, width)
    _show(axes[0], image, "Greys", "a digit: every pixel a node")
    source, target = sparse.task.adjacency(one).edge_index
    for neighbor in source[target == patch].tolist():
        x, y = (patch % width, neighbor % width), (patch // width, neighbor // width)
        axes[0].plot(x, y, color=SPARSE, linewidth=2)
    axes[0].plot(patch % width, patch // width, "s", color=SPARSE, markersize=9)
    for axis, run in ((axes[1], dense), (axes[2], sparse)):
        heat = _dense(run, one)[patch].view(height, width)
        _show(axis, heat, "magma", f"attention of that pixel: {run.adjacency}")
        axis.plot(patch % width, patch // width, "s", mec="white", mfc="none", markersize=14)


def _text(axes: np.ndarray, runs: list[Run]) -> None:
    data: Any = runs[0].modality.data
    batch = next(iter(data.test_dataloader()))
    nodes = batch.lengths[0]
    one = Batch(x=batch.x[:nodes], pos=batch.pos[:nodes], lengths=(nodes,))
    _curves(axes[0], runs)
    for axis, run in zip(axes[1:], (runs[0], runs[-1]), strict=False):
        pooled = max_pool2d(_dense(run, one)[None, -SHOWN:, -SHOWN:], POOLED)[0]
        heat = (pooled / pooled.amax(1, keepdim=True)).sqrt()
        _show(axis, heat, "magma", f"last {SHOWN} of {nodes:,} characters: {run.adjacency}")


def _curves(axis: Axes, runs: list[Run]) -> None:
    """Plot the training loss against the time, each point the mean of some steps."""
    for run in runs:
        size = max(1, min(15, len(run.losses) // 4))
        count = len(run.losses) // size
        bits = np.array(run.losses[: count * size]).reshape(count, size).mean(1) / math.log(2)
        seconds = np.cumsum(run.seconds)[size - 1 :: size][:count]
        axis.plot(seconds, bits, color=_color(run), linewidth=2, label=run.adjacency)
    axis.set_title("bits per character while training", color=INK)
    axis.set_xlabel("seconds", color=INK)
    axis.legend(frameon=False, labelcolor=INK)
    axis.spines[["top", "right"]].set_visible(False)


def _graph(axes: np.ndarray, runs: list[Run]) -> None:
    from sklearn.manifold import TSNE

    dense, sparse = runs[-2:]
    (batch,) = sparse.modality.data.test_dataloader()
    place = TSNE(random_state=0, init="pca").fit_transform(batch.x.numpy())
    source, target = batch.edge_index.numpy()
    _edges(axes[0], place, source, target)
    axes[0].scatter(*place.T, c=batch.y, cmap="tab10", s=5, zorder=2)
    axes[0].set_title("digits and their nearest neighbours", color=INK)
    for axis, run in ((axes[1], dense), (axes[2], sparse)):
        with torch.no_grad():
            wrong = (run.task(batch).argmax(-1) != batch.y) & batch.test_mask
        axis.scatter(*place.T, c=batch.y, cmap="tab10", s=5, alpha=0.35)
        axis.scatter(*place[wrong.numpy()].T, color=WRONG, s=26, marker="x", linewidth=1.4)
        axis.set_title(f"{run.adjacency}: {int(wrong.sum())} test errors (crosses)", color=INK)
    for axis in axes[:3]:
        axis.set_axis_off()


def _edges(axis: Axes, place: np.ndarray, source: np.ndarray, target: np.ndarray) -> None:
    from matplotlib.collections import LineCollection

    lines = np.stack([place[source], place[target]], axis=1)
    axis.add_collection(LineCollection(list(lines), colors="#9aa5b1", linewidths=0.25, alpha=0.6))


def _results(axis: Axes, runs: list[Run]) -> None:
    metric, chance = runs[0].modality.metric, runs[0].modality.chance
    colors = [_color(run) for run in runs]
    bars = axis.bar(range(len(runs)), [run.result for run in runs], color=colors, width=0.6)
    labels = [show_metric(run.result, metric) for run in runs]
    axis.bar_label(bars, labels, padding=3, color=INK, fontsize=9)
    axis.axhline(chance, color=INK, linestyle="--", linewidth=1)
    axis.text(-0.48, chance, "chance", va="bottom", color=INK, fontsize=8)
    axis.set_xticks(range(len(runs)), [_label(run) for run in runs], fontsize=8)
    axis.set_ylim(0, 1.15 * max(chance, *(run.result for run in runs)))
    better = "higher" if metric == "accuracy" else "lower"
    axis.set_title(f"{runs[0].modality.name}\ntest, {better} is better", color=INK, fontsize=10)
    if metric == "accuracy":
        axis.yaxis.set_major_formatter("{x:.0%}")
    axis.spines[["top", "right"]].set_visible(False)


def _color(run: Run) -> str:
    return COLORS.get(run.adjacency, SPARSE)


def _label(run: Run) -> str:
    name = run.adjacency.replace(", ", ",\n")
    return f"{name}\n{run.edges:,} edges\n{1000 * run.step_time:.0f} ms a step"


def _show(axis: Axes, values: Tensor, colors: str, title: str) -> None:
    axis.imshow(values.numpy(), cmap=colors)
    axis.set_title(title, color=INK)
    axis.set_xticks([])
    axis.set_yticks([])


def show_metric(value: float, metric: str) -> str:
    """Return a metric as text: a percentage, or a number of bits."""
    return f"{value:.1%}" if metric == "accuracy" else f"{value:.2f} bits"
