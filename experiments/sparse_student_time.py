"""Time of a sentence encoder of MiniLM's size over the complete graph and over the student's edges.

    python experiments/sparse_student_time.py [--lengths 512 2048] [--rounds 7] --out FOLDER

6 blocks of width 384 with 12 heads, random weights, on one text of each length, with learned and
with rotary positions; without gradients. The adjacency is built anew in each call. Calls alternate;
the table has medians of CPU time on one thread.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median

import torch

from graphformer.data import pack_tokens
from graphformer.models import sentence_embedder
from graphformer.patterns import Complete, GlobalNodes, Pattern, Window

ADJACENCIES: dict[str, Pattern] = {
    "complete": Complete(),
    "window 16, two global nodes": Window(16) | GlobalNodes(2),
}


@torch.inference_mode()
def measure(length: int, positions: str, rounds: int) -> dict[str, object]:
    """Medians of the CPU seconds of a call over each adjacency."""
    model = sentence_embedder(
        1000, dim=384, depth=6, num_heads=12, positions=positions, max_length=length
    ).eval()
    batch = pack_tokens([torch.randint(1000, (length,)).tolist()])
    times: dict[str, list[float]] = {name: [] for name in ADJACENCIES}
    for number in range(rounds + 1):  # the first round compiles kernels
        for name, pattern in ADJACENCIES.items():
            start = time.process_time()
            model(batch, pattern(batch))
            if number:
                times[name].append(time.process_time() - start)
    row: dict[str, object] = {"tokens": length, "positions": positions}
    return row | {name: median(seconds) for name, seconds in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rows = []
    for length in arguments.lengths:
        for positions in ("learned", "rotary"):
            rows.append(measure(length, positions, arguments.rounds))
            print(rows[-1], flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "sparse_student_time.json").write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
