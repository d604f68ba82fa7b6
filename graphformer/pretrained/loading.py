"""`from_pretrained`: models with the weights of a Hugging Face folder or `transformers` model."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import nn

from graphformer.models import EncoderDecoder, Model
from graphformer.models.generation import GenerateOptions
from graphformer.pretrained.checkpoint_io import (
    OverlayReader,
    SafetensorsReader,
    StateDictReader,
    TensorReader,
    read_json,
)
from graphformer.pretrained.config import Config, set_num_classes
from graphformer.pretrained.families import FAMILIES, Family, Kind
from graphformer.pretrained.gguf import GGUFFile
from graphformer.pretrained.gguf_tokenizer import read_gguf_tokenizer
from graphformer.pretrained.hub import download, is_hub_name
from graphformer.pretrained.key_mapping import (
    ParameterMap,
    canonical_key,
    is_known_key,
    map_parameters,
)
from graphformer.pretrained.saving import save_pretrained
from graphformer.pretrained.sentence import add_sentence_head
from graphformer.pretrained.tokenizer import read_pretrained_tokenizer, side_files

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


class Checkpoint(NamedTuple):
    """A checkpoint that is being loaded.

    Attributes:
        config: its settings.
        family: of its model type.
        tensors: reads its tensors by stored key.
        keys: canonical key to stored key.
    """

    config: Config
    family: Family
    tensors: TensorReader
    keys: dict[str, str]


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
    folder = Path(source).expanduser() if isinstance(source, str | os.PathLike) else None
    gguf: GGUFFile | None = None
    if folder is None:
        config, tensors = _open_model(source)
    elif folder.suffix == ".gguf" and folder.is_file():
        tensors = gguf = GGUFFile(folder)
        config, folder = Config(gguf.config(), str(folder)), None
    else:
        config, tensors = _open_folder(folder)
    family = family_of(config)
    if num_classes is not None:
        set_num_classes(config, num_classes)
    is_sentence_encoder = (
        folder is not None and head == "auto" and (folder / "modules.json").is_file()
    )
    kind = "embedding" if is_sentence_encoder else _kind(config, family, head)
    checkpoint = Checkpoint(config, family, tensors, _canonical_keys(tensors, family, config))
    tied = _is_tied(checkpoint, kind)
    if family.conversion is not None:
        checkpoint = _convert(checkpoint)
    with torch.device("meta"):  # allocates nothing: each weight is read into its own memory
        model: Model = family.build(config, kind, tied)
    if getattr(model, "pooler", None) is not None and not any(
        key.startswith("pooler.") for key in checkpoint.keys
    ):
        model.pooler = None  # the checkpoint was saved without one
    _load(model, checkpoint, kind, dtype, torch.device(device), allow_new_head=head != "auto")
    config.values["architectures"] = [family.architectures.get(kind, family.architectures["none"])]
    model.config = config.values
    model.exporter = save_pretrained
    model.generation_config = _generation_config(
        config, family, source if folder is None else folder
    )
    if isinstance(model, EncoderDecoder):
        model.start_id = _start_id(config, family, source if folder is None else folder)
    if gguf is not None:
        model.tokenizer = read_gguf_tokenizer(gguf)
    if folder is not None:
        model.tokenizer = read_pretrained_tokenizer(folder)
        model.extra_files = side_files(folder)
        if is_sentence_encoder:
            add_sentence_head(model, folder)
    return model.eval()


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


def _generation_settings(source: Path | object) -> dict[str, Any]:
    """Return the content of generation_config.json, empty without one."""
    if not isinstance(source, Path):
        own: Any = getattr(source, "generation_config", None)
        return {} if own is None else own.to_dict()
    file = source / "generation_config.json"
    return read_json(file) if file.is_file() else {}


def _start_id(config: Config, family: Family, source: Path | object) -> int | None:
    """Return the first token of a decoder's text."""
    settings = [_generation_settings(source), config.values]
    found = [each.get("decoder_start_token_id") for each in settings]
    found.append(None if family.start_token is None else config.get(family.start_token, None))
    return next((token for token in found if token is not None), None)


