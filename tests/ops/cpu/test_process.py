"""The CPU kernels as a citizen of processes: kept code, forked workers, a numba that is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from graphformer.ops import cpu

FOLDER = Path(cpu.__file__).parent

ATTEND = """
import sys
import torch
import graphformer as gf
from graphformer.ops import cpu

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


def _python(code: str, **environment: str) -> None:
    subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=240, env={**os.environ, **environment}
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that can fork")
def test_forked_workers_with_several_threads_do_not_hang() -> None:
    _python(ATTEND + WORKERS)


@pytest.mark.slow
def test_processes_that_compile_at_once_and_the_next_one(tmp_path: Path) -> None:
    code = [sys.executable, "-c", ATTEND + "attend(2)"]
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    both = [subprocess.Popen(code, env=environment) for _ in range(2)]
    assert [process.wait(240) for process in both] == [0, 0]
    kept = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.nbc")}
    assert kept
    subprocess.run(code, check=True, timeout=240, env=environment)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.nbc")} == kept


def test_an_edit_of_any_source_changes_the_fingerprint(tmp_path: Path) -> None:
    from graphformer.ops.cpu.kernel_cache import fingerprint

    seen = {fingerprint(FOLDER)}
    for source in sorted(FOLDER.glob("*.py")):
        copy = tmp_path / source.stem
        shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("__pycache__"))
        assert fingerprint(copy) in seen
        with (copy / source.name).open("a") as file:
            file.write("# edited\n")
        fingerprint.cache_clear()
        seen.add(fingerprint(copy))
    assert len(seen) == 1 + len(list(FOLDER.glob("*.py")))


def test_kernels_for_other_widths_and_sources_never_share_a_file() -> None:
    from graphformer.ops.cpu.kernel_cache import compile_cached, fingerprint

    def names(*constants: int) -> str:
        def kernel() -> None: ...

        compile_cached(lambda *_, **__: lambda function: function, None, kernel, *constants)
        return kernel.__qualname__

    assert len({names(0, 8), names(1, 8), names(0, 16)}) == 3
    assert names(0, 8) == names(0, 8)
    assert fingerprint(FOLDER) in names(0, 8)


def test_code_of_other_sources_is_removed(tmp_path: Path) -> None:
    from graphformer.ops.cpu.kernel_cache import fingerprint, remove_outdated

    current = tmp_path / f"forward_0_{fingerprint(FOLDER)}_0-1.py311.1.nbc"
    outdated = [tmp_path / "forward_0_0123456789ab_0-1.py311.nbi", tmp_path / "forward-1.nbc"]
    other = tmp_path / "forward.cpython-311.pyc"
    for file in (current, *outdated, other):
        file.touch()
    remove_outdated(tmp_path)
    assert set(tmp_path.iterdir()) == {current, other}


def test_without_a_folder_to_write_kernels_are_compiled_anyway(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from graphformer.ops.cpu.kernel_cache import compile_cached

    def decorate(signature: object, cache: bool = False):  # type: ignore[no-untyped-def]
        if cache:
            raise RuntimeError("no locator available")
        return lambda function: function

    def kernel() -> None: ...

    assert compile_cached(decorate, None, kernel) is kernel
    assert "set NUMBA_CACHE_DIR" in caplog.text


def test_a_numba_that_does_not_load_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import graphformer as gf

    monkeypatch.delattr(cpu, "driver", raising=False)
    monkeypatch.setitem(sys.modules, "graphformer.ops.cpu.driver", None)
    score, v = torch.ones(5, 2), torch.ones(5, 2, 3)
    for backend in ("cpu", "auto"):
        with pytest.raises(ImportError, match=r"cpu backend needs numba.*pip install"):
            gf.additive_attention(score, score, v, gf.window(5, 1), backend=backend)
