"""Draws test samples of MovingObjectsCaptions and Tones: frames with captions, and spectrograms.

python experiments/video_audio_samples.py --out experiments/results/vision
"""

from __future__ import annotations

import argparse
from pathlib import Path

from matplotlib.figure import Figure

from graphformer.data import MovingObjectsCaptions, Tones

CLIPS = 4
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    folder = parser.parse_args().out
    draw_videos().savefig(folder / "video.png", dpi=90)
    draw_spectrograms().savefig(folder / "spectrograms.png", dpi=70)
