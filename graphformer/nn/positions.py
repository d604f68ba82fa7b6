"""Where nodes are, as something to add to what they are: learned or sinusoidal."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor, nn


def sinusoidal(positions: Tensor, dim: int, *, base: float = 10_000.0) -> Tensor:
    """Sinusoidal encoding of positions.

    PE(pos, 2i) = sin(pos / base^(2i / dim)) and PE(pos, 2i + 1) the cosine. PE(pos + k) is a
    linear map of PE(pos).

    Args:
        positions: any numbers, [N].
        dim: width C; must be even.

    Returns:
        float32 [N, C].

    Raises ValueError for an odd width. Source: Vaswani et al., 2017, section 3.5.
    """
    if dim % 2:
        raise ValueError(f"dim must be even for sines and cosines in pairs, got {dim}")
    # float64 keeps the angles of late positions exact; the result is rounded once.
    frequency = base ** -(torch.arange(0, dim, 2, device=positions.device).double() / dim)
    angle = positions.double().unsqueeze(-1) * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2).float()


class Positions(nn.Module):
    """An encoding of each node's place in its sample, learned or sinusoidal.

    With places on a grid, half of the width encodes the row and half the column if sinusoidal;
    a learned encoding is the sum of one for the row and one for the column.

    Args:
        dim: width C; even for sinusoidal places in a sequence, a multiple of 4 on a grid.
        max_length: how many places a learned encoding has, along each axis.
        axes: 1 for sequences, 2 for grids.
        learned: whether to learn it.
        offset: rows of a learned table that come before the first place, as RoBERTa has them.

    Source: Vaswani et al., 2017; on grids: He et al., 2022 (MAE), appendix A.
    """

    def __init__(
        self,
        dim: int,
        max_length: int = 0,
        *,
        axes: int = 1,
        learned: bool = True,
        offset: int = 0,
    ) -> None:
        super().__init__()
        if dim % (1 if learned else 2 * axes):
            raise ValueError(f"dim must be a multiple of {2 * axes} for {axes} axes, got {dim}")
        if learned and max_length < 1:
            raise ValueError(f"max_length must be at least 1 to learn places, got {max_length}")
        self.dim, self.max_length, self.axes, self.offset = dim, max_length, axes, offset
        rows = max_length + offset
        self.tables = (
            nn.ModuleList(nn.Embedding(rows, dim) for _ in range(axes)) if learned else None
        )

    def forward(self, positions: Tensor) -> Tensor:
        """Places, int64 [N] or [N, axes] -> [N, C].

        Raises ValueError for another number of axes, and for places past `max_length` to learn.
        """
        places = positions.reshape(len(positions), -1)
        if places.shape[1] != self.axes:
            raise ValueError(
                f"positions must have {self.axes} axes, got shape {tuple(positions.shape)}"
            )
        columns = places.unbind(1)
        if self.tables is None:
            width = self.dim // self.axes
            return torch.cat([sinusoidal(column, width) for column in columns], dim=-1)
        self._check(places)
        columns = tuple(column + self.offset for column in columns) if self.offset else columns
        parts = (table(column) for table, column in zip(self.tables, columns, strict=True))
        return reduce(torch.add, parts)

    def _check(self, places: Tensor) -> None:
        if self.tables is None or torch.compiler.is_compiling() or not places.numel():
            return
        last, known = int(places.max()), self.max_length
        if last >= known:
            raise ValueError(
                f"positions reach {last}, but with max_length {known} the last one learned is "
                f"{known - 1}: shorten the samples, or build the model with a larger max_length"
            )
