"""Chain sums: instruction tuning on mixed answers, then policy optimisation by exact answers.

    pip install reasoning-gym
    python experiments/chain_sums.py --out experiments/results/post_training

Sums of four or five terms of one digit from the package reasoning-gym, none of them twice: 500 to
test, 6,000 with the right number only, and 12,000 with answers to imitate. Of these 60 % are the
number at once ("5-3+6=8"), 40 % write out the running sums ("5-3+6=2+6=8"). For each seed:
instruction tuning with a cosine schedule of 3,000 steps, which ends earlier if the validation loss
has not improved for five checks (chain_sums_sft.yaml); from its best checkpoint policy optimisation
on the 6,000 (chain_sums_policy.yaml), and for comparison as many further steps of instruction
tuning, on the same answers to imitate and on the numbers of the 6,000. Measured on the sums to
test: the share of greedy answers that end with the right number, and of those that write out
running sums.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import tempfile
from pathlib import Path
from typing import Any

from fitting import fit, mean_and_spread

from graphformer.cli.checkpoints import restore_task, restore_text_tokenizer
from graphformer.data import PromptFile
from graphformer.tasks.post_training.rewards import ExactAnswer
from graphformer.tasks.post_training.sampling import sample_completions

TEST, PROMPTS, IMITATED = 500, 6000, 12000
DIRECT = 0.6  # share of the answers to imitate that are the number alone
FURTHER = ["--model.lr", "3e-4", "--model.schedule", "constant", "--model.warmup_steps", "0",
           "--trainer.callbacks", "[]", "--trainer.val_check_interval", "50"]  # fmt: skip
Row = dict[str, Any]


def write_data(folder: Path) -> None:
    """Write mixed.jsonl, numbers.jsonl, prompts.jsonl and test.jsonl."""
    try:
        import reasoning_gym
    except ModuleNotFoundError as error:
        raise SystemExit(f"{error}; install it with pip install reasoning-gym") from None
    found = reasoning_gym.create_dataset(
        "chain_sum", size=20000, seed=0, min_terms=4, max_terms=5, min_digits=1, max_digits=1
    )
    answers = {item["metadata"]["expression"].replace(" ", ""): item["answer"] for item in found}
    sums = list(answers.items())
    test, prompts, imitated = sums[:TEST], sums[TEST:][:PROMPTS], sums[TEST + PROMPTS :][:IMITATED]
    is_direct = random.Random(0).choices([True, False], [DIRECT, 1 - DIRECT], k=len(imitated))
    mixed = [
        (text, number if direct else running_sums(text))
        for (text, number), direct in zip(imitated, is_direct, strict=True)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for name, field, rows in (
        ("mixed", "completion", mixed),
        ("numbers", "completion", prompts),
        ("prompts", "answer", prompts),
        ("test", "answer", test),
    ):
        lines = [json.dumps({"prompt": text + "=", field: answer}) for text, answer in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


def running_sums(text: str) -> str:
    """What follows "5-3+6=": "2+6=8"."""
    first, *others = re.findall(r"[+-]?\d+", text)
    total, steps = int(first), []
    for i, term in enumerate(others, 1):
        total += int(term)
        steps.append(f"{total}{''.join(others[i:])}")
    return "=".join(steps)


def measure(checkpoint: Path, data: Path) -> Row:
    """The shares of greedy answers that are right, and that write out running sums."""
    task = restore_task(checkpoint)
    module = PromptFile(str(data / "test.jsonl"), str(data / "test.jsonl"), reference="answer",
                        vocabulary="characters", template="plain", batch_size=TEST)  # fmt: skip
    module.tokenizer = restore_text_tokenizer(checkpoint)
    module.setup()
    (batch,) = module.val_dataloader()
    completions = sample_completions(
        task.network, task.adjacency, module.need_tokenizer(), batch,
        group_size=1, max_new_tokens=32, temperature=0.0, seed=(0,),
    )  # fmt: skip
    return {
        "accuracy": statistics.fmean(ExactAnswer(r"-?\d+")(completions)),
        "worked": statistics.fmean("=" in c.answer for c in completions),
    }


def run(seed: int, steps: int, data: Path, runs: Path) -> list[Row]:
    """All runs of a seed."""
    rows: list[Row] = []

    def add(name: str, experiment: str, file: str, *flags: str) -> Path:
        flags = ("--data.path", str(data / f"{file}.jsonl"), *flags)
        folder, seconds = fit(experiment, flags, seed, runs)
        for kind in ("best", "last"):
            if (path := folder / f"{kind}.ckpt").exists():
                row = {"seed": seed, "run": name, "checkpoint": kind, "seconds": seconds}
                rows.append({**row, **measure(path, data)})
                print(rows[-1], flush=True)
        return folder

    start = add("SFT", "chain_sums_sft.yaml", "mixed") / "best.ckpt"
    more = ["--model.pretrained", str(start), "--trainer.max_steps", str(steps)]
    add("GRPO", "chain_sums_policy.yaml", "prompts", *more, "--model.seed", str(seed))
    add("further SFT, same answers", "chain_sums_sft.yaml", "mixed", *more, *FURTHER)
    add("further SFT, numbers", "chain_sums_sft.yaml", "numbers", *more, *FURTHER)
    return rows


def table(rows: list[Row]) -> str:
    """Markdown: means and standard deviations over seeds."""
    lines = ["| run | checkpoint | accuracy | worked | seconds |", "| --- |" + " --- |" * 4]
    for name, kind in dict.fromkeys((row["run"], row["checkpoint"]) for row in rows):
        chosen = [row for row in rows if (row["run"], row["checkpoint"]) == (name, kind)]
        shares = [mean_and_spread([row[k] for row in chosen]) for k in ("accuracy", "worked")]
        seconds = statistics.fmean(row["seconds"] for row in chosen)
        lines.append(f"| {name} | {kind} | {' | '.join(shares)} | {seconds:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=150, help="after instruction tuning")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--data", type=Path, help="write the data into this folder only")
    arguments = parser.parse_args()
    if arguments.data is not None:
        write_data(arguments.data)
        return
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder) / "data")
        for seed in arguments.seeds:
            runs = Path(folder) / str(seed)
            rows += run(seed, arguments.steps, Path(folder) / "data", runs)
            if arguments.out is not None:
                arguments.out.mkdir(parents=True, exist_ok=True)
                path = arguments.out / "chain_sums.json"
                path.write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
