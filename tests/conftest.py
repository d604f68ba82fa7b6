"""Fixtures for all tests: real data, a private cache folder, memory that is never zero by luck."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data: $GRAPHFORMER_DATA, else ../shared/data beside the project."""
    return Path(os.environ.get("GRAPHFORMER_DATA") or ROOT.parent / "shared" / "data").absolute()


@pytest.fixture
def real_data(data_root: Path) -> Callable[[str], Path]:
    """`real_data("tu/MUTAG")` gives that path under the data root, or skips the test naming it."""

    def find(name: str) -> Path:
        path = data_root / name
        if not path.exists():
            pytest.skip(f"needs the data {name}, which is not in {data_root}")
        return path

    return find


@pytest.fixture
def linked_data(real_data: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """`linked_data("tu/MUTAG/raw", ...)` gives a data root in which only these files are."""

    def link(*names: str) -> Path:
        root = tmp_path / "data"
        for name in names:
            source, target = real_data(name), root / name
            files = [source] if source.is_file() else list(source.iterdir())
            folder = target.parent if source.is_file() else target
            folder.mkdir(parents=True, exist_ok=True)
            for file in files:
                (folder / file.name).symlink_to(file)
        return root

    return link


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what tests make from data out of the user's cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def no_global_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the seed that `seed_everything` of an earlier test left to new processes."""
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)


@pytest.fixture(autouse=True)
def nan_in_fresh_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill uninitialised tensors with NaN, or with a number far out of range.

    torch does so itself only with deterministic algorithms on, which would hide what tests of
    repeatability look for; so its functions that allocate are wrapped instead.
    """
    for owner, name in [
        (torch, "empty"),
        (torch, "empty_like"),
        (torch, "empty_strided"),
        (torch.Tensor, "new_empty"),
    ]:
        monkeypatch.setattr(owner, name, _filled(getattr(owner, name)))


def _filled(allocate: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    @functools.wraps(allocate)
    def filled(*args: Any, **kwargs: Any) -> torch.Tensor:
        tensor = allocate(*args, **kwargs)
        if torch.compiler.is_compiling() or type(tensor) is not torch.Tensor:
            return tensor
        with torch.no_grad():
            if tensor.is_floating_point() or tensor.is_complex():
                return tensor.fill_(float("nan"))
            if tensor.dtype != torch.bool and not tensor.is_quantized:
                return tensor.fill_(torch.iinfo(tensor.dtype).max)
        return tensor

    return filled


# Machines differ in speed, so no example has a deadline.
hypothesis.settings.register_profile("graphformer", deadline=None, max_examples=30)
hypothesis.settings.load_profile("graphformer")
