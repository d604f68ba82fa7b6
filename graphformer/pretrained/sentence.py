"""Sentence encoders: the files of `sentence-transformers` in a folder, read and written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from graphformer.data.text.hf_tokenizer import PretrainedTokenizer
from graphformer.models import Model
from graphformer.nn import Pooling
from graphformer.nn.head import Pool
from graphformer.pretrained.checkpoint_io import read_json

POOLS: dict[str, Pool] = {"cls": "cls", "mean": "mean", "max": "max", "lasttoken": "last"}
"""Our names of the pooling modes."""
POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""The flags of pooling modes, from before there was the setting `pooling_mode`."""


def add_sentence_head(model: Model, folder: Path) -> None:
    """Set a model's pooling head, maximal length and prompt as in a folder.

    Args:
        model: its head is replaced.
        folder: with modules.json.

    Raises:
        ValueError: when a module or setting is not supported.
    """
    file = folder / "modules.json"
    pool: Pool | None = None
    normalize = False
    for module in read_json(file):
        name, path = str(module.get("type")).rpartition(".")[2], folder / module.get("path", "")
        if name == "Pooling":
            pool = _read_pooling(path / "config.json")
            model.include_prompt = read_json(path / "config.json").get("include_prompt", True)
        elif name == "Normalize":
            normalize = True
        elif name != "Transformer":
            raise ValueError(
                f"{file}: got the module {name}, expected Transformer, Pooling and Normalize; "
                "others are not supported"
            )
    if pool is None:
        raise ValueError(f"{file}: got no Pooling, expected one")
    model.head = Pooling(pool, normalize=normalize)
    settings = _read_optional(folder / "sentence_bert_config.json")
    if settings.get("do_lower_case"):
        raise ValueError(
            f"{folder / 'sentence_bert_config.json'}: got 'do_lower_case', which is not supported; "
            "set it in the normalizer of tokenizer.json"
        )
    limit = settings.get("max_seq_length")
    if limit and isinstance(model.tokenizer, PretrainedTokenizer):
        model.tokenizer.max_length = limit
    settings = _read_optional(folder / "config_sentence_transformers.json")
    model.prompt = _default_prompt(settings)


def sentence_files(model: Model, head: Pooling, dim: int) -> dict[str, str]:
    """Return the files that make a folder a sentence encoder, by name.

    Those that the model was loaded with are kept if they are in accord with it.

    Args:
        model: with a prompt, a maximal length, and the files it was loaded with.
        head: pooling and normalization.
        dim: width C.
    """
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
    flags = {flag: POOLS.get(mode) == head.pool for flag, mode in POOLING_FLAGS.items()}
    pooling: dict[str, Any] = {"word_embedding_dimension": dim, **flags}
    if not model.include_prompt:
        pooling["include_prompt"] = False
    new = {"modules.json": modules, "1_Pooling/config.json": pooling}
    files = {name: json.dumps(content, indent=2) for name, content in new.items()}
    files |= {name: text for name, text in model.extra_files.items() if name in files}
    limit = getattr(model.tokenizer, "max_length", None)
    name = "sentence_bert_config.json"
    settings = json.loads(model.extra_files.get(name, "{}"))
    if limit and settings.get("max_seq_length") != limit:
        files[name] = json.dumps(settings | {"max_seq_length": limit}, indent=2)
    name = "config_sentence_transformers.json"
    settings = json.loads(model.extra_files.get(name, "{}"))
    if _default_prompt(settings) != model.prompt:
        prompts = {**(settings.get("prompts") or {}), "default": model.prompt}
        settings |= {"prompts": prompts, "default_prompt_name": "default"}
        files[name] = json.dumps(settings, indent=2)
    return files


def _default_prompt(settings: dict[str, Any]) -> str:
    """Return the prompt of config_sentence_transformers.json that precedes texts by default."""
    prompt: str = (settings.get("prompts") or {}).get(settings.get("default_prompt_name"), "")
    return prompt


def _read_optional(file: Path) -> dict[str, Any]:
    return read_json(file) if file.is_file() else {}


def _read_pooling(file: Path) -> Pool:
    settings = read_json(file)
    modes = settings.get("pooling_mode") or [
        mode for flag, mode in POOLING_FLAGS.items() if settings.get(flag)
    ]
    modes = [modes] if isinstance(modes, str) else modes or ["mean"]
    if len(modes) != 1 or modes[0] not in POOLS:
        raise ValueError(
            f"{file}: got pooling by {' and '.join(map(str, modes))}, expected one of "
            f"{', '.join(POOLS)}"
        )
    return POOLS[modes[0]]
