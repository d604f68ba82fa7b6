"""Time and memory of complete and grid adjacencies by image size; timm; a masked autoencoder.

    python experiments/vision_cost.py [--out experiments/results/vision] [--sides 28 64 128]

Writes cost.json, README.md and cost.png to that folder. The report names peers that are not
installed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphformer import models
from graphformer.batch_type import Batch
from graphformer.cli.profiling import peak_memory
from graphformer.data.batch import pack_images
from graphformer.patterns import Complete, GlobalNodes, Grid, Pattern
from graphformer.tasks.vision.masked_image import sample_visible_mask

PATTERNS: dict[str, Pattern] = {
    "complete": Complete(),
    "grid 1": Grid(1),
    "grid 2": Grid(2),
    "grid 1 + global": Grid(1) | GlobalNodes(1),
}


def best_seconds(step: Callable[[], Any], repeats: int) -> float:
    """Return the shortest time of several calls, which other processes disturb least."""
    step()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return min(times)


def images(count: int, side: int, patch_size: int, channels: int = 1) -> Batch:
    """Return a batch of random images."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(count, channels, side, side, generator=generator)
    return pack_images(pixels, patch_size)


def training_step(model: torch.nn.Module, run: Callable[[], Tensor]) -> Callable[[], None]:
    """Return a training step without the optimiser: forward, backward, gradients cleared."""

    def step() -> None:
        run().square().mean().backward()
        model.zero_grad(set_to_none=True)

    return step


def growth(sides: list[int], repeats: int) -> list[dict[str, Any]]:
    """Return edges, time and memory of a training step of a ViT, patch size 4, by image side."""
    torch.manual_seed(0)
    model = models.vit(10, 64, 4, 4, channels=1, patch_size=4, positions="sincos")
    rows = []
    for side in sides:
        batch = images(8, side, 4)
        for name, pattern in PATTERNS.items():
            adjacency = pattern(batch)
            step = training_step(model, lambda b=batch, a=adjacency: model(b, a))  # type: ignore[misc]
            rows.append(
                {
                    "side": side,
                    "nodes": batch.lengths[0],
                    "adjacency": name,
                    "edges": adjacency.num_edges // 8,
                    "seconds": best_seconds(step, repeats),
                    "memory": peak_memory(step),
                }
            )
            print(rows[-1], flush=True)
    return rows


def compare_with_timm(repeats: int) -> dict[str, Any]:
    """Return the time of a training step relative to timm's ViT of the same shape."""
    try:
        import timm
    except ModuleNotFoundError as error:
        return {"missing": f"not measured, for timm cannot be imported ({error})"}
    shape: dict[str, Any] = {"embed_dim": 192, "depth": 6, "num_heads": 3}
    peer = timm.models.VisionTransformer(img_size=64, patch_size=8, num_classes=10, **shape)
    model = models.vit(
        10,
        192,
        6,
        3,
        channels=3,
        patch_size=8,
        pool="cls",
        positions="learned",
        shape=(8, 8),
    )
    pixels = torch.randn(16, 3, 64, 64)
    batch = images(16, 64, 8, channels=3)
    adjacency = Complete()(batch)
    steps = [
        training_step(model, lambda: model(batch, adjacency)),
        training_step(peer, lambda: peer(pixels)),
    ]
    for step in steps:
        step()
    times: list[list[float]] = [[], []]
    for _ in range(repeats):  # alternately, so that other processes disturb both
        for number, step in enumerate(steps):
            start = time.perf_counter()
            step()
            times[number].append(time.perf_counter() - start)
    own_time, peer_time = map(min, times)
    ratio = statistics.median(a / b for a, b in zip(*times, strict=True))
    sizes = [sum(p.numel() for p in m.parameters()) for m in (model, peer)]
    return {
        "timm": timm.__version__,
        "ours": own_time,
        "theirs": peer_time,
        "ratio": ratio,
        "weights": sizes,
    }


