"""Public weights into our models: a folder of Hugging Face's, or a model of `transformers`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from graphformer.models import Model
from graphformer.pretrained.checkpoint_io import (
    InMemoryTensors,
    OverlaidTensors,
    SafetensorsFolder,
    TensorReader,
    read_json,
)
from graphformer.pretrained.config import Config
from graphformer.pretrained.families import FAMILIES, Family, Kind
from graphformer.pretrained.key_mapping import (
    ParameterMap,
    canonical_key,
    is_known_key,
    map_parameters,
    rows_of,
)
from graphformer.pretrained.saving import save_pretrained
from graphformer.pretrained.sentence import sentence_head
from graphformer.pretrained.tokenizer import read_pretrained_tokenizer, side_files

Heads = Literal[
    "auto",
    "none",
    "masked_lm",
    "causal_lm",
    "classification",
    "tagging",
    "answers",
    "embedding",
    "distilled",
]


def from_pretrained(
    source: Any,
    *,
    head: Heads = "auto",
    num_classes: int | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> Model:
    """A model with the weights of a checkpoint of Hugging Face's.

    The model is one of ours, for any adjacency; `model.pattern` is the one that it was trained
    with, `model.config` the checkpoint's config and `model.tokenizer` its tokenizer, if it has one.
    Weights are read one by one to where they stay, in the type that they are stored in; nothing is
    unpickled.

    Args:
        source: a folder with config.json and safetensors, in shards or not, as
            `huggingface_hub.snapshot_download` makes it; or a model of `transformers`.
        head: what the model answers; by default what the checkpoint does. "none" answers with the
            nodes, "embedding" with a vector a text. Of a head that the checkpoint lacks the
            weights are drawn, and `model.newly_initialized` names them.
        num_classes: of a head that classifies, if they are to be others than the checkpoint's.
        dtype: of the weights, if another than that in which they are stored.
        device: where they go.

    Returns:
        A model in evaluation mode.

    Raises:
        FileNotFoundError: the folder or a file in it is missing.
        ValueError: the architecture or an option of it is not known, or tensors are missing, too
            many, or of other shapes than the config says; all of them are listed.
    """
    folder = Path(source).expanduser() if isinstance(source, str | os.PathLike) else None
    if folder is None:
        config, tensors = _of_model(source)
    else:
        config, tensors = _of_folder(folder)
    family = family_of(config)
    if num_classes is not None:
        config.values |= {"id2label": {str(i): f"LABEL_{i}" for i in range(num_classes)}}
        config.values |= {"label2id": {f"LABEL_{i}": i for i in range(num_classes)}}
    sentences = folder is not None and head == "auto" and (folder / "modules.json").is_file()
    kind = "embedding" if sentences else _kind(config, family, head)
    actual = _canonical_names(tensors, family, config)
    tied = _tied(config, family, kind, tensors, actual)
    if family.joins is not None:
        tensors, actual = _join(tensors, actual, family, config)
    with torch.device("meta"):
        model = family.build(config, kind, tied)
    _drop_pooler(model, actual)
    _load(model, tensors, actual, family, config, kind, dtype, torch.device(device), head != "auto")
    config.values["architectures"] = [family.classes.get(kind, family.classes["none"])]
    model.config = config.values
    model.exporter = save_pretrained
    model.generation_config = _generation(config, family, source if folder is None else folder)
    if folder is not None:
        model.tokenizer = read_pretrained_tokenizer(folder)
        model.extra_files = side_files(folder)
    if sentences and folder is not None:
        sentence_head(model, folder)
    return model.eval()


def _generation(config: Config, family: Family, source: Any) -> dict[str, Any]:
    """What texts end with, and how much what was said counts against a token."""
    settings = dict(config.values) if "eos_token_id" in config.values else {}
    settings.setdefault("eos_token_id", family.eos)
    if not isinstance(source, Path):
        stated = getattr(source, "generation_config", None)
        settings |= {} if stated is None else stated.to_dict()
    elif (source / "generation_config.json").is_file():
        settings = read_json(source / "generation_config.json")
    ends = settings.get("eos_token_id")
    ends = [ends] if isinstance(ends, int) else ends
    found: dict[str, Any] = {"eos_token_id": ends} if ends else {}
    penalty = settings.get("repetition_penalty")
    return found if penalty is None else found | {"repetition_penalty": penalty}


def _of_folder(folder: Path) -> tuple[Config, TensorReader]:
    if not folder.is_dir():
        raise FileNotFoundError(
            f"source is {str(folder)!r}, which is no folder: download the checkpoint first, for "
            "example by huggingface_hub.snapshot_download, and give its folder."
        )
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} has no config.json.")
    file = folder / "config.json"
    values = read_json(file)
    if not isinstance(values, dict):
        raise ValueError(f"{file} is no table of settings.")
    config = Config(values, str(file))
    family_of(config)  # before anything is said about files
    return config, SafetensorsFolder(folder)


def _of_model(model: Any) -> tuple[Config, TensorReader]:
    if not isinstance(model, nn.Module) or not hasattr(model, "config"):
        raise TypeError(
            f"source must be a folder or a model of transformers, got {type(model).__name__}."
        )
    settings: Any = model.config
    values = json.loads(settings.to_json_string(use_diff=False))
    values["architectures"] = [type(model).__name__]
    return Config(values, f"the config of {type(model).__name__}"), InMemoryTensors(
        model.state_dict()
    )


def family_of(config: Config) -> Family:
    """The family of a config's `model_type`; ValueError, which lists them, for one not known."""
    name = config.values.get("model_type")
    if name not in FAMILIES:
        raise ValueError(
            f"{config.origin} has 'model_type': {name!r}, but the known ones are "
            f"{', '.join(sorted(FAMILIES))}."
        )
    if config.values.get("quantization_config"):
        raise ValueError(
            f"{config.origin} has a 'quantization_config': take a checkpoint that is not quantised."
        )
    return FAMILIES[name]


