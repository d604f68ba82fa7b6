"""Sentence encoders: the files of `sentence-transformers` in a folder, read and written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from graphformer.data.text.hf_tokenizer import PretrainedTokenizer
from graphformer.models import Model
from graphformer.nn import Pooling
from graphformer.nn.head import Pool
from graphformer.pretrained.checkpoint_io import SafetensorsReader, read_json
from graphformer.pretrained.config import Config

POOLS: dict[str, Pool] = {
    "cls": "cls",
    "max": "max",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt",
    "weightedmean": "weighted_mean",
    "lasttoken": "last",
}
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


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "Identity": nn.Identity,
    "Tanh": nn.Tanh,
    "ReLU": nn.ReLU,
    "GELU": nn.GELU,
    "SiLU": nn.SiLU,
    "Sigmoid": nn.Sigmoid,
}
"""The activations of `Dense` by the last part of their path."""


class Dense(nn.Sequential):
    """A linear map with an activation, the module `Dense` of `sentence-transformers`.

    Args:
        linear: the map.
        activation: applied to its output.
        path: folder of the module in that of the model.
    """

    def __init__(self, linear: nn.Linear, activation: nn.Module, path: str) -> None:
        super().__init__(linear, activation)
        self.path = path

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by their keys in the module's file."""
        return {f"linear.{n}": t.detach().contiguous() for n, t in self[0].named_parameters()}


def add_sentence_head(model: Model, folder: Path) -> None:
    """Set a model's pooling head, maximal length and prompt as in a folder.

    Args:
        model: its head is replaced.
        folder: with modules.json.

    Raises:
        ValueError: when a module or setting is not supported.
    """
    file = folder / "modules.json"
    modules = _read_modules(file)
    pools: list[Pool] = []
    dense: list[Dense] = []
    for name, path in modules:
        if name == "Pooling":
            pools = _read_pooling(folder / path / "config.json")
            settings = read_json(folder / path / "config.json")
            model.include_prompt = settings.get("include_prompt", True)
        elif name == "Dense":
            dense.append(_read_dense(folder / path, path, model))
    normalize = modules[-1][0] == "Normalize"
    if not model.include_prompt and (len(pools) > 1 or pools == ["weighted_mean"]):
        raise ValueError(
            f"{file}: got 'include_prompt': false with pooling by {' and '.join(pools)}, which is "
            "not supported"
        )
    transform = nn.Sequential(*dense) if dense else None
    model.head = Pooling(pools, normalize=normalize, transform=transform)
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
    model.prompts = dict(settings.get("prompts") or {})


def sentence_files(model: Model, head: Pooling, dim: int) -> dict[str, str]:
    """Return the files that make a folder a sentence encoder, by name.

    Those that the model was loaded with are kept if they are in accord with it.

    Args:
        model: with a prompt, a maximal length, and the files it was loaded with.
        head: pooling and normalization.
        dim: width C.
    """
    dense = dense_modules(head)
    names = ["Transformer", "Pooling", *(["Dense"] * len(dense))]
    names += ["Normalize"] if head.normalize else []
    modules = [
        {
            "idx": number,
            "name": str(number),
            "path": "" if number == 0 else f"{number}_{name}",
            "type": f"sentence_transformers.models.{name}",
        }
        for number, name in enumerate(names)
    ]
    flags = {flag: POOLS[mode] in head.pools for flag, mode in POOLING_FLAGS.items()}
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
    is_new = _default_prompt(settings) != model.prompt
    if is_new or model.prompts != (settings.get("prompts") or {}):
        settings["prompts"] = dict(model.prompts)
        if is_new:
            settings["prompts"]["default"] = model.prompt
            settings["default_prompt_name"] = "default"
        files[name] = json.dumps(settings, indent=2)
    return files


def dense_modules(head: Pooling) -> list[Dense]:
    """Return the modules `Dense` of a head."""
    modules = [] if head.transform is None else list(head.transform.children())
    return [module for module in modules if isinstance(module, Dense)]


