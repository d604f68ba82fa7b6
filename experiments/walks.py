"""Post-training of a language model of random walks by all methods: a table and a plot.

    python experiments/walks.py --seeds 0 1 2 --out experiments/results/post_training

For the triangle and a window, and for each seed: the language model of walks
(walks_lm.yaml), from its checkpoint instruction tuning on the best walks (walks_sft.yaml), direct
preference optimisation (walks_dpo.yaml), and four policy methods (walks_policy.yaml). Measured at
the end of each run, over all 20 start nodes: the optimality of greedy paths, that of 50 sampled
paths a node, and the KL divergence of these samples to the language model. Rates and weights of
the methods are chosen on another graph, by walks_settings.py.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from fitting import fit, mean_and_spread

from graphformer.cli.checkpoints import restore_task
from graphformer.data import RandomWalks
from graphformer.tasks import Task
from graphformer.tasks.post_training.reference import answer_log_probs
from graphformer.tasks.post_training.rollouts import pack_answers
from graphformer.tasks.post_training.sampling import sample_completions
from graphformer.tasks.post_training.walk_reward import PathOptimality

ADJACENCIES = {
    "triangle": [],
    "window": ["--adjacency", "Window", "--adjacency.radius", "2", "--adjacency.causal", "true"],
}
METHODS = {
    "SFT on the best": ["walks_sft.yaml"],
    "DPO": ["walks_dpo.yaml"],
    "REINFORCE": ["walks_policy.yaml", "--model.method", "reinforce"],
    "RLOO": ["walks_policy.yaml", "--model.method", "rloo"],
    "GRPO": ["walks_policy.yaml", "--model.method", "grpo"],
    "PPO": ["walks_policy.yaml", "--model.method", "ppo", "--model.epochs", "4",
            "--model.value_weight", "0.5", "--model.lr", "3e-4"],
}  # fmt: skip
Row = dict[str, Any]


def train(runs: Path, arguments: list[str], seed: int, graph: int) -> tuple[Task, Path, float]:
    """The task after `graphformer fit`, its checkpoint and the seconds of processor time."""
    experiment, *flags = arguments
    flags += ["--data.graph_seed", str(graph)]
    if experiment == "walks_policy.yaml":
        flags += ["--model.seed", str(seed), "--model.reward.init_args.seed", str(graph)]
    folder, seconds = fit(experiment, flags, seed, runs)
    return restore_task(folder / "last.ckpt"), folder / "last.ckpt", seconds


@torch.no_grad()
def measure(task: Task, start: Task, graph: int) -> Row:
    """Greedy and sampled optimality, and the KL divergence to the language model in nats."""
    data, reward = RandomWalks("prompts", graph_seed=graph), PathOptimality(seed=graph)
    data.setup()
    (batch,) = data.val_dataloader()

    def complete(group_size: int, temperature: float) -> Any:
        return sample_completions(
            task.network, task.adjacency, data.need_tokenizer(), batch,
            group_size=group_size, max_new_tokens=10, temperature=temperature, seed=(1,),
        )  # fmt: skip

    samples = complete(50, 1.0)
    packed = pack_answers([c.ids for c in samples], [c.prompt_length for c in samples])
    new, old = (answer_log_probs(t.network, packed, t.adjacency) for t in (task, start))
    return {
        "greedy": statistics.fmean(reward(complete(1, 0.0))),
        "sampled": statistics.fmean(reward(samples)),
        "kl": float((new - old).sum()) / len(samples),
    }


def run(adjacency: str, seed: int, graph: int, runs: Path) -> list[Row]:
    """All methods from one language model."""
    flags = ADJACENCIES[adjacency]
    start, checkpoint, seconds = train(runs, ["walks_lm.yaml", *flags], seed, graph)
    rows = [{"method": "language model", "seconds": seconds, **measure(start, start, graph)}]
    for method, (experiment, *options) in METHODS.items():
        pretrained = ["--model.pretrained", str(checkpoint)]
        task, _, seconds = train(runs, [experiment, *options, *pretrained, *flags], seed, graph)
        rows.append({"method": method, "seconds": seconds, **measure(task, start, graph)})
        print({"adjacency": adjacency, "seed": seed, **rows[-1]}, flush=True)
    return [{"adjacency": adjacency, "seed": seed, **row} for row in rows]


def table(rows: list[Row]) -> str:
    """Markdown: means over seeds, with standard deviations of several."""
    lines = ["| method | adjacency | greedy | sampled | KL, nats a walk | seconds |",
             "| --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for method in ("language model", *METHODS):
        for adjacency in ADJACENCIES:
            chosen = [r for r in rows if (r["method"], r["adjacency"]) == (method, adjacency)]
            cells = [
                mean_and_spread([row[name] for row in chosen])
                for name in ("greedy", "sampled", "kl")
            ]
            seconds = statistics.fmean(row["seconds"] for row in chosen)
            lines.append(f"| {method} | {adjacency} | {' | '.join(cells)} | {seconds:.0f} |")
    return "\n".join(lines)


def draw(rows: list[Row], path: Path) -> None:
    """Sampled optimality against the KL divergence, one point a run."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    colors = dict(zip(("language model", *METHODS), plt.get_cmap("tab10").colors, strict=False))
    for marker, adjacency in zip("os", ADJACENCIES, strict=True):
        for method, color in colors.items():
            chosen = [r for r in rows if (r["method"], r["adjacency"]) == (method, adjacency)]
            axis.plot(
                [row["kl"] for row in chosen],
                [row["sampled"] for row in chosen],
                marker,
                color=color,
                alpha=0.7,
                label=f"{method}, {adjacency}",
            )
    axis.set(xlabel="KL to the language model, nats a walk", ylabel="optimality of sampled walks")
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_ylim(top=1.01)
    axis.legend(frameon=False, fontsize=7, ncols=2, loc="lower right")
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--graph-seed", type=int, default=1002, help="of graph and walks")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in arguments.seeds:
            for adjacency in ADJACENCIES:
                rows += run(
                    adjacency, seed, arguments.graph_seed, Path(folder) / f"{adjacency}_{seed}"
                )
                if arguments.out is not None:
                    arguments.out.mkdir(parents=True, exist_ok=True)
                    (arguments.out / "walks.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))
    if arguments.out is not None:
        draw(rows, arguments.out / "walks.png")


if __name__ == "__main__":
    main()
