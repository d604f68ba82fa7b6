"""Training steps by TRL and by our tasks, of the same small Llama on the same token ids."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from helpers.chat import chat_folder
from helpers.tasks import Batches, trainer

from graphformer import from_pretrained
from graphformer.tasks import Task

VOCAB, PAD = 259, 258
STEPS = 6
OPTIMISER = {"lr": 3e-3, "weight_decay": 0.0}
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 28,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 37,
    "max_position_embeddings": 61,
    "attention_dropout": 0.0,
    "pad_token_id": PAD,
    "bos_token_id": 256,
    "eos_token_id": 258,
}


def random_ids(length: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(97, 123, (length,), generator=generator).tolist()  # letters


def llama(name: str = "LlamaForCausalLM", **sizes: Any) -> Any:
    """A model of `transformers` in float64 with weights far from zero."""
    import transformers

    torch.manual_seed(20)
    model = getattr(transformers, name)(transformers.LlamaConfig(**SIZES, **sizes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.double()


class Record(pl.Callback):
    """Keeps the loss of every step."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: Any, task: Any, outputs: Any, *args: Any) -> None:
        self.losses.append(float(outputs["loss"]))


def our_losses(task: Task, batch: Any, *, steps: int = STEPS) -> list[float]:
    """The losses of the first steps, all on one batch."""
    record = Record()
    data = batch if isinstance(batch, pl.LightningDataModule) else Batches([batch])
    options = {"max_epochs": -1, "max_steps": steps, "limit_val_batches": 0}
    trainer(callbacks=[record], **options).fit(task, data)
    return record.losses


def ours(model: Any) -> Any:
    """Our model with a copy of the weights."""
    return from_pretrained(model)


def recording(base: Any) -> Any:
    """A trainer of TRL that takes token ids as they are, and keeps the loss of every step."""

    class Recording(base):
        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset

        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().compute_loss(*args, **kwargs)
            self.__dict__.setdefault("losses", []).append(loss.item())
            return loss

    return Recording


def their_losses(
    trainer_class: Any,
    config_class: Any,
    model: Any,
    rows: Sequence[dict[str, Any]],
    folder: Path,
    *,
    steps: int = STEPS,
    trainer_options: dict[str, Any] | None = None,
    **options: Any,
) -> list[float]:
    """The losses of the first steps of a trainer of TRL, all on one batch of all rows."""
    import pyarrow
    import transformers

    import datasets

    tokenizer = transformers.AutoTokenizer.from_pretrained(chat_folder(folder / "tokenizer"))
    settings = {
        "output_dir": str(folder / "out"),
        "max_steps": steps,
        "per_device_train_batch_size": len(rows),
        "learning_rate": OPTIMISER["lr"],
        "weight_decay": OPTIMISER["weight_decay"],
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "bf16": False,
        "use_cpu": True,
        "gradient_checkpointing": False,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "logging_steps": 1000,
        "remove_unused_columns": False,
        **options,
    }
    table = datasets.table.InMemoryTable(pyarrow.Table.from_pylist(list(rows)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = recording(trainer_class)(
            model=model,
            args=config_class(**settings),
            train_dataset=datasets.Dataset(table, fingerprint="rows"),  # hashing it can fail
            processing_class=tokenizer,
            **(trainer_options or {}),
        )
        peer.train()
    return list(peer.losses)
