"""Steps a second of SFT, DPO and GRPO beside TRL, on answers of mixed length, in turns.

    python experiments/trl_speed.py --rounds 5 --out experiments/results/post_training

Needs trl (extra `trl`). One small Llama with the same weights on both sides, float32, batches of 16
answers whose lengths are log-normal, AdamW. Both run their whole training loops: TRL its Trainer
with padded batches, graphformer Lightning's with packed ones. The first steps of each round are not
counted. The answers of GRPO are given to both, so that generation is not measured. --clock cpu
counts the seconds of the processor, for a busy machine.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import trl
from datasets.table import InMemoryTable
from pyarrow import Table
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    TrainerCallback,
)

import graphformer as gf
from datasets import Dataset
from graphformer.data import Bytes, pack_tokens
from graphformer.data.batch import Batch
from graphformer.tasks import DirectPreference, PolicyOptimization, SupervisedFineTuning
from graphformer.tasks.post_training.rewards import Completion

VOCAB, END = 4096, 1
BATCH, GROUP, STEPS, WARM_UP = 16, 4, 8, 3
LR = 1e-4
Rows = list[tuple[list[int], list[int]]]


def answers(batches: int, seed: int = 0) -> list[Rows]:
    """Batches of (prompt, answer); two answers in a row have the same prompt."""
    generator = np.random.default_rng(seed)

    def ids(length: float) -> list[int]:
        return generator.integers(2, VOCAB, int(np.clip(length, 4, 384))).tolist()

    found = []
    for _ in range(batches):
        prompts = [ids(generator.integers(8, 33)) for _ in range(BATCH // GROUP)]
        found.append([(prompts[i // GROUP], [*ids(generator.lognormal(3.7, 0.9)), END])
                      for i in range(BATCH)])  # fmt: skip
    return found


class OurClock(pl.Callback):
    """Times of the ends of the steps."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock, self.times = clock, []

    def on_train_batch_end(self, *args: Any) -> None:
        self.times.append(self.clock())


