"""Draws test samples of MovingObjectsCaptions and Tones: frames with captions, and spectrograms.

With a run of vq_scenes.yaml, also test scenes and what is left of them after its codes.

python experiments/video_audio_samples.py --out experiments/results/vision [--codes RUN]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure

import graphformer as gf
from graphformer.data import MovingObjectsCaptions, Scenes, Tones
from graphformer.nn import unpatchify

CLIPS = 4
SCENES = 8
SMALL = {"num_samples": 1, "val_size": 1}


def draw_videos() -> Figure:
    """All frames of the first test videos with different motions, one video per row."""
    data = MovingObjectsCaptions(test_size=50, **SMALL)
    videos, movements = data.films()["test"]
    first = {movement.motion: number for number, movement in reversed([*enumerate(movements)])}
    chosen = sorted(first.values())[:CLIPS]
    captions = [movements[number].caption(data.names) for number in chosen]
    figure = Figure(figsize=(8, 1.2 * CLIPS), layout="constrained")
    axes = figure.subplots(CLIPS, data.num_frames)
    for row, video, caption in zip(axes, videos[chosen], captions, strict=True):
        for axis, frame in zip(row, video.permute(1, 2, 3, 0), strict=True):
            axis.imshow(frame)
            axis.axis("off")
        row[0].set_title(caption, loc="left", fontsize=9)
    return figure


def draw_spectrograms() -> Figure:
    """The first test sound of each class."""
    data = Tones(test_size=50, **SMALL)
    images, labels = data.read()["test"]
    figure = Figure(figsize=(9, 4), layout="constrained")
    for number, (axis, name) in enumerate(
        zip(figure.subplots(2, 4).flat, data.classes, strict=True)
    ):
        image = images[labels == number][0, 0]
        extent = (0, 1, 0, data.num_mels)
        axis.imshow(image.T, "viridis", origin="lower", aspect="auto", extent=extent)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("seconds", fontsize=8)
        axis.set_ylabel("mel filter", fontsize=8)
        axis.tick_params(labelsize=7)
    return figure


@torch.inference_mode()
def draw_codes(run: str) -> Figure:
    """Test scenes above, and the images of their codes below."""
    model = gf.load(run)
    scenes = Scenes("digits", 10, val_size=1, test_size=SCENES, rows=2, columns=2)
    batch = model.pack([image.numpy() for image in scenes.read()["test"][0]])
    codes = model.network.encode(batch)
    figure = Figure(figsize=(SCENES, 2.1), layout="constrained")
    patches = (batch.x, model.network.decode(codes, batch.shapes))
    for row, x in zip(figure.subplots(2, SCENES), patches, strict=True):
        pixels = model.data.pixels(x).clamp(0, 1).reshape(SCENES, *batch.shapes[0], -1)
        images = unpatchify(pixels, model.data.patch_size).permute(0, 2, 3, 1)
        for axis, image in zip(row, images, strict=True):
            axis.imshow(image)
            axis.axis("off")
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--codes", help="the folder of a run of vq_scenes.yaml")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    draw_videos().savefig(arguments.out / "video.png", dpi=90)
    draw_spectrograms().savefig(arguments.out / "spectrograms.png", dpi=70)
    if arguments.codes:
        draw_codes(arguments.codes).savefig(arguments.out / "codes.png", dpi=90)
