"""How much of a passage a character model continues, by how often the training text contains it.

    python experiments/trust_memorization.py --runs runs --out FOLDER

Passages of 64 characters, random words of tiny Shakespeare, are put between its lines 0 to 128
times, eight passages for each number of repeats. The recipe of char_lm.yaml is trained on this
text; then it reads the first 32 characters of each passage and continues greedily. Passages with 0
repeats are the baseline.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from pathlib import Path

from graphformer.cli import main as graphformer
from graphformer.cli.checkpoints import load_text_model
from graphformer.cli.config.arguments import find_checkpoint
from graphformer.data.io.cache import data_root
from graphformer.trust.privacy import memorized_tokens

FOLDER = Path(__file__).parent
REPEATS = (0, 1, 2, 4, 8, 16, 32, 64, 128)
PASSAGES, LENGTH, PREFIX = 8, 64, 32
Row = dict[str, float]


def planted(text: str, seed: int) -> tuple[str, dict[int, list[str]]]:
    """Return the text with the passages between its first lines, and the passages by repeats.

    The last tenth of the text is not for training, and gets none.
    """
    generator = random.Random(seed)
    words = text.split()
    passages = {
        repeats: [" ".join(generator.choices(words, k=LENGTH))[:LENGTH] for _ in range(PASSAGES)]
        for repeats in REPEATS
    }
    lines = text.split("\n")
    copies = [p for repeats, each in passages.items() for p in each for _ in range(repeats)]
    for passage in copies:
        lines.insert(generator.randrange(17 * len(lines) // 20), passage)
    return "\n".join(lines), passages


def trained(folder: Path, text: str, seed: int) -> Path:
    """Return the checkpoint of the model, which is trained if the folder has none."""
    if not list(folder.rglob("last.ckpt")):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "text.txt").write_text(text)
        data = ["-c", "tiny_shakespeare", "--data.path", str((folder / "text.txt").resolve())]
        quiet = ["--trainer.enable_progress_bar", "false", "--seed_everything", str(seed)]
        line = ["fit", "-c", str(FOLDER / "char_lm.yaml"), *data, *quiet]
        assert graphformer([*line, "--trainer.default_root_dir", str(folder)]) == 0
    return find_checkpoint(str(next(folder.rglob("checkpoints")).parent), "trust")


def measure(ckpt: Path, passages: dict[int, list[str]]) -> list[Row]:
    """Return the right characters after the prefix, and the share of verbatim ones, by repeats."""
    network, _, tokenizer = load_text_model(str(ckpt), "trust")
    rows: list[Row] = []
    for repeats, each in passages.items():
        ids = [tokenizer.encode(passage).tolist() for passage in each]
        counts = memorized_tokens(network.eval(), ids, prefix_length=PREFIX).tolist()
        rows.append(
            {
                "repeats": repeats,
                "mean right characters": statistics.fmean(counts),
                "fewest": min(counts),
                "most": max(counts),
                "verbatim": sum(c == LENGTH - PREFIX for c in counts) / len(counts),
            }
        )
    return rows


def draw(rows: list[Row], file: Path) -> None:
    """Plot the right characters over the repeats: the mean of the passages, and their range."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    x = [row["repeats"] for row in rows]
    axes.plot(x, [row["mean right characters"] for row in rows], marker="o")
    axes.fill_between(x, [r["fewest"] for r in rows], [r["most"] for r in rows], alpha=0.15)
    axes.set_xscale("symlog", base=2, linthresh=1)
    axes.set_xticks(x, [str(int(each)) for each in x])
    axes.set_xlabel("repeats of a passage in the training text")
    axes.set_ylabel(f"right characters of the {LENGTH - PREFIX} after the prefix")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    figure.savefig(file, dpi=130)


def main() -> None:
    """Train, measure, print a table, and write JSON and a picture."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the run")
    parser.add_argument("--out", type=Path, default=FOLDER / "results" / "trust")
    arguments = parser.parse_args()
    source = data_root(None) / "tinyshakespeare" / "input.txt"
    text, passages = planted(source.read_text(), arguments.seed)
    rows = measure(trained(arguments.runs / "memorization", text, arguments.seed), passages)
    for row in rows:
        print(row)
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "memorization.json"
    file.write_text(json.dumps({"seed": arguments.seed, "rows": rows}, indent=1) + "\n")
    draw(rows, file.with_suffix(".png"))


if __name__ == "__main__":
    main()
