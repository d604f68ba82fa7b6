"""Fresh numpy memory is NaN, too: the scratch of the kernels is numpy's."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def nan_in_fresh_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels' scratch is numpy's: fill it with NaN, as conftest does torch's memory."""
    empty = np.empty

    def filled(*args: object, **kwargs: object) -> np.ndarray:
        array = empty(*args, **kwargs)  # type: ignore[call-overload]
        array.view(np.uint8).fill(255)
        return array

    monkeypatch.setattr(np, "empty", filled)