def _kind(config: Config, family: Family, head: Heads) -> Kind:
    heads = [*family.classes, *(["embedding"] if family.texts else [])]
    if head != "auto":
        if head not in heads:
            raise ValueError(f"head must be auto or one of {', '.join(heads)}, got {head!r}.")
        return head
    architectures = config.values.get("architectures") or [family.classes["none"]]
    kind = family.kind(architectures[0])
    if kind is None:
        raise ValueError(
            f"{config.origin} has 'architectures': {architectures}, but the known ones are "
            f"{', '.join([*family.classes.values(), *family.aliases])}; choose a head."
        )
    return kind


def _canonical_names(tensors: TensorReader, family: Family, config: Config) -> dict[str, str]:
    """The tensors' names by their canonical ones."""
    actual: dict[str, str] = {}
    for name in tensors.names():
        general = canonical_key(name, family)
        if general in actual:
            raise ValueError(
                f"the weights of {config.origin} hold both {actual[general]} and {name}."
            )
        actual[general] = name
    return actual


def _join(
    tensors: TensorReader, actual: dict[str, str], family: Family, config: Config
) -> tuple[TensorReader, dict[str, str]]:
    """The tensors with those that are stored in other parts than ours put together."""
    assert family.joins is not None
    names, make, _ = family.joins
    _complain(config, {"missing": [name for name in names if name not in actual]})
    parts = {}
    for name in names:
        stored = actual[name]
        parts[name] = torch.empty(tensors.shape(stored), dtype=tensors.dtype(stored))
        tensors.read(stored, parts[name])
    made = {f"{name} (joined)": tensor for name, tensor in make(config, parts).items()}
    others = {name: stored for name, stored in actual.items() if name not in names}
    return OverlaidTensors(tensors, made), others | {name.split(" ")[0]: name for name in made}


def _tied(
    config: Config, family: Family, kind: Kind, tensors: TensorReader, actual: dict[str, str]
) -> bool:
    """Whether the head has the embedding's weights: as the config says, unless both are stored."""
    tied = bool(config.get("tie_word_embeddings", family.tied))
    ends = [family.trunk.get("embedding.features.weight"), _output(family, kind)]
    if not tied or not all(name in actual for name in ends):
        return tied
    one, other = (actual[str(name)] for name in ends)
    if tensors.shape(one) != tensors.shape(other):
        return tied  # an error that is found below
    first, second = (torch.empty(tensors.shape(n), dtype=tensors.dtype(n)) for n in (one, other))
    tensors.read(one, first)
    tensors.read(other, second)
    same = torch.equal(first, second)
    if not same:  # as transformers does
        config.values["tie_word_embeddings"] = False
    return same


def _output(family: Family, kind: Kind) -> str | None:
    table = family.heads.get(kind, {})
    for name in ("head.linear.weight", "head.linear.*"):
        if kind in ("masked_lm", "causal_lm") and name in table:
            return canonical_key(table[name].replace("*", "weight"), family)
    return None


