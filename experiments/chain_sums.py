"""Chain sums: instruction tuning on answers with a mistake, then policy optimisation by reward.

    pip install reasoning-gym
    python experiments/chain_sums.py --work FOLDER --out experiments/results/post_training

Sums of seven terms of one digit from the package reasoning-gym, none of them twice: 500 to test,
6,000 with the right number, and 12,000 with answers to imitate, as of a careful and a careless
writer: 45 % are right, 55 % leave the last term out. Imitation learns both, so that its accuracy
stops improving below that of the careful writer; that is the start to improve on. A number in an
answer has a sign and two digits: "5-3+6=" is followed by "+08" or "+02".

For each seed: instruction tuning until the validation loss has stopped improving
(chain_sums_sft.yaml); from its best checkpoint policy optimisation on the 6,000, whose numbers only
the reward sees (chain_sums_policy.yaml); and for comparison as many further steps of instruction
tuning, on the same answers to imitate, and on the right numbers of the 6,000, which policy
optimisation never imitates. Measured on the sums to test: the shares of right numbers and of those
without the last term among greedy answers, and of right ones among answers drawn at temperature 1.

A stage that has ended is in FOLDER and is not repeated when the command is given again.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
from pathlib import Path
from typing import Any

from fitting import fit, mean_and_spread

from graphformer.cli.checkpoints import restore_task, restore_text_tokenizer
from graphformer.data import PromptFile
from graphformer.tasks.post_training.rewards import ExactAnswer
from graphformer.tasks.post_training.sampling import sample_completions

TEST, PROMPTS, IMITATED = 500, 6000, 12000
TERMS = 7
CARELESS = 0.55  # share of the answers to imitate that leave the last term out
FURTHER = ["--model.lr", "3e-4", "--model.schedule", "constant", "--model.warmup_steps", "0",
           "--trainer.callbacks", "[]", "--trainer.val_check_interval", "50"]  # fmt: skip
FIGURES = ("greedy", "careless", "sampled")
Row = dict[str, Any]


def write_data(folder: Path) -> None:
    """Write mixed.jsonl, numbers.jsonl, prompts.jsonl and test.jsonl, unless they are there."""
    if (folder / "test.jsonl").exists():
        return
    try:
        import reasoning_gym
    except ModuleNotFoundError as error:
        raise SystemExit(f"{error}; install it with pip install reasoning-gym") from None
    found = reasoning_gym.create_dataset(
        "chain_sum", size=20000, seed=0, min_terms=TERMS, max_terms=TERMS, min_digits=1,
        max_digits=1,
    )  # fmt: skip
    texts = dict.fromkeys(item["metadata"]["expression"].replace(" ", "") for item in found)
    sums = [(text, total(text)) for text in texts]
    test, prompts, imitated = sums[:TEST], sums[TEST:][:PROMPTS], sums[TEST + PROMPTS :][:IMITATED]
    careless = random.Random(0).choices([True, False], [CARELESS, 1 - CARELESS], k=len(imitated))
    mixed = [
        (text, total(text[:-2]) if is_careless else number)
        for (text, number), is_careless in zip(imitated, careless, strict=True)
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


def total(text: str) -> str:
    """The sum of "5-3+6": "+08"."""
    return f"{sum(map(int, re.findall(r'[+-]?[0-9]', text))):+03}"


def measure(checkpoint: Path, data: Path) -> Row:
    """The shares of right answers, greedy and sampled, and of greedy ones less the last term."""
    task = restore_task(checkpoint)
    module = PromptFile(str(data / "test.jsonl"), str(data / "test.jsonl"), reference="answer",
                        vocabulary="characters", template="plain", batch_size=TEST)  # fmt: skip
    module.tokenizer = restore_text_tokenizer(checkpoint)
    module.setup()
    (batch,) = module.val_dataloader()
    greedy, sampled = (
        sample_completions(
            task.network, task.adjacency, module.need_tokenizer(), batch,
            group_size=1, max_new_tokens=6, temperature=temperature, seed=(0,),
        )
        for temperature in (0.0, 1.0)
    )  # fmt: skip
    wrong = [c._replace(reference=total(c.prompt[:-3])) for c in greedy]  # less "+6="
    right_greedy, right_sampled, careless = map(ExactAnswer(), (greedy, sampled, wrong))
    return {
        "greedy": statistics.fmean(right_greedy),
        "careless": statistics.fmean(careless),
        "sampled": statistics.fmean(right_sampled),
    }


def run_stage(name: str, experiment: str, flags: list[str], seed: int, work: Path) -> Path:
    """Train and measure, unless that is done; the folder of the checkpoints."""
    folder = work / str(seed) / name.replace(", ", "-").replace(" ", "_")
    done = folder / "done.json"
    if not done.exists():
        print(f"seed {seed}, {name}: begins", flush=True)
        checkpoints, seconds = fit(experiment, flags, seed, folder)
        kind = "best" if name == "SFT" else "last"
        row = {"seed": seed, "run": name, "seconds": seconds}
        row |= measure(checkpoints / f"{kind}.ckpt", work / "data")
        done.write_text(json.dumps({**row, "folder": str(checkpoints.relative_to(folder))}))
    row = json.loads(done.read_text())
    print(f"seed {seed}, {name}: " + ", ".join(f"{k} {row[k]:.3f}" for k in FIGURES), flush=True)
    return folder / row["folder"]


def run_seed(seed: int, steps: int, sft_steps: int, work: Path) -> None:
    """All stages of a seed."""
    data = work / "data"
    first = ["--data.path", str(data / "mixed.jsonl"), "--trainer.max_steps", str(sft_steps)]
    start = run_stage("SFT", "chain_sums_sft.yaml", first, seed, work)
    for name, experiment, file, *flags in (
        ("GRPO", "chain_sums_policy.yaml", "prompts", "--model.seed", str(seed)),
        ("further SFT, same answers", "chain_sums_sft.yaml", "mixed", *FURTHER),
        ("further SFT, numbers", "chain_sums_sft.yaml", "numbers", *FURTHER),
    ):
        flags += ["--data.path", str(data / f"{file}.jsonl"), "--trainer.max_steps", str(steps)]
        flags += ["--model.pretrained", str(start / "best.ckpt")]
        flags += ["--data.vocabulary", str(start.parent)]
        run_stage(name, experiment, flags, seed, work)


def read_rows(work: Path) -> list[Row]:
    """The figures of all stages that have ended, by seed."""
    rows = [json.loads(path.read_text()) for path in work.glob("*/*/done.json")]
    order = ("SFT", "GRPO", "further SFT, same answers", "further SFT, numbers")
    rows.sort(key=lambda row: (row["seed"], order.index(row["run"])))
    return [{key: value for key, value in row.items() if key != "folder"} for row in rows]


def table(rows: list[Row]) -> str:
    """Markdown: means and standard deviations over seeds."""
    lines = [f"| run | {' | '.join(FIGURES)} | seconds |", "| --- |" + " --- |" * 4]
    for name in dict.fromkeys(row["run"] for row in rows):
        chosen = [row for row in rows if row["run"] == name]
        shares = [mean_and_spread([row[key] for row in chosen]) for key in FIGURES]
        seconds = statistics.fmean(row["seconds"] for row in chosen)
        lines.append(f"| {name} | {' | '.join(shares)} | {seconds:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=400, help="after instruction tuning")
    parser.add_argument("--sft-steps", type=int, default=8000, help="of instruction tuning")
    parser.add_argument("--work", type=Path, help="folder of data, runs and stages that have ended")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--data", type=Path, help="write the data into this folder only")
    arguments = parser.parse_args()
    if arguments.data is not None:
        write_data(arguments.data)
        return
    if arguments.work is None:
        parser.error("--work: expected a folder")
    write_data(arguments.work / "data")
    for seed in arguments.seeds:
        run_seed(seed, arguments.steps, arguments.sft_steps, arguments.work)
        if arguments.out is not None:
            arguments.out.mkdir(parents=True, exist_ok=True)
            text = json.dumps(read_rows(arguments.work), indent=1)
            (arguments.out / "chain_sums.json").write_text(text + "\n")
    print(table(read_rows(arguments.work)))


if __name__ == "__main__":
    main()
