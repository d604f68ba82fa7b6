"""Quality and time of a model that copies, over the edges of LSH and others in its second block.

    python experiments/copying.py --run RUN --length 8192 --rounds 5 --out FILE \
        --patterns LSH:buckets=128,window=64,causal=true Causal Window:radius=63,causal=true

RUN is a run of experiments/copying.yaml. Accuracy and loss are those of the second half of the
test sequences. Times are CPU times of one thread: of the attention functions of both blocks and of
the second one (selection of edges included), and with `--steps` of training steps, patterns
alternating. Results are written after each round.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from statistics import median

import torch
from content_attention import Timer
from torch.nn import functional as F

import graphformer as gf
from graphformer.cli.config.pattern_syntax import parse_pattern
from graphformer.data import RepeatedSymbols
from graphformer.nn import attention as attention_module
from graphformer.patterns import Pattern, PerLayer


@torch.inference_mode()
def quality(model, batches, pattern: Pattern) -> tuple[float, float, float]:
    """Return the accuracy over the labels, its standard error over sequences, and the loss."""
    shares, losses = [], []
    for batch in batches:
        logits = model(batch, pattern)
        known = batch.y >= 0
        shares += (logits.argmax(1) == batch.y)[known].view(len(batch.lengths), -1).float().mean(1)
        losses.append(float(F.cross_entropy(logits[known], batch.y[known])))
    shares = torch.stack(shares)
    return (
        float(shares.mean()),
        float(shares.std() / math.sqrt(len(shares))),
        sum(losses) / len(losses),
    )


def step_seconds(model, batch, pattern: Pattern) -> float:
    """Return the CPU time of the loss of a batch and its gradients."""
    start = time.process_time()
    loss = F.cross_entropy(model(batch, pattern), batch.y, ignore_index=-100)
    loss.backward()
    model.zero_grad()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", required=True)
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--patterns", nargs="+", required=True, help="of the second block")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", action="store_true", help="measure training steps too")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    trained = gf.load(arguments.run)
    model, first = trained.network, trained.adjacency.patterns[0]
    data = RepeatedSymbols(
        (arguments.length,), (1,), max_tokens=arguments.length, num_samples=arguments.sequences
    )
    batches = list(data.batches("test"))
    timer = Timer(attention_module.attention)
    attention_module.attention = timer
    figures: dict[str, dict] = {}
    for name in arguments.patterns:
        pattern = PerLayer((first, parse_pattern(name)))
        accuracy, error, loss = quality(model, batches, pattern)
        figures[name] = {
            "accuracy": accuracy, "standard_error": error, "loss": loss,
            "perplexity": math.exp(loss), "attention_seconds": [], "step_seconds": [],
        }  # fmt: skip
        print(f"{name}: accuracy {accuracy:.4f}, loss {loss:.4f}", flush=True)
    for _ in range(arguments.rounds):
        for name, figure in figures.items():
            pattern = PerLayer((first, parse_pattern(name)))
            timer.seconds = 0.0
            with torch.inference_mode():
                model(batches[0], pattern)
            figure["attention_seconds"].append(timer.seconds)
            if arguments.steps:
                figure["step_seconds"].append(step_seconds(model, batches[0], pattern))
            for key in ("attention_seconds", "step_seconds"):
                if figure[key]:
                    figure[f"median_{key}"] = median(figure[key])
        report = {"length": arguments.length, "sequences": arguments.sequences, "threads": 1,
                  "figures": figures}  # fmt: skip
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    for name, figure in figures.items():
        print(name, {key: value for key, value in figure.items() if "median" in key})


if __name__ == "__main__":
    main()
