"""Chain sums: instruction tuning on mixed answers, then policy optimisation by exact answers.

    pip install reasoning-gym
    python experiments/chain_sums.py --work FOLDER --out experiments/results/post_training

Sums of seven terms of one digit from the package reasoning-gym, none of them twice: 500 to test,
6,000 with the right number only, and 12,000 with answers to imitate. Of these 60 % are the number
at once ("5-3+6" is followed by "=+08"), 40 % are the running sums (":+02,+08"). Both kinds end with
the right number, but a model of this size is rarely right at once. Imitation keeps the shares of
the two kinds, so that its accuracy stops improving; that is the start to improve on. Numbers in
answers have a sign and two digits, so that each stands at a position of its own.

For each seed: instruction tuning until the validation loss has stopped improving
(chain_sums_sft.yaml); from its best checkpoint policy optimisation on the 6,000
(chain_sums_policy.yaml), and for comparison as many further steps of instruction tuning, on the
same answers to imitate and on the numbers of the 6,000. Measured on the sums to test: the share of
right last numbers of greedy answers and of answers drawn at temperature 1, and the share of greedy
answers that have running sums.

A stage that has ended is in FOLDER and is not repeated when the command is given again.
"""

from __future__ import annotations

import argparse
import itertools
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
DIRECT = 0.6  # share of the answers to imitate that are the number alone
FURTHER = ["--model.lr", "3e-4", "--model.schedule", "constant", "--model.warmup_steps", "0",
           "--trainer.callbacks", "[]", "--trainer.val_check_interval", "50"]  # fmt: skip
FIGURES = ("greedy", "sampled", "worked")
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
    answers = {item["metadata"]["expression"].replace(" ", ""): item["answer"] for item in found}
    sums = [(text, f"{int(answer):+03}") for text, answer in answers.items()]
    test, prompts, imitated = sums[:TEST], sums[TEST:][:PROMPTS], sums[TEST + PROMPTS :][:IMITATED]
    is_direct = random.Random(0).choices([True, False], [DIRECT, 1 - DIRECT], k=len(imitated))
    mixed = [
        (text, f"={number}" if direct else running_sums(text))
        for (text, number), direct in zip(imitated, is_direct, strict=True)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for name, field, rows in (
        ("mixed", "completion", mixed),
        ("numbers", "completion", [(text, f"={number}") for text, number in prompts]),
        ("prompts", "answer", prompts),
        ("test", "answer", test),
    ):
        lines = [json.dumps({"prompt": text, field: answer}) for text, answer in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


def running_sums(text: str) -> str:
    """What follows "5-3+6" in a worked answer: ":+02,+08"."""
    terms = map(int, re.findall(r"[+-]?\d+", text))
    return ":" + ",".join(f"{total:+03}" for total in list(itertools.accumulate(terms))[1:])


def measure(checkpoint: Path, data: Path) -> Row:
    """The shares of right answers, greedy and sampled, and of greedy ones with running sums."""
    task = restore_task(checkpoint)
    module = PromptFile(str(data / "test.jsonl"), str(data / "test.jsonl"), reference="answer",
                        vocabulary="characters", template="plain", batch_size=TEST)  # fmt: skip
    module.tokenizer = restore_text_tokenizer(checkpoint)
    module.setup()
    (batch,) = module.val_dataloader()
    greedy, sampled = (
        sample_completions(
            task.network, task.adjacency, module.need_tokenizer(), batch,
            group_size=1, max_new_tokens=32, temperature=temperature, seed=(0,),
        )
        for temperature in (0.0, 1.0)
    )  # fmt: skip
    reward = ExactAnswer(r"[+-]\d\d")
    return {
        "greedy": statistics.fmean(reward(greedy)),
        "sampled": statistics.fmean(reward(sampled)),
        "worked": statistics.fmean(c.answer.startswith(":") for c in greedy),
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
    parser.add_argument("--steps", type=int, default=150, help="after instruction tuning")
    parser.add_argument("--sft-steps", type=int, default=3000, help="of instruction tuning")
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
