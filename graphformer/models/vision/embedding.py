"""Patch embeddings built from names, and the conversion of the arguments of earlier releases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar, cast

from torch import nn

from graphformer.deprecated import converted_arguments, renamed_value
from graphformer.nn import Positions
from graphformer.nn.patches import Convolutions, GridPositions, PatchEmbedding

PatchPositions = Literal["axial", "learned", "sincos"]
Stem = Literal["linear", "convolutional"]
ImagePool = Literal["mean", "cls", "class"]
"""What an image is read from: its patches or its class token; "class" is the old name of "cls"."""

_F = TypeVar("_F", bound=Callable[..., Any])


def patch_embedding(
    dim: int,
    *,
    channels: int,
    patch_size: int,
    positions: PatchPositions = "axial",
    shape: tuple[int, int] | None = None,
    max_length: int = 64,
    stem: Stem = "linear",
    stem_channels: Sequence[int] | None = None,
    stem_depth: int = 0,
    dropout: float = 0.0,
) -> PatchEmbedding:
    """Return the embedding of patches [N, channels * patch_size**2] as nodes [N, dim].

    The arguments are those of `vit`.

    Raises:
        ValueError: when positions or stem is unknown, or "learned" positions have no shape.
    """
    features: nn.Module
    encodings = patch_positions(dim, positions, shape=shape, max_length=max_length)
    num_features = channels * patch_size**2
    if stem == "linear":
        features = nn.Linear(num_features, dim)
    elif stem == "convolutional":
        features = Convolutions(
            num_features, dim, patch_size, channels=stem_channels, depth=stem_depth
        )
    else:
        raise ValueError(f"stem: got {stem!r}, expected 'linear' or 'convolutional'")
    return PatchEmbedding(features, encodings, dropout=dropout)


def patch_positions(
    dim: int, kind: PatchPositions, *, shape: tuple[int, int] | None, max_length: int
) -> nn.Module:
    """Return the position encoding of patches, from rows and columns [N, 2] to [N, dim].

    Raises:
        ValueError: when kind is unknown, or "learned" without a shape.
    """
    if kind == "learned":
        if shape is None:
            raise ValueError(
                "shape: got None, expected the rows and columns of patches for "
                "positions='learned'; pass shape, or choose 'axial' or 'sincos'"
            )
        return GridPositions(dim, shape)
    if kind in ("axial", "sincos"):
        return Positions(dim, max_length, axes=2, learned=kind == "axial")
    raise ValueError(f"positions: got {kind!r}, expected 'axial', 'learned' or 'sincos'")


def check_image_pool(pool: str) -> Literal["mean", "cls"]:
    """Return how an image is read from its nodes, "cls" for its old name "class".

    Raises:
        ValueError: when pool is neither "mean" nor "cls".
    """
    pool = renamed_value("pool", pool, {"class": "cls"})
    if pool not in ("mean", "cls"):
        raise ValueError(f"pool: got {pool!r}, expected 'mean' or 'cls'")
    return cast(Literal["mean", "cls"], pool)


def old_patch_arguments(*positional: str, stem: Stem = "linear") -> Callable[[_F], _F]:
    """Accept the arguments of earlier releases, with a FutureWarning.

    `num_features`, the width C * P**2 of a flattened patch, is now `channels` C and `patch_size` P.
    `channels`, a list of the widths of the stem's convolutions, is now `stem_channels`. A call
    whose `channels` is a number has the form of today. Without a `patch_size`, a linear stem
    treats `num_features` numbers as the channels of a patch of one pixel, which has the same
    weights.

    Args:
        positional: names of the positional arguments of the earlier form.
        stem: the default stem of the model.
    """

    def convert(old: dict[str, Any]) -> dict[str, Any] | None:
        channels = old.get("channels")
        if channels is not None and not isinstance(channels, Sequence):
            return None
        new = {name: value for name, value in old.items() if name not in _OLD}
        if channels is not None:
            new["stem_channels"] = channels
        num_features, patch_size = old.get("num_features"), old.get("patch_size")
        if num_features is None:
            return None if channels is None and "channels" not in old else new
        if patch_size is None:
            new = {**new, "channels": num_features}
            new.pop("patch_size", None)
            is_linear = bool({old.get("stem", stem), old.get("encoder")} & {"linear", "vit"})
            return {**new, "patch_size": 1} if is_linear else new
        if num_features % patch_size**2:
            raise ValueError(
                f"num_features: got {num_features}, expected a multiple of patch_size**2 = "
                f"{patch_size**2}; pass channels and patch_size"
            )
        return {**new, "channels": num_features // patch_size**2}

    return converted_arguments(convert, *positional)


_OLD = ("num_features", "channels")
