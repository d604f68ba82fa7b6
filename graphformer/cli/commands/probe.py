"""`graphformer probe`: classification by the frozen features of a trained encoder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphformer.cli.config.command_parser import CommandParser, number, whole_number
from graphformer.cli.errors import UsageError

Samples = tuple[np.ndarray, np.ndarray]  # features [B, C], labels [B]


def main(argv: Sequence[str]) -> int:
    """Fit a linear map or nearest neighbours on frozen features, and print accuracies; return 0.

    Raises:
        UsageError: when the arguments, the checkpoint or the data are wrong.
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
        label_fraction = arguments.labels if arguments.labels < 1 else None
        data = restore_data(ckpt, arguments.config, label_fraction=label_fraction)
        train = _extract(encoder, adjacency, data, "train")
        test = _extract(encoder, adjacency, data, "test")
        if len(set(train[1].tolist())) < 2:
            raise UsageError("probe: all training images are of one class")
        classifier = _classifier(arguments, len(train[1]))
        classifier.fit(*train)
    table = Table("method", "labels", "train accuracy", "test accuracy")
    scores = [f"{classifier.score(*samples):.4f}" for samples in (train, test)]
    table.add_row(arguments.method, f"{len(train[1]):,}", *scores)
    print(f"{ckpt}, {type(data).__name__}, {adjacency}")
    Console().print(table)
    return 0


def _extract(encoder: Any, adjacency: Any, data: Any, split: str) -> Samples:
    """Return features and labels of all images of a split, without augmentation."""
    from graphformer.cli.run_data import extract_images, features

    loader = data.batches(split)
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
        raise UsageError("probe: the features contain NaN or infinity: the training has diverged")
    return np.concatenate(x), np.concatenate(y)


def _classifier(arguments: argparse.Namespace, num_samples: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if arguments.method == "knn":
        neighbors = min(arguments.neighbors, num_samples)
        return KNeighborsClassifier(neighbors, weights="distance", metric="cosine")
    linear = LogisticRegression(C=arguments.strength, max_iter=2000, tol=1e-3)
    return make_pipeline(StandardScaler(), linear)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser("probe", "Classify images by the frozen features of a trained encoder.")
    add = parser.add_argument
    share, positive = number(0, 1, low_included=False), number(0, low_included=False)
    add("--ckpt", required=True, help="a checkpoint, or the folder of a run")
    add("-c", "--config", help="data, such as datasets/X.yaml; otherwise the run's")
    add("--method", choices=("linear", "knn"), default="linear")
    add("--labels", type=share, default=1.0, help="share of the labels to use")
    add("--neighbors", type=whole_number(1), default=20, help="knn: number of neighbours")
    add("--strength", type=positive, default=0.1, help="linear: inverse of the L2 penalty")
    return parser.parse_args(list(argv))
