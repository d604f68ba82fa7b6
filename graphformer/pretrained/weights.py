"""Reading the weights of a checkpoint into the parameters of a model."""

from __future__ import annotations

import torch
from torch import nn

from graphformer.models import Model
from graphformer.pretrained.checkpoint import Checkpoint, are_equal, check_keys, read_tensor
from graphformer.pretrained.config import Config
from graphformer.pretrained.families import Kind
from graphformer.pretrained.key_mapping import (
    CheckpointSlice,
    ParameterMap,
    canonical_key,
    is_known_key,
    map_parameters,
)


def load_weights(
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
    _refuse_nonzero(checkpoint)
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
            key = _stored_key(part, checkpoint, present)
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
    check_keys(config, missing, mismatched, unexpected)
    return found, new


def _stored_key(part: CheckpointSlice, checkpoint: Checkpoint, present: list[str]) -> str:
    """Return the stored key to be read of several for one tensor.

    Args:
        part: of a parameter.
        checkpoint: with the tensors.
        present: the canonical keys of the part that are stored, at least one.

    Raises:
        ValueError: when the tensors differ.
    """
    config, family, tensors, stored = checkpoint
    copies = [canonical_key(key, family) for key in part.copies]
    used = [key for key in copies if key in stored] or present
    keys = [stored[key] for key in dict.fromkeys(used)]
    same_shape = all(tensors.get_shape(key) == part.shape for key in keys)  # others are reported
    if len(keys) > 1 and same_shape and not are_equal(tensors, keys):
        raise ValueError(
            f"the weights of {config.origin}: got tensors that differ in {' and '.join(keys)}, "
            "expected copies of one; models that do not share them are not supported"
        )
    return keys[0]


def _refuse_nonzero(checkpoint: Checkpoint) -> None:
    """Refuse tensors that our models leave out and that would change the output.

    Raises:
        ValueError: naming the first of them.
    """
    config, family, tensors, stored = checkpoint
    for key, name in stored.items():
        if key in family.zero_keys and read_tensor(tensors, name).any():
            raise ValueError(
                f"the weights of {config.origin}: got {name} with other values than 0, expected "
                "zeros; this bias is not supported"
            )


def _is_head(name: str) -> bool:
    return name.removeprefix("decoder.").startswith("head.")


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
    parameter = nn.Parameter(memory, requires_grad=mapped.parameter.requires_grad)
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
