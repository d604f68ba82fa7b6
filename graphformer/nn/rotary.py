"""Rotary positions: queries and keys turned by angles that grow with their place."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from graphformer.adjacency import Adjacency
from graphformer.nn.options import LayerOptions, Rotation
from graphformer.ops.offset_bias import places


class Rotary(nn.Module):
    """Rotary positions, in the layout of Hugging Face's models: dimension i pairs with i + W / 2.

    Pair i of a head at place p is turned by the angle p / base^(2i / W), so that products of
    queries and keys depend on their places only through the difference.

    Args:
        width: W, how much of each head is turned, from its start; the rest stays as it is.
        base: of the wavelengths.
        axes: 1 for sequences; with 2, half of the width follows the row and half the column.
        scaling: stretches long wavelengths for contexts longer than those trained on, as Llama 3
            does: the numbers `factor`, `low_freq_factor`, `high_freq_factor` and
            `original_max_position_embeddings`. With `factor` alone all are stretched.

    Raises ValueError for a width that is no multiple of 2 for each axis.

    Source: Su et al., 2021, "RoFormer", section 3.2.2; Dubey et al., 2024, "The Llama 3 herd".
    """

    def __init__(
        self,
        width: int,
        *,
        base: float = 10_000.0,
        axes: int = 1,
        scaling: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        if width < 2 * axes or width % (2 * axes):
            raise ValueError(f"width must be a multiple of {2 * axes} for {axes} axes, got {width}")
        self.width, self.base, self.axes = width, base, axes
        self.scaling = None if scaling is None else dict(scaling)

    def forward(self, positions: Tensor | None, adjacency: Adjacency) -> LayerOptions:
        """The option of every attention that turns its queries and keys.

        Args:
            positions: places, [N] or [N, axes]; by default the place of each node in its sample.
            adjacency: N x N.
        """
        if positions is None:
            positions = places(adjacency)[0]
        columns = positions.reshape(len(positions), -1)
        if columns.shape[1] != self.axes:
            raise ValueError(
                f"positions must have {self.axes} axes, got shape {tuple(positions.shape)}"
            )
        # In float32 whatever the model's dtype, as in the models that were trained with it.
        angle = (columns.float().unsqueeze(-1) * self.frequencies(columns.device)).flatten(1)
        angle = torch.cat([angle, angle], dim=-1).unsqueeze(1)
        return {"rotary": (angle.cos(), angle.sin())}

    def frequencies(self, device: torch.device | None = None) -> Tensor:
        """The angle of one place for each pair of an axis, float32 [W / 2 / axes]."""
        width = self.width // self.axes
        exponent = torch.arange(0, width, 2, dtype=torch.int64, device=device).float() / width
        frequency = 1.0 / self.base**exponent
        return frequency if self.scaling is None else _scaled(frequency, **self.scaling)

    def extra_repr(self) -> str:
        """What is printed of it."""
        return f"{self.width}, base={self.base}, axes={self.axes}"


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn the first W dimensions of each head, x [N, H, D].

    Raises ValueError for heads narrower than W.
    """
    cos, sin = (part.to(x.dtype) for part in rotation)
    width = cos.shape[-1]
    if width > x.shape[-1]:
        raise ValueError(f"rotary turns {width} dimensions, but a head has {x.shape[-1]}")
    turned, rest = x.split([width, x.shape[-1] - width], dim=-1)
    first, second = turned.chunk(2, dim=-1)
    turned = turned * cos + torch.cat([-second, first], dim=-1) * sin
    return torch.cat([turned, rest], dim=-1) if rest.shape[-1] else turned


def _scaled(
    frequency: Tensor,
    factor: float,
    low_freq_factor: float | None = None,
    high_freq_factor: float = 4.0,
    original_max_position_embeddings: float = 8192,
) -> Tensor:
    """Long wavelengths divided by the factor, short ones kept, those between blended."""
    if low_freq_factor is None:
        return frequency / factor
    turns = original_max_position_embeddings / (2 * math.pi / frequency)
    kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0, 1)
    return (1 - kept) * frequency / factor + kept * frequency
