"""`from_pretrained`: models with the weights of a Hugging Face folder or `transformers` model."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

from graphformer.models import EncoderDecoder, Model
from graphformer.pretrained.checkpoint import Checkpoint, canonical_keys, convert_stored, is_tied
from graphformer.pretrained.checkpoint_io import (
    SafetensorsReader,
    StateDictReader,
    TensorReader,
    read_json,
)
from graphformer.pretrained.config import Config, set_num_classes
from graphformer.pretrained.families import FAMILIES, Family, Kind
from graphformer.pretrained.generation_config import generation_config, start_id, unused_settings
from graphformer.pretrained.gguf import GGUFFile, read_gguf_tokenizer
from graphformer.pretrained.hub import download, is_hub_name
from graphformer.pretrained.saving import save_pretrained
from graphformer.pretrained.sentence import add_sentence_head
from graphformer.pretrained.tokenizer import read_pretrained_tokenizer, side_files
from graphformer.pretrained.weights import load_weights

HeadChoice: TypeAlias = Literal[
    "auto",
    "none",
    "masked_lm",
    "causal_lm",
    "classification",
    "tagging",
    "answers",
    "embedding",
    "distilled",
    "detection",
    "seq2seq",
    "encoder",
    "pixels",
]


def from_pretrained(
    source: str | os.PathLike[str] | nn.Module,
    *,
    head: HeadChoice = "auto",
    num_classes: int | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    revision: str | None = None,
) -> Model:
    """Return a model with the weights of a Hugging Face checkpoint.

    `model.adjacency` is the pattern that the checkpoint was trained with, `model.config` its
    config and `model.tokenizer` its tokenizer, if it has one. Weights are read one by one into
    their parameter, in the stored dtype by default; nothing is unpickled.

    Args:
        source: a folder with config.json and safetensors, in shards or not; a GGUF file, which is
            dequantized to float32 tensor by tensor; the name of a model of the Hub,
            "organisation/name", which is downloaded; or a model of `transformers`.
        head: kind of head; that of the checkpoint by default. "none" returns nodes, "embedding" a
            vector per text. The weights of a head that the checkpoint lacks are initialized, and
            `model.newly_initialized` names them.
        num_classes: of a classification head; that of the checkpoint by default.
        dtype: of the weights; the stored one by default.
        device: of the weights.
        revision: branch, tag or commit of a model of the Hub.

    Returns:
        A model in evaluation mode.

    Raises:
        FileNotFoundError: when the folder or a file in it is missing.
        TypeError: when `source` is neither a folder nor a model of `transformers`.
        ValueError: when the architecture or one of its settings is not supported, or tensors are
            missing, unexpected, or have other shapes than the config implies; all are listed.
    """
    if isinstance(source, str) and is_hub_name(source):
        source = download(source, revision)
    origin = Path(source).expanduser() if isinstance(source, str | os.PathLike) else source
    config, tensors = _open(origin)
    family = family_of(config)
    if num_classes is not None:
        set_num_classes(config, num_classes)
    is_sentence_encoder = head == "auto" and _has_sentence_head(origin)
    kind = "embedding" if is_sentence_encoder else _kind(config, family, head)
    checkpoint = Checkpoint(config, family, tensors, canonical_keys(tensors, family, config))
    tied = is_tied(checkpoint, kind)
    if family.conversion is not None:
        checkpoint = convert_stored(checkpoint)
    model = _build(checkpoint, kind, tied)
    allow_new_head = head != "auto"
    load_weights(
        model, checkpoint, kind, dtype, torch.device(device), allow_new_head=allow_new_head
    )
    config.values["architectures"] = [family.architectures.get(kind, family.architectures["none"])]
    _attach_settings(model, config, family, origin)
    _attach_tokenizer(model, tensors, origin)
    if is_sentence_encoder and isinstance(origin, Path):
        add_sentence_head(model, origin)
    return model.eval()


def _build(checkpoint: Checkpoint, kind: Kind, tied: bool) -> Model:
    """Build the model of a checkpoint on the meta device, without its weights.

    This allocates nothing: each weight is read into its own memory later.
    """
    with torch.device("meta"):
        model: Model = checkpoint.family.build(checkpoint.config, kind, tied)
    has_pooler = any(key.startswith("pooler.") for key in checkpoint.keys)
    if getattr(model, "pooler", None) is not None and not has_pooler:
        model.pooler = None  # the checkpoint was saved without one
    return model


def _attach_settings(
    model: Model, config: Config, family: Family, origin: Path | nn.Module
) -> None:
    """Set the config of a model, how it is saved, and its settings of generation."""
    model.config = config.values
    model.exporter = save_pretrained
    model.generation_config = generation_config(config, family, origin)
    model.unused_generation_settings = unused_settings(config, family, origin)
    if isinstance(model, EncoderDecoder):
        model.start_id = start_id(config, family, origin)


def _attach_tokenizer(model: Model, tensors: TensorReader, origin: Path | nn.Module) -> None:
    """Set the tokenizer of a model that was read from files."""
    if isinstance(tensors, GGUFFile):
        model.tokenizer = read_gguf_tokenizer(tensors)
    elif isinstance(origin, Path):
        model.tokenizer = read_pretrained_tokenizer(origin)
        model.extra_files = side_files(origin)


def _has_sentence_head(origin: Path | nn.Module) -> bool:
    return isinstance(origin, Path) and (origin / "modules.json").is_file()


def family_of(config: Config) -> Family:
    """Return the family of a config's `model_type`.

    Raises:
        ValueError: when it is not supported, or the checkpoint is quantized.
    """
    name = config.values.get("model_type")
    if name not in FAMILIES:
        raise ValueError(
            f"{config.origin}: got 'model_type': {name!r}, expected one of "
            f"{', '.join(sorted(FAMILIES))}"
        )
    if config.values.get("quantization_config"):
        raise ValueError(
            f"{config.origin}: got a 'quantization_config', expected none; use a checkpoint that "
            "is not quantized"
        )
    return FAMILIES[name]


def _open(origin: Path | object) -> tuple[Config, TensorReader]:
    """Return the config and the tensors of a GGUF file, a folder or a model of transformers."""
    if not isinstance(origin, Path):
        return _open_model(origin)
    if origin.suffix.lower() == ".gguf" and origin.is_file():
        file = GGUFFile(origin)
        return Config(file.config(), str(origin)), file
    return _open_folder(origin)


def _open_folder(folder: Path) -> tuple[Config, TensorReader]:
    if not folder.is_dir():
        raise FileNotFoundError(
            f"source: got {str(folder)!r}, expected a folder; download the checkpoint first, for "
            "example with huggingface_hub.snapshot_download, and pass its folder"
        )
    file = folder / "config.json"
    if not file.is_file():
        raise FileNotFoundError(f"{folder}: has no config.json; pass the folder of a checkpoint")
    values = read_json(file)
    if not isinstance(values, dict):
        raise ValueError(f"{file}: got {type(values).__name__}, expected an object of settings")
    config = Config(values, str(file))
    family_of(config)  # an unsupported model type is reported before problems with files
    return config, SafetensorsReader(folder)


def _open_model(model: Any) -> tuple[Config, TensorReader]:
    if not isinstance(model, nn.Module) or not hasattr(model, "config"):
        raise TypeError(
            f"source: got {type(model).__name__}, expected a folder or a model of transformers"
        )
    config: Any = model.config
    values = json.loads(config.to_json_string(use_diff=False))
    values["architectures"] = [type(model).__name__]
    tensors = model.state_dict()
    if all(tensor.is_floating_point() for tensor in tensors.values()):
        values.pop("quantization_config", None)  # transformers has dequantized the weights
    return Config(values, f"the config of {type(model).__name__}"), StateDictReader(tensors)


def _kind(config: Config, family: Family, head: HeadChoice) -> Kind:
    """Return the kind of head that is asked for, or that of the checkpoint."""
    if head != "auto":
        kinds = [*family.architectures, *(["embedding"] if family.is_text else [])]
        if head not in kinds:
            raise ValueError(f"head: got {head!r}, expected auto or one of {', '.join(kinds)}")
        return head
    architectures = config.values.get("architectures") or [family.architectures["none"]]
    kind = family.kind(architectures[0])
    if kind is None:
        supported = ", ".join([*family.architectures.values(), *family.aliases])
        raise ValueError(
            f"{config.origin}: got 'architectures': {architectures}, expected one of {supported}; "
            "pass head= to choose another head"
        )
    return kind
