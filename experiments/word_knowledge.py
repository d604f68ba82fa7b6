"""Word-knowledge graphs with and without facts, as in CoLAKE: link prediction and masked words.

    python experiments/word_knowledge.py --out experiments/results/text/knowledge_edges.json

Trains experiments/colake.yaml on datasets/wordnet_locations.yaml with the same data, weights and
order for each seed: without the facts about each head; with them as nodes that are connected to the
head by edges; with all nodes of a sample connected; and the latter with ranking of distractors
(graph-guided GLM). Kinds of samples: glosses of hidden heads, hidden heads with the first one or
six tokens of their gloss, glosses of heads with a vector of their own, and glosses of hidden heads
with 80 % of the words masked and names of entities in the facts. All held-out queries,
those of the validation and the test split, are answered by the last checkpoint. Errors are of the
paired differences over the queries. Runs that the result file has are not made again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from graphformer.batch_type import IGNORE_INDEX
from graphformer.cli import main as graphformer
from graphformer.cli.checkpoints import restore_task
from graphformer.cli.run_data import restore_data
from graphformer.data.text.knowledge.word_graphs import WORD
from graphformer.patterns import lengths
from graphformer.tasks.text.knowledge.masked_nodes import MaskIds, mask_nodes
from graphformer.tasks.text.knowledge.ranks import filtered_ranks
from graphformer.tasks.text.masked_language import logits_at

FOLDER = Path(__file__).parent
HIDDEN = ["--data.hide_heads", "true"]
WORDS = ["--data.fact_names", "1", "--model.word_mask_rate", "0.8"]
SHALLOW = ["--model.network.depth", "2", "--model.network.dropout", "0.1"]
TEXTS = {
    "glosses, hidden heads": HIDDEN,
    "hidden heads, first word": [*HIDDEN, "--data.max_length", "1"],
    "hidden heads, first six words": [*HIDDEN, "--data.max_length", "6"],
    "glosses": [],
    "80 % of the words masked": [*HIDDEN, *WORDS, *SHALLOW],
}
EDGES = {
    "all connected": ["--adjacency", "Complete"],
    "facts by edges": [],
    "without": ["--adjacency", "Documents"],
    "all connected, ranked": ["--adjacency", "Complete", "--model.distractor_weight", "1"],
}
COMPARED = [
    ("all connected", "without"),
    ("facts by edges", "without"),
    ("all connected, ranked", "all connected"),
]
MASKS = 5
"""Random choices of the masked words of each gloss."""
Row = dict[str, Any]


def train(options: list[str], seed: int, epochs: int, folder: Path) -> Path:
    """Run `graphformer fit`; return the last checkpoint."""
    command = ["fit", "-c", str(FOLDER / "colake.yaml"),
               "-c", str(FOLDER.parent / "datasets/wordnet_locations.yaml"), *options,
               "--trainer.max_epochs", str(epochs), "--seed_everything", str(seed),
               "--trainer.default_root_dir", str(folder), "--trainer.num_sanity_val_steps", "0",
               "--trainer.limit_val_batches", "1",
               "--trainer.enable_progress_bar", "false"]  # fmt: skip
    assert graphformer(command) == 0, command
    return next(folder.rglob("last.ckpt"))


@torch.no_grad()
def measure(checkpoint: Path) -> Row:
    """Return the rank of each query's tail, and the summed losses and numbers of masked words.

    `ranks` are those with the whole gloss, `ranks_masked` those with words of it masked.
    """
    data, task = restore_data(checkpoint), restore_task(checkpoint)
    data.max_tokens = 1024
    tokenizer = data.need_tokenizer()
    ids = MaskIds(tokenizer.need("mask"), tokenizer.special_ids)
    hidden = {WORD: task.mask_rates[WORD]}
    found: dict[str, list[float]] = {"ranks": [], "ranks_masked": [], "losses": [], "words": []}
    for split in ("val", "test"):
        samples = data.samples(split)
        for start in range(0, len(samples), 32):
            batch = samples[torch.arange(start, min(start + 32, len(samples)))]
            for name, rates in (("ranks", {}), ("ranks_masked", hidden)):
                scores = tail_scores(task, batch, ids, rates)
                found[name] += filtered_ranks(scores, batch.y, batch.known_index).tolist()
            losses, words = word_losses(task, batch, ids, hidden)
            found["losses"] += losses.tolist()
            found["words"] += words.tolist()
    return found


def tail_scores(task: Any, batch: Any, ids: MaskIds, hidden: dict[int, float]) -> Tensor:
    """Return the logits of all entities for the masked tail of each query, [B, E]."""
    asked, _ = mask_nodes(batch, generators(batch, 0), ids, hidden)
    is_target = torch.zeros_like(batch.x, dtype=torch.bool)
    is_target[batch.target_index] = True
    first, stop = batch.kind_starts[1:3]
    return logits_at(task.network, asked, task.adjacency(batch), is_target)[:, first:stop]


def word_losses(
    task: Any, batch: Any, ids: MaskIds, hidden: dict[int, float]
) -> tuple[Tensor, Tensor]:
    """Return the sum of the losses of each sample's masked words, and their number, [B]."""
    sizes = torch.tensor(lengths(batch))
    sample = torch.arange(len(sizes)).repeat_interleave(sizes)
    total, count = torch.zeros(len(sizes)), torch.zeros(len(sizes))
    for number in range(MASKS):
        masked, y = mask_nodes(batch, generators(batch, number), ids, hidden)
        chosen = y != IGNORE_INDEX
        if chosen.any():
            logits = logits_at(task.network, masked, task.adjacency(batch), chosen)
            losses = F.cross_entropy(logits[:, : batch.kind_starts[1]], y[chosen], reduction="none")
            total.index_add_(0, sample[chosen], losses)
            count.index_add_(0, sample[chosen], torch.ones(len(losses)))
    return total, count


