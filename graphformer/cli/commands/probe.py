"""`graphformer probe`: what a trained encoder's features are worth, without training it further."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphformer.cli.errors import UsageError


def main(argv: Sequence[str]) -> int:
    """Fit a linear map or nearest neighbours on frozen features, and print a table; return 0.

    Raises:
        UsageError: the arguments, the checkpoint or the data are wrong.
    """
    arguments = _parse(argv)
    from rich.console import Console
    from rich.table import Table

    from graphformer.cli.checkpoints import restore_task
    from graphformer.cli.config.arguments import find_checkpoint
    from graphformer.cli.errors import plain_errors
    from graphformer.cli.run_data import image_encoder, restore_data

    with plain_errors():
        ckpt = find_checkpoint(arguments.ckpt, "probe")
        task = restore_task(ckpt)
        encoder, adjacency = image_encoder(task.network, task.adjacency)
        settings: dict[str, Any] = {}
        if arguments.labels < 1:
            settings["label_fraction"] = arguments.labels
        data = restore_data(ckpt, arguments.config, **settings)
        parts = {part: _features(encoder, adjacency, data, part) for part in ("train", "test")}
        if len(set(parts["train"][1].tolist())) < 2:
            raise UsageError("all images to train on are of one class: there is nothing to tell")
        classifier = _classifier(arguments, len(parts["train"][1]))
        classifier.fit(*parts["train"])
    table = Table("method", "labels", "train accuracy", "test accuracy")
    scores = [f"{classifier.score(*parts[part]):.4f}" for part in ("train", "test")]
    table.add_row(arguments.method, f"{len(parts['train'][1]):,}", *scores)
    print(f"{ckpt}, {type(data).__name__}, {adjacency}")
    Console().print(table)
    return 0


def _features(encoder: Any, adjacency: Any, data: Any, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Features [B, C] and labels [B] of all images of a part, unchanged by chance."""
    from graphformer.cli.run_data import extract_images, features

    loader = data.batches(part)
    if hasattr(loader.dataset, "augmentation"):
        loader.dataset.augmentation = None
    x, y = [], []
    for batch in loader:
        labels = getattr(batch, "y", None)
        images = extract_images(batch)
        if labels is None or images is not batch:
            raise UsageError(
                f"{type(data).__name__} has no label for each image: choose other data by -c, "
                "such as -c datasets/fashion_mnist.yaml"
            )
        x.append(features(encoder, adjacency, images).float().numpy())
        y.append(labels.numpy())
    if not np.isfinite(np.concatenate(x)).all():
        raise UsageError("the network's features are not finite: its training went astray")
    return np.concatenate(x), np.concatenate(y)


def _classifier(arguments: argparse.Namespace, count: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if arguments.method == "knn":
        neighbors = min(arguments.neighbors, count)
        return KNeighborsClassifier(neighbors, weights="distance", metric="cosine")
    linear = LogisticRegression(C=arguments.strength, max_iter=2000, tol=1e-3)
    return make_pipeline(StandardScaler(), linear)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(f"probe: {message}")


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="graphformer probe",
        description="Classify images by the frozen features of a trained encoder.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--ckpt", required=True, help="a checkpoint, or the folder of a run")
    parser.add_argument("-c", "--config", help="data, such as datasets/X.yaml; the run's otherwise")
    parser.add_argument("--method", choices=("linear", "knn"), default="linear")
    parser.add_argument("--labels", type=float, default=1.0, help="share of the labels to use")
    parser.add_argument("--neighbors", type=int, default=20, help="knn: how many vote")
    parser.add_argument("--strength", type=float, default=0.1, help="linear: inverse of the decay")
    arguments = parser.parse_args(list(argv))
    if not 0 < arguments.labels <= 1:
        raise UsageError(f"probe: --labels {arguments.labels}: expected above 0, up to 1")
    if arguments.neighbors < 1 or arguments.strength <= 0:
        raise UsageError("probe: --neighbors must be 1 or more, and --strength above 0")
    return arguments
