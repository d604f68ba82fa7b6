"""Time of the codes of large images over the triangle and over rows, columns and neighbourhoods.

    python experiments/text_to_image_cost.py [--sides 8 16 32] [--rounds 5] --out FOLDER

A step is forward and backward of the network of text_to_image.yaml on captions of 12 tokens, each
with the codes of an image of side x side; batches have about as many nodes for each size. The
adjacency is built anew in each step. Steps of both adjacencies alternate; the table has medians of
CPU time on one thread.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median

import torch
import yaml
from torch.nn import functional as F

import graphformer as gf
from graphformer.batch_type import Batch
from graphformer.data import append_codes, pack_tokens
from graphformer.models import dalle
from graphformer.patterns import Pattern
from graphformer.patterns.serialization import pattern_from_config

VOCABULARY, CODES, CAPTION, NODES = 40, 128, 12, 2100


def pattern(name: str) -> Pattern:
    """The adjacency of an experiment file."""
    settings = yaml.safe_load((Path(__file__).parent / name).read_text())
    return pattern_from_config(settings["model"]["init_args"]["adjacency"])


def make_batch(side: int) -> Batch:
    """Random captions and codes of images of side x side."""
    count = max(NODES // (side * side + CAPTION), 1)
    texts = pack_tokens([torch.randint(VOCABULARY, (CAPTION,)).tolist() for _ in range(count)])
    codes = torch.randint(CODES, (count * side * side,))
    return append_codes(texts, codes, [(side, side)] * count, vocab_size=VOCABULARY)


def step(model: torch.nn.Module, batch: Batch, adjacency: gf.patterns.Pattern) -> float:
    """CPU seconds of one step."""
    start = time.process_time()
    logits = model(batch, adjacency(batch))
    F.cross_entropy(logits, batch.y, ignore_index=-100).backward()
    seconds = time.process_time() - start
    model.zero_grad()
    return seconds


def measure(side: int, rounds: int, adjacencies: dict[str, Pattern]) -> dict[str, float]:
    """Medians of the steps of each adjacency, and its number of edges."""
    batch = make_batch(side)
    model = dalle(VOCABULARY, num_codes=CODES, max_side=side)
    times: dict[str, list[float]] = {name: [] for name in adjacencies}
    for number in range(rounds + 1):  # the first round compiles kernels
        for name, adjacency in adjacencies.items():
            seconds = step(model, batch, adjacency)
            if number:
                times[name].append(seconds)
    row: dict[str, float] = {"codes": side * side, "images": len(batch.lengths)}
    for name, adjacency in adjacencies.items():
        row[f"{name} edges"] = adjacency(batch).num_edges
        row[f"{name} seconds"] = median(times[name])
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    names = {"triangle": "text_to_image.yaml", "sparse": "text_to_image_sparse.yaml"}
    adjacencies = {name: pattern(file) for name, file in names.items()}
    rows = []
    for side in arguments.sides:
        rows.append(measure(side, arguments.rounds, adjacencies))
        print(rows[-1], flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "text_to_image_cost.json").write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