def _drop_pooler(model: Model, actual: dict[str, str]) -> None:
    """Leave out the part for a text's vector where a checkpoint was saved without it."""
    pooler = getattr(model, "pooler", None)
    if pooler is not None and not any(name.startswith("pooler.") for name in actual):
        model.pooler = None


def _load(
    model: Model,
    tensors: TensorReader,
    actual: dict[str, str],
    family: Family,
    config: Config,
    kind: Kind,
    dtype: torch.dtype | None,
    device: torch.device,
    draw: bool,
) -> None:
    """Fill a model that has no memory yet."""
    views = {} if family.views is None else family.views(config)
    wanted = list(map_parameters(model, family, kind, views))
    found: dict[ParameterMap, list[str]] = {}
    missing, shapes, fresh = [], [], []
    used: set[str] = set()
    for place in wanted:
        names = []
        lacking, wrong = [], []
        for part in place.parts:
            options = [canonical_key(name, family) for name in part.names]
            stored = [name for name in options if name in actual]
            used.update(stored)
            if not stored:
                lacking.append(part.names[0])
                continue
            name = actual[stored[0]]
            names.append(name)
            if tensors.shape(name) != part.shape:
                there, here = list(tensors.shape(name)), list(part.shape)
                wrong.append(f"{name} ({there} there, {here} by the config)")
        if draw and (lacking or wrong) and place.names[0].startswith("head."):
            fresh.append(place)
        elif lacking or wrong:
            missing += lacking
            shapes += wrong
        else:
            found[place] = names
    surplus = sorted(
        name for general, name in actual.items() if general not in used
        and not is_known_key(general, family)
    )  # fmt: skip
    _complain(config, {"missing": missing, "of another shape": shapes, "not known": surplus})
    kinds = {tensors.dtype(name) for names in found.values() for name in names}
    dtype = dtype or _dtype(kinds, config)
    for place, names in found.items():
        memory = torch.empty(place.parameter.shape, dtype=dtype, device=device)
        for part, name in zip(place.parts, names, strict=True):
            tensors.read(name, rows_of(memory, part))
        _put(model, place, memory)
    for place in fresh:
        _put(model, place, torch.empty(place.parameter.shape, dtype=dtype, device=device))
    model.newly_initialized = [place.names[0] for place in fresh]
    _draw(model, set(model.newly_initialized), config.get("initializer_range", 0.02))


def _dtype(kinds: set[torch.dtype], config: Config) -> torch.dtype:
    """The one type of all weights."""
    unfit = [kind for kind in kinds if not kind.is_floating_point]
    if unfit:
        raise ValueError(f"the weights of {config.origin} are {unfit[0]}, which is no type to run.")
    if len(kinds) == 1:
        return next(iter(kinds))
    named = config.get("dtype", config.get("torch_dtype", None))
    chosen = getattr(torch, str(named), None)
    if not isinstance(chosen, torch.dtype):
        raise ValueError(
            f"the weights of {config.origin} are of {', '.join(sorted(map(str, kinds)))}: give the "
            "dtype that they are to have."
        )
    return chosen


def _complain(config: Config, problems: dict[str, list[str]]) -> None:
    listed = [f"{what}: {', '.join(names)}" for what, names in problems.items() if names]
    if listed:
        raise ValueError(
            f"the weights do not fit {config.origin}; {'; '.join(listed)}. Check its sizes and "
            "'architectures', or choose another head."
        )


def _put(model: nn.Module, place: ParameterMap, memory: torch.Tensor) -> None:
    """Give a parameter its memory, under all of its names."""
    parameter = nn.Parameter(memory)
    for name in place.names:
        owner, _, last = name.rpartition(".")
        setattr(model.get_submodule(owner), last, parameter)


def _draw(model: nn.Module, names: set[str], std: float) -> None:
    """Draw new weights as the checkpoint's own were: linear maps normal, norms as they begin."""
    for path, module in model.named_modules():
        own = [f"{path}.{name}" for name, _ in module.named_parameters(recurse=False)]
        if not names.intersection(own):
            continue
        if not isinstance(module, nn.Linear):
            module.reset_parameters()
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if f"{path}.{name}" in names and name == "bias":
                nn.init.zeros_(parameter)
            elif f"{path}.{name}" in names:
                nn.init.normal_(parameter, std=std)