def _generation_config(config: Config, family: Family, source: Path | object) -> GenerateOptions:
    """Return the end tokens and the repetition penalty of a checkpoint."""
    settings = dict(config.values) if "eos_token_id" in config.values else {}
    settings.setdefault("eos_token_id", family.eos_token_id)
    own = _generation_settings(source)
    settings = own if isinstance(source, Path) and own else settings | own
    options: GenerateOptions = {}
    eos = settings.get("eos_token_id")
    if eos is not None and eos != []:
        options["eos_token_id"] = [eos] if isinstance(eos, int) else eos
    penalty = settings.get("repetition_penalty")
    if penalty is not None:
        options["repetition_penalty"] = penalty
    return options


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


def _canonical_keys(tensors: TensorReader, family: Family, config: Config) -> dict[str, str]:
    """Return the stored key of each canonical key."""
    keys: dict[str, str] = {}
    for stored in tensors.keys():  # noqa: SIM118 - a reader is not a mapping
        canonical = canonical_key(stored, family)
        if canonical in keys:
            raise ValueError(
                f"the weights of {config.origin}: got both {keys[canonical]} and {stored}, "
                "expected one of them"
            )
        keys[canonical] = stored
    return keys


def _convert(checkpoint: Checkpoint) -> Checkpoint:
    """Replace the tensors that are stored in another form by those of our model."""
    config, family, tensors, keys = checkpoint
    assert family.conversion is not None
    chosen = family.conversion.keys
    converted_keys = chosen(keys) if callable(chosen) else chosen
    _check_keys(config, missing=[key for key in converted_keys if key not in keys])
    stored = {}
    for key in converted_keys:
        stored[key] = torch.empty(tensors.get_shape(keys[key]), dtype=tensors.get_dtype(keys[key]))
        tensors.read_into(keys[key], stored[key])
    # Under new keys, for the stored ones may be used by the reader below.
    converted = {
        f"{key} (converted)": tensor
        for key, tensor in family.conversion.to_model(config, stored).items()
    }
    others = {key: name for key, name in keys.items() if key not in converted_keys}
    replaced = {name.removesuffix(" (converted)"): name for name in converted}
    return checkpoint._replace(tensors=OverlayReader(tensors, converted), keys=others | replaced)


def _is_tied(checkpoint: Checkpoint, kind: Kind) -> bool:
    """Whether the head shares the embedding's weight.

    As the config says, unless both are stored and differ: then it is not tied, as in transformers.
    """
    config, family, tensors, keys = checkpoint
    tied = bool(config.get("tie_word_embeddings", family.tie_word_embeddings))
    ends = [_input_key(family, keys), _output_key(family, kind)]
    if not tied or not all(key in keys for key in ends):
        return tied
    names = [keys[str(key)] for key in ends]
    if tensors.get_shape(names[0]) != tensors.get_shape(names[1]):
        return tied  # reported with the other shapes
    weights = [torch.empty(tensors.get_shape(n), dtype=tensors.get_dtype(n)) for n in names]
    for name, weight in zip(names, weights, strict=True):
        tensors.read_into(name, weight)
    same = torch.equal(*weights)
    if not same:
        config.values["tie_word_embeddings"] = False
    return same


def _input_key(family: Family, keys: dict[str, str]) -> str | None:
    """Return the canonical key of the weight of the token embedding."""
    names = ("embedding.features.weight", "decoder.embedding.features.weight")
    entries = [key for name in names for key in family.trunk.get(name, "").split("|")]
    return next((key for key in entries if key in keys), None)


def _output_key(family: Family, kind: Kind) -> str | None:
    """Return the canonical key of the weight of a language modeling head."""
    table = family.heads.get(kind, {})
    for name in ("head.linear.weight", "head.linear.*", "decoder.head.linear.weight"):
        if kind in ("masked_lm", "causal_lm", "seq2seq") and name in table:
            return canonical_key(table[name].replace("*", "weight").split("|")[0], family)
    return None


