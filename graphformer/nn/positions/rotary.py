"""Rotary position encoding: queries and keys are rotated by angles proportional to position."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from graphformer.adjacency import Adjacency
from graphformer.nn.options import LayerOptions, Rotation
from graphformer.ops.offset_bias import default_positions


class Rotary(nn.Module):
    """Rotary positions in the layout of Hugging Face's models: dimension i pairs with i + W / 2.

    Pair i of a head at position p is rotated by the angle p / base^(2i / W), so that the product of
    a query and a key depends on the difference of their positions only.

    Args:
        width: number W of leading dimensions of each head that are rotated; others are unchanged.
        base: of the wavelengths.
        axes: 1 for sequences; with 2, half of the pairs follow the row and half the column.
        scaling: lengthens long wavelengths for contexts longer than those of the training, as in
            Llama 3: `factor`, `low_freq_factor`, `high_freq_factor` and
            `original_max_position_embeddings`. With `factor` alone it lengthens all wavelengths;
            with `beta_fast` and `beta_slow` it is YaRN.
        magnitude: factor of cosines and sines; 1 by default, others belong to YaRN.

    Raises:
        ValueError: when `width` is not a multiple of 2 for each axis.

    Source: Su et al., 2021, "RoFormer", section 3.2.2; Dubey et al., 2024, "The Llama 3 herd";
    Peng et al., 2023, "YaRN", sections 3.2 to 3.4.
    """

    def __init__(
        self,
        width: int,
        *,
        base: float = 10_000.0,
        axes: int = 1,
        scaling: Mapping[str, float] | None = None,
        magnitude: float = 1.0,
    ) -> None:
        super().__init__()
        if width < 2 * axes or width % (2 * axes):
            raise ValueError(
                f"width: got {width}, expected a multiple of {2 * axes} for {axes} axes"
            )
        self.width, self.base, self.axes = width, base, axes
        self.scaling = None if scaling is None else dict(scaling)
        self.magnitude = magnitude

    def forward(self, positions: Tensor | None, adjacency: Adjacency) -> LayerOptions:
        """Return the option `rotary` of attention, cosines and sines [N, 1, W].

        Args:
            positions: [N] or [N, axes]; by default the index of each node in its sample.
            adjacency: N x N.

        Raises:
            ValueError: when the positions have another number of axes.
        """
        if positions is None:
            positions = default_positions(adjacency)[0]
        columns = positions.unsqueeze(1) if positions.ndim == 1 else positions.flatten(1)
        if columns.shape[1] != self.axes:
            raise ValueError(
                f"positions: got shape {tuple(positions.shape)}, expected {self.axes} axes"
            )
        # In float32 for models of any dtype, as in the models that were trained with it.
        angle = (columns.float().unsqueeze(-1) * self.frequencies(columns.device)).flatten(1)
        angle = torch.cat([angle, angle], dim=-1).unsqueeze(1)
        cos, sin = angle.cos(), angle.sin()
        if self.magnitude != 1:
            cos, sin = cos * self.magnitude, sin * self.magnitude
        return {"rotary": (cos, sin)}

    def frequencies(self, device: torch.device | None = None) -> Tensor:
        """Return the angle per position of each pair of an axis, float32 [W / 2 / axes]."""
        width = self.width // self.axes
        exponent = torch.arange(0, width, 2, dtype=torch.int64, device=device).float() / width
        frequency = 1.0 / self.base**exponent
        if self.scaling is None:
            return frequency
        if "beta_fast" in self.scaling:
            return _interpolated(frequency, self.base, **self.scaling)
        return _scaled(frequency, **self.scaling)

    def extra_repr(self) -> str:
        """Return the settings that `print` shows."""
        return f"{self.width}, base={self.base}, axes={self.axes}"


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotate the first W dimensions of each head of x [N, H, D].

    Raises:
        ValueError: when heads are narrower than W.
    """
    cos, sin = (part.to(x.dtype) for part in rotation)
    width = cos.shape[-1]
    if width > x.shape[-1]:
        raise ValueError(
            f"rotary: got a width of {width}, expected at most that of a head, {x.shape[-1]}"
        )
    rotated, rest = x.split([width, x.shape[-1] - width], dim=-1)
    first, second = rotated.chunk(2, dim=-1)
    rotated = rotated * cos + torch.cat([-second, first], dim=-1) * sin
    return torch.cat([rotated, rest], dim=-1) if rest.shape[-1] else rotated


def _scaled(
    frequency: Tensor,
    factor: float,
    low_freq_factor: float | None = None,
    high_freq_factor: float = 4.0,
    original_max_position_embeddings: float = 8192,
) -> Tensor:
    """Return frequencies divided by the factor for long wavelengths, unchanged for short ones.

    Wavelengths are compared with the original context, in turns per context: below
    `low_freq_factor` turns is long, above `high_freq_factor` short, and linear in between.
    """
    if low_freq_factor is None:
        return frequency / factor
    turns = original_max_position_embeddings / (2 * math.pi / frequency)
    unscaled = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0, 1)
    return (1 - unscaled) * frequency / factor + unscaled * frequency


def _interpolated(
    frequency: Tensor,
    base: float,
    factor: float,
    beta_fast: float,
    beta_slow: float,
    original_max_position_embeddings: float,
    truncate: float = True,
) -> Tensor:
    """Return YaRN's frequencies, which go linearly from unchanged ones to those by the factor.

    Pairs that turn more than `beta_fast` times in the original context are unchanged, pairs with
    fewer than `beta_slow` turns are divided by the factor. `truncate` rounds the two numbers of
    pairs outwards.
    """
    count = len(frequency)

    def pair(turns: float) -> float:
        """The number of the pair with that many turns, base^(-pair / count) L / 2 pi = turns."""
        length = original_max_position_embeddings
        return count * math.log(length / (turns * 2 * math.pi)) / math.log(base)

    first, last = pair(beta_fast), pair(beta_slow)
    if truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, 2 * count - 1)
    numbers = torch.arange(count, dtype=torch.float32, device=frequency.device)
    divided = ((numbers - first) / max(last - first, 1e-3)).clamp(0, 1)
    return (1 - divided) * frequency + divided * frequency / factor
