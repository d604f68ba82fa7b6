"""Key mapping: parameter names of our models to keys of a checkpoint, by the tables of a family."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from graphformer.pretrained.checkpoint_io import TensorReader
from graphformer.pretrained.families import Family, Kind, Table

StoredShapes: TypeAlias = Mapping[str, tuple[int, ...]]
"""Shapes of the stored tensors marked `^V`, by the end of their key."""


class CheckpointSlice(NamedTuple):
    """Rows of a parameter that are one tensor of the checkpoint.

    Attributes:
        keys: possible keys of the tensor; the first is written.
        rows: start and end in the parameter.
        shape: of the stored tensor.
        transposed: whether the tensor is stored transposed.
        copies: those of `keys` that compute the output; `transformers` ties others to them.
        heads: number of heads H if the rows are stored as [H, 3, D], queries, keys and values of
            each head in turn; None for [3, H, D], those of all heads in turn.
    """

    keys: tuple[str, ...]
    rows: tuple[int, int]
    shape: tuple[int, ...]
    transposed: bool
    heads: int | None = None
    copies: tuple[str, ...] = ()

    def read(self, tensors: TensorReader, key: str, parameter: Tensor) -> None:
        """Copy a stored tensor to its rows of a parameter."""
        if self.heads is None:
            tensors.read_into(key, self.view(parameter))
            return
        stored = torch.empty(self.shape, dtype=parameter.dtype, device=parameter.device)
        tensors.read_into(key, stored)
        parameter.copy_(stored.unflatten(0, (self.heads, 3, -1)).transpose(0, 1).flatten(0, 2))

    def view(self, parameter: Tensor) -> Tensor:
        """Return the rows as a view with the shape of the stored tensor."""
        if not self.shape:
            return parameter
        rows = parameter[self.rows[0] : self.rows[1]]
        return rows.T if self.transposed else rows.view(self.shape)

    def to_stored(self, parameter: Tensor) -> Tensor:
        """Return a contiguous tensor of the rows, as it is stored."""
        if not self.shape:
            return parameter.detach().clone()
        rows = parameter.detach()[self.rows[0] : self.rows[1]]
        if self.heads is not None:
            rows = rows.unflatten(0, (3, self.heads, -1)).transpose(0, 1)
        return (rows.T if self.transposed else rows.reshape(self.shape)).contiguous()


class ParameterMap(NamedTuple):
    """A parameter, its names in the model (several if tied) and its slices in the checkpoint."""

    names: tuple[str, ...]
    parameter: nn.Parameter
    slices: tuple[CheckpointSlice, ...]


def map_parameters(
    model: nn.Module, family: Family, kind: Kind, stored_shapes: StoredShapes
) -> Iterator[ParameterMap]:
    """Yield the mapping of every parameter of a model.

    Keys have the prefix of the trunk if the model has a head.

    Args:
        model: of the family.
        family: with the tables of names and keys.
        kind: of the model's head.
        stored_shapes: of tensors marked `^V`.
    """
    headless = kind in ("none", "embedding")
    prefix = "" if headless or not family.prefix else f"{family.prefix}."
    trunk = {n: re.sub(r"^|(?<=[|&])", prefix, key) for n, key in family.trunk.items()}
    table = {**trunk, **family.heads.get(kind, {})}
    names: dict[nn.Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    for parameter, aliases in names.items():
        # A tied parameter may be stored under the key of any of its names.
        found = [
            _slices(model, parameter, name, _key_template(table, name), stored_shapes)
            for name in aliases
        ]
        merged = found[0]
        for other in found[1:]:
            merged = [
                part._replace(keys=part.keys + more.keys, copies=part.copies + more.copies)
                for part, more in zip(merged, other, strict=True)
            ]
        yield ParameterMap(tuple(aliases), parameter, tuple(merged))


def alternatives(template: str) -> list[str]:
    """Return the possible keys of a table's entry, `a|b` or `a&b`."""
    return re.split(r"[|&]", template)


