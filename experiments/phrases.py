"""Masks of whole phrases (ERNIE) against masks of whole words: who fills in phrases?

    python experiments/phrases.py --phrases wordnet/data.noun.gz \\
        --out experiments/results/objectives/phrases.json

Trains experiments/ernie.yaml on the movie reviews with masks of phrases and with masks of words, at
equal steps, and judges both on the validation split: phrases masked as a whole, and single words. A
phrase is one of several words among WordNet's nouns. Each round masks one in eight units; every
figure is over all masked tokens of the rounds.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from graphformer.batch_type import Batch
from graphformer.cli import main as graphformer
from graphformer.cli.checkpoints import restore_task
from graphformer.cli.run_data import restore_data
from graphformer.data import pack_tokens
from graphformer.data.io.tabular import find_file
from graphformer.data.text.tokenizer import Tokenizer
from graphformer.patterns import Pattern
from graphformer.tasks.text.masked_language import logits_at, number_words
from graphformer.tasks.text.phrases import PhraseList, read_phrases

FOLDER = Path(__file__).parent
KINDS = {"masks of phrases": [], "masks of words": ["--model.phrases", "null"]}
EVERY = 8
Row = dict[str, Any]


def train(options: list[str], steps: int, folder: Path) -> Path:
    """Run `graphformer fit`; return the last checkpoint."""
    command = ["fit", "-c", str(FOLDER / "ernie.yaml"),
               "-c", str(FOLDER.parent / "datasets/movie_reviews_text.yaml"), *options,
               "--trainer.max_steps", str(steps), "--trainer.val_check_interval", str(steps),
               "--trainer.default_root_dir", str(folder), "--seed_everything", "0",
               "--trainer.enable_progress_bar", "false"]  # fmt: skip
    assert graphformer(command) == 0, command
    return next(folder.rglob("last.ckpt"))


def blocks(data: Any) -> list[np.ndarray]:
    """Return the token ids of the validation split's blocks."""
    found = []
    for batch in data.batches("val"):
        found += np.split(batch.x.numpy(), np.cumsum(batch.lengths)[:-1])
    return found


def units(
    row: np.ndarray, phrases: PhraseList, tokenizer: Tokenizer, *, whole: bool
) -> list[tuple[int, int]]:
    """Return start and end of the phrases of a text, or of its words that are in none."""
    spans = phrases.spans(row)
    if whole:
        return spans
    taken = {i for start, stop in spans for i in range(start, stop)}
    word = number_words(phrases.word_starts[row], [len(row)])
    first = np.flatnonzero(np.diff(word, prepend=0))
    words = zip(first.tolist(), [*first[1:].tolist(), len(row)], strict=True)
    special = set(tokenizer.special_ids)
    return [(a, b) for a, b in words if a not in taken and int(row[a]) not in special]


@torch.no_grad()
def judge(
    network: nn.Module, adjacency: Pattern, rows: list[np.ndarray], chosen: list[Any], mask: int
) -> Row:
    """Return figures of all units, each masked once, one in `EVERY` at a time."""
    losses, right = [], []
    for number in range(EVERY):
        spans = [of_text[number::EVERY] for of_text in chosen]
        texts = [(row, s) for row, s in zip(rows, spans, strict=True) if s]
        for first in range(0, len(texts), 32):
            part = texts[first : first + 32]
            found = predict(network, adjacency, part, mask)
            losses += found[0]
            right += found[1]
    tokens = sum(map(len, right))
    return {
        "units": len(right),
        "tokens": tokens,
        "perplexity": math.exp(sum(map(sum, losses)) / tokens),
        "accuracy_of_tokens": sum(map(sum, right)) / tokens,
        "accuracy_of_units": float(np.mean([all(r) for r in right])),
        "loss_by_unit": [sum(loss) for loss in losses],
        "right_by_unit": [all(r) for r in right],
    }


def predict(
    network: nn.Module, adjacency: Pattern, texts: list[Any], mask: int
) -> tuple[list[list[float]], list[list[bool]]]:
    """Return loss and correctness of each token of each masked unit."""
    batch: Batch = pack_tokens([row for row, _ in texts])
    sizes = np.array([len(row) for row, _ in texts])
    offsets = sizes.cumsum() - sizes
    spans = [(o + a, o + b) for o, (_, s) in zip(offsets, texts, strict=True) for a, b in s]
    nodes = torch.tensor([i for a, b in spans for i in range(a, b)])
    labels = batch.x[nodes]
    batch.x = batch.x.index_fill(0, nodes, mask)
    logits = logits_at(network, batch, adjacency(batch), nodes)
    loss = F.cross_entropy(logits, labels, reduction="none")
    counts = [b - a for a, b in spans]
    by_unit = [part.tolist() for part in loss.split(counts)]
    return by_unit, [part.tolist() for part in (logits.argmax(1) == labels).split(counts)]


def compare(models: dict[str, Row]) -> Row:
    """Return the paired differences of both models, phrases minus words, with errors."""
    table = {}
    for what in ("phrases", "words"):
        a, b = (models[name][what] for name in KINDS)
        count = a["tokens"]
        loss = np.array(a["loss_by_unit"]) - np.array(b["loss_by_unit"])
        right = np.array(a["right_by_unit"], float) - np.array(b["right_by_unit"], float)
        table[what] = {
            "difference_of_log_perplexity": loss.sum() / count,
            "its_standard_error": math.sqrt(len(loss)) * loss.std(ddof=1) / count,
            "difference_of_accuracy_of_units": right.mean(),
            "the_standard_error_of_that": right.std(ddof=1) / math.sqrt(len(right)),
        }
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--phrases", required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    texts = read_phrases(find_file(arguments.phrases, None))
    models: dict[str, Row] = {}
    for name, options in KINDS.items():
        begin = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = train(options, arguments.steps, Path(folder))
            data, task = restore_data(checkpoint), restore_task(checkpoint)
        seconds = time.process_time() - begin
        tokenizer = data.need_tokenizer()
        rows, listed = blocks(data), PhraseList.from_texts(texts, tokenizer)
        models[name] = {"training_cpu_seconds": seconds}
        for what in ("phrases", "words"):
            chosen = [units(row, listed, tokenizer, whole=what == "phrases") for row in rows]
            models[name][what] = judge(
                task.network, task.adjacency, rows, chosen, tokenizer.need("mask")
            )
    result = {"steps": arguments.steps, "difference": compare(models), "models": models}
    for row in models.values():
        for what in ("phrases", "words"):
            del row[what]["loss_by_unit"], row[what]["right_by_unit"]
    text = json.dumps(result, indent=1)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