def _load(
    model: Model,
    checkpoint: Checkpoint,
    kind: Kind,
    dtype: torch.dtype | None,
    device: torch.device,
    *,
    allow_new_head: bool,
) -> None:
    """Allocate the parameters of a model on the meta device and read them from a checkpoint."""
    config, tensors = checkpoint.config, checkpoint.tensors
    found, new = _match(model, checkpoint, kind, allow_new_head)
    stored_dtypes = {tensors.get_dtype(key) for keys in found.values() for key in keys}
    dtype = dtype or _common_dtype(stored_dtypes, config)
    for mapped, keys in found.items():
        memory = torch.empty(mapped.parameter.shape, dtype=dtype, device=device)
        for part, key in zip(mapped.slices, keys, strict=True):
            part.read(tensors, key, memory)
        _set_parameter(model, mapped, memory)
    for mapped in new:
        memory = torch.empty(mapped.parameter.shape, dtype=dtype, device=device)
        _set_parameter(model, mapped, memory)
    model.newly_initialized = [mapped.names[0] for mapped in new]
    _initialize(model, set(model.newly_initialized), config.get("initializer_range", 0.02))


def _match(
    model: Model, checkpoint: Checkpoint, kind: Kind, allow_new_head: bool
) -> tuple[dict[ParameterMap, list[str]], list[ParameterMap]]:
    """Return the stored keys of each parameter, and the parameters of a head to initialize.

    Raises:
        ValueError: listing all keys that are missing, unexpected or of another shape.
    """
    config, family, tensors, stored = checkpoint
    shapes = {} if family.stored_shapes is None else family.stored_shapes(config)
    found: dict[ParameterMap, list[str]] = {}
    new: list[ParameterMap] = []
    missing: list[str] = []
    mismatched: list[str] = []
    used: set[str] = set()
    for mapped in map_parameters(model, family, kind, shapes):
        keys: list[str] = []
        absent: list[str] = []
        wrong: list[str] = []
        for part in mapped.slices:
            present = [
                key for key in (canonical_key(k, family) for k in part.keys) if key in stored
            ]
            used.update(present)
            if not present:
                absent.append(part.keys[0])
                continue
            key = stored[present[0]]
            keys.append(key)
            if tensors.get_shape(key) != part.shape:
                here, there = list(part.shape), list(tensors.get_shape(key))
                wrong.append(f"{key} ({there} stored, {here} by the config)")
        if allow_new_head and (absent or wrong) and _is_head(mapped.names[0]):
            new.append(mapped)
        elif absent or wrong:
            missing += absent
            mismatched += wrong
        else:
            found[mapped] = keys
    unexpected = sorted(
        name for key, name in stored.items() if key not in used and not is_known_key(key, family)
    )
    _check_keys(config, missing, mismatched, unexpected)
    return found, new


def _is_head(name: str) -> bool:
    return name.removeprefix("decoder.").startswith("head.")


def _check_keys(
    config: Config,
    missing: list[str] | None = None,
    mismatched: list[str] | None = None,
    unexpected: list[str] | None = None,
) -> None:
    problems = {
        "missing keys": missing,
        "mismatched shapes": mismatched,
        "unexpected keys": unexpected,
    }
    listed = [f"{what}: {', '.join(keys)}" for what, keys in problems.items() if keys]
    if listed:
        raise ValueError(
            f"the weights do not match {config.origin}; {'; '.join(listed)}; check its sizes and "
            "'architectures', or pass another head"
        )


def _common_dtype(stored: set[torch.dtype], config: Config) -> torch.dtype:
    """Return the dtype of all weights: the stored one, or if there are several the config's."""
    unfit = [dtype for dtype in stored if not dtype.is_floating_point]
    if unfit:
        raise ValueError(
            f"the weights of {config.origin}: got {unfit[0]}, expected floating point; use a "
            "checkpoint that is not quantized"
        )
    if len(stored) == 1:
        return next(iter(stored))
    chosen = getattr(torch, str(config.get("dtype", config.get("torch_dtype", None))), None)
    if not isinstance(chosen, torch.dtype):
        raise ValueError(
            f"the weights of {config.origin}: got {', '.join(sorted(map(str, stored)))}, expected "
            "a single dtype; pass dtype="
        )
    return chosen


def _set_parameter(model: nn.Module, mapped: ParameterMap, memory: torch.Tensor) -> None:
    """Replace a parameter under all of its names."""
    parameter = nn.Parameter(memory)
    for name in mapped.names:
        owner, _, last = name.rpartition(".")
        setattr(model.get_submodule(owner), last, parameter)


def _initialize(model: nn.Module, names: set[str], std: float) -> None:
    """Initialize parameters as BERT: normal weights of linear layers, zero biases, unit norms."""
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
