"""The numba decorator, with and without a cache folder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numba
import pytest

from graphformer.jit import cached_njit


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


def _triple(x: int) -> int:
    return 3 * x


@pytest.mark.parametrize("suffix", ["nbc", "nbi"])
def test_a_damaged_cache_is_compiled_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path, suffix: str
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    assert cached_njit(_triple)(7) == 21
    files = list(tmp_path.rglob(f"*.{suffix}"))
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[:40])
    with caplog.at_level(logging.WARNING, logger="graphformer"):
        assert cached_njit(_triple)(7) == 21
    assert "the cached kernel _triple is damaged" in caplog.text
    caplog.clear()
    again = cached_njit(_triple)
    assert again(7) == 21
    assert sum(again.stats.cache_hits.values()) == 1
    assert not caplog.text