def _read_modules(file: Path) -> list[tuple[str, str]]:
    """Return the kind and the folder of each module, in their order.

    Raises:
        ValueError: when the file is malformed, or a module or the order is not supported.
    """
    content = read_json(file)
    if not isinstance(content, list) or not all(isinstance(module, dict) for module in content):
        raise ValueError(f"{file}: got no list of modules, expected one; download it again")
    modules = [
        (str(module.get("type")).rpartition(".")[2], str(module.get("path", "")))
        for module in content
    ]
    names = [name for name, _ in modules]
    for name in names:
        if name not in ("Transformer", "Pooling", "Dense", "Normalize"):
            raise ValueError(
                f"{file}: got the module {name}, expected Transformer, Pooling, Dense and "
                "Normalize; others are not supported"
            )
    if "Pooling" not in names:
        raise ValueError(f"{file}: got no Pooling, expected one")
    dense = ["Dense"] * names.count("Dense")
    if names not in (start := ["Transformer", "Pooling", *dense], [*start, "Normalize"]):
        raise ValueError(
            f"{file}: got the modules {', '.join(names)}, expected Transformer, Pooling, and then "
            "Dense and Normalize if there are any; other orders are not supported"
        )
    return modules


def _read_dense(folder: Path, path: str, model: Model) -> Dense:
    """Return a `Dense` with its weights, in the dtype and on the device of the model."""
    file = folder / "config.json"
    if not file.is_file():
        raise FileNotFoundError(f"{file}: missing, expected the settings of the module Dense")
    settings = read_json(file)
    name = str(settings.get("activation_function", "Tanh")).rpartition(".")[2]
    key = "sentence_embedding"
    for role in ("module_input_name", "module_output_name"):
        if (settings.get(role) or key) != key:
            raise ValueError(f"{file}: got {role!r}: {settings[role]!r}, expected {key!r}")
    if name not in ACTIVATIONS or settings.get("use_residual"):
        raise ValueError(
            f"{file}: got {settings.get('activation_function')!r} and 'use_residual': "
            f"{settings.get('use_residual', False)}, expected one of {', '.join(ACTIVATIONS)} "
            "without a residual connection"
        )
    own = Config(settings, str(file))
    sizes = own.size("in_features"), own.size("out_features")
    linear = nn.Linear(*sizes, bias=bool(settings.get("bias", True)))
    linear.to(next(model.parameters()))
    reader = SafetensorsReader(folder)
    expected = {f"linear.{key}": tuple(x.shape) for key, x in linear.named_parameters()}
    found = {key: info.shape for key, info in reader.tensors.items()}
    if found != expected:
        raise ValueError(
            f"{folder}: got tensors {found}, expected {expected} by {file.name}; download it again"
        )
    with torch.no_grad():
        for key, parameter in linear.named_parameters():
            reader.read_into(f"linear.{key}", parameter)
    return Dense(linear, ACTIVATIONS[name](), path)


def _default_prompt(settings: dict[str, Any]) -> str:
    """Return the prompt of config_sentence_transformers.json that precedes texts by default."""
    prompt: str = (settings.get("prompts") or {}).get(settings.get("default_prompt_name"), "")
    return prompt


def _read_optional(file: Path) -> dict[str, Any]:
    return read_json(file) if file.is_file() else {}


def _read_pooling(file: Path) -> list[Pool]:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: missing, expected the settings of the module Pooling")
    settings = read_json(file)
    modes = settings.get("pooling_mode") or [
        mode for flag, mode in POOLING_FLAGS.items() if settings.get(flag)
    ]
    modes = [modes] if isinstance(modes, str) else modes or ["mean"]
    if any(mode not in POOLS for mode in modes):
        raise ValueError(
            f"{file}: got pooling by {' and '.join(map(str, modes))}, expected one of "
            f"{', '.join(POOLS)}"
        )
    return [POOLS[mode] for mode in modes]
