"""Imports the modules that run the kernels, which load numba, on the first call."""

from __future__ import annotations

from types import ModuleType
from typing import Protocol

from torch import Tensor

from graphformer.ops.fused.operands import Driver


class CPUDriver(Driver, Protocol):
    """The driver of this backend, which also has dropout of plain tensors."""

    def dropout(self, x: Tensor, probability: float, seed: Tensor) -> Tensor:
        """Return x with elements dropped and the others scaled."""


def load_driver() -> CPUDriver:
    """Import the module that runs the kernels.

    Raises:
        ImportError: when numba does not load.
    """
    try:
        from graphformer.ops.cpu import driver
    except (ImportError, OSError) as error:
        raise ImportError(
            f"the cpu backend needs numba, which does not load ({error}); reinstall it with "
            "`pip install --force-reinstall numba`, or choose backend='scatter'"
        ) from error
    return driver


def load_complete_driver() -> ModuleType:
    """Import the module that runs the kernels for complete samples.

    Raises:
        ImportError: when numba does not load.
    """
    load_driver()
    from graphformer.ops.cpu import complete_driver

    return complete_driver
