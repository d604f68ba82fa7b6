"""The numba decorator, with and without a cache folder."""

from __future__ import annotations

import logging
from typing import Any

import numba
import pytest

from graphformer.data.graph.kernels.jit import cached_njit


def test_without_a_cache_folder_it_compiles_and_warns(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    njit = numba.njit

    def without_cache(function: Any, *, cache: bool = False, **options: Any) -> Any:
        if cache:
            raise RuntimeError("cannot cache function 'double': no locator available")
        return njit(function, **options)

    monkeypatch.setattr(numba, "njit", without_cache)
    with caplog.at_level(logging.WARNING, logger="graphformer"):
        double = cached_njit(lambda x: 2 * x)
    assert double(7) == 14
    assert "set NUMBA_CACHE_DIR to a writable folder" in caplog.text
