"""What a task asks of the data's vocabulary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import lightning.pytorch as pl

    from graphformer.data import Tokenizer


def need_tokenizer(task: pl.LightningModule) -> Tokenizer:
    """The tokenizer of the data that the task is run on.

    Raises:
        ValueError: the data has none.
    """
    data: Any = getattr(task.trainer, "datamodule", None)
    tokenizer: Tokenizer | None = getattr(data, "tokenizer", None)
    if tokenizer is None:
        raise ValueError(
            f"{type(task).__name__} needs data with a tokenizer, which {type(data).__name__} is "
            "not: choose TextFile, TextRecords, LabelledText or TextPairs."
        )
    return tokenizer
