"""Tile sizes, grids and the checks of tensors; without a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="needs triton, which is for Linux")

from graphformer.ops.triton import launch
from graphformer.ops.triton.launch import power_of_two, run_items, tile_sizes
from graphformer.ops.triton.schedule import make_schedule


@pytest.fixture(autouse=True)
def compiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(launch, "INTERPRETED", False)
    tile_sizes.cache_clear()
    yield
    tile_sizes.cache_clear()


class Kernel:
    """Records the launches of a kernel."""

    arg_names = ("q", "HEADS", "D")

    def __init__(self) -> None:
        self.launches: list[tuple[Any, dict[str, Any]]] = []

    def __getitem__(self, grid: Any) -> Any:
        return lambda **arguments: self.launches.append((grid, arguments))


def test_powers_of_two() -> None:
    assert [power_of_two(n) for n in (0, 1, 2, 3, 16, 17)] == [1, 1, 2, 4, 16, 32]


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("block", [1, 16, 64, 256, 4096])
def test_a_tile_has_at_least_one_unit(block: int, long: bool) -> None:
    sizes = tile_sizes(long, block)
    assert sizes
    for size in sizes:
        assert size["UNITS"] >= 1
        assert size["UNITS"] * size["LANES"] * block <= 4096 or len(sizes) == 1
        assert all(n & (n - 1) == 0 for n in size.values())


def test_long_rows_have_more_lanes() -> None:
    for short, long in zip(tile_sizes(False, 8), tile_sizes(True, 8), strict=True):
        assert long["LANES"] == 4 * short["LANES"]


def test_small_launches_use_the_first_size_and_cover_all_units() -> None:
    kernel, schedule = Kernel(), make_schedule(torch.tensor([0, 2, 5, 5]))
    (items,) = schedule.launches
    run_items(kernel, items, schedule, 7, 16, D=5)
    ((grid, arguments),) = kernel.launches
    first = tile_sizes(False, 16)[0]
    assert {name: arguments[name] for name in first} == first
    assert (arguments["count"], arguments["CHUNK"], arguments["begins"]) == (3, 512, None)
    assert grid({"UNITS": 4}) == (6,)  # 3 rows of 7 heads, 4 units a program


def test_large_launches_are_tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, tuned = Kernel(), Kernel()
    calls: list[Any] = []

    def autotune(configs: Any, key: list[str], cache_results: bool) -> Any:
        calls.append((len(configs), key, cache_results))
        return lambda _: tuned

    monkeypatch.setattr(launch.triton, "autotune", autotune)
    sizes = tile_sizes(False, 16)
    for _ in range(2):
        launch.launch(kernel, (1,), launch.TUNED_FROM, sizes, {"D": 5})
    assert not kernel.launches
    assert len(tuned.launches) == 2
    assert calls == [(len(sizes), ["HEADS", "D"], True)]
    launch.launch(kernel, (1,), launch.TUNED_FROM, sizes, {})  # without a width: not tuned
    assert len(kernel.launches) == 1


def test_tensors_that_triton_cannot_use_are_refused() -> None:
    with pytest.raises(ValueError, match="backend: got 'triton' with tensors on cpu"):
        launch.check_device(torch.ones(3))
    with pytest.raises(ValueError, match="backend: got 'triton' with tensors on meta"):
        launch.check_device(torch.ones(3, device="meta", dtype=torch.float64))


def test_the_interpreter_refuses_float64_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "INTERPRETED", True)
    launch.check_device(torch.ones(3))
    with pytest.raises(ValueError, match="backend: got 'triton' with float64"):
        launch.check_device(torch.ones(3).double())
    assert tile_sizes(True, 16) == [{"UNITS": 128, "LANES": 16}]
