"""Sentences of movie reviews made more positive by a lexicon as reward: RLOO.

    pip install vaderSentiment
    python experiments/reviews.py --out experiments/results/post_training

The sentences of nltk's movie_reviews.zip with 8 to 40 words; 1,400 of them are put aside. One
language model of the others (reviews_lm.yaml), and from it for each seed policy optimisation
(reviews_policy.yaml), whose prompts are the first four words of 1,000 of the sentences put aside.
Measured on the other 400, each continued by 24 tokens or to the end of the sentence: the compound
score of VADER, the KL divergence to the language model, and the share of distinct pairs of words.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import statistics
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from fitting import fit, mean_and_spread

from graphformer.cli.checkpoints import restore_task, restore_text_tokenizer
from graphformer.data import PromptFile
from graphformer.data.io.cache import data_root
from graphformer.tasks import Task
from graphformer.tasks.post_training.reference import answer_log_probs
from graphformer.tasks.post_training.rewards import Completion, SentimentLexicon
from graphformer.tasks.post_training.rollouts import pack_answers
from graphformer.tasks.post_training.sampling import sample_completions

PROMPTS, TEST, NUM_WORDS = 1000, 400, 4
LM_SEED = 42  # the default of `graphformer fit`
Row = dict[str, Any]


def write_data(folder: Path) -> None:
    """Write sentences.jsonl, prompts.jsonl and test.jsonl."""
    with zipfile.ZipFile(data_root() / "nltk" / "movie_reviews.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".txt"))
        reviews = [archive.read(name).decode("latin-1") for name in names if "/cv" in name]
    lines = [line.strip() for review in reviews for line in review.splitlines()]
    sentences = [line for line in dict.fromkeys(lines) if 8 <= len(line.split()) <= 40]
    random.Random(0).shuffle(sentences)
    starts = [" ".join(text.split()[:NUM_WORDS]) for text in sentences[: PROMPTS + TEST]]
    folder.mkdir(parents=True, exist_ok=True)
    chats = [{"messages": [{"role": "assistant", "content": t}]} for t in sentences[len(starts) :]]
    prompts = [{"prompt": text} for text in starts]
    files = {"sentences": chats, "prompts": prompts[:PROMPTS], "test": prompts[PROMPTS:]}
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@torch.no_grad()
def sample(task: Task, checkpoint: Path, data: Path) -> list[Completion]:
    """A continuation of each start of a sentence to test."""
    path = str(data / "test.jsonl")
    module = PromptFile(path, path, template="plain", batch_size=TEST)
    module.tokenizer = restore_text_tokenizer(checkpoint)
    module.setup()
    (batch,) = module.val_dataloader()
    return sample_completions(
        task.network, task.adjacency, module.need_tokenizer(), batch,
        group_size=1, max_new_tokens=24, temperature=1.0, seed=(1,),
    )  # fmt: skip


@torch.no_grad()
def measure(task: Task, start: Task, completions: Sequence[Completion]) -> Row:
    """Mean score with its standard error, KL divergence, distinct pairs of words, and length."""
    scores = SentimentLexicon()(completions)
    batch = pack_answers([c.ids for c in completions], [c.prompt_length for c in completions])
    new, old = (answer_log_probs(t.network, batch, t.adjacency) for t in (task, start))
    words = [c.answer.split() for c in completions]
    pairs = [pair for text in words for pair in itertools.pairwise(text)]
    return {
        "score": statistics.fmean(scores),
        "score_error": statistics.stdev(scores) / math.sqrt(len(scores)),
        "kl": float((new - old).sum()) / len(completions),
        "distinct_2": len(set(pairs)) / len(pairs),
        "words": statistics.fmean(len(text) for text in words),
        "scores": scores,
        "texts": [f"{c.prompt} | {c.answer}" for c in completions[:8]],
    }


def train_language_model(data: Path, runs: Path) -> tuple[Path, Row]:
    """The checkpoint of the language model, and its figures."""
    flags = ["--data.path", str(data / "sentences.jsonl")]
    folder, seconds = fit("reviews_lm.yaml", flags, LM_SEED, runs)
    checkpoint = folder / "last.ckpt"
    start = restore_task(checkpoint)
    found = measure(start, start, sample(start, checkpoint, data))
    return checkpoint, {"seed": LM_SEED, "run": "language model", "seconds": seconds, **found}


def train_policy(seed: int, first: Path, before: Row, data: Path, runs: Path) -> Row:
    """The figures of a policy, from the checkpoint of the language model with its figures."""
    flags = ["--data.path", str(data / "prompts.jsonl"), "--data.vocabulary", str(first.parents[1])]
    flags += ["--model.pretrained", str(first), "--model.seed", str(seed)]
    folder, seconds = fit("reviews_policy.yaml", flags, seed, runs)
    policy, start = restore_task(folder / "last.ckpt"), restore_task(first)
    found = measure(policy, start, sample(policy, folder / "last.ckpt", data))
    found["gain"], found["gain_error"] = gain(before, found)
    return {"seed": seed, "run": "RLOO", "seconds": seconds, **found}


def table(rows: list[Row]) -> str:
    """Markdown: means and standard deviations over seeds."""
    names = ("score", "kl", "distinct_2", "words", "seconds")
    lines = [f"| run | {' | '.join(names)} |", f"| --- |{' --- |' * len(names)}"]
    for name in dict.fromkeys(row["run"] for row in rows):
        chosen = [row for row in rows if row["run"] == name]
        cells = [mean_and_spread([row[key] for row in chosen]) for key in names]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def gain(before: Row, after: Row) -> tuple[float, float]:
    """The mean difference of the scores of the same prompts, and its standard error."""
    differences = [b - a for a, b in zip(before["scores"], after["scores"], strict=True)]
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return statistics.fmean(differences), error


def write(rows: list[Row], out: Path | None) -> None:
    """Print the figures of the last run, and write those of all runs to a file."""
    short = [{k: v for k, v in row.items() if k != "scores"} for row in rows]
    print({k: v for k, v in short[-1].items() if k != "texts"}, flush=True)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "reviews.json").write_text(json.dumps(short, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--data", type=Path, help="write the data into this folder only")
    arguments = parser.parse_args()
    if arguments.data is not None:
        write_data(arguments.data)
        return
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        write_data(data)
        first, before = train_language_model(data, Path(folder))
        rows = [before]
        for seed in arguments.seeds:
            rows.append(train_policy(seed, first, before, data, Path(folder)))
            write(rows, arguments.out)
    print(table(rows))


if __name__ == "__main__":
    main()
