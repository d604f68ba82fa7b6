"""Calibration of node classifiers on random splits of Cora, and their accuracy under PRBCD.

    python experiments/trust_cora.py calibration --splits 20 --runs runs --out FOLDER
    python experiments/trust_cora.py attack --splits 3 --runs runs --out FOLDER

Each model is trained on each split with `graphformer fit -c MODEL.yaml -c cora_random.yaml
--data.split_seed S --seed_everything S`; finished runs in the folder of `--runs` are read.
Calibration: ECE (15 bins) of the test nodes before and after a temperature that is fitted to all
validation nodes; coverage of conformal sets of level 0.9, whose threshold is fitted to one half of
the validation nodes and whose temperature to the other. Attack: PRBCD of PyG flips a share of the
edges for the test nodes, through the adjacency of the model itself, after training.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from graphformer.cli import main as graphformer
from graphformer.cli.checkpoints import restore_task
from graphformer.cli.config.arguments import find_checkpoint
from graphformer.cli.run_data import restore_data
from graphformer.tasks import Classification
from graphformer.trust import Run, fit_temperature
from graphformer.trust.report import Section
from graphformer.trust.robustness import EdgeWeights, prbcd
from graphformer.trust.robustness.edges import with_edges
from graphformer.trust.sections.calibration import add_conformal_sets, scores

FOLDER = Path(__file__).parent
CALIBRATED = ("gat_cora", "graph_transformer_cora", "gcn_cora")
ATTACKED = {
    "GCN": ["gcn_cora"],
    "GAT": ["gat_cora"],
    "GPS, edges": ["gps_cora"],
    "GPS, complete": ["gps_cora", "--model.adjacency", "Complete"],
}
BUDGETS = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5)
Row = dict[str, str | int | float]


def trained(root: Path, arguments: Sequence[str], split: int) -> Run:
    """Return the run of a model on a split, which is trained if the folder has none."""
    experiment, *options = arguments
    folder = root / f"{'-'.join(arguments).replace('--model.', '')}-{split}"
    if not list(folder.rglob("finished")):
        shutil.rmtree(folder, ignore_errors=True)  # of an interrupted run
        files = ["-c", str(FOLDER / f"{experiment}.yaml"), "-c", "cora_random"]
        seeds = ["--data.split_seed", str(split), "--seed_everything", str(split)]
        quiet = ["--trainer.enable_progress_bar", "false"]
        line = ["fit", *files, *seeds, *options, *quiet, "--trainer.default_root_dir", str(folder)]
        assert graphformer(line) == 0, line
        (next(folder.rglob("checkpoints")) / "finished").touch()
    ckpt = find_checkpoint(str(next(folder.rglob("checkpoints")).parent), "trust")
    return Run(restore_task(ckpt), restore_data(ckpt), seed=split)


def calibration(run: Run) -> Row:
    """Return accuracy, ECE before and after temperature, and conformal coverage of a run."""
    val, test = run.outputs("val"), run.outputs("test")
    temperature = fit_temperature(*val)
    before, after = scores(*test), scores(test.output / temperature, test.y)
    section = Section("", "")
    add_conformal_sets(section, val, test, run.seed)
    return {
        "accuracy": before["accuracy"],
        "ECE": before["ECE"],
        "ECE after temperature": after["ECE"],
        "temperature": temperature,
        "coverage": section.metrics["conformal coverage"],
        "set size": section.metrics["mean size of conformal sets"],
    }


def attack(run: Run, epochs: int) -> list[float]:
    """Return the accuracy of the test nodes at each budget, a share of the undirected edges."""
    assert isinstance(run.task, Classification)
    graph = next(iter(run.batches("test")))
    graph.x = graph.x.to_dense()
    model = EdgeWeights(run.task.eval(), graph)
    edges = int((graph.edge_index[0] <= graph.edge_index[1]).sum())
    test = graph.test_mask
    accuracies = []
    for budget in BUDGETS:
        changed = graph.edge_index
        if budget:
            changed = prbcd(
                model, graph.x, changed, graph.y, budget=round(budget * edges), nodes=test,
                epochs=epochs, seed=run.seed,
            )  # fmt: skip
        with torch.no_grad():
            logits = model(with_edges(graph, changed).x, changed)
        accuracies.append(float((logits.argmax(1) == graph.y)[test].double().mean()))
    return accuracies


def main() -> None:
    """Train, measure and write a JSON file after each run."""
    arguments = _parse()
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / f"cora_{arguments.what}.json"
    rows: list[Row] = json.loads(file.read_text())["runs"] if file.is_file() else []
    done = {(row["model"], row["split"]) for row in rows}
    models = ATTACKED if arguments.what == "attack" else {name: [name] for name in CALIBRATED}
    models = {k: v for k, v in models.items() if k in (arguments.models or models)}
    for split in range(arguments.splits):
        for name, options in models.items():
            if (name, split) in done:
                continue
            begin = time.perf_counter()
            run = trained(arguments.runs, options, split)
            row: Row = {"model": name, "split": split}
            if arguments.what == "attack":
                accuracies = attack(run, arguments.epochs)
                row |= {f"{b:g}": a for b, a in zip(BUDGETS, accuracies, strict=True)}
            else:
                row |= calibration(run)
            rows.append(row)
            print(row, f"{time.perf_counter() - begin:.0f} s", flush=True)
            file.write_text(json.dumps({"summary": summary(rows), "runs": rows}, indent=1) + "\n")
    if arguments.what == "attack":
        draw(rows, file.with_suffix(".png"))


def summary(rows: Sequence[Row]) -> dict[str, dict[str, list[float]]]:
    """Return model -> figure -> mean and sample deviation over splits."""
    models = dict.fromkeys(str(row["model"]) for row in rows)
    return {
        model: {
            key: [statistics.fmean(v), statistics.stdev(v) if len(v) > 1 else 0.0]
            for key in rows[0]
            if key not in ("model", "split")
            for v in [[float(row[key]) for row in rows if row["model"] == model]]
        }
        for model in models
    }


def draw(rows: Sequence[Row], file: Path) -> None:
    """Plot accuracy over budget: the mean of the splits, and their range."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [[float(row[f"{b:g}"]) for b in BUDGETS] for row in rows if row["model"] == model]
        columns = list(zip(*own, strict=True))
        axes.plot(BUDGETS, list(map(statistics.fmean, columns)), marker="o", label=model)
        axes.fill_between(BUDGETS, list(map(min, columns)), list(map(max, columns)), alpha=0.15)
    axes.set_xlabel("share of edges that PRBCD flips")
    axes.set_ylabel("accuracy of test nodes")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(file, dpi=130)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("calibration", "attack"))
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--models", nargs="*", help="names of some models; all by default")
    parser.add_argument("--epochs", type=int, default=40, help="steps of the attack")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of trained models")
    parser.add_argument("--out", type=Path, default=FOLDER / "results" / "trust")
    return parser.parse_args()


if __name__ == "__main__":
    main()
