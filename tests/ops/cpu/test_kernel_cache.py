"""The cache of compiled kernels on disk: names, outdated and damaged files, many processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_an_edit_of_any_compiled_source_changes_the_fingerprint(tmp_path: Path) -> None:
    from graphformer.ops.cpu.kernel_cache import fingerprint

    seen = {fingerprint(FOLDER)}
    sources = [
        file for file in FOLDER.rglob("*.py") if file.name not in ("__init__.py", "driver.py")
    ]
    assert {file.parent for file in sources} == {
        FOLDER, FOLDER / "kernels", FOLDER / "decoding",
    }  # fmt: skip
    for source in sources:
        copy = tmp_path / source.stem
        shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("__pycache__"))
        assert fingerprint(copy) in seen
        with (copy / source.relative_to(FOLDER)).open("a") as file:
            file.write("# edited\n")
        fingerprint.cache_clear()
        seen.add(fingerprint(copy))
    assert len(seen) == 1 + len(sources)


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


def test_code_of_other_sources_is_removed_from_all_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from numba.core import config
    from numba.core.caching import FunctionCache

    from graphformer.ops.cpu import kernel_cache
    from graphformer.ops.cpu.decoding import parts
    from graphformer.ops.cpu.kernels import by_target

    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    folders = [
        Path(FunctionCache(function).cache_path)
        for function in (
            kernel_cache.kernel.__wrapped__, by_target.make_by_target, parts.rotate.py_func,
        )
    ]  # fmt: skip
    assert len(set(folders)) == 3
    for folder in folders:
        (folder / "by_target_0_0123456789ab_0-1.py311.nbi").touch()
    kernel_cache.remove_outdated_kernels()
    assert not any(any(folder.iterdir()) for folder in folders)


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


IDENTITY = """
import sys
from numba import njit
from graphformer.ops.cpu.kernel_cache import compile_cached

def double(x):
    return 2 * x

double.__module__ = "doubled"
print(compile_cached(njit, "int64(int64)", double)(21))
"""


@pytest.mark.parametrize("damage", [b"", b"no pickle", None], ids=["empty", "text", "cut"])
def test_a_damaged_file_is_replaced(damage: bytes | None, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(IDENTITY, encoding="utf-8")
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def run() -> str:
        return subprocess.run(
            [sys.executable, str(script)],
            check=True, timeout=240, env=environment, capture_output=True, text=True,
        ).stdout  # fmt: skip

    assert run() == "42\n"
    files = sorted((tmp_path / "cache").rglob("*double*.nb[ic]"))
    assert len(files) == 2
    for file in files:
        file.write_bytes(file.read_bytes()[:20] if damage is None else damage)
    assert run() == "42\n"
    assert all(file.stat().st_size > 100 for file in files)


@pytest.mark.parametrize(
    ("double", "widths", "expected"),
    [
        (False, (16, 16), (16, 16, 16)),
        (False, (8, 8), (8, 8, 8)),
        (False, (64, 64), (16, 64, 64)),
        (True, (64, 64), (8, 64, 64)),
        (False, (0, 32), (16, 0, 32)),
        (False, (16, 32), (8, 0, 0)),
        (False, (5, 5), (8, 0, 0)),
        (True, (7, 16), (8, 0, 0)),
    ],
)
def test_common_widths_are_compiled_in(double, widths, expected) -> None:
    from graphformer.ops.cpu.kernel_cache import shape_constants

    assert shape_constants(double, *widths) == expected
