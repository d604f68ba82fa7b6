"""Settings of the methods of walks.py, chosen on a graph other than the reported one.

    python experiments/walks_settings.py --out experiments/results/post_training

For each method a grid of rates (for DPO also of beta), with one seed and the triangle, on the graph
of seed 2: it has 42 edges, the reported one 43, and from every node a path to the goal. The best
setting, which the YAML files have, is that with the highest optimality of sampled walks. Settings
in the file of results are not run again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from pathlib import Path

from walks import METHODS, Row, measure, train

from graphformer.cli.checkpoints import restore_task

GRAPH_SEED = 2
RATES = {"--model.lr": ["1e-4", "3e-4", "1e-3", "3e-3"]}
DPO = {"--model.lr": ["3e-6", "1e-5", "3e-5", "1e-4", "3e-4"], "--model.beta": ["0.1", "0.3", "1"]}
GRIDS = dict.fromkeys(METHODS, RATES) | {"DPO": DPO}


def settings_of(method: str) -> list[Row]:
    """All combinations of a grid."""
    grid = GRIDS[method]
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def run(method: str, settings: Row, checkpoint: Path, runs: Path) -> Row:
    """One method with one setting, from the checkpoint of the language model."""
    experiment, *options = METHODS[method]
    flags = [text for pair in settings.items() for text in pair]
    arguments = [experiment, *options, "--model.pretrained", str(checkpoint), *flags]
    task, _, seconds = train(runs, arguments, seed=0, graph=GRAPH_SEED)
    figures = measure(task, restore_task(checkpoint), GRAPH_SEED)
    return {"method": method, **settings, "seconds": seconds, **figures}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "walks_settings.json"
    rows: list[Row] = json.loads(path.read_text()) if path.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        _, checkpoint, _ = train(runs, ["walks_lm.yaml"], seed=0, graph=GRAPH_SEED)
        for method in METHODS:
            for settings in settings_of(method):
                if any(row.items() >= {"method": method, **settings}.items() for row in rows):
                    continue
                rows.append(run(method, settings, checkpoint, runs))
                path.write_text(json.dumps(rows, indent=1) + "\n")
    for method in METHODS:
        print(max((row for row in rows if row["method"] == method), key=lambda r: r["sampled"]))


if __name__ == "__main__":
    main()
