"""Judges images made from captions: a captioner reads them.

    python experiments/text_to_image.py --models RUN ... --judge RUN --out FOLDER

The runs are of text_to_image.yaml, text_to_image_sparse.yaml and latent_diffusion.yaml, and that of
the judge is of caption_digits.yaml. For captions of the test split, whose combinations of objects
do not occur in training, codes or latents are drawn, decoded to pixels, and read by the judge.
Measured: the share of the captions that the judge reads whole from the real images, from those
after their codes, and from the drawn ones, with standard errors. The picture has the first captions
with all of these images.
"""

from __future__ import annotations

import argparse
import json
import math
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

import graphformer as gf
from graphformer.batch_type import Batch
from graphformer.data import pack_images
from graphformer.nn import unpatchify
from graphformer.tasks import LatentDiffusion
from graphformer.tasks.multimodal.image_generation import ImageGeneration

SHOWN = 6


def first_batch(model: gf.TrainedModel, count: int) -> Batch:
    """The first `count` test captions and images of a run's data."""
    data: Any = model.data
    data.batch_size = count
    data.setup()
    batch: Batch = next(iter(data.test_dataloader()))
    return batch


def made(
    task: ImageGeneration, batch: Batch, options: dict[str, Any]
) -> Iterator[tuple[str, Tensor]]:
    """Patches of the real images, of those after their codes, and of the drawn ones, by name."""
    yield "real", batch.source
    yield "after codes", task.reconstruct_images(batch)
    yield "drawn", task.sample_images(batch, **options)


def sampling_options(task: ImageGeneration, arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of `sample_images` of a task."""
    if isinstance(task, LatentDiffusion):
        return {"steps": arguments.steps, "guidance": arguments.guidance}
    return {"temperature": arguments.temperature}


def to_pixels(patches: Tensor, shape: tuple[int, int], patch_size: int) -> Tensor:
    """Images [B, 3, H, W] of patches [B * rows * columns, F]."""
    return unpatchify(patches.reshape(-1, *shape, patches.shape[1]), patch_size)


@torch.inference_mode()
def share_read(judge: gf.TrainedModel, batch: Batch, images: Tensor) -> float:
    """The share of the captions of a batch that the judge reads whole from images."""
    packed = pack_images([*images], judge.data.patch_size)
    batch.source, batch.source_pos = packed.x, packed.pos
    batch.source_lengths, batch.source_shapes = packed.lengths, tuple(packed.shapes)
    updates, _ = judge.task.evaluate(batch, 0, "test")
    correct, count = updates["exact_match"]
    return float(correct) / float(count)


def measure(
    arguments: argparse.Namespace,
) -> tuple[dict[str, Any], dict[str, Tensor], list[str]]:
    """Results and the first images by name, and the captions of these."""
    judge, count = gf.load(arguments.judge), arguments.count
    questions = first_batch(judge, count)
    results: dict[str, Any] = {}
    shown: dict[str, Tensor] = {}
    captions: list[str] = []
    for run in arguments.models:
        model = gf.load(run)
        batch = first_batch(model, count)
        captions = [*model.data.splits["test"][1][:SHOWN]]
        if captions != [*judge.data.splits["test"][1][:SHOWN]]:
            raise SystemExit(f"{run}: its test captions are not those of {arguments.judge}")
        options = sampling_options(model.task, arguments)
        start = time.perf_counter()
        for kind, patches in made(model.task, batch, options):
            name = f"drawn by {Path(run).parent.name}" if kind == "drawn" else kind
            seconds, start = time.perf_counter() - start, time.perf_counter()
            shape, size = batch.source_shapes[0], model.data.patch_size
            share = share_read(judge, questions, to_pixels(patches, shape, size))
            error = math.sqrt(share * (1 - share) / count)
            results[name] = {"read whole": share, "standard error": error, "seconds": seconds}
            first = model.data.pixels(patches[: SHOWN * shape[0] * shape[1]])
            shown[name] = to_pixels(first, shape, size).clamp(0, 1)
            print(f"{name}: {share:.3f} +- {error:.3f}", flush=True)
    return results, shown, captions


def draw(shown: dict[str, Tensor], captions: list[str]) -> Figure:
    """A row of images for each name, below the captions."""
    figure = Figure(figsize=(1.6 * SHOWN, 1.5 * len(shown) + 0.8), layout="constrained")
    axes = np.atleast_2d(figure.subplots(len(shown), len(captions)))
    for row, (name, images) in zip(axes, shown.items(), strict=True):
        for axis, image in zip(row, images, strict=True):
            axis.imshow(image.permute(1, 2, 0))
            axis.set_xticks([])
            axis.set_yticks([])
        row[0].set_ylabel(textwrap.fill(name.replace("_", " "), 14), fontsize=8)
    for axis, caption in zip(axes[0], captions, strict=True):
        axis.set_title(textwrap.fill(caption, 20), fontsize=8)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", required=True, help="runs of text to image")
    parser.add_argument("--judge", required=True, help="a run of caption_digits.yaml")
    parser.add_argument("--count", type=int, default=500, help="captions")
    parser.add_argument("--temperature", type=float, default=1.0, help="of codes")
    parser.add_argument("--steps", type=int, help="of latent diffusion; the run's by default")
    parser.add_argument("--guidance", type=float, help="likewise")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    results, shown, captions = measure(arguments)
    arguments.out.mkdir(parents=True, exist_ok=True)
    names = ("temperature", "steps", "guidance")
    settings = {"captions": arguments.count, **{name: getattr(arguments, name) for name in names}}
    text = json.dumps({**settings, "images": results}, indent=2)
    (arguments.out / "text_to_image.json").write_text(text + "\n")
    draw(shown, captions).savefig(arguments.out / "text_to_image.png", dpi=110)


if __name__ == "__main__":
    main()
