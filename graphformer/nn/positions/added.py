"""Position encodings that are added to node features, learned or sinusoidal."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor, nn


def sinusoidal(positions: Tensor, dim: int, *, base: float = 10_000.0) -> Tensor:
    """Return the sinusoidal encoding of positions.

    PE(pos, 2i) = sin(pos / base^(2i / dim)), and PE(pos, 2i + 1) is the cosine. PE(pos + k) is a
    linear map of PE(pos).

    Args:
        positions: numbers, [N].
        dim: width C; must be even.
        base: of the wavelengths.

    Returns:
        float32 [N, C].

    Raises:
        ValueError: when `dim` is odd.

    Source: Vaswani et al., 2017, section 3.5.
    """
    if dim % 2:
        raise ValueError(f"dim: got {dim}, expected an even number for pairs of sine and cosine")
    # float64: the angles of large positions are exact, and the result is rounded once.
    frequency = base ** -(torch.arange(0, dim, 2, device=positions.device).double() / dim)
    angle = positions.double().unsqueeze(-1) * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2).float()


class Positions(nn.Module):
    """An encoding of the position of each node in its sample, learned or sinusoidal.

    On a grid, half of a sinusoidal encoding is that of the row and half that of the column; a
    learned encoding is the sum of one for the row and one for the column.

    Args:
        dim: width C; if sinusoidal, even for sequences and a multiple of 4 for grids.
        max_length: number of learned positions, along each axis.
        axes: 1 for sequences, 2 for grids.
        learned: whether the encoding is learned.
        offset: number of rows of a learned table before that of position 0, as in RoBERTa.

    Raises:
        ValueError: when `dim` does not fit the axes, or a learned encoding has no positions.

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
            raise ValueError(f"dim: got {dim}, expected a multiple of {2 * axes} for {axes} axes")
        if learned and max_length < 1:
            raise ValueError(
                f"max_length: got {max_length}, expected at least 1 for learned positions"
            )
        self.dim, self.max_length, self.axes, self.offset = dim, max_length, axes, offset
        rows = max_length + offset
        self.tables = (
            nn.ModuleList(nn.Embedding(rows, dim) for _ in range(axes)) if learned else None
        )

    def forward(self, positions: Tensor) -> Tensor:
        """Return the encoding [N, C] of positions, int64 [N] or [N, axes].

        Raises:
            ValueError: when the number of axes differs, or a learned position is too large.
        """
        grid = positions.unsqueeze(1) if positions.ndim == 1 else positions.flatten(1)
        if grid.shape[1] != self.axes:
            raise ValueError(
                f"positions: got shape {tuple(positions.shape)}, expected {self.axes} axes"
            )
        columns = grid.unbind(1)
        if self.tables is None:
            width = self.dim // self.axes
            return torch.cat([sinusoidal(column, width) for column in columns], dim=-1)
        self._check_range(grid)
        columns = tuple(column + self.offset for column in columns) if self.offset else columns
        parts = (table(column) for table, column in zip(self.tables, columns, strict=True))
        return reduce(torch.add, parts)

    def _check_range(self, grid: Tensor) -> None:
        if torch.compiler.is_compiling() or not grid.numel():
            return
        last = int(grid.max())
        if last >= self.max_length:
            raise ValueError(
                f"positions: got {last}, expected at most {self.max_length - 1}, the last learned "
                "one; shorten the samples, or build the model with a larger max_length"
            )