def canonical_key(key: str, family: Family) -> str:
    """Return a key without the prefix of the trunk, and with today's names of normalizations."""
    key = key.removeprefix(f"{family.prefix}.") if family.prefix else key
    key = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", key)  # in the first BERT files
    return re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", key)


def is_known_key(key: str, family: Family) -> bool:
    """Whether a canonical key belongs to a part of the family other than its blocks.

    Such keys, of heads for example, are ignored if the model lacks the part. Keys of blocks are
    not: a tensor of a block that the config does not describe would change the output.
    """
    tables: list[Table] = [family.trunk, *family.heads.values()]
    keys = [key for table in tables for key in table.values() if "#" not in key]
    patterns = [*(canonical_key(each, family) for each in keys), *family.ignored_keys]
    patterns += family.zero_keys
    return any(_matches(pattern, key) for pattern in patterns)


def _key_template(table: Table, name: str) -> str:
    """Return the table's entry for a parameter, with the block number and suffix filled in.

    Raises:
        ValueError: when the architecture has no such parameter.
    """
    number = re.search(r"blocks\.(\d+)\.", name)
    general = re.sub(r"blocks\.\d+\.", "blocks.#.", name)
    stem, _, last = general.rpartition(".")
    key = table.get(general, table.get(f"{stem}.*", "")).replace("*", last)
    if not key:
        raise ValueError(
            f"model: got the parameter {name}, which its architecture in transformers lacks; load "
            "the checkpoint by from_pretrained(..., head=) with the head to be saved, instead of "
            "replacing parts of the model"
        )
    return key if number is None else key.replace("#", number[1])


def _slices(
    model: nn.Module, parameter: nn.Parameter, name: str, template: str, shapes: StoredShapes
) -> list[CheckpointSlice]:
    """Return the slices of a parameter by a template such as `a.{q,k,v}.weight|b.weight^T`."""
    template, _, mark = template.partition("^")
    transposed = mark == "T" and parameter.ndim == 2
    keys_of_slices = list(zip(*map(_expand_braces, alternatives(template)), strict=True))
    copies = tuple(template.split("&")[1:])
    if parameter.ndim == 0:
        return [CheckpointSlice(keys_of_slices[0], (0, 0), (), False)]
    slices, first = [], 0
    sizes = _slice_sizes(model, name, len(keys_of_slices), parameter)
    for size, keys in zip(sizes, keys_of_slices, strict=True):
        shape = (size, *parameter.shape[1:])
        if mark == "V":
            shape = next(stored for end, stored in shapes.items() if keys[0].endswith(end))
        shape = shape[::-1] if transposed else shape
        heads = _attention(model, name).heads[0] if mark == "H" else None
        rows = first, first + size
        slices.append(CheckpointSlice(keys, rows, shape, transposed, heads, copies))
        first += size
    return slices


def _expand_braces(text: str) -> Iterator[str]:
    """Yield a.b.d and a.c.d for `a.{b,c}.d`."""
    braces = re.search(r"\{(.*?)\}", text)
    if braces is None:
        yield text
    else:
        for choice in braces[1].split(","):
            yield text.replace(braces[0], choice)


def _slice_sizes(model: nn.Module, name: str, count: int, parameter: Tensor) -> list[int]:
    """Return the rows of each slice: those of queries, keys and values, or equal shares."""
    if count == 3:
        attention = _attention(model, name)
        return [heads * attention.head_dim for heads in attention.heads]
    return [len(parameter) // count] * count


def _attention(model: nn.Module, name: str) -> Any:
    """Return the attention module that has the parameter `name` in its map to q, k and v."""
    return model.get_submodule(name.rsplit(".", 2)[0])


def _matches(pattern: str, key: str) -> bool:
    """Whether a key is one of a table's entry, with any block number and suffix."""
    pattern = pattern.partition("^")[0]
    for alternative in alternatives(pattern):
        text = re.escape(alternative).replace(r"\#", r"\d+").replace(r"\*", ".+")
        text = re.sub(r"\\\{(.*?)\\\}", lambda m: f"({'|'.join(m[1].split(','))})", text)
        if re.fullmatch(text, key):
            return True
    return False
