"""Our names of tensors into theirs, by a family's table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from graphformer.pretrained.families import Family, Kind, Table

Views = Mapping[str, tuple[int, ...]]


class CheckpointSlice(NamedTuple):
    """Rows of a parameter of ours, and the tensor of theirs that they are.

    Attributes:
        names: of the tensor there, the first of which is written.
        rows: of the parameter, from and to.
        shape: of the tensor there.
        transposed: whether it is stored with rows and columns exchanged.
    """

    names: tuple[str, ...]
    rows: tuple[int, int]
    shape: tuple[int, ...]
    transposed: bool


class ParameterMap(NamedTuple):
    """A parameter of ours, under all names that it has here, and the parts that it consists of."""

    names: tuple[str, ...]
    parameter: nn.Parameter
    parts: tuple[CheckpointSlice, ...]


def map_parameters(
    model: nn.Module, family: Family, kind: Kind, views: Views
) -> Iterator[ParameterMap]:
    """Every parameter of a model, and where it lies in a checkpoint of the family.

    Args:
        model: of the family.
        family: its tables.
        kind: of the model's head.
        views: the shapes of tensors marked `^V`.

    Their names have the trunk's prefix where the model has a head.
    """
    headless = kind in ("none", "embedding")
    prefix = "" if headless or not family.prefix else f"{family.prefix}."
    trunk = {ours: f"{prefix}{theirs}" for ours, theirs in family.trunk.items()}
    table = {**trunk, **family.heads.get(kind, {})}
    names: dict[nn.Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    for parameter, own in names.items():
        # A tied tensor may be stored under any of its names.
        found = [_parts(model, parameter, name, _entry(table, name), views) for name in own]
        merged = found[0]
        for other in found[1:]:
            merged = [
                part._replace(names=part.names + more.names)
                for part, more in zip(merged, other, strict=True)
            ]
        yield ParameterMap(tuple(own), parameter, tuple(merged))


def canonical_key(name: str, family: Family) -> str:
    """A name without the trunk's prefix, which some files have and some have not."""
    name = name.removeprefix(f"{family.prefix}.") if family.prefix else name
    name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)  # of BERT's first files
    return re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)


def is_known_key(name: str, family: Family) -> bool:
    """Whether a canonical name is of a part that the family has, but not this model: a head.

    Blocks are none: what they hold besides what the config asks for would make a difference.
    """
    tables: list[Table] = [family.trunk, *family.heads.values()]
    names = [theirs for table in tables for theirs in table.values() if "#" not in theirs]
    patterns = [*(canonical_key(theirs, family) for theirs in names), *family.known]
    return any(_matches(pattern, name) for pattern in patterns)


def _entry(table: Table, name: str) -> str:
    """Their name of our tensor, with what remains to be filled in."""
    number = re.search(r"blocks\.(\d+)\.", name)
    general = re.sub(r"blocks\.\d+\.", "blocks.#.", name)
    stem, _, last = general.rpartition(".")
    theirs = table[general] if general in table else table[f"{stem}.*"].replace("*", last)
    return theirs if number is None else theirs.replace("#", number[1])


def _parts(
    model: nn.Module, parameter: nn.Parameter, name: str, theirs: str, views: Views
) -> list[CheckpointSlice]:
    theirs, _, mark = theirs.partition("^")
    transposed = mark == "T" and parameter.ndim == 2
    named = list(zip(*map(_expanded, theirs.split("|")), strict=True))
    if parameter.ndim == 0:
        return [CheckpointSlice(named[0], (0, 0), (), False)]
    parts, first = [], 0
    for size, options in zip(_sizes(model, name, len(named), parameter), named, strict=True):
        shape = (size, *parameter.shape[1:])
        if mark == "V":
            shape = next(view for end, view in views.items() if options[0].endswith(end))
        shape = shape[::-1] if transposed else shape
        parts.append(CheckpointSlice(options, (first, first + size), shape, transposed))
        first += size
    return parts


def _expanded(text: str) -> Iterator[str]:
    """`a.{b,c}.d` as a.b.d and a.c.d."""
    braces = re.search(r"\{(.*?)\}", text)
    if braces is None:
        yield text
    else:
        for choice in braces[1].split(","):
            yield text.replace(braces[0], choice)


def _sizes(model: nn.Module, name: str, count: int, parameter: Tensor) -> list[int]:
    """The rows of each tensor that is part of one of ours: queries, keys, values, or halves."""
    if count == 3:
        attention: Any = model.get_submodule(name.rsplit(".", 2)[0])
        return [heads * attention.head_dim for heads in attention.heads]
    return [len(parameter) // count] * count


def _matches(pattern: str, name: str) -> bool:
    pattern = pattern.partition("^")[0]
    for alternative in pattern.split("|"):
        text = re.escape(alternative).replace(r"\#", r"\d+").replace(r"\*", ".+")
        text = re.sub(r"\\\{(.*?)\\\}", lambda m: f"({'|'.join(m[1].split(','))})", text)
        if re.fullmatch(text, name):
            return True
    return False


def stored(parameter: Tensor, part: CheckpointSlice) -> Tensor:
    """What is written of a parameter for a part of it."""
    if not part.shape:
        return parameter.detach().clone()
    rows = parameter.detach()[part.rows[0] : part.rows[1]]
    return (rows.T if part.transposed else rows.reshape(part.shape)).contiguous()


def rows_of(parameter: Tensor, part: CheckpointSlice) -> Tensor:
    """The rows of a parameter that a part is, in the shape of what is stored."""
    if not part.shape:
        return parameter
    rows = parameter[part.rows[0] : part.rows[1]]
    return rows.T if part.transposed else rows.view(part.shape)
