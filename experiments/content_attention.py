"""Quality and attention time of a language model over edges made from content.

    python experiments/content_attention.py --model FILE --data nltk/movie_reviews.zip \
        --length 8192 --patterns Causal TopBlocks:block=64,k=16,first=1,nearest=2 --out FOLDER

With `--learn 6.2 --learn-pattern TopBlocks:...` a further pattern attends to 6.2 blocks on average,
as many in each block of the model and each key head as `gf.learn_blocks` finds on another text;
the pattern is stored in the folder, and read from it if it is there.

The perplexity is that of one text of concatenated documents; the time is that of the attention
functions of all blocks (selection of edges included), as CPU time, patterns alternating in each
round. Results are written after each round.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F

import graphformer as gf
from graphformer.cli.config.pattern_syntax import parse_pattern
from graphformer.data.batch import Batch, pack_tokens
from graphformer.data.io.text_files import find_sources, read_pieces, total_size
from graphformer.models import Model
from graphformer.nn import attention as attention_module
from graphformer.patterns import Causal, Pattern, load_pattern, save_pattern


class Timer:
    """Adds up the CPU time of the calls of a function."""

    def __init__(self, function) -> None:
        self.function, self.seconds = function, 0.0

    def __call__(self, *args, **options):
        start = time.process_time()
        result = self.function(*args, **options)
        self.seconds += time.process_time() - start
        return result


@torch.inference_mode()
def perplexity(model: Model, batch: Batch, pattern: Pattern) -> float:
    """Return the perplexity of the one text of a batch, with logits of 512 tokens at a time."""
    nodes = model.transformer(model.embedding(batch), pattern(batch), batch.pos)
    loss = 0.0
    for first in range(0, len(nodes) - 1, 512):
        goal = batch.x[first + 1 : first + 513]
        logits = model.head(nodes[first : first + len(goal)], batch)
        loss += float(F.cross_entropy(logits, goal, reduction="sum"))
    return math.exp(loss / (len(nodes) - 1))


def tokens(model: Model, path: str, root: str | None, length: int, *, start: float = 0.0) -> Tensor:
    """Return token ids of the documents of a path from a share of its size on, [length]."""
    sources = find_sources(path, "**/*.txt", root)
    size = total_size(sources)
    pieces = read_pieces(sources, int(start * size), size, documents="file")
    text = ""
    for piece, _ in pieces:
        text += piece
        if len(text) > 8 * length:
            break
    return model.tokenizer.encode(text)[:length]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="a folder or a GGUF file")
    parser.add_argument("--data", default="nltk/movie_reviews.zip")
    parser.add_argument("--root", help="the data root")
    parser.add_argument("--length", type=int, default=8192)
    parser.add_argument("--patterns", nargs="+", required=True)
    parser.add_argument("--learn", type=float, help="mean number of blocks of learned numbers")
    parser.add_argument("--learn-pattern", help="TopBlocks, whose k is ignored")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = gf.from_pretrained(arguments.model)
    ids = tokens(model, arguments.data, arguments.root, arguments.length)
    batch = pack_tokens([ids.tolist()])
    patterns = {name: parse_pattern(name) & Causal() for name in arguments.patterns}
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.learn:
        stored = arguments.out / f"learned_{arguments.learn:g}_blocks.json"
        if not stored.exists():
            other = tokens(model, arguments.data, arguments.root, arguments.length, start=0.5)
            base = parse_pattern(arguments.learn_pattern) & Causal()
            learned = gf.learn_blocks(model, [other.tolist()], base, blocks=arguments.learn)
            save_pattern(learned, stored)
        patterns[f"{arguments.learn:g} learned, {arguments.learn_pattern}"] = load_pattern(stored)
    timer = Timer(attention_module.attention)
    attention_module.attention = timer
    figures: dict[str, dict] = {name: {"seconds": []} for name in patterns}
    file = arguments.out / f"content_attention_{len(ids)}.json"
    for _ in range(arguments.rounds):
        for name, pattern in patterns.items():
            timer.seconds = 0.0
            quality = perplexity(model, batch, pattern)
            figure = figures[name]
            figure["perplexity"] = quality
            figure["seconds"].append(timer.seconds)
            figure["median_seconds"] = median(figure["seconds"])
            report = {"model": Path(arguments.model).name, "data": arguments.data,
                      "tokens": len(ids), "threads": 1, "figures": figures}  # fmt: skip
            file.write_text(json.dumps(report, indent=2) + "\n")
            print(f"{name}: perplexity {quality:.3f}, attention {timer.seconds:.2f} s", flush=True)


if __name__ == "__main__":
    main()
