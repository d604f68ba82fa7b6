"""Work items and threads: how rows are divided, equal bits, several threads, forked workers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
import torch
from helpers.cpu_cases import (
    FUNCTIONS,
    HUB,
    OPTIONS,
    PLAIN,
    assert_same_bits,
    attention_options,
    function_options,
    inputs,
    results,
)

from graphformer.ops import cpu
from graphformer.ops.cpu.kernels.argument_table import CHUNK
from graphformer.ops.cpu.launch import WorkItems

ATTEND = """
import sys
import torch
import graphformer as gf
from graphformer.ops import cpu
from graphformer.ops.cpu.kernels.argument_table import CHUNK
from graphformer.ops.cpu.launch import WorkItems

adjacency = gf.window([3_001], 2).to_csr()

def attend(threads):
    torch.set_num_threads(threads)
    torch.manual_seed(3)
    q = torch.randn(3_001, 2, 7)
    return gf.attention(q, q, q, adjacency, backend="cpu")
"""
WORKERS = """
from torch.utils.data import DataLoader, Dataset

class Items(Dataset):
    def __len__(self):
        return 5

    def __getitem__(self, index):
        return attend(2)

expected = attend(2)
for out in DataLoader(Items(), batch_size=None, num_workers=2, multiprocessing_context="fork"):
    assert torch.equal(out, expected)
assert torch.equal(attend(2), expected)
"""


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize(
    "degrees",
    [
        [],
        [0],
        [0] * 2_503,
        [3] * 1_009,
        [CHUNK],
        [CHUNK + 1],
        [2 * CHUNK],
        [5, 7 * CHUNK + 11, 0, 0, CHUNK - 1, 2, 3 * CHUNK, 13],
    ],
    ids=["no rows", "empty", "empty rows", "even", "full", "split", "two full parts", "mixed"],
)
def test_work_items_cover_each_edge_once_and_rows_in_order(degrees, dtype):
    indptr = torch.tensor([0, *degrees]).cumsum(0).to(dtype)
    work = WorkItems(indptr, sum(degrees))
    slots, rows, parts = [], [], []
    for first_row, end_row, first_slot, end_slot, part in work.items.tolist():
        for row in range(first_row, end_row):
            begin = max(int(indptr[row]), first_slot)
            slots += range(begin, min(int(indptr[row + 1]), end_slot))
        assert end_slot - first_slot <= CHUNK or part < 0
        if part < 0:
            rows += range(first_row, end_row)
            assert all(degrees[row] <= CHUNK for row in range(first_row, end_row))
        else:
            assert end_row == first_row + 1
            parts.append(part)
            rows += [first_row] if not rows or rows[-1] != first_row else []
    assert slots == list(range(sum(degrees)))
    assert rows == list(range(len(degrees)))
    assert parts == list(range(work.num_parts))
    hubs = [row for row, degree in enumerate(degrees) if degree > CHUNK]
    assert work.hubs[:, 0].tolist() == hubs
    counts = (work.hubs[:, 2] - work.hubs[:, 1]).tolist()
    assert counts == [-(-degrees[row] // CHUNK) for row in hubs]


@pytest.fixture
def threads():  # type: ignore[no-untyped-def]
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_same_bits_for_any_number_of_threads(function: str, threads) -> None:  # type: ignore[no-untyped-def]
    tensors, own = inputs(function, HUB), function_options(function, HUB)
    options = attention_options(HUB, OPTIONS["bias and edge weight"])
    several = []
    for number in (1, 2, 3, 2):
        threads(number)
        several.append(results(cpu, function, tensors, HUB, **own, **options))
    assert_same_bits(several)


def test_python_threads_may_run_kernels_at_once(threads) -> None:  # type: ignore[no-untyped-def]
    threads(2)
    tensors = inputs("attention", HUB)
    several = [None] * 5

    def work(i: int) -> None:
        for _ in range(3):
            several[i] = results(cpu, "attention", tensors, HUB, scale=0.37, **PLAIN)

    workers = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(1, 5)]
    for worker in workers:
        worker.start()
    work(0)
    for worker in workers:
        worker.join(60)
        assert not worker.is_alive()
    assert_same_bits([x for x in several if x is not None])
    assert None not in several


@pytest.mark.parametrize("number", [1, 3])
def test_the_kernels_do_not_change_the_number_of_threads_of_torch(number: int) -> None:
    code = f"""
import torch
torch.set_num_threads({number})
import graphformer as gf
q = torch.randn(3_001, 2, 7)
for _ in range(2):  # the first call loads the kernels
    gf.attention(q, q, q, gf.window([3_001], 2).to_csr(), backend="cpu")
    assert torch.get_num_threads() == {number}
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=240)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that can fork")
def test_forked_workers_with_several_threads_do_not_hang() -> None:
    subprocess.run([sys.executable, "-c", ATTEND + WORKERS], check=True, timeout=240)
