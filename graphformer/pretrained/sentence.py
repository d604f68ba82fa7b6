"""Sentence encoders: what a folder of `sentence-transformers` says beside the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from graphformer.models import Model
from graphformer.nn import Pooling
from graphformer.nn.head import Pool
from graphformer.pretrained.checkpoint_io import read_json

POOLS: dict[str, Pool] = {"cls": "cls", "mean": "mean", "max": "max", "lasttoken": "last"}
FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""The names of pooling modes in folders written before there was one setting for them."""


def sentence_head(model: Model, folder: Path) -> None:
    """Give a model the pooling that modules.json names, its longest text and its prompt.

    Raises ValueError for modules and options that are not known.
    """
    pool: Pool | None = None
    normalize = False
    for module in read_json(folder / "modules.json"):
        name, path = str(module.get("type")).rpartition(".")[2], folder / module.get("path", "")
        if name == "Pooling":
            pool = _pool(path / "config.json")
        elif name == "Normalize":
            normalize = True
        elif name != "Transformer":
            raise ValueError(
                f"{folder / 'modules.json'} has a module {name}, but the known ones are "
                "Transformer, Pooling and Normalize."
            )
    if pool is None:
        raise ValueError(f"{folder / 'modules.json'} has no Pooling.")
    model.head = Pooling(pool, normalize=normalize)
    if (folder / "sentence_bert_config.json").is_file():
        settings = read_json(folder / "sentence_bert_config.json")
        if settings.get("do_lower_case"):
            raise ValueError(
                f"{folder / 'sentence_bert_config.json'} has 'do_lower_case', which this library "
                "does not do: write it into the tokenizer's normaliser."
            )
        if model.tokenizer is not None and settings.get("max_seq_length"):
            model.tokenizer.max_length = settings["max_seq_length"]
    if (folder / "config_sentence_transformers.json").is_file():
        settings = read_json(folder / "config_sentence_transformers.json")
        model.prompt = (settings.get("prompts") or {}).get(settings.get("default_prompt_name"), "")


def sentence_files(head: Pooling, dim: int) -> dict[str, str]:
    """The files by which `sentence-transformers` opens a folder as a sentence encoder."""
    names = ["Transformer", "Pooling", *(["Normalize"] if head.normalize else [])]
    modules = [
        {
            "idx": number,
            "name": str(number),
            "path": "" if number == 0 else f"{number}_{name}",
            "type": f"sentence_transformers.models.{name}",
        }
        for number, name in enumerate(names)
    ]
    flags = {flag: POOLS.get(mode) == head.pool for flag, mode in FLAGS.items()}
    pooling: dict[str, Any] = {"word_embedding_dimension": dim, **flags}
    return {
        "modules.json": json.dumps(modules, indent=2),
        "1_Pooling/config.json": json.dumps(pooling, indent=2),
    }


def _pool(file: Path) -> Pool:
    settings = read_json(file)
    modes = settings.get("pooling_mode") or [
        mode for flag, mode in FLAGS.items() if settings.get(flag)
    ]
    modes = [modes] if isinstance(modes, str) else modes or ["mean"]
    if len(modes) != 1 or modes[0] not in POOLS:
        raise ValueError(
            f"{file} pools by {' and '.join(map(str, modes))}, but one of {', '.join(POOLS)} is "
            "known."
        )
    return POOLS[modes[0]]