def generators(batch: Any, number: int) -> list[np.random.Generator]:
    """Return generators that draw the same masks for the same sample in all runs."""
    return [np.random.default_rng((number, int(y), i)) for i, y in enumerate(batch.y)]


def compare(runs: list[Row]) -> list[Row]:
    """Return paired differences of two kinds of runs by text, of the seeds that both have."""
    table = []
    for text, kinds in product(TEXTS, COMPARED):
        sides = [{r["seed"]: r for r in runs if (r["text"], r["edges"]) == (text, kind)}
                 for kind in kinds]  # fmt: skip
        seeds = sorted(sides[0].keys() & sides[1].keys())
        if not seeds:
            continue
        ranks, masked, losses = (
            [np.array([side[seed][name] for seed in seeds]) for side in sides]
            for name in ("ranks", "ranks_masked", "losses")
        )
        words = np.array(sides[0][seeds[0]]["words"])
        row: Row = {"text": text, "compared": kinds, "seeds": seeds, "queries": ranks[0].shape[1]}
        for words_are, found in (("", ranks), (", words masked", masked)):
            row[f"hits@10{words_are}"] = paired(*(r <= 10 for r in found))
            row[f"mrr{words_are}"] = paired(*(1 / r for r in found))
        if words.sum():
            row["perplexity"] = paired_perplexity(losses[0].mean(0), losses[1].mean(0), words)
        table.append(row)
    return table


def paired(on: np.ndarray, off: np.ndarray) -> Row:
    """Return both means of a figure [seeds, Q], their difference and its standard error."""
    difference = on.mean(0) - off.mean(0)
    return {
        "figures": [on.mean(), off.mean()],
        "difference": difference.mean(),
        "standard_error": difference.std(ddof=1) / math.sqrt(len(difference)),
        "differences_of_seeds": (on.mean(1) - off.mean(1)).tolist(),
    }


def paired_perplexity(on: np.ndarray, off: np.ndarray, words: np.ndarray) -> Row:
    """Return both perplexities, the difference of their logarithms and its standard error.

    Args:
        on, off: sums of the losses of each query's masked words, [Q].
        words: their numbers, [Q].
    """
    mean = (on - off).sum() / words.sum()
    rest = on - off - mean * words  # whose sum is 0: the error of a ratio of two sums
    return {
        "figures": [math.exp(side.sum() / words.sum()) for side in (on, off)],
        "difference_of_logs": mean,
        "standard_error": math.sqrt(len(rest)) * rest.std(ddof=1) / words.sum(),
        "words": int(words.sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--texts", nargs="*", choices=TEXTS, default=list(TEXTS))
    parser.add_argument("--edges", nargs="*", choices=EDGES, default=list(EDGES))
    arguments = parser.parse_args()
    stored: Row = json.loads(arguments.out.read_text()) if arguments.out.exists() else {"runs": []}
    runs: list[Row] = stored["runs"]
    for seed, text, edges in product(range(arguments.seeds), arguments.texts, arguments.edges):
        name = {"text": text, "edges": edges, "seed": seed, "epochs": arguments.epochs}
        if any(name.items() <= run.items() for run in runs):
            continue
        begin = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            options = [*TEXTS[text], *EDGES[edges]]
            checkpoint = train(options, seed, arguments.epochs, Path(folder))
            runs.append({**name, **measure(checkpoint), "cpu_seconds": time.process_time() - begin})
        result = {"table": compare(runs), "runs": runs}
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        partial = arguments.out.with_suffix(".part")
        partial.write_text(json.dumps(result) + "\n", encoding="utf-8")
        os.replace(partial, arguments.out)
        print(json.dumps(result["table"], indent=1), flush=True)


if __name__ == "__main__":
    main()