def mae_memory(repeats: int) -> dict[str, Any]:
    """Return time and memory of an autoencoder that encodes a quarter, or all, of the patches."""
    torch.manual_seed(0)
    model = models.mae(192, 6, 3, channels=3, patch_size=4, decoder_dim=96, decoder_depth=1)
    batch = images(16, 64, 4, channels=3)
    adjacency = Complete()(batch)
    quarter = sample_visible_mask(batch.lengths, 0.75, np.random.default_rng(0))
    results = {}
    for name, visible in (("quarter", quarter), ("all", torch.ones_like(quarter))):
        step = training_step(model, lambda v=visible: model(batch, adjacency, v))  # type: ignore[misc]
        results[name] = {"seconds": best_seconds(step, repeats), "memory": peak_memory(step)}
    return results


def report(results: dict[str, Any], folder: Path) -> None:
    """Write the results as README.md."""
    lines = [
        "# Cost of adjacencies over images",
        "",
        f"`python experiments/vision_cost.py`, threads: {results['threads']}, torch "
        f"{torch.__version__}.",
        "A training step (forward and backward) of 8 grey images, patch 4, width 64, 4 blocks; the "
        "fastest of several. Memory is that of torch's tensors.",
        "",
        "| side | nodes | adjacency | edges per image | ms per step | MiB above start |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in results["growth"]:
        lines.append(
            f"| {row['side']} | {row['nodes']:,} | {row['adjacency']} | {row['edges']:,} | "
            f"{1e3 * row['seconds']:.0f} | {row['memory'] / 2**20:.0f} |"
        )
    lines += ["", "![Cost against image size](cost.png)", ""]
    peer = results["timm"]
    if "missing" in peer:
        lines.append(f"Comparison with timm: {peer['missing']}.")
    else:
        lines.append(
            f"Compared with timm {peer['timm']}, the same shape (64 x 64 colour, patch 8, width "
            f"192, 6 blocks, 16 images): {1e3 * peer['ours']:.0f} ms per step, timm's "
            f"{1e3 * peer['theirs']:.0f} ms, median ratio {peer['ratio']:.2f}."
        )
    quarter, whole = results["mae"]["quarter"], results["mae"]["all"]
    lines += [
        "",
        f"Masked autoencoder, 64 x 64 colour, patch 4, width 192, 6 blocks, 16 images: "
        f"{1e3 * quarter['seconds']:.0f} ms and {quarter['memory'] / 2**20:.0f} MiB per step with "
        f"a quarter of the patches encoded, {1e3 * whole['seconds']:.0f} ms and "
        f"{whole['memory'] / 2**20:.0f} MiB with all.",
        "",
    ]
    (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Write the curves of edges, time and memory as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = [("edges", 1.0, "edges per image"), ("seconds", 1e3, "ms per step")]
    panels.append(("memory", 2**-20, "MiB above start"))
    for axes, (key, factor, title) in zip(figure.subplots(1, 3), panels, strict=True):
        for name in PATTERNS:
            of_pattern = [row for row in rows if row["adjacency"] == name]
            sides = [row["side"] for row in of_pattern]
            values = [factor * row[key] for row in of_pattern]
            axes.plot(sides, values, marker="o", label=name)
        axes.set(xscale="log", yscale="log", xlabel="side in pixels", title=title)
        axes.set_xticks(sorted({row["side"] for row in rows}), minor=False)
        axes.get_xaxis().set_major_formatter("{x:.0f}")
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description="Cost of adjacencies over images.")
    parser.add_argument("--out", type=Path, default=Path("experiments/results/vision"))
    parser.add_argument("--sides", type=int, nargs="+", default=[28, 64, 128])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results = {
        "threads": torch.get_num_threads(),
        "growth": growth(options.sides, options.repeats),
        "timm": compare_with_timm(2 * options.repeats),
        "mae": mae_memory(options.repeats),
    }
    (options.out / "cost.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    report(results, options.out)
    draw(results["growth"], options.out / "cost.png")
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