class TheirClock(TrainerCallback):
    """The same for TRL."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock, self.times = clock, []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.times.append(self.clock())


def packed(rows: Rows) -> Batch:
    batch = pack_tokens([prompt + answer for prompt, answer in rows])
    batch.y = torch.cat([F.pad(torch.tensor(a), (len(p) - 1, 1), value=-100) for p, a in rows])
    batch.margin = torch.zeros(len(rows) // 2)
    batch.length_difference = torch.zeros(len(rows) // 2, dtype=torch.long)
    return batch


class GivenAnswers(PolicyOptimization):
    """`PolicyOptimization` on answers of the batch instead of sampled ones."""

    def _complete(self, batch: Any, group_size: int, temperature: float) -> list[Completion]:
        return [Completion("", "", "", p + a, len(p), True) for p, a in batch.rows]


def reward(ids: list[int]) -> float:
    return float(sum(ids) % 7)


def our_step(method: str, model: Any, batches: list[Rows], clock: Callable[[], float]) -> float:
    """Seconds a step of our task."""
    network = gf.from_pretrained(model)
    data = [packed(rows) for rows in batches]
    task: Any
    if method == "SFT":
        task = SupervisedFineTuning(network, lr=LR)
    elif method == "DPO":
        task = DirectPreference(network, beta=0.1, lr=LR)
    else:
        task = GivenAnswers(
            network, method="grpo", group_size=GROUP, lr=LR,
            reward=lambda completions: [reward(c.ids[c.prompt_length :]) for c in completions],
        )  # fmt: skip
        for batch, rows in zip(data, batches, strict=True):
            batch.rows, batch.lengths = rows, tuple(len(p) for p, _ in rows[::GROUP])
    timer = OurClock(clock)
    loader = DataLoader(data, batch_size=None)  # type: ignore[arg-type]
    pl.Trainer(
        accelerator="cpu", max_steps=STEPS, max_epochs=-1, callbacks=[timer], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    ).fit(task, loader)  # fmt: skip
    return _seconds(timer.times)


def their_step(
    method: str, model: Any, batches: list[Rows], clock: Callable[[], float], folder: str
) -> float:
    """Seconds a step of TRL's trainer."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Bytes().backend, pad_token="\x00",
                                        eos_token="\x01")  # fmt: skip
    rows = [row for batch in batches for row in batch]
    settings: dict[str, Any] = {
        "output_dir": folder, "max_steps": STEPS, "per_device_train_batch_size": BATCH,
        "learning_rate": LR, "lr_scheduler_type": "constant", "max_grad_norm": 0.0,
        "bf16": False, "use_cpu": True, "gradient_checkpointing": False, "report_to": "none",
        "save_strategy": "no", "disable_tqdm": True, "logging_steps": 1000,
        "remove_unused_columns": False,
    }  # fmt: skip
    options: dict[str, Any] = {}
    if method == "SFT":
        kind, config = trl.SFTTrainer, trl.SFTConfig
        records = [{"input_ids": p + a, "labels": [-100] * len(p) + a} for p, a in rows]
    elif method == "DPO":
        kind, config = trl.DPOTrainer, trl.DPOConfig
        records = [{"prompt_ids": rows[i][0], "chosen_ids": rows[i][1],
                    "rejected_ids": rows[i + 1][1]} for i in range(0, len(rows), 2)]  # fmt: skip
        settings |= {"per_device_train_batch_size": BATCH // 2, "max_length": None}
        options["ref_model"] = copy.deepcopy(model)
    else:
        kind, config = trl.GRPOTrainer, trl.GRPOConfig
        records = [{"prompt": str(i)} for i in range(0, len(rows), GROUP)]
        settings |= {"num_generations": GROUP, "beta": 0.05, "max_completion_length": 400}

        def complete(prompts: list[str], trainer: Any) -> dict[str, Any]:
            chosen = [rows[int(text) + i % GROUP] for i, text in enumerate(prompts)]
            return {"prompt_ids": [p for p, _ in chosen], "completion_ids": [a for _, a in chosen],
                    "logprobs": None}  # fmt: skip

        def score(completion_ids: list[list[int]], **_: Any) -> list[float]:
            return [reward(ids) for ids in completion_ids]

        options |= {"rollout_func": complete, "reward_funcs": [score]}

    class Prepared(kind):  # type: ignore[misc, valid-type]
        """Takes token ids as they are."""

        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset

    timer = TheirClock(clock)
    table = InMemoryTable(Table.from_pylist(records))
    trainer = Prepared(
        model=model, args=config(**settings), processing_class=tokenizer, callbacks=[timer],
        train_dataset=Dataset(table, fingerprint=method), **options,
    )  # fmt: skip
    trainer.train()
    return _seconds(timer.times)


def _seconds(times: list[float]) -> float:
    return (times[-1] - times[WARM_UP - 1]) / (len(times) - WARM_UP)


def compare(rounds: int, clock: Callable[[], float]) -> list[dict[str, Any]]:
    """Medians over rounds, in which the two take turns."""
    batches = answers(STEPS)
    sizes = [len(p) + len(a) for rows in batches for p, a in rows]
    full = sum(BATCH * max(len(p) + len(a) for p, a in rows) for rows in batches)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=128, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=384, max_position_embeddings=512, pad_token_id=0, bos_token_id=0,
        eos_token_id=END,
    )  # fmt: skip
    results = []
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
        for method in ("SFT", "DPO", "GRPO"):
            pairs = []
            for _ in range(rounds):
                model = AutoModelForCausalLM.from_pretrained(folder)
                ours = our_step(method, model, batches, clock)
                pairs.append((ours, their_step(method, model, batches, clock, folder)))
            row = {
                "method": method,
                "ours": 1 / statistics.median(ours for ours, _ in pairs),
                "trl": 1 / statistics.median(theirs for _, theirs in pairs),
                "ratio": statistics.median(theirs / ours for ours, theirs in pairs),
                "ratios": [theirs / ours for ours, theirs in pairs],
                "padding": 1 - sum(sizes) / full,
            }
            results.append(row)
            print(row, flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    clock = time.process_time if arguments.clock == "cpu" else time.perf_counter
    results = compare(arguments.rounds, clock)
    if arguments.out is not None:
        content = {"clock": arguments.clock, "rounds": arguments.rounds, "trl": trl.__version__,
                   "threads": torch.get_num_threads(), "results": results}  # fmt: skip
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "trl_speed.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
